"""Blobs while what they stand on fails at each call in turn: the enclave is killed, object storage refuses.

Each operation is done once whole, with its calls counted, and then again and again with a failure at each of them: it is
one clear error or a success, what was there before is whole, what failed has left nothing that anybody sees, and the same
again succeeds.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from kms.core.enclave_ports import EnclaveFacts, SealedInput
from kms.core.errors import BodyStoreUnavailable, EnclaveUnavailable, NotFound
from kms.core.names import Principal
from kms.core.ports import PartHealth
from kms.enclave_host import EnclaveHost
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.body_stores import BodyStores
from storage.bodies.directory import DirectoryBodies
from tests.blobs import CONTEXT, SEGMENT, World, name_of, running_enclave
from tests.both_databases import Wall
from tests.enclaves import EnclaveProcess
from tests.s3_server import FailingProxy, S3Server, failing

pytestmark = [pytest.mark.softhsm, pytest.mark.timeout(300)]

DATA = os.urandom(SEGMENT + 70_000)  # two segments
Operation = Callable[[World, Principal], Awaitable[object]]


async def seal(world: World, app: Principal) -> None:
    await world.seal(app, "new", DATA)


async def read(world: World, app: Principal) -> None:
    assert await world.read(app, "old") == DATA


async def reseal(world: World, app: Principal) -> None:
    await world.upkeep.reseal(app, name_of(app, "old"), CONTEXT, None, "")


async def move(world: World, app: Principal) -> None:
    await world.upkeep.move(app, name_of(app, "old"), "second")


async def delete(world: World, app: Principal) -> None:
    await world.blobs.delete(app, name_of(app, "old"), "")


async def look(world: World, app: Principal) -> dict[str, bool]:
    """Read both blobs that there may be: whether each is there, after making sure that it is whole."""
    found = {}
    for blob_id in ("old", "new"):
        try:
            found[blob_id] = await world.read(app, blob_id) == DATA
        except NotFound:
            continue
    assert all(found.values())
    return found


@dataclass
class Killed:
    """An enclave whose process is killed while a chosen call is under way."""

    inner: EnclaveHost
    at: int = 0
    calls: int = 0
    died: list[str] = field(default_factory=list)

    @property
    def facts(self) -> EnclaveFacts | None:
        return self.inner.facts

    async def health(self) -> PartHealth:
        return await self.inner.health()

    async def attest(self, report_data: bytes) -> bytes:
        return await self.inner.attest(report_data)

    async def execute(self, function: str, inputs: Sequence[SealedInput], argument: object) -> Any:
        self.calls += 1
        if self.calls != self.at:
            return await self.inner.execute(function, inputs, argument)
        greeted: Any = self.inner._host.greeted
        os.kill(greeted["pid"], signal.SIGSTOP)
        call = asyncio.create_task(self.inner.execute(function, inputs, argument))
        await asyncio.sleep(0)  # it has been handed over
        os.kill(greeted["pid"], signal.SIGKILL)
        self.died.append(function)
        return await call


@asynccontextmanager
async def killed_enclave(process: EnclaveProcess, world: World) -> AsyncIterator[Killed]:
    """Put a fresh process in the place of the world's enclave: the supervisor waits longer after each death in a row."""
    async with running_enclave(process.directory, process) as enclave:
        killed = Killed(enclave)
        world.blobs.keys._enclave = killed
        yield killed


@pytest.fixture
async def process(tmp_path: Path) -> EnclaveProcess:
    (tmp_path / "enclave").mkdir()
    return EnclaveProcess(tmp_path / "enclave")


@pytest.mark.parametrize(
    ("operation", "calls"),
    [
        (seal, ["new_key", "seal_chunks", "seal_chunks"]),
        (read, ["open_chunks", "open_chunks"]),
        (reseal, ["new_key", "open_chunks", "seal_chunks", "open_chunks", "seal_chunks"]),
    ],
)
async def test_an_enclave_that_dies_at_any_call_leaves_whole_blobs_or_none(
    database, open_vault: Pkcs11Vault, wall: Wall, tmp_path: Path, process: EnclaveProcess, operation: Operation, calls
):
    await open_vault.public_key()
    died: list[str] = []
    world = World(database, open_vault, None, tmp_path / "bodies", wall)
    app = await world.node.tenant("acme")
    async with killed_enclave(process, world):
        await world.seal(app, "old", DATA)
    for at in range(1, len(calls) + 1):
        async with killed_enclave(process, world) as enclave:
            enclave.at = at
            with pytest.raises(EnclaveUnavailable):
                await operation(world, app)
            died += enclave.died
            enclave.at = 0
            # The next process has been started meanwhile, or is waited for.
            assert await look(world, app) == {"old": True}
            assert len(world.bodies()) == 2
    assert sorted(died) == sorted(calls)  # each of its calls was met, and there is none beside them
    async with killed_enclave(process, world) as enclave:
        await operation(world, app)
        assert enclave.calls == len(calls)
        assert (await look(world, app))["old"]


class TestObjectStorage:
    """S3 that fails at each request."""

    @pytest.fixture
    def proxy(self, s3_server: S3Server) -> Iterator[FailingProxy]:
        with failing(s3_server.endpoint) as proxy:
            yield proxy

    @pytest.mark.parametrize("way", ["error", pytest.param("close", marks=pytest.mark.soak)])
    @pytest.mark.parametrize("operation", [seal, read, reseal, move, delete])
    async def test_a_request_that_fails_leaves_whole_blobs_or_none(
        self,
        database,
        open_vault: Pkcs11Vault,
        wall: Wall,
        tmp_path: Path,
        process: EnclaveProcess,
        s3_server: S3Server,
        proxy: FailingProxy,
        operation: Operation,
        way: str,
    ):
        await open_vault.public_key()
        stores = {
            "first": s3_server.bodies(f"of/{uuid4()}", proxy.endpoint),
            "second": DirectoryBodies(tmp_path / "second"),
        }
        async with running_enclave(process.directory, process) as enclave:
            world = World(database, open_vault, enclave, tmp_path / "bodies", wall)
            world.blobs.stores = BodyStores(stores, "first")
            app = await world.node.tenant("acme")
            failed, number = 0, 0
            while True:
                if "old" not in await look(world, app):
                    await world.seal(app, "old", DATA, store="first")
                before = await look(world, app)
                number += 1
                proxy.fail(way, number, 1_000)
                try:
                    await operation(world, app)
                except BodyStoreUnavailable:
                    failed += 1
                    proxy.heal()
                    assert await look(world, app) == before
                    continue
                met = proxy.count >= number
                proxy.heal()
                await self.check(world, app, operation)
                if not met:  # all of its requests are before this one
                    break
            assert number > 1
            # A body that cannot be removed once its record is gone is no failure: it is swept.
            assert (failed == 0) is (operation is delete)

    async def check(self, world: World, app: Principal, operation: Operation) -> None:
        """Look at what an operation that succeeded has left, and make room for the next."""
        found = await look(world, app)
        if operation is seal:
            assert found == {"old": True, "new": True}
            await world.blobs.delete(app, name_of(app, "new"), "")
        elif operation is delete:
            assert found == {}
        else:
            assert found == {"old": True}
            if operation is move:
                await world.blobs.delete(app, name_of(app, "old"), "")
