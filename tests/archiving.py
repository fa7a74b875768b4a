"""What archives the audit trail, over real parts: a database, a token that signs, and a directory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from kms.core.audit_archive_files import ArchiveCheck
from kms.core.audit_archives import ArchiveBody, AuditArchive, reached_by
from kms.core.audit_ports import Position
from kms.core.checkpoints import NOTHING, Checkpoint, SignedCheckpoint, body_of, message_of
from kms.core.names import INSTALLATION_UID
from kms.core.operations import Operation, OperationKind, OperationState
from kms.core.retention import Month
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.archive_export import Parts
from kms.services.archived import Archived
from kms.services.archiving import ArchiveAudit
from kms.services.operations import Operations
from kms.services.receipts import Receipts
from kms.services.retention import INSTALLATION
from kms.sinks.archive_directory import ArchiveDirectory
from storage.database import Database
from tests.both_databases import Wall
from tests.written_trail import WrittenStream, WrittenTrail

# ruff: noqa: S608  no input

HOT = timedelta(days=90)


@dataclass
class Archiving:
    """One node that archives; another one of the same directory is what comes after a crash."""

    storage: Database
    trail: WrittenTrail
    vault: Pkcs11Vault
    path: Path
    wall: Wall
    uid: UUID = field(default_factory=uuid4)

    def __post_init__(self) -> None:
        self.receipts = Receipts(self.storage, self.vault, self.wall)
        self.archived = Archived(self.storage, self.receipts.public_key)
        self.parts = Parts(
            self.storage,
            self.storage,
            ArchiveDirectory(self.path),
            self.archived,
            self.vault,
            self.trail.installation,
            self.wall,
        )
        self.runner = ArchiveAudit(self.parts, HOT)
        self.operations = Operations(
            self.storage, {OperationKind.ARCHIVE_AUDIT: self.runner}, self.uid, self.wall, clock=Ticking()
        )

    async def start(self) -> Operation:
        return await self.operations.start(
            INSTALLATION, OperationKind.ARCHIVE_AUDIT, "installation/audit", "operators/root", 0
        )

    async def run(self, until: Callable[[Operation], bool] = lambda _: False) -> Operation:
        """Archive to the end, or until something holds."""
        operation = await self.start()
        while operation.state is OperationState.RUNNING and not until(operation):
            await self.operations.step()
            operation = await self.operations._read(INSTALLATION, operation.uid)
        return operation

    async def archives(self) -> list[tuple[AuditArchive, ArchiveBody]]:
        return await self.archived.all()

    async def states(self) -> dict[str, str]:
        return {str(archive.month): archive.state.value for archive, _ in await self.archives()}

    def file(self, month: str) -> Path:
        return self.path / f"audit-{month}.kmsarchive"

    async def checked(self, month: str) -> ArchiveBody:
        """Verify a file as a stranger would."""
        check = ArchiveCheck(self.trail.installation, await self.archived.verify())
        data = self.file(month).read_bytes()
        for start in range(0, len(data), 1_000):
            check.feed(data[start : start + 1_000])
        return check.finish()[0]

    async def whole(self, streams: list[WrittenStream], *, leaving: bool = False) -> int:
        """Verify the chain of all streams over files and database, from signed boundaries on; returns the events.

        With *leaving* a month may be on its way out.
        """
        bodies = [await self.checked(str(archive.month)) for archive, _ in await self.archives()]
        reached = reached_by(bodies)
        gone = await self.archived.boundaries()
        events = 0
        for stream in streams:
            archived = 0 if stream.uid not in reached else reached[stream.uid].sequence
            if archived:
                assert reached[stream.uid].hash == stream.hashes[archived - 1]
            there = [sequence for sequence, _ in self.rows(stream)]
            left = {number for part in gone.get(stream.uid, ()) for number in range(part.first, part.last + 1)}
            assert sorted(left | {*there}) == [*range(1, stream.sequence + 1)], "an event is nowhere"
            assert leaving or not left & {*there}, "an event that has left is still there"
            for sequence, hash_ in self.rows(stream):
                assert hash_ == stream.hashes[sequence - 1]
            for part in gone.get(stream.uid, ()):
                assert part.hash == stream.hashes[part.last - 1]
            events += len(left | {*there})
        return events

    def rows(self, stream: WrittenStream) -> list[tuple[int, bytes]]:
        found = self.trail.execute(  # our own words
            f"SELECT sequence, hash FROM audit_log WHERE stream_id = '{stream.uid}' ORDER BY sequence"
        )
        return [(row[0], bytes(row[1])) for row in found]

    async def checkpoint(
        self, at: datetime, *streams: WrittenStream, last: SignedCheckpoint | None
    ) -> SignedCheckpoint:
        """Store a checkpoint over the ends of streams, as the daemon would have at a time."""
        heads = [Position(one.uid, one.sequence, one.hash) for one in sorted(streams, key=lambda one: one.uid.bytes)]
        serial, previous = (1, NOTHING) if last is None else (last.serial + 1, last.hash)
        new = Checkpoint(
            serial, previous, self.trail.installation, tuple(heads), hashlib.sha256().digest(), at, "a:00000000"
        )
        body = body_of(new)
        await self.receipts.public_key()
        made = SignedCheckpoint(new, body, await self.vault.sign(message_of(body)))
        await self.storage.add_checkpoint(made, serial - 1, [])
        return made


class Ticking:
    """Seconds that pass with every look, so that nothing rests for long."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 400.0
        return self.now


@pytest.fixture
def archiving(
    storage: Database, trail: WrittenTrail, open_vault: Pkcs11Vault, tmp_path: Path, wall: Wall
) -> Callable[[], Archiving]:
    """Makes nodes over one database, token and directory; the wall shows January 2025."""
    wall.now = datetime.fromisoformat("2025-01-15T03:00:00+00:00")
    return lambda: Archiving(storage, trail, open_vault, tmp_path / "archives", wall)


def months(first: str, last: str) -> list[str]:
    month, end, found = Month.parse(first), Month.parse(last), []
    while month <= end:
        found.append(str(month))
        month = month.next
    return found


__all__ = ["HOT", "INSTALLATION_UID", "Archiving", "archiving", "months"]
