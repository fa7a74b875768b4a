"""Two releases of an enclave over one database, token and platform: other code, and a higher security version."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from kms.core.enclave_upgrades import EnclaveUpgrade, UpgradeState
from kms.core.names import EnclaveUpgradeName, KeyName, Principal, TenantName
from kms.core.operations import Operation, OperationKind, OperationState
from kms.core.seals import SealCount, SealedBy, Sealing, SealKind
from kms.core.suites import Purpose
from kms.enclave_host import EnclaveHost
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.enclave_upgrades import EnclaveUpgrades
from kms.services.keys import NewKey
from kms.services.operations import Operations
from kms.services.reseal import Reseal
from storage.database import Database
from tests.blobs import World
from tests.both_databases import Wall
from tests.enclaves import PACKAGE, EnclaveProcess, copy_of_the_package, measured

OLD_SVN, NEW_SVN = 5, 6
PARENT = TenantName("acme")
PLACE = (("table", b"t1"), ("column", b"c1"), ("row", b"7"))
WHOLE = b"the blob " * 1000
KEPT = {Sealing.MRENCLAVE: "by-code", Sealing.MRSIGNER: "by-signer", Sealing.HYBRID: "by-both"}


@functools.cache
def package_of(directory: Path, code: str) -> Path:
    """The package as it is, or where *code* is not empty a copy with a file that says so."""
    if not code:
        return PACKAGE
    changed = {"errors": (PACKAGE / "errors.py").read_text() + f"\n# {code}\n"}
    package = copy_of_the_package(directory / f"enclave-{code}", **changed)
    assert measured(package) != measured()
    return package


@dataclass
class Release:
    """A node whose enclave is of one release."""

    world: World
    process: EnclaveProcess
    enclave: EnclaveHost

    def __post_init__(self) -> None:
        node, wall = self.world.node, self.world.wall
        self.reseal = Reseal(self.world.storage, node.wrapping, self.world.keys, self.enclave, wall)
        self.operations = Operations(
            self.world.storage, {OperationKind.RESEAL: self.reseal}, uuid4(), wall, clock=node.clock
        )
        self.elsewhere: list[str] = []
        self.upgrades = EnclaveUpgrades(self.world.storage, self.enclave, self.operations.wake, wall, self._others)

    async def _others(self, _: SealedBy) -> Sequence[str]:
        return self.elsewhere

    @property
    def sealer(self) -> SealedBy:
        facts = self.enclave.facts
        assert facts is not None
        return facts.sealer

    async def work(self) -> None:
        """Carry on whatever operation runs, to its end."""
        while await self.operations.step():
            pass

    async def create(self, caller: Principal, target: Release) -> EnclaveUpgrade:
        """Begin an upgrade to another release, and carry it on."""
        by = target.sealer
        _, upgrade = await self.upgrades.create(caller, PARENT, by.mrenclave, by.isv_svn)
        await self.work()
        return await self.stored(caller, upgrade)

    async def finish(self, caller: Principal, upgrade: EnclaveUpgrade, *, force: bool = False) -> EnclaveUpgrade:
        """Finish an upgrade, as far as that goes."""
        await self.upgrades.finish(caller, name_of(upgrade), force=force)
        await self.work()
        return await self.stored(caller, upgrade)

    async def cancel(self, caller: Principal, upgrade: EnclaveUpgrade) -> EnclaveUpgrade:
        """Cancel an upgrade, and bring back what was prepared."""
        await self.upgrades.cancel(caller, name_of(upgrade))
        await self.work()
        return await self.stored(caller, upgrade)

    async def stored(self, caller: Principal, upgrade: EnclaveUpgrade) -> EnclaveUpgrade:
        return (await self.upgrades.get(caller, name_of(upgrade)))[1]

    async def operation(self, caller: Principal, upgrade: EnclaveUpgrade) -> Operation:
        """The last operation of an upgrade."""
        stored = await self.stored(caller, upgrade)
        async with self.world.storage.transaction(stored.tenant) as work:
            assert stored.operation is not None
            found = await work.operations.get(stored.tenant, stored.operation)
        assert found is not None
        return found

    async def census(self, caller: Principal) -> dict[tuple[SealKind, Sealing, Sealing, SealedBy | None], int]:
        _, census = await self.upgrades.census(caller, PARENT)
        rows: Sequence[SealCount] = census.counts
        assert census.running == self.sealer
        return {(one.kind, one.wanted, one.policy, one.by): one.count for one in rows}

    async def fill(self, caller: Principal) -> list[bytes]:
        """A secret key with two versions, a blob under each policy; returns ciphertexts, one of each version."""
        node = self.world.node
        name = KeyName("acme", "mfa")
        await node.keys.create(caller, PARENT, NewKey("mfa", "", Purpose.ENCRYPT, None, {}, policy="secret"))
        ciphertexts = [(await node.fields.encrypt(caller, name, b"first", PLACE)).ciphertext]
        await node.keys.rotate(caller, name, "")
        ciphertexts.append((await node.fields.encrypt(caller, name, b"second", PLACE)).ciphertext)
        for sealing, blob_id in KEPT.items():
            await self.world.seal(caller, blob_id, WHOLE, sealing=sealing)
        return ciphertexts

    async def read_key(self, caller: Principal, ciphertexts: Sequence[bytes]) -> None:
        """Decrypt by what is stored now, not by what is remembered."""
        node = self.world.node
        node.versions.clear()
        for ciphertext, plain in zip(ciphertexts, (b"first", b"second"), strict=True):
            found = await node.fields.decrypt(caller, KeyName("acme", "mfa"), ciphertext, PLACE)
            assert found.plaintext == plain

    async def read_blobs(self, caller: Principal, *blob_ids: str) -> None:
        for blob_id in blob_ids or KEPT.values():
            assert await self.world.read(caller, blob_id) == WHOLE


def name_of(upgrade: EnclaveUpgrade) -> EnclaveUpgradeName:
    return upgrade.name(PARENT.tenant)


@dataclass
class Releases:
    """The machine on which releases run."""

    storage: Database
    vault: Pkcs11Vault
    directory: Path
    wall: Wall
    packages: Path  # of all tests
    process: EnclaveProcess = field(init=False)

    def __post_init__(self) -> None:
        self.process = EnclaveProcess(self.directory, isv_svn=OLD_SVN)

    @asynccontextmanager
    async def running(self, code: str = "", svn: int = OLD_SVN) -> AsyncIterator[Release]:
        """A node with an enclave of other code, where *code* is not empty, at a security version."""
        package = package_of(self.packages, code)
        process = replace(self.process, package=package, isv_svn=svn, counters=f"counters-{uuid4()}")
        enclave = process.adapter()
        await enclave.start()
        try:
            world = World(self.storage, self.vault, enclave, self.directory / "bodies", self.wall)
            yield Release(world, process, enclave)
        finally:
            await enclave.stop()


def rows(
    sealers: dict[SealKind, SealedBy | None], present: dict[Sealing, Sealing] | None = None, versions: int = 2
) -> dict[tuple[SealKind, Sealing, Sealing, SealedBy | None], int]:
    """The census of what fill() makes."""
    made: dict[Any, int] = {
        (SealKind.KEY_VERSION, Sealing.MRSIGNER, Sealing.MRSIGNER, sealers[SealKind.KEY_VERSION]): versions
    }
    for sealing in KEPT:
        made[SealKind.BLOB, sealing, (present or {}).get(sealing, sealing), sealers[SealKind.BLOB]] = 1
    return made


TRANSITIONAL = {Sealing.MRENCLAVE: Sealing.MRSIGNER, Sealing.HYBRID: Sealing.MRSIGNER}
ENDED = (OperationState.SUCCEEDED, UpgradeState.COMPLETED)
