"""The composition root: the only module that names adapters. It reads like a parts list."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

import structlog

from kms.clock import boottime, now
from kms.core.names import KeyName, Principal
from kms.core.wrapping import DekPlace
from kms.crypto.cache import DekCache
from kms.hardening import harden
from kms.hosts import HostState, HostStatus
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.logs import dropped_lines
from kms.metrics import CacheStatistics, Metrics
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
from kms.services.membership import Membership
from kms.services.rotating import Rotator
from kms.services.tenants import Tenants
from kms.services.uses import UseRecorder
from kms.services.wrapping import DekWrapping
from kms.settings import PostgresqlStorage, Secret, Settings, SqliteStorage, Token, parse_address
from kms.tracing import Tracing
from storage.database import Database
from storage.ownership import Ownership
from storage.postgresql import open_postgresql
from storage.sqlite import open_sqlite

_log = structlog.get_logger(__name__)

HEALTH_INTERVAL = 2.0  # seconds
HEALTH_DEADLINE = 5.0
SWEEP_INTERVAL = 5.0


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
    for measure in harden():
        tell = _log.info if measure.done else _log.warning
        tell("hardening", measure=measure.name, done=measure.done, detail=measure.detail)
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
        uses = UseRecorder(parts.storage, now)
        keyrings = Keyrings(parts.storage, parts.wrapping, parts.usage, rings, versions, uses, boottime)
        node = f"{socket.gethostname()}:{os.getpid()}"
        membership = Membership(parts.storage, keyrings, cache.revocation_deadline, node, now, boottime)
        keks = Keks(parts.storage, parts.vault, parts.usage, now)
        tenants = Tenants(parts.storage, keks, now)
        rotator = Rotator(parts.storage, parts.wrapping, now)
        keys = Keys(parts.storage, tenants, keyrings, rotator, parts.usage, now)
        fields = Fields(keyrings, limits.batch_values, settings.rotation.identity)
        data_keys = DataKeys(keyrings, parts.vault)

        # What operators see.
        release = version("kmsd")
        metrics = _make_metrics(release, parts, {"key": rings, "dek": versions}, membership)
        tracing = Tracing(settings.tracing.endpoint, release)
        stack.callback(tracing.close)

        # The edge.
        unix = settings.listen.unix
        calls = Calls(
            Identities(settings.trust_domain, None if unix is None else Principal.parse(unix.principal)),
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
                    OperationServicer(),
                    NodeServicer(membership),
                ),
                strict=True,
            )
        )
        server = RpcServer(calls.handlers(METHODS, servicers), settings.listen, limits)
        health = HealthMonitor(
            {"storage": parts.storage.health, "token": parts.vault.health, "lease": membership.health},
            HEALTH_INTERVAL,
            HEALTH_DEADLINE,
            server.health.tell,
        )
        metrics.watch_health(lambda: health.latest)

        # Intents that a crash left without an outcome come first: nobody may see a half-made tenant or KEK.
        settled = await keks.settle()
        await membership.look()
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
                tasks.create_task(membership.run()),
                tasks.create_task(uses.run()),
                tasks.create_task(health.run()),
                tasks.create_task(metrics.watch_event_loop()),
                tasks.create_task(_sweep(rings, versions)),
            ]
            await stopping.wait()
            _log.info("daemon.draining", seconds=limits.drain.total_seconds())
            # Running calls need the lease to the end, and a node has left when it answers nobody any more.
            await server.stop(limits.drain.total_seconds())
            for task in running:
                task.cancel()
    _log.info("daemon.stopped")


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


def _make_metrics(release: str, parts: Parts, caches: Mapping[str, CacheStatistics], membership: Membership) -> Metrics:
    metrics = Metrics([method.full_name for method in METHODS], release)
    metrics.watch_log(dropped_lines)
    for name, cache in caches.items():
        metrics.watch_cache(name, cache)
    metrics.watch_token(lambda: parts.vault.operations, lambda: parts.vault.status.restarts)
    metrics.watch_lease(membership.remaining, lambda: membership.epoch)
    return metrics


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
