"""Nodes of one installation over real parts, composed as the daemon composes them; a test sets their clocks."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psycopg

from kms.core.clock import ClockWatch
from kms.core.keyring import Kek, Key, KeyVersion, Tenant
from kms.core.names import KeyName, Principal, TenantName, TenantUid
from kms.core.operations import OperationKind
from kms.core.rotation import KekPolicy
from kms.core.wrapping import DekPlace
from kms.crypto.cache import DekCache
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.census import Census
from kms.services.counting import UsageCounters
from kms.services.data_keys import DataKeys
from kms.services.destruction import Destruction, KeyDestruction
from kms.services.due_keys import SCHEDULER, DueKeys
from kms.services.fields import Fields
from kms.services.keks import Keks
from kms.services.keyrings import Keyrings
from kms.services.keys import Keys
from kms.services.lifecycle import Lifecycle
from kms.services.membership import Membership
from kms.services.operations import Operations
from kms.services.policies import Policies
from kms.services.ready_versions import ReadyVersion
from kms.services.receipts import Receipts
from kms.services.replan import Replan
from kms.services.rewrap import Rewrap
from kms.services.rings import Ring
from kms.services.rotate_keys import RotateKeys
from kms.services.rotating import Rotator
from kms.services.rotation import Rotation
from kms.services.tenants import Tenants
from kms.services.uses import UseRecorder
from kms.services.wrapping import DekWrapping
from storage.database import Database
from storage.schemas import metadata
from tests.histories.model import DAY, DEADLINE, HORIZON, KEK_PERIOD, START
from tests.node import DEK_LIFETIME, KEY_LIFETIME, OPERATOR, RESCUER

TENANT = TenantName("acme")
APPLICATION = Principal(TENANT.tenant, "app")
ROTATOR = Principal(TENANT.tenant, RESCUER)  # who rescues what a revoked version encrypted
STRANGER = Principal("other", "app")
KEK_QUARANTINE = 12 * DAY
# Most steps that anything due at one moment takes; beyond it something is never done.
MOST_STEPS = 60


# Of the installation, or never written here and only ever added to.
UNTOUCHED = frozenset({"installation", "audit_log", "checkpoints"})


class Clocks:
    """The wall clock and the boot-time clock, which never contradict each other here."""

    def __init__(self, now: datetime = START) -> None:
        self.time = now
        self.boot = 0.0

    def now(self) -> datetime:
        return self.time

    def boottime(self) -> float:
        return self.boot

    def wait(self, period: timedelta) -> None:
        self.time += period
        self.boot += period.total_seconds()


class Member:
    """One node: all services, and caches of its own."""

    def __init__(self, storage: Database, vault: Pkcs11Vault, clocks: Clocks, name: str) -> None:
        now, boottime = clocks.now, clocks.boottime
        self.usage = UsageCounters(storage, boottime)
        wrapping = DekWrapping(storage, vault, self.usage)
        self.uses = UseRecorder(storage, now)
        rings: DekCache[KeyName, Ring] = DekCache(100, KEY_LIFETIME, boottime)
        versions: DekCache[DekPlace, ReadyVersion] = DekCache(100, DEK_LIFETIME, boottime)
        keyrings = Keyrings(storage, wrapping, self.usage, rings, versions, self.uses, boottime)
        self.membership = Membership(storage, keyrings, DEADLINE, name, now, boottime)
        receipts = Receipts(storage, vault, now)
        rotator = Rotator(storage, wrapping, now)
        runners = {
            OperationKind.REWRAP: Rewrap(storage, vault, wrapping),
            OperationKind.ROTATE_KEYS: RotateKeys(storage, rotator, keyrings.forget, boottime),
            OperationKind.REPLAN: Replan(storage),
            OperationKind.DESTROY_KEY: KeyDestruction(storage, receipts, HORIZON, now),
        }
        self.operations = Operations(storage, runners, self.membership.uid, now, clock=boottime)
        policy = KekPolicy(KEK_PERIOD, KEK_QUARANTINE)
        self.keks = Keks(storage, vault, self.usage, self.operations, policy, now, receipt=receipts.of_kek)
        self.tenants = Tenants(storage, self.keks, now)
        self.keys = Keys(storage, self.tenants, keyrings, rotator, now, self.operations.start)
        drop = self.membership.drop
        self.destruction = Destruction(storage, self.keys, receipts, self.operations.wake, HORIZON, drop, now)
        self.rotation = Rotation(
            storage,
            DueKeys(storage, rotator, self.destruction, keyrings.forget, now),
            self.keks,
            lambda tenant, seen: self.keks.rotate(Principal(None, SCHEDULER), tenant.name, seen),
            self.membership.uid,
            1000.0,
            ClockWatch.started(now(), boottime(), None),
            now,
            boottime,
        )
        self.usage.watch(self.rotation.request)
        self.lifecycle = Lifecycle(storage, self.keys, rotator, drop, self.membership.propagation, now)
        self.policies = Policies(storage, self.tenants, now, self.operations.wake, keyrings.reread)
        self.census = Census(storage, self.keys, self.destruction.retire_automatically, now)
        self.fields = Fields(keyrings, 10_000, RESCUER)
        self.data_keys = DataKeys(keyrings, vault)

    async def carry_out(self, *, operations: bool) -> None:
        """Do all that is due at this moment, and all long work or none."""
        await _exhaust(self.rotation.step)
        while operations and await _exhaust(self.operations.step):
            await _exhaust(self.rotation.step)


async def _exhaust(step: Callable[[], Awaitable[bool]]) -> bool:
    """Repeat a step until it finds nothing to do; returns whether it did anything at all."""
    for steps in range(MOST_STEPS):
        if not await step():
            return steps > 0
    raise AssertionError(f"there was something to do in each of {MOST_STEPS} steps")


@dataclass(frozen=True)
class Records:
    """A tenant's keys as they are stored."""

    keys: dict[str, Key]
    versions: dict[str, dict[int, KeyVersion]]


@dataclass(frozen=True)
class KekRecords:
    """A tenant and its KEK versions as they are stored, and how many DEKs each wraps."""

    tenant: Tenant
    keks: dict[int, Kek]
    wrapped: dict[int, int]


@dataclass
class Installation:
    """A database and a token, one after the other for many histories."""

    storage: Database
    vault: Pkcs11Vault
    where: Path | str  # a file of SQLite, or a URI of PostgreSQL

    async def founded(self, clocks: Clocks) -> TenantUid:
        """Make the tenant, after all that an earlier history has left is gone."""
        self._empty()
        founder = Member(self.storage, self.vault, clocks, "founder")
        return (await founder.tenants.create(OPERATOR, TENANT.tenant, "")).uid

    async def records(self, tenant: TenantUid) -> Records:
        async with self.storage.transaction(tenant) as work:
            keys = await work.keys.list_by_slug(tenant, "", 100)
            versions = {key.slug: await work.key_versions.list_by_version(tenant, key.uid, 0, 1_000) for key in keys}
        return Records(
            {key.slug: key for key in keys},
            {slug: {version.version: version for version in found} for slug, found in versions.items()},
        )

    async def kek_records(self, tenant: TenantUid) -> KekRecords:
        async with self.storage.transaction(tenant) as work:
            found = await work.tenants.by_uid(tenant)
            keks = await work.keks.list_by_version(tenant, 0, 1_000)
            wrapped = await work.key_versions.count_by_kek(tenant)
        assert found is not None
        return KekRecords(found, {kek.version: kek for kek in keks}, wrapped)

    def _empty(self) -> None:
        """Delete all rows past the daemon."""
        tables = [table for table in reversed(metadata.sorted_tables) if table.name not in UNTOUCHED]
        if isinstance(self.where, Path):
            with closing(sqlite3.connect(self.where, timeout=10)) as connection, connection:
                for table in tables:
                    connection.execute(f"DELETE FROM {table.name}")  # noqa: S608  our tables
        else:
            with psycopg.connect(self.where) as connection:
                for table in tables:
                    connection.execute(f"DELETE FROM {table.fullname}".encode())  # noqa: S608  our tables
