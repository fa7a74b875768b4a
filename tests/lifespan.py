"""Keys whose time a test sets: the services that end versions and keys, over a real database and token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kms.core.census import PlaceKind
from kms.core.keyring import KeyVersion
from kms.core.lifecycle import KeyEvent, KeyState
from kms.core.names import KeyName, KeyVersionName, PlaceName, Principal, TenantUid
from kms.core.policy import Overrides
from kms.core.rotation import finished
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.census import Census, NewPlace
from kms.services.destruction import Destruction, KeyDestruction
from kms.services.keys import Keys, NewKey
from kms.services.lineages import lineage_of
from kms.services.receipts import Receipts
from kms.services.rotating import Rotator
from kms.services.statuses import KeyStatus
from storage.database import Database
from tests.node import Node, new_key

HORIZON = timedelta(days=30)
START = datetime(2030, 1, 1, tzinfo=UTC)
PLACE = "crm-iban"


class Lifespan:
    """A tenant `acme` with a key `k1`, and the time."""

    def __init__(self, node: Node, vault: Pkcs11Vault) -> None:
        self.node = node
        self.storage = node.storage
        self.time = START
        self.dropped: list[TenantUid] = []
        self.woken = 0
        self.rotator = Rotator(self.storage, node.wrapping, self.now)
        self.keys = Keys(self.storage, node.tenants, node.keyrings, self.rotator, self.now)
        self.receipts = Receipts(self.storage, vault, self.now)
        self.destruction = Destruction(
            self.storage,
            self.keys,
            self.receipts,
            self._wake,
            HORIZON,
            self.dropped.append,
            self.now,
        )
        self.erasure = KeyDestruction(self.storage, self.receipts, HORIZON, self.now)
        self.census = Census(self.storage, self.keys, self.destruction.retire_automatically, self.now)
        self.caller = Principal("acme", "officer")
        self.name = KeyName("acme", "k1")

    def now(self) -> datetime:
        return self.time

    def _wake(self) -> None:
        self.woken += 1

    def pass_time(self, **length: float) -> None:
        self.time += timedelta(**length)

    async def key(self, overrides: Overrides | None = None) -> None:
        wish = new_key("k1")
        await self.node.tenant("acme")
        await self.keys.create(
            self.caller,
            self.name.parent,
            NewKey(wish.slug, "", wish.purpose, wish.suite, {}, overrides=overrides or Overrides()),
        )

    async def ring(self) -> KeyStatus:
        return await self.keys.get(self.caller, self.name)

    async def version(self, number: int) -> KeyVersion:
        ring = await self.ring()
        async with self.storage.transaction(ring.tenant.uid) as work:
            version = await work.key_versions.get(ring.tenant.uid, ring.key.uid, number)
        assert version is not None
        return version

    def version_name(self, number: int) -> KeyVersionName:
        return KeyVersionName(self.name, number)

    async def encrypt(self, count: int = 1) -> list[bytes]:
        self.node.keyrings.forget(self.name)
        made = await self.node.fields.encrypt_batch(self.caller, self.name, [b"x"] * count, [], None)
        return made.values

    async def rotate(self) -> None:
        """Rotate, and let the grace pass."""
        await self.keys.rotate(self.caller, self.name, "")
        self.pass_time(minutes=11)
        ring = await self.ring()
        async with self.storage.transaction(ring.tenant.uid, write=True) as work:
            lineage = await lineage_of(work, ring.key)
            key, versions = finished(lineage, [v for v in lineage.timed if v.state is KeyState.ROTATING], self.time)
            await work.keys.replace(key)
            for version in versions:
                await work.key_versions.replace(version)

    async def end_use(self, event: KeyEvent) -> None:
        """Archive, suspend or revoke the key."""
        ring = await self.ring()
        async with self.storage.transaction(ring.tenant.uid, write=True) as work:
            await work.keys.replace(ring.key.after(event, self.time))

    async def declare(self, *, place: str = PLACE, complete: bool = True) -> PlaceName:
        await self.census.create_place(self.caller, self.name, NewPlace(place, PlaceKind.COLUMN, ""))
        if complete:
            await self.census.declare(self.caller, self.name, complete=True)
        return PlaceName("acme", "k1", place)

    async def count(self, *, place: str = PLACE, **counts: int) -> None:
        """Report a count of this moment: `v1=3` for three values of version 1."""
        reported = {int(name[1:]): count for name, count in counts.items()}
        await self.census.report(self.caller, PlaceName("acme", "k1", place), self.time, reported)


@pytest.fixture
async def life(database: Database, open_vault: Pkcs11Vault) -> Lifespan:
    """A key at the beginning of its life; its database and token are real."""
    return Lifespan(Node(database, open_vault), open_vault)
