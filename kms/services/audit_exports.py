"""The whole audit trail as a file that proves itself, page by page (kms/core/audit_export.py has its form).

1. A checkpoint is made, so that it covers all that is durable when the export begins.
2. Checkpoint by checkpoint: the events of each stream up to where it says that the stream ends, then the checkpoint.
3. The trailer, signed in the token.

How far an export is stays in this process: whoever asks for the last page again gets it again, and after a restart the
export begins anew. Events go out as they are stored; whether they are what was written is for the verifier to say.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from kms.core.audit import StreamUid
from kms.core.audit_export import (
    TRAILER_LABEL,
    Trailer,
    beginning,
    checkpoint_frame,
    event_frame,
    trailer_frame,
    trailer_text,
)
from kms.core.checkpoint_ports import CheckpointRecords
from kms.core.checkpoints import SignedCheckpoint
from kms.core.errors import FailedPrecondition, LimitExceeded, invalid
from kms.core.ports import Signer, Storage
from kms.core.receipts import moment

PAGE: Final = 1 << 20  # bytes of a page, which one more event may exceed
ROWS: Final = 500  # events that are read at once
MOST_EXPORTS: Final = 4  # at once
IDLE: Final = 600.0  # seconds after which an export that nobody goes on with is over


class ExportStorage(CheckpointRecords, Storage, Protocol):
    """The database, as far as an export needs it."""


@dataclass(slots=True)
class _Export:
    """How far one export is."""

    until: int  # the last checkpoint's serial
    touched: float
    page: int = 0  # the last that was made
    last: tuple[bytes, bool] = (b"", False)  # and what it is: frames, and whether more follow
    current: SignedCheckpoint | None = None
    head: int = 0  # of the current checkpoint, the next to look at
    ends: dict[StreamUid, int] = field(default_factory=dict)  # how far each stream has gone out
    first: SignedCheckpoint | None = None
    newest: SignedCheckpoint | None = None
    events: int = 0
    checkpoints: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class AuditExports:
    """Exports of the trail; belongs to one event loop."""

    def __init__(
        self,
        storage: ExportStorage,
        signer: Signer,
        installation: UUID,
        seal: Callable[[], Awaitable[None]],
        now: Callable[[], datetime],
        clock: Callable[[], float],
        *,
        page: int = PAGE,
        rows: int = ROWS,
    ) -> None:
        """*seal* makes a checkpoint of all that is durable; *clock* gives seconds that never jump."""
        self._storage = storage
        self._signer = signer
        self._installation = installation
        self._seal = seal
        self._now = now
        self._clock = clock
        self._page = page
        self._rows = rows
        self._running: dict[str, _Export] = {}

    async def page(self, token: str) -> tuple[bytes, str]:
        """Return the next bytes of the file, and the token for what follows, empty at the end.

        Raises:
            InvalidRequest: the token is none of the last page's or the one before.
            FailedPrecondition: the export is over, or was begun on another node: begin anew.
            LimitExceeded: too many are running.
            HsmUnavailable, StorageUnavailable: the same page may be asked for again.
        """
        self._forget()
        if not token:
            return await self._first()
        name, _, number = token.partition("/")
        export = self._running.get(name)
        if export is None:
            raise FailedPrecondition("the export is over or of another node; begin anew")
        if number not in {str(export.page), str(export.page + 1)}:
            raise invalid("page_token", "must be the next_page_token of the last page")
        async with export.lock:
            export = self._running.get(name, export)
            export.touched = self._clock()
            if number == str(export.page + 1):
                # What fails, or is left by its caller, has done nothing.
                made = replace(export, page=export.page + 1, ends=dict(export.ends))
                made.last = await self._next(made)
                self._running[name] = export = made
            return self._answer(name, export)

    async def _first(self) -> tuple[bytes, str]:
        if len(self._running) >= MOST_EXPORTS:
            raise LimitExceeded(f"{MOST_EXPORTS} exports are running; go on with one, or wait until it is forgotten")
        await self._seal()
        newest = await self._storage.newest_checkpoint()
        name = secrets.token_hex(16)
        export = _Export(0 if newest is None else newest.serial, self._clock())
        export.last = (beginning(self._installation, whole=True), True)
        self._running[name] = export
        return self._answer(name, export)

    def _answer(self, name: str, export: _Export) -> tuple[bytes, str]:
        data, more = export.last
        return data, f"{name}/{export.page + 1}" if more else ""

    async def _next(self, export: _Export) -> tuple[bytes, bool]:
        """Make the next page."""
        frames: list[bytes] = []
        size = 0
        while size < self._page:
            made = await self._step(export, self._page - size)
            if made is None:
                return b"".join([*frames, await self._trailer(export)]), False
            frames += made
            size += sum(map(len, made))
        return b"".join(frames), True

    async def _step(self, export: _Export, room: int) -> list[bytes] | None:
        """Go on by one batch of one stream, or one checkpoint; None at the end."""
        if export.current is None:
            serial = 0 if export.newest is None else export.newest.serial
            found = await self._storage.checkpoints_after(serial, 1)
            if not found or found[0].serial > export.until:
                return None
            export.current, export.head = found[0], 0
        heads = export.current.checkpoint.heads
        if export.head == len(heads):
            return [self._checkpoint(export, export.current)]
        head = heads[export.head]
        after = export.ends.get(head.stream, 0)
        rows: list[tuple[int, bytes, bytes]] = []
        if after < head.sequence:
            async with self._storage.transaction() as work:
                rows = await work.audit.stored(head.stream, after, head.sequence, self._rows)
        frames = []
        for sequence, digest, canonical in rows:
            frames.append(event_frame(digest, canonical))
            export.ends[head.stream] = sequence
            room -= len(frames[-1])
            if room <= 0:
                break
        export.events += len(frames)
        if not rows or export.ends[head.stream] >= head.sequence:
            export.head += 1  # what is missing is for the verifier to find
        return frames

    def _checkpoint(self, export: _Export, made: SignedCheckpoint) -> bytes:
        export.first = export.first or made
        export.newest, export.current = made, None
        export.checkpoints += 1
        return checkpoint_frame(made)

    async def _trailer(self, export: _Export) -> bytes:
        first, last = export.first, export.newest
        text = trailer_text(
            Trailer(
                events=export.events,
                checkpoints=export.checkpoints,
                first_serial=0 if first is None else first.serial,
                first_hash="" if first is None else first.hash.hex(),
                last_serial=0 if last is None else last.serial,
                last_hash="" if last is None else last.hash.hex(),
                time=moment(self._now()),
            )
        )
        return trailer_frame(text, await self._signer.sign(TRAILER_LABEL + text))

    def _forget(self) -> None:
        now = self._clock()
        for name in [name for name, export in self._running.items() if now - export.touched > IDLE]:
            del self._running[name]
