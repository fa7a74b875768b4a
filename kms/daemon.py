"""The composition root: the only module that names adapters. It reads like a parts list."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any, Protocol

import structlog

from kms.auditing import Auditing, opened_auditing
from kms.clock import boottime, boottime_ns, now
from kms.core.audit import AuditEvent, Category, Outcome
from kms.core.audit import Retention as Kept
from kms.core.names import Principal
from kms.hardening import harden
from kms.logs import dropped_lines
from kms.metric_sources import (
    CacheStatistics,
    admission_metrics,
    cache_metrics,
    health_metrics,
    lease_metrics,
    log_metrics,
    schedule_metrics,
    scrub_metrics,
    token_metrics,
)
from kms.metrics import Metrics
from kms.metrics_endpoint import MetricsEndpoint
from kms.node_enclave import NodeEnclave, opened_enclave
from kms.observer import CallObserver
from kms.parts import Parts, opened_parts
from kms.rpc.access import AccessServicer
from kms.rpc.admission import FairAdmission
from kms.rpc.approvals import ApprovalServicer
from kms.rpc.audit import AuditServicer
from kms.rpc.authorization import GrantAuthorizer
from kms.rpc.blobs import BlobServicer
from kms.rpc.calls import Calls
from kms.rpc.census import CensusServicer
from kms.rpc.certificates import Revocations, make_revocations
from kms.rpc.crypto import CryptoServicer
from kms.rpc.enclaves import EnclaveServicer
from kms.rpc.events import SecurityEventServicer
from kms.rpc.gates import CallTrail, Gates
from kms.rpc.health import HealthServicer
from kms.rpc.identity import Identities
from kms.rpc.keys import KeyServicer
from kms.rpc.methods import METHODS, SERVICES, check_complete
from kms.rpc.nodes import NodeServicer
from kms.rpc.operations import OperationServicer
from kms.rpc.policies import PolicyServicer
from kms.rpc.quorum import Quorums
from kms.rpc.reports import ReportServicer
from kms.rpc.retention import AuditRetentionServicer
from kms.rpc.server import RpcServer
from kms.rpc.tenants import TenantServicer
from kms.rpc.tokens import TokenServicer
from kms.services.audit import AuditTrail, shown_details
from kms.services.audit_exports import AuditExports
from kms.services.enclaves import EnclaveRegister
from kms.services.health import ApiHealth, HealthMonitor
from kms.setting_values import parse_address
from kms.settings import Settings
from kms.tracing import Tracing
from kms.use_cases import Services, make_services
from storage.ownership import Ownership

_log = structlog.get_logger(__name__)

HEALTH_INTERVAL = 2.0  # seconds
HEALTH_DEADLINE = 5.0
SWEEP_INTERVAL = 5.0


class Sweepable(Protocol):
    """What remembers for a time."""

    def sweep(self) -> None:
        """Forget what has outlived its time."""
        ...


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


def _servicers(
    services: Services,
    exports: AuditExports,
    metrics: Metrics,
    enclave: NodeEnclave | None,
    health: HealthMonitor,
) -> Mapping[str, Any]:
    """Return what serves each service, in the order of SERVICES, by its full name."""
    servicers = (
        TenantServicer(services.tenants),
        KeyServicer(services.keys, services.keks, services.lifecycle, services.destruction),
        CryptoServicer(
            services.fields,
            services.indexes,
            services.pseudonyms,
            services.formats,
            services.data_keys,
            services.leases,
            metrics,
        ),
        PolicyServicer(services.policies),
        CensusServicer(services.census),
        OperationServicer(services.operations),
        NodeServicer(services.membership, health.reports),
        EnclaveServicer(enclave, services.enclaves, services.enclave_upgrades),
        AccessServicer(services.principals, services.grants, services.accesses, now, services.classify),
        TokenServicer(services.tokens, services.pins, now),
        ApprovalServicer(services.approvals, services.quorum_rules),
        SecurityEventServicer(services.security.events, now),
        AuditServicer(services.audit_reader, exports, services.audit_verification),
        ReportServicer(services.reports),
        AuditRetentionServicer(services.legal_holds, services.retention),
        BlobServicer(services.blobs, services.blob_sealing, services.blob_reading, services.blob_upkeep),
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
        enclave = await stack.enter_async_context(
            opened_enclave(settings.enclave, simulated_allowed=settings.simulated_enclave_allowed)
        )
        parts = await stack.enter_async_context(opened_parts(settings, enclave=enclave))
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
        metrics.watch(lambda: admission_metrics(admission))
        gates = make_gates(settings, parts, services, admission, calls_trail, revocations)
        calls = Calls(gates, CallObserver(metrics, tracing), deadline=limits.call_deadline.total_seconds())
        exports = AuditExports(parts.storage, parts.vault, parts.installation, auditing.checkpoints.seal, now, boottime)
        told = HealthServicer()
        health = _health(parts, auditing, services, metrics, enclave, told)
        servicers = _servicers(services, exports, metrics, enclave, health)
        server = RpcServer(calls.handlers(METHODS, servicers), settings.listen, limits, told)

        if not parts.storage.shared:
            await parts.storage.leave_all()  # this process owns the directory: every other one is dead
        # Intents that a crash left without an outcome come first: nobody may see a half-made tenant or KEK.
        settled = await services.keks.settle()
        await services.membership.look()
        await health.look()
        if settings.metrics.address is not None:
            endpoint = MetricsEndpoint(metrics, lambda: health.latest, *parse_address(settings.metrics.address))
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
                    *([] if enclave is None else _enclave_work(enclave, parts, services, auditing.trail)),
                )
            ]
            await stopping.wait()
            _log.info("daemon.draining", seconds=limits.drain.total_seconds())
            # Running calls need the lease to the end, and a node has left when it answers nobody any more.
            await server.stop(limits.drain.total_seconds())
            for task in running:
                task.cancel()
    _log.info("daemon.stopped")


def _health(
    parts: Parts,
    auditing: Auditing,
    services: Services,
    metrics: Metrics,
    enclave: NodeEnclave | None,
    told: HealthServicer,
) -> HealthMonitor:
    checks = {
        "storage": parts.storage.health,
        "token": parts.vault.health,
        **auditing.health,
        "integrity": services.scrub.health,
        "lease": services.membership.health,
        "schedule": services.rotation.health,
        "api": ApiHealth(metrics.answered).check,
        **({} if enclave is None else {"enclave": enclave.health}),
        **parts.bodies.health,
    }
    health = HealthMonitor(checks, HEALTH_INTERVAL, HEALTH_DEADLINE, told.tell, now)
    metrics.watch(lambda: health_metrics(health.latest))
    return health


def _work(settings: Settings, services: Services, metrics: Metrics) -> list[Coroutine[Any, Any, None]]:
    """Return what runs beside the calls."""
    caches = (services.rings, services.versions, services.token_gate, services.pin_gate, services.accesses.cache)
    work: list[Coroutine[Any, Any, None]] = [
        services.membership.run(),
        services.uses.run(),
        services.token_uses.run(),
        services.blob_uses.run(),
        services.blob_upkeep.run(),
        services.scrub.run(),
        services.audit_verification.run(),
        metrics.watch_event_loop(),
        _sweep(*caches),
        *services.security.running(),
    ]
    if settings.rotation.enabled:
        work += [services.rotation.run(), services.operations.run(), services.retention.run()]
    return work


def _enclave_work(
    enclave: NodeEnclave, parts: Parts, services: Services, trail: AuditTrail
) -> list[Coroutine[Any, Any, None]]:
    register = EnclaveRegister(parts.storage, enclave, parts.node, services.membership.uid, now)
    return [enclave.run(trail), register.run()]


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
    caches: dict[str, CacheStatistics] = {
        "key": services.rings,
        "dek": services.versions,
        "access": services.accesses.cache,
    }
    vault, membership = parts.vault, services.membership
    metrics.watch(lambda: log_metrics(dropped_lines()))
    metrics.watch(lambda: cache_metrics(caches))
    metrics.watch(lambda: token_metrics(vault.operations, vault.status.restarts))
    metrics.watch(lambda: lease_metrics(membership.remaining(), membership.epoch))
    metrics.watch(lambda: schedule_metrics(services.rotation.counts))
    metrics.watch(lambda: scrub_metrics(services.scrub))
    services.security.show(metrics)
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
