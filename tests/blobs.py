"""Blobs over real parts: a database, a token, an enclave process, and directories for bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enclave.command import serve_command
from kms.core.blobs import ANYBODY, Compression
from kms.core.names import BlobName, Principal
from kms.core.seals import Sealing
from kms.enclave_host import EnclaveHost
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.blob_keys import BlobKeys
from kms.services.blob_reading import BlobReading, Wanted
from kms.services.blob_sealing import BlobSealing, NewBlob
from kms.services.blob_upkeep import BlobUpkeep
from kms.services.blob_uses import BlobUseRecorder
from kms.services.blobs import Blobs, ShownBlob
from kms.services.body_stores import BodyStores
from kms.services.receipts import Receipts
from storage.bodies.directory import DirectoryBodies
from storage.database import Database
from tests.both_databases import Wall
from tests.enclaves import EnclaveProcess
from tests.node import Node

PIECE = 100_000  # bytes of one message; no multiple of a chunk
SEGMENT = 1 << 18  # bytes, for tests that have several
CONTEXT = (("case", b"17"), ("who", b"ann"))


@dataclass
class World:
    """All use cases of blobs, and what they stand on."""

    storage: Database
    vault: Pkcs11Vault
    enclave: EnclaveHost | None
    directory: Path
    wall: Wall
    segment: int = SEGMENT
    node: Node = field(init=False)

    def __post_init__(self) -> None:
        self.node = Node(self.storage, self.vault, wall=self.wall, enclave=self.enclave)
        self.stores = BodyStores(
            {name: DirectoryBodies(self.directory / name) for name in ("first", "second")}, "first"
        )
        receipts = Receipts(self.storage, self.vault, self.wall)
        self.keys = BlobKeys(self.storage, self.enclave, self.node.wrapping)
        self.blobs = Blobs(self.storage, self.stores, self.keys, receipts, self.wall)
        self.uses = BlobUseRecorder(self.storage, self.wall)
        self.sealing = BlobSealing(self.storage, self.blobs, self.segment)
        self.reading = BlobReading(self.storage, self.blobs, self.node.accesses.of, self.uses)
        self.upkeep = BlobUpkeep(self.storage, self.blobs)

    async def seal(self, caller: Principal, blob_id: str, data: bytes, **said: Any) -> ShownBlob:
        """Seal some bytes."""
        return await self.sealing.seal(caller, new_blob(caller, blob_id, **said), pieces(data))

    async def read(self, caller: Principal, blob_id: str, **wanted: Any) -> bytes:
        """Unseal a blob, or a part of it."""
        asked = Wanted(**{"context": CONTEXT, **wanted})
        return b"".join([piece async for piece in self.reading.unseal(caller, name_of(caller, blob_id), asked)])

    def bodies(self, store: str = "first") -> list[Path]:
        """The files of all whole bodies in a store."""
        files = (path for path in (self.directory / store).rglob("*") if path.is_file())
        return sorted(path for path in files if "parts" not in path.parts)


def name_of(caller: Principal, blob_id: str) -> BlobName:
    assert caller.tenant is not None
    return BlobName(caller.tenant, blob_id)


def new_blob(caller: Principal, blob_id: str, **said: Any) -> NewBlob:
    """What the first message says where a test says nothing else."""
    default: dict[str, Any] = {
        "name": name_of(caller, blob_id),
        "content_type": "text/plain",
        "description": "",
        "labels": {},
        "sealing": Sealing.MRSIGNER,
        "context": CONTEXT,
        "access": ANYBODY,
        "expires_at": None,
        "compression": Compression.NONE,
        "store": "",
        "upload": None,
        "expected_sha256": b"",
    }
    return NewBlob(**{**default, **said})


async def pieces(data: bytes, broken_after: int | None = None) -> AsyncIterator[bytes]:
    """Bytes as messages bring them; *broken_after* so many, the connection is lost."""
    for start in range(0, len(data), PIECE):
        if broken_after is not None and start >= broken_after:
            raise ConnectionError("lost")
        yield data[start : start + PIECE]


@asynccontextmanager
async def running_enclave(directory: Path, process: EnclaveProcess | None = None) -> AsyncIterator[EnclaveHost]:
    """An enclave of the test's own, or another process of the same platform and signer."""
    directory.mkdir(exist_ok=True)
    process = process or EnclaveProcess(directory)
    enclave = EnclaveHost(serve_command(directory / "counters"), process._greeting)
    await enclave.start()
    try:
        yield enclave
    finally:
        await enclave.stop()


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    path.chmod(mode)
