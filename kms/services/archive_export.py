"""Writes a month of the audit trail into a file, and has what is in it signed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

import structlog

from kms.core.archive_ports import ArchiveFiles
from kms.core.audit import StreamUid
from kms.core.audit_archive_files import ArchiveCheck, ArchiveFile
from kms.core.audit_archives import NO_ARCHIVE, ArchiveBody, ArchiveState, AuditArchive, Reached, message_of
from kms.core.audit_lines import StoredEvent
from kms.core.checkpoint_ports import CheckpointRecords
from kms.core.errors import CorruptRecord, NotFound
from kms.core.names import INSTALLATION_UID
from kms.core.ports import Signer, Storage
from kms.core.retention import Month
from kms.failpoints import reach
from kms.services.archived import Archived

_log = structlog.get_logger(__name__)

EVENTS_AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 1 << 20
CHECKPOINTS_AT_ONCE: Final = 500


def file_name(month: Month) -> str:
    """Return the name of a month's file."""
    return f"audit-{month}.kmsarchive"


@dataclass(frozen=True, slots=True)
class Parts:
    """What archiving needs; *signer* signs with the token's signing key, *installation* is its id."""

    storage: Storage
    checkpoints: CheckpointRecords
    files: ArchiveFiles
    archived: Archived
    signer: Signer
    installation: UUID
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Before:
    """What was archived before a month: the last body, and how far all of them reach into each stream."""

    body: ArchiveBody | None
    reached: Mapping[StreamUid, Reached]
    newest: bool = True  # whether nothing later is archived already


class Export:
    """The first step of a month; with an *archive*, the file of that record is made again.

    Attributes:
        archive: the record, once all is done; None for a month without an event.
    """

    def __init__(
        self, parts: Parts, month: Month, streams: Sequence[StreamUid], before: Before, archive: AuditArchive | None
    ) -> None:
        """*streams*, ordered, are all that may have events in the month."""
        self.archive = archive
        self._parts = parts
        self._month = month
        self._before = before
        self._file = ArchiveFile(parts.installation, month)
        self._part = f"{file_name(month)}.{uuid4().hex}.part"
        self._digest = hashlib.sha256()
        self._size = 0
        # Still to be written, and the sequence behind which they go on.
        self._streams = [(uid, before.reached[uid].sequence if uid in before.reached else 0) for uid in streams]
        self._begun: StreamUid | None = None
        self._serial = 0 if before.body is None else before.body.checkpoint_serial
        self._next: Callable[[], Awaitable[bool]] = self._begin

    async def go_on(self) -> bool:
        """Do a little; True when the file is on the disk and its record stored.

        Raises:
            CorruptRecord: the trail is not whole, or not what the file was made from.
        """
        return await self._next()

    async def _begin(self) -> bool:
        await self._parts.files.create(file_name(self._month), self._part)
        await self._write(self._file.begin())
        self._next = self._write_checkpoints
        return False

    async def _write_checkpoints(self) -> bool:
        """Write those up to the first one that is younger than the month: all files together have the chain of all."""
        page = await self._parts.checkpoints.checkpoints_after(self._serial, CHECKPOINTS_AT_ONCE)
        last = None if self.archive is None else self.archive.content.checkpoint_serial
        frames, whole = [], len(page) == CHECKPOINTS_AT_ONCE
        for checkpoint in page:
            if last is not None and checkpoint.serial > last:
                whole = False
                break
            frames.append(self._file.checkpoint(checkpoint))
            self._serial = checkpoint.serial
            if checkpoint.checkpoint.at >= self._month.end:
                whole = False
                break
        await self._write(b"".join(frames))
        if not whole:
            self._next = self._write_events
        return False

    async def _write_events(self) -> bool:
        if not self._streams:
            self._next = self._end
            return False
        stream, after = self._streams[0]
        async with self._parts.storage.transaction() as work:
            rows = await work.audit_months.events_after(stream, after, self._month, EVENTS_AT_ONCE)
        if rows:
            try:
                # Off the event loop, which serves calls meanwhile.
                data = await asyncio.to_thread(self._frames, stream, rows)
            except (ValueError, TypeError) as error:
                raise CorruptRecord(f"the audit log of {self._month} is damaged: {error}") from error
            await self._write(data)
        if len(rows) < EVENTS_AT_ONCE:
            self._streams.pop(0)
        else:
            self._streams[0] = (stream, rows[-1].sequence)
        return False

    def _frames(self, stream: StreamUid, rows: Sequence[StoredEvent]) -> bytes:
        frames = []
        if self._begun != stream:
            known = self._before.reached.get(stream)
            if known is not None and rows[0].sequence != known.sequence + 1:
                raise ValueError(f"stream {stream}: event {known.sequence + 1} is missing")
            frames.append(self._file.stream(stream, rows[0].sequence, None if known is None else known.hash))
            self._begun = stream
        frames += [self._file.event(row.canonical, row.hash) for row in rows]
        return b"".join(frames)

    async def _end(self) -> bool:
        if not self._file.events and self.archive is None:
            await self._parts.files.remove(self._part)
            return True
        before, month = self._before.body, self._month
        if self.archive is None and not self._before.newest:
            raise CorruptRecord(f"{month} has events, and later months are archived without them")
        body = self._file.body(
            1 if before is None else before.serial + 1,
            NO_ARCHIVE if before is None else before.hash,
            0 if before is None else before.checkpoint_serial,
        )
        text, signature = body.text, await self._signature(body.text)
        await self._write(ArchiveFile.end(text, signature))
        await self._parts.files.finish(self._part, file_name(month))
        made = AuditArchive(
            tenant=INSTALLATION_UID,
            month=month,
            body=text,
            signature=signature,
            state=ArchiveState.EXPORTED,
            file_name=file_name(month),
            file_sha256=self._digest.digest(),
            file_size=self._size,
            created_at=self._parts.now(),
            revision=0 if self.archive is None else self.archive.revision,
        )
        async with self._parts.storage.transaction(INSTALLATION_UID, write=True) as work:
            archives = work.audit_archives
            self.archive = await (archives.replace(made) if made.revision else archives.add(made))
        _log.info("audit.exported", month=str(month), events=body.events, bytes=self._size, file=made.file_name)
        reach("archive.exported")
        return True

    async def _signature(self, text: str) -> bytes:
        if self.archive is None:
            await self._parts.archived.verify()  # makes the signing key where there is none yet
            return await self._parts.signer.sign(message_of(text))
        if self.archive.body != text:
            raise CorruptRecord(
                f"the archive of {self._month} is damaged, and the audit log is not what it was made from"
            )
        return self.archive.signature

    async def _write(self, data: bytes) -> None:
        if data:
            self._digest.update(data)
            self._size += len(data)
            await self._parts.files.append(self._part, data)


class Check:
    """The second step of a month: the file is read back, and has to be what the record says.

    Attributes:
        wrong: what is wrong with it, once all is done; empty for nothing.
    """

    def __init__(self, parts: Parts, archive: AuditArchive) -> None:
        self.archive = archive
        self.wrong = ""
        self._parts = parts
        self._check: ArchiveCheck | None = None

    async def go_on(self) -> bool:
        """Do a little; True when all has been read, or enough to know that it is wrong."""
        if self._check is None:
            self._check = ArchiveCheck(self._parts.installation, await self._parts.archived.verify())
        check, archive = self._check, self.archive
        try:
            data = await self._parts.files.read(archive.file_name, check.size, BYTES_AT_ONCE)
            if data:
                await asyncio.to_thread(check.feed, data)
                return False
            body, signature = check.finish()
        except (NotFound, ValueError, TypeError) as error:
            self.wrong = str(error)
            return True
        found = (body.text, signature, check.sha256, check.size)
        if found != (archive.body, archive.signature, archive.file_sha256, archive.file_size):
            self.wrong = "it is another archive than the record says"
        elif archive.state is ArchiveState.EXPORTED:
            verified = replace(archive, state=ArchiveState.VERIFIED, verified_at=self._parts.now())
            async with self._parts.storage.transaction(INSTALLATION_UID, write=True) as work:
                self.archive = await work.audit_archives.replace(verified)
            _log.info("audit.archive_verified", month=str(archive.month), file=archive.file_name)
            reach("archive.verified")
        return True
