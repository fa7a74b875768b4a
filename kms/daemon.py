"""The composition root: the only module that names adapters. It reads like a parts list."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import structlog

from kms.acting import acting
from kms.archives import make_retention, make_runner
from kms.auditing import opened_auditing
from kms.clock import boottime, boottime_ns, now
from kms.core.audit import AuditEvent, Category, Outcome, StreamUid
from kms.core.audit import Retention as Kept
from kms.core.audit_contexts import canonical_json, hashed_value
from kms.core.clock import ClockWatch
from kms.core.names import KeyName, Principal
from kms.core.operations import OperationKind
from kms.core.policy import SHORTEST_QUARANTINE
from kms.core.rotation import KekPolicy
from kms.core.wrapping import DekPlace
from kms.crypto.cache import DekCache
from kms.hardening import harden
from kms.logs import dropped_lines
from kms.metrics import Metrics
from kms.metrics_endpoint import MetricsEndpoint
from kms.observer import CallObserver
from kms.parts import Parts, opened_parts
from kms.rpc.access import AccessServicer
from kms.rpc.admission import FairAdmission
from kms.rpc.approvals import ApprovalServicer
from kms.rpc.audit import AuditServicer
from kms.rpc.authorization import Classify, GrantAuthorizer
from kms.rpc.calls import Calls
from kms.rpc.census import CensusServicer
from kms.rpc.certificates import Revocations, make_revocations
from kms.rpc.crypto import CryptoServicer
from kms.rpc.events import SecurityEventServicer
from kms.rpc.gates import CallTrail, Gates
from kms.rpc.identity import Identities
from kms.rpc.keys import KeyServicer
from kms.rpc.methods import METHODS, SERVICES, Quorum, check_complete
from kms.rpc.nodes import NodeServicer
from kms.rpc.operations import OperationServicer
from kms.rpc.policies import PolicyServicer
from kms.rpc.quorum import Quorums
from kms.rpc.reports import ReportServicer
from kms.rpc.retention import AuditRetentionServicer
from kms.rpc.server import RpcServer
from kms.rpc.tenants import TenantServicer
from kms.rpc.tokens import TokenServicer
from kms.security import Security, blocking, make_security, suspending
from kms.services.access import Accesses
from kms.services.approvals import Approvals
from kms.services.archived import Archived
from kms.services.audit import UNRECORDED, Acts, AuditTrail, shown_details
from kms.services.audit_exports import AuditExports
from kms.services.audit_reader import AuditReader
from kms.services.audit_verification import AuditVerification, Sealer
from kms.services.census import Census
from kms.services.data_keys import DataKeys
from kms.services.destruction import Destruction, KeyDestruction
from kms.services.due_keys import DueKeys
from kms.services.evidence import KnownEvidence
from kms.services.fields import Fields
from kms.services.grants import Grants
from kms.services.health import HealthMonitor
from kms.services.indexes import Indexes
from kms.services.keks import Keks
from kms.services.keyrings import Keyrings
from kms.services.keys import Keys
from kms.services.legal_holds import LegalHolds
from kms.services.lifecycle import Lifecycle
from kms.services.membership import Membership
from kms.services.operations import LONGEST_WAIT, Operations, Runner
from kms.services.pins import PinGate, Pins
from kms.services.policies import Policies
from kms.services.principals import Principals
from kms.services.quorum_rules import QuorumRules
from kms.services.ready_versions import ReadyVersion
from kms.services.receipts import Receipts
from kms.services.replan import Replan
from kms.services.report_generation import ReportGeneration
from kms.services.report_stages import Installation
from kms.services.reports import Reports
from kms.services.retention import Retention
from kms.services.rewrap import Rewrap
from kms.services.rings import Ring
from kms.services.rotate_keys import RotateKeys
from kms.services.rotating import Rotator
from kms.services.rotation import Rotation
from kms.services.scrub import Scrub
from kms.services.sightings import KeySightings
from kms.services.tenants import Tenants
from kms.services.token_gate import TokenGate
from kms.services.token_uses import TokenUseRecorder
from kms.services.tokens import Tokens
from kms.services.uses import UseRecorder
from kms.setting_values import parse_address
from kms.settings import Settings
from kms.tracing import Tracing
from storage.ownership import Ownership

_log = structlog.get_logger(__name__)

HEALTH_INTERVAL = 2.0  # seconds
HEALTH_DEADLINE = 5.0
SWEEP_INTERVAL = 5.0
WAIT_SHARE = 0.8  # of the time that a call may take, for WaitOperation


class Sweepable(Protocol):
    """What remembers for a time."""

    def sweep(self) -> None:
        """Forget what has outlived its time."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases, and what they hold in memory."""

    rings: DekCache[KeyName, Ring]
    versions: DekCache[DekPlace, ReadyVersion]
    uses: UseRecorder
    accesses: Accesses
    classify: Classify
    membership: Membership
    principals: Principals
    grants: Grants
    operations: Operations
    keks: Keks
    tenants: Tenants
    keys: Keys
    lifecycle: Lifecycle
    destruction: Destruction
    policies: Policies
    census: Census
    fields: Fields
    indexes: Indexes
    data_keys: DataKeys
    rotation: Rotation
    tokens: Tokens
    token_uses: TokenUseRecorder
    token_gate: TokenGate
    pins: Pins
    pin_gate: PinGate
    quorum_rules: QuorumRules
    approvals: Approvals
    audit_reader: AuditReader
    reports: Reports
    security: Security
    retention: Retention
    legal_holds: LegalHolds
    scrub: Scrub
    audit_verification: AuditVerification


async def make_services(
    settings: Settings,
    parts: Parts,
    trail: Acts = UNRECORDED,
    stream: StreamUid | None = None,
    checkpoints: Sealer | None = None,
) -> Services:
    """Put the use cases together; *trail* records what they do by themselves, and *stream* is where it does so.

    The clock is compared with what nodes stored before this one is seen itself.
    """
    storage, cache, horizon = parts.storage, settings.cache, settings.backup.horizon
    rings: DekCache[KeyName, Ring] = DekCache(cache.key_entries, cache.key_lifetime.total_seconds(), time.monotonic)
    versions: DekCache[DekPlace, ReadyVersion] = DekCache(
        cache.dek_entries, cache.dek_lifetime.total_seconds(), time.monotonic
    )
    uses = UseRecorder(storage, now)
    sightings = KeySightings()
    keyrings = Keyrings(storage, parts.wrapping, parts.usage, rings, versions, uses, boottime, sightings)
    node = f"{socket.gethostname()}:{os.getpid()}"

    # Who calls, and what they may do; without other nodes nothing of that changes but by this one.
    known = min(cache.key_lifetime, cache.revocation_deadline) if storage.shared else cache.key_lifetime
    lifetime = known.total_seconds()
    token_uses = TokenUseRecorder(storage, now)
    token_gate = TokenGate(storage, token_uses, now, boottime, entries=cache.key_entries, lifetime=lifetime)
    pin_gate = PinGate(storage, boottime, entries=cache.key_entries, lifetime=lifetime)
    accesses = Accesses(
        storage, open_tenants=settings.access.open_tenants, lifetime=lifetime, clock=time.monotonic, now=now
    )
    listeners = (token_gate.forget, pin_gate.forget, accesses.changed)
    membership = Membership(
        storage,
        keyrings,
        cache.revocation_deadline,
        node,
        now,
        boottime,
        listeners,
        trail,
        set_back=lambda tenant: scrub.went_back(tenant),  # noqa: PLW0108  made below
    )
    principals = Principals(storage, membership.drop, now)
    receipts = Receipts(storage, parts.vault, now)
    rotator = Rotator(storage, parts.wrapping, now)

    # Long work.
    evidence = KnownEvidence(
        lambda: audit_verification.trail_check(),  # noqa: PLW0108  made below
        lambda tenant: scrub.record_check(tenant),  # noqa: PLW0108  made below
    )
    runners: dict[OperationKind, Runner] = {
        OperationKind.REWRAP: Rewrap(storage, parts.vault, parts.wrapping),
        OperationKind.ROTATE_KEYS: RotateKeys(storage, rotator, keyrings.forget),
        OperationKind.REPLAN: Replan(storage),
        OperationKind.DESTROY_KEY: KeyDestruction(storage, receipts, horizon, now),
        OperationKind.GENERATE_REPORT: ReportGeneration(
            storage, parts.report_seal, parts.vault, receipts, _installation(settings), evidence, now
        ),
    }
    archiving = runners[OperationKind.ARCHIVE_AUDIT] = make_runner(
        settings, storage, parts.vault, receipts, parts.installation
    )
    longest_wait = min(LONGEST_WAIT, settings.limits.call_deadline * WAIT_SHARE)
    operations = Operations(storage, runners, membership.uid, now, longest_wait=longest_wait, trail=trail)

    # What is due. Those who wake the scheduler are made before it.
    kek_policy = KekPolicy(settings.rotation.kek_period, max(SHORTEST_QUARANTINE, horizon))
    keks = Keks(
        storage,
        parts.vault,
        parts.usage,
        operations,
        kek_policy,
        now,
        receipt=receipts.of_kek,
        wake=lambda: rotation.wake(),  # noqa: PLW0108  made below
        trail=trail,
    )
    tenants = Tenants(storage, keks, now)
    keys = Keys(storage, tenants, keyrings, rotator, now, operations.start)
    destruction = Destruction(storage, keys, receipts, operations.wake, horizon, membership.drop, now)
    rotation = Rotation(
        storage,
        DueKeys(storage, rotator, destruction, keyrings.forget, now, trail),
        keks,
        keks.rotate_used,
        membership.uid,
        settings.rotation.interval.total_seconds(),
        ClockWatch.started(now(), boottime(), await storage.last_seen()),
        now,
        boottime,
    )
    if settings.rotation.enabled:
        parts.usage.watch(rotation.request)

    quorum_rules = QuorumRules(storage, settings.approvals_needed, now)

    async def classified(name: KeyName) -> str | None:
        found = await keyrings.classification_of(name)
        return None if found is None else found.slug

    lifecycle = Lifecycle(storage, keys, rotator, membership.drop, membership.propagation, now)
    security = make_security(
        settings, storage, sightings, membership.uid, suspending(lifecycle, trail), blocking(principals, trail), stream
    )
    scrub = Scrub(
        storage,
        security.recorder.offer,
        settings.integrity.scrub_interval,
        now,
        calling=lambda: acting() is not None,
    )
    storage.watch_lies(scrub.met)
    audit_verification = AuditVerification(
        storage,
        Archived(storage, receipts.public_key),
        parts.installation,
        checkpoints,
        trail,
        security.recorder.offer,
        now,
        interval=settings.audit.verify_interval,
    )
    fields = Fields(keyrings, settings.limits.batch_values, settings.rotation.identity)
    return Services(
        rings=rings,
        versions=versions,
        uses=uses,
        accesses=accesses,
        classify=classified,
        membership=membership,
        principals=principals,
        grants=Grants(storage, principals, membership.drop, accesses.changed, now),
        operations=operations,
        keks=keks,
        tenants=tenants,
        keys=keys,
        lifecycle=lifecycle,
        destruction=destruction,
        policies=Policies(storage, tenants, now, operations.wake, keyrings.reread),
        census=Census(storage, keys, destruction.retire_automatically, now),
        fields=fields,
        indexes=Indexes(keyrings, fields),
        data_keys=DataKeys(keyrings, parts.vault),
        rotation=rotation,
        tokens=Tokens(storage, tenants, membership.drop, now),
        token_uses=token_uses,
        token_gate=token_gate,
        pins=Pins(storage, tenants, membership.drop, now),
        pin_gate=pin_gate,
        quorum_rules=quorum_rules,
        approvals=Approvals(storage, quorum_rules, now, may_approve=accesses.may_approve, notifier=security.notifier),
        audit_reader=AuditReader(
            storage,
            now,
            accesses.may,
            hashed=lambda tenant, name, value: hashed_value(parts.keys.context, tenant, name, value.encode()),
            values=lambda event: canonical_json(parts.changes.of(event)),
        ),
        reports=Reports(storage, parts.report_seal, operations.wake, now),
        security=security,
        retention=make_retention(settings, archiving, operations),
        legal_holds=LegalHolds(storage, now),
        scrub=scrub,
        audit_verification=audit_verification,
    )


def make_gates(
    settings: Settings,
    parts: Parts,
    services: Services,
    admission: FairAdmission,
    trail: CallTrail,
    revocations: Revocations | None = None,
) -> Gates:
    """Put together what every call passes."""
    return Gates(
        authenticator=_identities(settings, services, revocations),
        admission=admission,
        authorizer=GrantAuthorizer(services.accesses, now, services.classify),
        quorum=Quorums(parts.storage, services.quorum_rules, services.approvals),
        watch=services.security.watch,
        trail=trail,
    )


def _servicers(services: Services, exports: AuditExports, metrics: Metrics) -> Mapping[str, Any]:
    """Return what serves each service, in the order of SERVICES, by its full name."""
    servicers = (
        TenantServicer(services.tenants),
        KeyServicer(services.keys, services.keks, services.lifecycle, services.destruction),
        CryptoServicer(services.fields, services.indexes, services.data_keys, metrics),
        PolicyServicer(services.policies),
        CensusServicer(services.census),
        OperationServicer(services.operations),
        NodeServicer(services.membership),
        AccessServicer(services.principals, services.grants, services.accesses, now, services.classify),
        TokenServicer(services.tokens, services.pins, now),
        ApprovalServicer(services.approvals, services.quorum_rules),
        SecurityEventServicer(services.security.events, now),
        AuditServicer(services.audit_reader, exports, services.audit_verification),
        ReportServicer(services.reports),
        AuditRetentionServicer(services.legal_holds, services.retention),
    )
    return dict(zip((service.full_name for service in SERVICES), servicers, strict=True))


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and stop.

    Raises:
        DirectoryInUse: another daemon serves from the same data directory.
        CannotOpen, KmsError, ListenError: what the daemon needs is not to be had; nothing is left running.
    """
    check_complete()
    _harden()
    stopping = _stop_on_signals()
    limits = settings.limits
    async with AsyncExitStack() as stack:
        stack.enter_context(Ownership.take(settings.data_directory))
        parts = await stack.enter_async_context(opened_parts(settings))
        capabilities = parts.vault.capabilities()
        _log.info(
            "token.open", token_label=capabilities.label, model=capabilities.model, wraps=capabilities.new_keks.name
        )

        # From here on nothing is done, and nobody answered, without the audit trail.
        release = version("kmsd")
        auditing = await stack.enter_async_context(opened_auditing(settings, parts, release))
        services = await make_services(
            settings, parts, auditing.trail, auditing.writer.head.stream, auditing.checkpoints
        )
        settled_intents = await auditing.settling.settle()
        calls_trail = auditing.calls(services.accesses)

        # What operators see.
        metrics = _make_metrics(release, parts, services)
        auditing.show(metrics)
        tracing = Tracing(settings.tracing.endpoint, release)
        stack.callback(tracing.close)

        _warn(settings, services)

        # The edge.
        revocations = _revocations(settings, auditing.trail)
        admission = FairAdmission(limits, boottime_ns)
        metrics.watch_admission(admission)
        gates = make_gates(settings, parts, services, admission, calls_trail, revocations)
        calls = Calls(gates, CallObserver(metrics, tracing), deadline=limits.call_deadline.total_seconds())
        exports = AuditExports(parts.storage, parts.vault, parts.installation, auditing.checkpoints.seal, now, boottime)
        server = RpcServer(calls.handlers(METHODS, _servicers(services, exports, metrics)), settings.listen, limits)
        health = HealthMonitor(
            {
                "storage": parts.storage.health,
                "token": parts.vault.health,
                **auditing.health,
                "integrity": services.scrub.health,
                "lease": services.membership.health,
                "schedule": services.rotation.health,
            },
            HEALTH_INTERVAL,
            HEALTH_DEADLINE,
            server.health.tell,
        )
        metrics.watch_health(lambda: health.latest)

        if not parts.storage.shared:
            await parts.storage.leave_all()  # this process owns the directory: every other one is dead
        # Intents that a crash left without an outcome come first: nobody may see a half-made tenant or KEK.
        settled = await services.keks.settle()
        await services.membership.look()
        await health.look()
        if settings.metrics.address is not None:
            endpoint = MetricsEndpoint(metrics, *parse_address(settings.metrics.address))
            _log.info("metrics.serving", address=await endpoint.start())
            stack.push_async_callback(endpoint.stop)
        addresses = await server.start()
        stack.push_async_callback(server.stop, limits.drain.total_seconds())
        _log.info(
            "daemon.ready",
            version=release,
            profile=settings.profile,
            listen=addresses,
            settled=settled + settled_intents,
        )

        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(work)
                for work in (
                    *_work(settings, services, metrics),
                    health.run(),
                    *auditing.running(),
                    *parts.anchors.running(),
                    calls_trail.run(),
                    *([] if revocations is None else [revocations.run()]),
                )
            ]
            await stopping.wait()
            _log.info("daemon.draining", seconds=limits.drain.total_seconds())
            # Running calls need the lease to the end, and a node has left when it answers nobody any more.
            await server.stop(limits.drain.total_seconds())
            for task in running:
                task.cancel()
    _log.info("daemon.stopped")


def _installation(settings: Settings) -> Installation:
    return Installation(
        release=version("kmsd"),
        open_tenants=settings.access.open_tenants,
        approvals_needed=settings.approvals_needed,
        dangerous_permissions=tuple({one.permission for one in METHODS if one.quorum is not Quorum.NEVER}),
        dangerous_acts=frozenset(one.full_name for one in METHODS if one.quorum is Quorum.ALWAYS),
    )


def _work(settings: Settings, services: Services, metrics: Metrics) -> list[Coroutine[Any, Any, None]]:
    """Return what runs beside the calls."""
    caches = (services.rings, services.versions, services.token_gate, services.pin_gate, services.accesses.cache)
    work: list[Coroutine[Any, Any, None]] = [
        services.membership.run(),
        services.uses.run(),
        services.token_uses.run(),
        services.scrub.run(),
        services.audit_verification.run(),
        metrics.watch_event_loop(),
        _sweep(*caches),
        *services.security.running(),
    ]
    if settings.rotation.enabled:
        work += [services.rotation.run(), services.operations.run(), services.retention.run()]
    return work


def _warn(settings: Settings, services: Services) -> None:
    """Say loudly what is open."""
    if settings.access.open_tenants:
        _log.warning("access.open", detail="every principal of a tenant holds every role without a grant")
    if services.quorum_rules.default == 0:
        _log.warning(
            "quorum.off",
            detail="nobody has to approve dangerous requests; set quorum.approvals, or rules with `kms quorum set`",
        )


def _harden() -> None:
    for measure in harden():
        tell = _log.info if measure.done else _log.warning
        tell("hardening", measure=measure.name, done=measure.done, detail=measure.detail)


def _revocations(settings: Settings, trail: AuditTrail) -> Revocations | None:
    tcp = settings.listen.tcp

    async def told(change: Mapping[str, str | int]) -> None:
        outcome = Outcome.FAILURE if "unusable" in change else Outcome.SUCCESS
        event = AuditEvent(
            action="crl.read",
            category=Category.SECURITY,
            outcome=outcome,
            retention=Kept.EXTENDED,
            details=shown_details(change),
        )
        await trail.note(event)

    return make_revocations(settings.identity.crl, None if tcp is None else tcp.client_ca, now, told)


def _identities(settings: Settings, services: Services, revocations: Revocations | None) -> Identities:
    unix = settings.listen.unix
    return Identities(
        settings.trust_domain,
        None if unix is None else Principal.parse(unix.principal),
        services.token_gate,
        services.pin_gate,
        revocations,
        {name: Principal.parse(text) for name, text in settings.identity.common_names.items()},
    )


def _make_metrics(release: str, parts: Parts, services: Services) -> Metrics:
    metrics = Metrics([method.full_name for method in METHODS], release)
    metrics.watch_log(dropped_lines)
    metrics.watch_cache("key", services.rings)
    metrics.watch_cache("dek", services.versions)
    metrics.watch_cache("access", services.accesses.cache)
    metrics.watch_token(lambda: parts.vault.operations, lambda: parts.vault.status.restarts)
    metrics.watch_lease(services.membership.remaining, lambda: services.membership.epoch)
    metrics.watch_schedule(services.rotation.counts)
    services.security.show(metrics)
    metrics.watch_scrub(services.scrub)
    return metrics


async def _sweep(*caches: Sweepable) -> None:
    """Drop what has outlived its time even if nobody asks for it again."""
    while True:
        await asyncio.sleep(SWEEP_INTERVAL)
        for cache in caches:
            cache.sweep()


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping
