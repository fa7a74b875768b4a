"""The services of a node over real parts: an SQLite file, a SoftHSM token, and a clock that shows what the test sets.

Nodes over the same database and vault stand for daemons that share them.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from kms.core.census import Uses
from kms.core.enclave_ports import Enclave
from kms.core.keyring import Kek, Tenant
from kms.core.lease import ENDLESS
from kms.core.names import KekUid, KeyName, Principal, TenantName, TenantUid
from kms.core.operations import OperationKind
from kms.core.ports import Counter, CreatedKek, KekVault, Storage
from kms.core.propagation import Propagation
from kms.core.repositories import UnitOfWork
from kms.core.rotation import KekPolicy
from kms.core.suites import Purpose, Suite, choose_suite
from kms.core.wrapping import DekPlace
from kms.crypto.cache import DekCache
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.access import Accesses
from kms.services.counting import UsageCounters
from kms.services.data_keys import DataKeys
from kms.services.fields import Fields
from kms.services.formats import Formats
from kms.services.grants import Grants
from kms.services.indexes import Indexes
from kms.services.keks import Keks
from kms.services.keyrings import Keyrings
from kms.services.keys import Keys, NewKey
from kms.services.leases import Leases
from kms.services.lifecycle import Lifecycle
from kms.services.membership import Membership
from kms.services.operations import Operations
from kms.services.policies import Policies
from kms.services.principals import Principals
from kms.services.pseudonyms import Pseudonyms
from kms.services.ready_versions import ReadyVersion
from kms.services.rewrap import Rewrap
from kms.services.rings import Ring
from kms.services.rotating import Rotator
from kms.services.statuses import KeyStatus
from kms.services.tenants import Tenants
from kms.services.uses import UseRecorder
from kms.services.wrapping import DekWrapping
from storage.migrate import upgrade
from storage.sqlite import SqliteDatabase
from tests.keyrings import new_tenant
from tests.sealing import open_sqlite
from tests.softhsm_token import Token

KEY_LIFETIME = 5.0
DEK_LIFETIME = 300.0
DEADLINE = timedelta(seconds=5)
RESCUER = "rotation"
OPERATOR = Principal(None, "root")


class Clock:
    """Shows the seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class RecordingStorage:
    """The real storage, and what has been asked of it; *held* keeps every reservation until it is set."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.shared = storage.shared
        self.calls: list[str] = []
        self.amounts: list[int] = []
        self.held: asyncio.Event | None = None

    @asynccontextmanager
    async def transaction(self, tenant: TenantUid | None = None, *, write: bool = False) -> AsyncIterator[UnitOfWork]:
        self.calls.append("write" if write else "read")
        async with self._storage.transaction(tenant, write=write) as work:
            yield work

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[None]:
        self.calls.append("exclusive")
        async with self._storage.exclusive(name):
            yield

    async def reserve(self, counter: Counter, amount: int, stop_at: int | None) -> int | None:
        self.calls.append("reserve")
        self.amounts.append(amount)
        if self.held is not None:
            await self.held.wait()
        return await self._storage.reserve(counter, amount, stop_at)

    async def reserved(self, counters: list[Counter]) -> list[int]:
        self.calls.append("reserved")
        return await self._storage.reserved(counters)

    async def uses(self, counters: list[Counter]) -> list[Uses]:
        self.calls.append("uses")
        return await self._storage.uses(counters)

    async def check(self) -> None:
        self.calls.append("check")
        await self._storage.check()


class SlowVault:
    """The real vault, whose token begins to make a KEK when *go* is set, whoever still waits for it then."""

    def __init__(self, vault: KekVault) -> None:
        self._vault = vault
        self.go = asyncio.Event()
        self.inside = 0
        self.most_inside = 0
        self._running: set[asyncio.Task[CreatedKek]] = set()

    async def create_kek(self, uid: KekUid, version: int) -> CreatedKek:
        task = asyncio.create_task(self._create(uid, version))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def _create(self, uid: KekUid, version: int) -> CreatedKek:
        self.inside += 1
        self.most_inside = max(self.inside, self.most_inside)
        try:
            await self.go.wait()
            return await self._vault.create_kek(uid, version)
        finally:
            self.inside -= 1

    async def wrap(self, kek: Kek, dek: bytes, bound: bytes) -> bytes:
        return await self._vault.wrap(kek, dek, bound)

    async def unwrap(self, kek: Kek, wrapped: bytes, bound: bytes) -> bytes:
        return await self._vault.unwrap(kek, wrapped, bound)

    async def random(self, length: int) -> bytes:
        return await self._vault.random(length)


@dataclass
class Node:
    """All services of one node; its caches are its own. Over a shared storage it serves only after membership.look()."""

    storage: Storage
    vault: KekVault
    clock: Clock = field(default_factory=Clock)
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    uid: UUID = field(default_factory=uuid4)
    leased: bool = True  # until its membership first looks; False: as a node that has heard nothing yet
    open_tenants: bool = False
    enclave: Enclave | None = None

    def __post_init__(self) -> None:
        self.usage = UsageCounters(self.storage, self.clock)
        self.wrapping = DekWrapping(self.storage, self.vault, self.usage, self.enclave)
        self.uses = UseRecorder(self.storage, self.wall)
        self.rings: DekCache[KeyName, Ring] = DekCache(100, KEY_LIFETIME, self.clock)
        self.versions: DekCache[DekPlace, ReadyVersion] = DekCache(100, DEK_LIFETIME, self.clock)
        self.keyrings = Keyrings(
            self.storage, self.wrapping, self.usage, self.rings, self.versions, self.uses, self.clock
        )
        if self.leased:
            self.keyrings.lease = ENDLESS
        self.accesses = Accesses(
            self.storage,
            open_tenants=self.open_tenants,
            lifetime=KEY_LIFETIME,
            clock=self.clock,
            now=self.wall,
            most=100,
        )
        self.membership = Membership(
            self.storage, self.keyrings, DEADLINE, "node", self.wall, self.clock, listeners=(self.accesses.changed,)
        )
        self.principals = Principals(self.storage, self.membership.drop, self.wall)
        self.grants = Grants(self.storage, self.principals, self.membership.drop, self.accesses.changed, self.wall)
        self.operations = Operations(
            self.storage,
            {OperationKind.REWRAP: Rewrap(self.storage, self.vault, self.wrapping)},
            self.uid,
            self.wall,
            clock=self.clock,
        )
        self.keks = Keks(self.storage, self.vault, self.usage, self.operations, KekPolicy(), self.wall)
        self.tenants = Tenants(self.storage, self.keks, self.wall)
        self.rotator = Rotator(self.storage, self.wrapping, self.wall)
        self.levels = self.wrapping.levels
        self.keys = Keys(self.storage, self.tenants, self.keyrings, self.rotator, self.wall, levels=self.levels)
        self.dropped: list[TenantUid] = []
        self.stops: list[tuple[int, bool]] = []
        self.woken = 0
        self.lifecycle = Lifecycle(self.storage, self.keys, self.rotator, self.drop, self.propagation, self.wall)
        self.policies = Policies(self.storage, self.tenants, self.wall, self.wake, self.keyrings.reread, self.levels)
        self.fields = Fields(self.keyrings, 10_000, RESCUER)
        self.indexes = Indexes(self.keyrings, self.fields)
        self.pseudonyms = Pseudonyms(self.keyrings, self.fields)
        self.formats = Formats(self.keyrings, self.fields)
        self.data_keys = DataKeys(self.keyrings, self.vault)
        self.leases = Leases(self.storage, self.keyrings, DEADLINE, self.wall, self.clock)

    def drop(self, tenant: TenantUid) -> None:
        """Drop all that this node holds of a tenant; noted."""
        self.dropped.append(tenant)
        self.membership.drop(tenant)

    async def propagation(self, epoch: int, committed: datetime, *, wait: bool, leased: bool) -> Propagation:
        """This node alone has stopped, at once; noted."""
        self.stops.append((epoch, wait))
        return Propagation(committed, complete=True, last_stop=timedelta(0))

    def wake(self) -> None:
        """Somebody should carry out operations; noted."""
        self.woken += 1

    async def tenant(self, slug: str) -> Principal:
        """Create a tenant; returns one of its principals."""
        await self.tenants.create(OPERATOR, slug, "")
        return Principal(slug, "app")

    async def key(self, caller: Principal, slug: str, purpose: Purpose = Purpose.ENCRYPT) -> KeyName:
        """Create a key."""
        name = KeyName(str(caller.tenant), slug)
        await self.keys.create(caller, name.parent, new_key(slug, purpose))
        return name

    async def key_versions(self, caller: Principal, name: KeyName) -> list[int]:
        """The numbers of the key's versions."""
        return [status.version.version for status in (await self.keys.list_versions(caller, name, 0, 100))[1]]

    async def kek_versions(self, slug: str) -> dict[int, bool]:
        """The numbers of the tenant's active KEK versions, and whether each is the primary one."""
        statuses = (await self.keks.list_statuses(OPERATOR, TenantName(slug), 0, 100))[1]
        return {status.kek.version: status.primary for status in statuses}

    async def ring(self, caller: Principal, name: KeyName) -> KeyStatus:
        """The key as it is stored."""
        return await self.keys.get(caller, name)


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop go on until *condition* holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is waited for announces nothing, and must be met at that very turn
            await asyncio.sleep(0)


def now() -> datetime:
    return datetime.now(UTC)


def new_key(slug: str, purpose: Purpose = Purpose.ENCRYPT, suite: Suite | None = None) -> NewKey:
    return NewKey(slug, "", purpose, choose_suite(purpose, suite), {})


async def stored_tenant(storage: Storage) -> Tenant:
    """A tenant's record, for what belongs to a tenant and needs no token."""
    tenant = Tenant(TenantUid(uuid4()), f"t-{uuid4().hex[:12]}", "", KekUid(uuid4()), primary_kek=0, created_at=now())
    async with storage.transaction(tenant.uid, write=True) as work:
        return await work.tenants.add(tenant)


async def with_tenants(storage: Storage, *slugs: str) -> list[Tenant]:
    """Store tenants, each in a transaction of its own."""
    return [await _with_tenant(storage, slug) for slug in slugs]


async def _with_tenant(storage: Storage, slug: str) -> Tenant:
    tenant = new_tenant(slug)
    async with storage.transaction(tenant.uid, write=True) as work:
        return await work.tenants.add(tenant)


@dataclass(frozen=True)
class Hostile:
    """Whoever can write into the database file."""

    path: Path

    def change(self, statement: str, **values: Any) -> int:
        """Execute one statement past the daemon; returns how many rows it changed."""
        connection = sqlite3.connect(self.path, timeout=10)
        try:
            with connection:
                return connection.execute(statement, values).rowcount
        finally:
            connection.close()

    def rows(self, table: str, **where: Any) -> list[dict[str, Any]]:
        """The rows of a table with these values."""
        connection = sqlite3.connect(self.path, timeout=10)
        connection.row_factory = sqlite3.Row
        asked = " AND ".join(f"{name} = :{name}" for name in where)
        try:
            return [dict(row) for row in connection.execute(f"SELECT * FROM {table} WHERE {asked or True}", where)]  # noqa: S608
        finally:
            connection.close()

    def put(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Write rows over what is there."""
        for row in rows:
            names = ", ".join(row)
            self.change(f"INSERT OR REPLACE INTO {table} ({names}) VALUES (:{', :'.join(row)})", **row)  # noqa: S608


def keks_in_token(token: Token, uid: KekUid) -> Tally[int]:
    """How many keys the token holds for each version of a KEK."""
    found = token.run(
        "result = [key[Attribute.ID].hex() for key in session.get_objects("
        "{Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES})]"
    )
    ids = [bytes.fromhex(id_) for id_ in found]
    return Tally(int.from_bytes(id_[16:], "big") for id_ in ids if id_[:16] == uid.bytes)


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "kms.sqlite3"
    upgrade(path)
    return path


@pytest.fixture
def hostile(_migrated: Path, tmp_path: Path) -> Hostile:
    """Write access to the file of `database`."""
    path = tmp_path / "kms.sqlite3"
    shutil.copy(_migrated, path)
    return Hostile(path)


@pytest.fixture
async def database(hostile: Hostile) -> AsyncIterator[SqliteDatabase]:
    """An empty database of the test's own."""
    opened = await open_sqlite(hostile.path)
    yield opened
    await opened.close()


@pytest.fixture
async def open_vault(shared_token: Token) -> AsyncIterator[Pkcs11Vault]:
    """A started vault over the worker's token."""
    vault = shared_token.vault()
    await vault.start()
    yield vault
    await vault.stop()


@pytest.fixture
def node(database: SqliteDatabase, open_vault: Pkcs11Vault) -> Node:
    """A node; more of them can be made over its storage and vault."""
    return Node(database, open_vault)
