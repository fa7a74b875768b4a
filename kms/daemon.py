"""The composition root: the only module that names adapters. It reads like a parts list."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from uuid import UUID, uuid4

import structlog

from kms.clock import now
from kms.core.errors import KmsError
from kms.core.names import KeyName, Principal
from kms.core.operations import OperationKind
from kms.core.policy import SHORTEST_QUARANTINE
from kms.core.rotation import KekPolicy
from kms.core.wrapping import DekPlace
from kms.crypto.cache import DekCache
from kms.hardening import harden
from kms.hosts import HostState, HostStatus
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.logs import dropped_lines
from kms.metrics import Metrics
from kms.metrics_endpoint import MetricsEndpoint
from kms.observer import CallObserver
from kms.rpc.calls import Calls
from kms.rpc.census import CensusServicer
from kms.rpc.crypto import CryptoServicer
from kms.rpc.identity import Identities
from kms.rpc.keys import KeyServicer
from kms.rpc.methods import METHODS, SERVICES, check_complete
from kms.rpc.nodes import NodeServicer
from kms.rpc.operations import OperationServicer
from kms.rpc.policies import PolicyServicer
from kms.rpc.server import RpcServer
from kms.rpc.tenants import TenantServicer
from kms.services.counting import UsageCounters
from kms.services.data_keys import DataKeys
from kms.services.fields import Fields
from kms.services.health import HealthMonitor
from kms.services.keks import Keks
from kms.services.keyrings import Keyrings, ReadyVersion, Ring
from kms.services.keys import Keys
from kms.services.operations import LONGEST_WAIT, Operations
from kms.services.rewrap import Rewrap
from kms.services.rotating import Rotator
from kms.services.tenants import Tenants
from kms.services.wrapping import DekWrapping
from kms.settings import PostgresqlStorage, Rotation, Secret, Settings, SqliteStorage, Token, parse_address
from kms.tracing import Tracing
from storage.database import Database
from storage.ownership import Ownership
from storage.postgresql import open_postgresql
from storage.sqlite import open_sqlite

_log = structlog.get_logger(__name__)

HEALTH_INTERVAL = 2.0  # seconds
HEALTH_DEADLINE = 5.0
SWEEP_INTERVAL = 5.0
WAIT_SHARE = 0.8  # of the time that a call may take, for WaitOperation


@dataclass(frozen=True, slots=True)
class Parts:
    """The adapters, opened, and what both the daemon and its tests build on them."""

    storage: Database
    vault: Pkcs11Vault
    usage: UsageCounters
    wrapping: DekWrapping


@asynccontextmanager
async def opened_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Open the database and the token; closed in reverse.

    Raises:
        CannotOpen: the database is missing, damaged or of another release.
        HsmUnavailable, StorageUnavailable: the token or the database cannot be used.
    """
    async with AsyncExitStack() as stack:
        storage = await _open_storage(settings.storage)
        stack.push_async_callback(storage.close)
        vault = _make_vault(settings.token)
        await vault.start()
        stack.push_async_callback(vault.stop)
        usage = UsageCounters(storage, time.monotonic)
        yield Parts(storage, vault, usage, DekWrapping(storage, vault, usage))


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain and stop.

    Raises:
        DirectoryInUse: another daemon serves from the same data directory.
        CannotOpen, KmsError, ListenError: what the daemon needs is not to be had; nothing is left running.
    """
    check_complete()
    _harden()
    stopping = _stop_on_signals()
    async with AsyncExitStack() as stack:
        stack.enter_context(Ownership.take(settings.data_directory))
        parts = await stack.enter_async_context(opened_parts(settings))
        capabilities = parts.vault.capabilities()
        _log.info(
            "token.open", token_label=capabilities.label, model=capabilities.model, wraps=capabilities.new_keks.name
        )

        # Services.
        limits, cache = settings.limits, settings.cache
        rings: DekCache[KeyName, Ring] = DekCache(cache.key_entries, cache.key_lifetime.total_seconds(), time.monotonic)
        versions: DekCache[DekPlace, ReadyVersion] = DekCache(
            cache.dek_entries, cache.dek_lifetime.total_seconds(), time.monotonic
        )
        keyrings = Keyrings(parts.storage, parts.wrapping, parts.usage, rings, versions)
        node = uuid4()
        operations = _make_operations(settings, parts, node)
        keks_due = asyncio.Event()
        keks = Keks(parts.storage, parts.vault, parts.usage, operations, _kek_policy(settings), now, wake=keks_due.set)
        tenants = Tenants(parts.storage, keks, now)
        rotator = Rotator(parts.storage, parts.wrapping, now)
        keys = Keys(parts.storage, tenants, keyrings, rotator, parts.usage, now)
        fields = Fields(keyrings, limits.batch_values)
        data_keys = DataKeys(keyrings, parts.vault)

        # What operators see.
        release = version("kmsd")
        metrics = Metrics([method.full_name for method in METHODS], release)
        metrics.watch_log(dropped_lines)
        metrics.watch_cache("key", rings)
        metrics.watch_cache("dek", versions)
        metrics.watch_token(lambda: parts.vault.operations, lambda: parts.vault.status.restarts)
        tracing = Tracing(settings.tracing.endpoint, release)
        stack.callback(tracing.close)

        # The edge.
        calls = Calls(
            _identities(settings),
            CallObserver(metrics, tracing),
            in_flight=limits.calls_in_flight,
            deadline=limits.call_deadline.total_seconds(),
        )
        servicers = dict(
            zip(
                (service.full_name for service in SERVICES),
                (
                    TenantServicer(tenants),
                    KeyServicer(keys, keks),
                    CryptoServicer(fields, data_keys, metrics),
                    PolicyServicer(),
                    CensusServicer(),
                    OperationServicer(operations),
                    NodeServicer(),
                ),
                strict=True,
            )
        )
        server = RpcServer(calls.handlers(METHODS, servicers), settings.listen, limits)
        health = HealthMonitor(
            {"storage": parts.storage.health, "token": parts.vault.health},
            HEALTH_INTERVAL,
            HEALTH_DEADLINE,
            server.health.tell,
        )
        metrics.watch_health(lambda: health.latest)

        # Intents that a crash left without an outcome come first: nobody may see a half-made tenant or KEK.
        settled = await keks.settle()
        await health.look()
        if settings.metrics.address is not None:
            endpoint = MetricsEndpoint(metrics, *parse_address(settings.metrics.address))
            _log.info("metrics.serving", address=await endpoint.start())
            stack.push_async_callback(endpoint.stop)
        addresses = await server.start()
        stack.push_async_callback(server.stop, limits.drain.total_seconds())
        _log.info("daemon.ready", version=release, profile=settings.profile, listen=addresses, settled=settled)

        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(health.run()),
                tasks.create_task(metrics.watch_event_loop()),
                tasks.create_task(_sweep(rings, versions)),
                tasks.create_task(operations.run()),
                tasks.create_task(_look_at_keks(parts.storage, keks, node, settings.rotation, keks_due)),
            ]
            await stopping.wait()
            _log.info("daemon.draining", seconds=limits.drain.total_seconds())
            for task in running:
                task.cancel()
    _log.info("daemon.stopped")


def _harden() -> None:
    for measure in harden():
        tell = _log.info if measure.done else _log.warning
        tell("hardening", measure=measure.name, done=measure.done, detail=measure.detail)


def _identities(settings: Settings) -> Identities:
    unix = settings.listen.unix
    return Identities(settings.trust_domain, None if unix is None else Principal.parse(unix.principal))


def _make_operations(settings: Settings, parts: Parts, node: UUID) -> Operations:
    runners = {OperationKind.REWRAP: Rewrap(parts.storage, parts.vault, parts.wrapping)}
    longest_wait = min(LONGEST_WAIT, settings.limits.call_deadline * WAIT_SHARE)
    return Operations(parts.storage, runners, node, now, longest_wait=longest_wait)


def _kek_policy(settings: Settings) -> KekPolicy:
    return KekPolicy(settings.rotation.kek_period, max(SHORTEST_QUARANTINE, settings.backup.horizon))


async def _open_storage(settings: SqliteStorage | PostgresqlStorage) -> Database:
    if isinstance(settings, SqliteStorage):
        return await open_sqlite(settings.path)
    return await open_postgresql(settings.url.read().get_secret_value(), settings.pool_size)


def _pin_source(pin: Secret) -> Callable[[], str]:
    """Return what reads the PIN for every host that logs in: anew from a file or variable, once from a prompt."""
    if pin.prompt is None:
        return lambda: pin.read().get_secret_value()
    typed = pin.read()  # a host that is replaced at night finds nobody at the keyboard
    return typed.get_secret_value


def _make_vault(token: Token) -> Pkcs11Vault:
    return Pkcs11Vault(
        module=token.module,
        label=token.label,
        pin=_pin_source(token.pin),
        environment=token.environment,
        mechanism=token.mechanism,
        deadline=token.deadline.total_seconds(),
        login_deadline=token.login_deadline.total_seconds(),
        on_change=_report_host,
    )


def _report_host(status: HostStatus) -> None:
    tell = _log.warning if status.state in (HostState.BACKING_OFF, HostState.FAILED) else _log.info
    tell("token.host", state=status.state, reason=status.reason, restarts=status.restarts, pid=status.pid)


async def _look_at_keks(storage: Database, keks: Keks, node: UUID, rotation: Rotation, due: asyncio.Event) -> None:
    """Look at tenants whose KEK versions are due: the scheduler's work, until there is one."""
    while rotation.enabled:
        try:
            for tenant in await storage.claim_tenants(node, now(), now() + timedelta(minutes=1), 10):
                await keks.look(tenant)
                await storage.release(node, [tenant.uid])
        except KmsError as error:
            _log.warning("kek.delayed", reason=str(error))
        with suppress(TimeoutError):
            async with asyncio.timeout(rotation.interval.total_seconds()):
                await due.wait()
        due.clear()


async def _sweep(*caches: DekCache[KeyName, Ring] | DekCache[DekPlace, ReadyVersion]) -> None:
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
