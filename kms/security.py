"""The parts that notice, answer, keep and tell security events, put together for kms/daemon.py."""

from __future__ import annotations

import random
import time
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from kms.clock import now
from kms.core.audit import Category, StreamUid
from kms.core.detection import Detections, Thresholds
from kms.core.events import EventType, Severity
from kms.core.names import KeyName, Principal
from kms.core.outbox import PUT, Topic
from kms.core.ports import Storage
from kms.metric_sources import security_event_metrics, sink_metrics
from kms.metrics import Metrics
from kms.rpc.gates import Watch
from kms.rpc.watch import NoWatch, SecurityWatch
from kms.services.audit import UNRECORDED, Act, Acts
from kms.services.event_recorder import Answers, BlockPrincipal, EventRecorder, SuspendKey
from kms.services.events import SecurityEvents
from kms.services.lifecycle import Lifecycle
from kms.services.outbox import OutboxNotifier, OutboxPruner
from kms.services.principals import Principals
from kms.services.sightings import KeySightings
from kms.setting_values import SettingsError
from kms.settings import Events, FileSink, Settings, WebhookSink
from kms.sinks import file, webhook
from kms.sinks.audit import AuditDelivery
from kms.sinks.delivery import Delivery
from kms.sinks.sink import Sink

WATCHMAN = "security-watch"  # who answers events, in each tenant and for the installation


@dataclass(frozen=True, slots=True)
class Security:
    """What runs for security events."""

    watch: Watch
    recorder: EventRecorder
    events: SecurityEvents
    notifier: OutboxNotifier
    deliveries: tuple[Delivery, ...]
    pruner: OutboxPruner
    audit: tuple[AuditDelivery, ...] = ()

    def running(self) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run."""
        return [self.recorder.run(), self.pruner.run(), *(delivery.run() for delivery in self._telling())]

    def show(self, metrics: Metrics) -> None:
        """Let metrics read the counts."""
        metrics.watch(lambda: security_event_metrics(self.recorder))
        metrics.watch(lambda: sink_metrics(self._telling()))

    def _telling(self) -> tuple[Delivery | AuditDelivery, ...]:
        return (*self.deliveries, *self.audit)


def make_security(
    settings: Settings,
    storage: Storage,
    sightings: KeySightings,
    node: UUID,
    suspend_key: SuspendKey,
    block_principal: BlockPrincipal | None = None,
    stream: StreamUid | None = None,
) -> Security:
    """Put it together; without *block_principal* a principal that is to be blocked is not, and the event says so.

    *stream* is the one that this process writes; without it no sink is told of the audit trail.

    Raises:
        SettingsError: a sink's secret, URL or authority cannot be used.
    """
    deliveries: list[Delivery] = []
    audit: list[AuditDelivery] = []
    for sink in settings.sinks:
        topics, made = frozenset(sink.topics or Topic), _sink(sink)
        if topics & PUT:
            deliveries.append(Delivery(sink.name, storage, made, topics & PUT, node, now, random.random))
        if Topic.AUDIT in topics and stream is not None:
            # A file is one for all; web servers are sent to side by side, so that what is new waits for nothing old.
            live, left = (made, made) if isinstance(sink, FileSink) else (_sink(sink), _sink(sink))
            audit.append(AuditDelivery(sink.name, storage, live, left, stream, node, now, random.random))

    def stored() -> None:
        for delivery in deliveries:
            delivery.wake()

    events = settings.events
    detections = Detections(_thresholds(events), uuid4)
    answers = Answers(events.answers, events.block_period, block_principal, suspend_key)
    recorder = EventRecorder(storage, answers, detections.grown, now, time.monotonic, stored=stored)
    watch = SecurityWatch(detections, sightings, recorder.offer, now, time.monotonic) if events.enabled else NoWatch()
    return Security(
        watch,
        recorder,
        SecurityEvents(storage, now),
        OutboxNotifier(now, stored),
        tuple(deliveries),
        OutboxPruner(storage, now),
        tuple(audit),
    )


def suspending(lifecycle: Lifecycle, trail: Acts = UNRECORDED) -> SuspendKey:
    """Return what suspends a key for an event."""

    async def suspend(name: KeyName, reason: str) -> None:
        async with _answer(trail, "security.key_suspended", str(name), "key", reason):
            await lifecycle.suspend(Principal(name.tenant, WATCHMAN), name, "", reason, wait=False)

    return suspend


def blocking(principals: Principals, trail: Acts = UNRECORDED) -> BlockPrincipal:
    """Return what blocks a principal for an event."""

    async def block(principal: Principal, reason: str, until: datetime) -> None:
        async with _answer(trail, "security.principal_blocked", str(principal), "principal", reason):
            await principals.block(Principal(principal.tenant, WATCHMAN), principal, until, reason)

    return block


def _answer(
    trail: Acts, action: str, resource: str, resource_type: str, reason: str
) -> AbstractAsyncContextManager[Act]:
    return trail.act(
        action,
        resource=resource,
        resource_type=resource_type,
        by=WATCHMAN,
        reason=reason,
        severity=Severity.HIGH,
        category=Category.SECURITY,
    )


def _thresholds(events: Events) -> Thresholds:
    return Thresholds(
        window=events.window.total_seconds(),
        counts={
            EventType.REPEATED_DENIALS: events.denials,
            EventType.TOKEN_BRUTE_FORCE: events.unauthenticated,
            EventType.UNAUTHORIZED_ACCESS: events.unauthorized,
            EventType.RATE_EXCEEDED: events.rate_exceeded,
            EventType.DECRYPT_FAILURES: events.decrypt_failures,
        },
        volume_factor=events.volume_factor,
        volume_minimum=events.volume_minimum,
    )


def _sink(settings: FileSink | WebhookSink) -> Sink:
    if isinstance(settings, FileSink):
        return file.FileSink(settings.path, settings.max_bytes, settings.keep)
    try:
        return webhook.WebhookSink(
            settings.url,
            settings.secret.read().get_secret_value().encode(),
            now,
            deadline=settings.deadline.total_seconds(),
            ca=settings.ca,
        )
    except (ValueError, OSError) as error:
        raise SettingsError(f"sinks.{settings.name}: {error}") from error
