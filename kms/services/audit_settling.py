"""Intents without an outcome: their process ended before it was known, or the audit storage was away when it was.

A pass writes an outcome for each, which says that it is unknown; what the database shows tells the rest. Step by step:
1. one node at a time, under a lock, so that no intent is settled twice;
2. intents of streams whose process is over: their node has begun another stream since;
3. of any stream, those older than UNSETTLED_FOR: no act lasts as long;
4. an event says that the pass has ended, so that the next one need not look further back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from kms.core.audit import AuditEvent, Category, Outcome, Phase, Retention, StreamUid
from kms.core.audit_ports import AuditWriter
from kms.core.canonical import EPOCH
from kms.core.errors import KmsError
from kms.core.events import Severity
from kms.core.ports import Storage
from kms.failpoints import reach
from kms.services.audit import RISKS, Acts, shown_details

_log = structlog.get_logger(__name__)

AT_ONCE: Final = 500  # intents in one query
UNSETTLED_FOR: Final = timedelta(hours=1)  # much longer than any call or act may last
LOOK_BACK: Final = 2 * UNSETTLED_FOR  # before the last pass: what was under way then
INTERVAL: Final = timedelta(hours=1)  # between two passes of all nodes together
ENDED: Final = "the process ended before the outcome was known"
UNWRITTEN: Final = "no outcome was written in time"


class Settling:
    """Settles intents at the start, and every hour."""

    def __init__(
        self, storage: Storage, writer: AuditWriter, trail: Acts, node: str, now: Callable[[], datetime]
    ) -> None:
        """*writer* tells which stream is this process's own, *node* which streams were of processes before it."""
        self._node = node
        self._storage = storage
        self._writer = writer
        self._trail = trail
        self._now = now

    async def settle(self) -> int:
        """Write an outcome for every intent that will have no other; returns for how many.

        Raises:
            AuditUnavailable: they could not be written; the next pass tries again.
            StorageUnavailable: the trail cannot be read.
        """
        async with self._storage.exclusive("audit-settling"):
            return await self._settle()

    async def run(self) -> None:
        """Make a pass whenever none has been made for an hour, until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL.total_seconds())
            try:
                async with self._storage.exclusive("audit-settling"):
                    last = await self._last()
                    if last is None or self._now() >= last + INTERVAL:
                        await self._settle()
            except KmsError as error:
                _log.warning("audit.settling_delayed", reason=str(error))

    async def _last(self) -> datetime | None:
        async with self._storage.transaction() as work:
            return await work.audit_reads.settled_at()

    async def _settle(self) -> int:
        last = await self._last()
        since = EPOCH if last is None else last - LOOK_BACK
        now = self._now()
        settled, after = 0, None
        while True:
            async with self._storage.transaction() as work:
                found = await work.audit_reads.unsettled(since, after, AT_ONCE)
                intents = [event for event in found if isinstance(event, AuditEvent)]
                ended = await work.audit_reads.ended(sorted({event.stream for event in intents}))
            for event in found:
                if isinstance(event, AuditEvent):
                    after = event.stream, event.sequence
                    why = self._why(event, ended, now)
                    if why:
                        reach("audit.settling")
                        await self._trail.note(_outcome(event, why))
                        settled += 1
                else:
                    after = event
                    _log.error("audit.intent_corrupt", stream=str(event[0]), sequence=event[1])
            if len(found) < AT_ONCE:
                break
        await self._trail.note(
            AuditEvent(
                action="audit.settled",
                category=Category.SYSTEM,
                outcome=Outcome.SUCCESS,
                retention=Retention.EXTENDED,
                items=settled,
                details=shown_details({"since": since.isoformat(), "settled": settled}),
            )
        )
        if settled:
            _log.warning("audit.intents_settled", settled=settled)
        return settled

    def _why(self, intent: AuditEvent, ended: set[StreamUid], now: datetime) -> str:
        """Say why an intent will have no other outcome; empty where it may have one."""
        own = intent.stream == self._writer.head.stream
        if not own and (intent.node == self._node or intent.stream in ended):
            return ENDED
        return UNWRITTEN if intent.at + UNSETTLED_FOR < now else ""


def _outcome(intent: AuditEvent, why: str) -> AuditEvent:
    return AuditEvent(
        action=intent.action,
        category=intent.category,
        phase=Phase.OUTCOME,
        outcome=Outcome.UNKNOWN,
        severity=Severity.MEDIUM,
        risk=RISKS[Severity.MEDIUM],
        tenant=intent.tenant,
        principal=intent.principal,
        roles=intent.roles,
        credential_kind=intent.credential_kind,
        credential_id=intent.credential_id,
        address=intent.address,
        request_id=intent.request_id,
        correlation_id=intent.correlation_id,
        approval=intent.approval,
        reason=intent.reason,
        intent_stream=intent.stream,
        intent_sequence=intent.sequence,
        resource_type=intent.resource_type,
        resource=intent.resource,
        retention=intent.retention,
        details=shown_details({"settled": why, "intent_at": intent.at.isoformat(), "intent_node": intent.node}),
    )
