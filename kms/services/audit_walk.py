"""One walk through the stored audit trail, from its oldest event, or the last that was archived, to a checkpoint.

Checkpoint by checkpoint: the events of each stream up to where it says that the stream ends, then the checkpoint; at last
what no checkpoint knows. Every page is a transaction of its own, and of all events no more than one page of each stream
that is live stays in memory.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import structlog

from kms.core.anchors import Verify, is_genuine
from kms.core.audit import StreamUid
from kms.core.audit_archives import StreamPart
from kms.core.audit_checks import StoredCheckpoint, StoredRow, StreamExtent
from kms.core.audit_findings import Fault
from kms.core.audit_ports import Position
from kms.core.audit_verify import Verifier
from kms.core.checkpoints import SignedCheckpoint
from kms.core.errors import CorruptRecord, Unavailable
from kms.core.ports import Storage
from kms.services.checkpoints import BEGUN_WITHIN

_log = structlog.get_logger(__name__)

ROWS: Final = 200  # events that are read at once, each of at most 64 KiB twice
CHECKPOINTS: Final = 500
STREAMS: Final = 200
MOST_BUFFERS: Final = 16  # streams of which a page waits for its checkpoint
SLICE: Final = 0.01  # seconds of work between two rests
REST: Final = 30.0  # seconds until it goes on where the database does not answer
TRIES: Final = 20
LARGEST: Final = 2**63 - 1  # sequence

Boundaries = Mapping[StreamUid, tuple[StreamPart, ...]]
Sleep = Callable[[float], Awaitable[None]]
T = TypeVar("T")


@dataclass(slots=True)
class Progress:
    """How far a walk is: events that were verified, and those that were there when it began."""

    events: int = 0
    known: int = 0


class Walk:
    """One verification; belongs to one event loop."""

    def __init__(
        self,
        storage: Storage,
        installation: UUID,
        verify: Verify,
        boundaries: Boundaries,
        progress: Progress,
        sleep: Sleep,
        rows: int = ROWS,
    ) -> None:
        """*boundaries* are, of each stream, the parts that have left the database."""
        self.verifier = Verifier(installation, verify, tail=True)
        self.columns = 0  # events whose columns were compared
        self._storage = storage
        self._verify = verify
        self._archived = {stream: parts[-1].last for stream, parts in boundaries.items()}
        self._progress = progress
        self._sleep = sleep
        self._rows = rows
        self._read = dict(self._archived)  # how far each stream has been read
        self._buffers: dict[StreamUid, deque[StoredRow]] = {}
        self._worked = time.perf_counter()
        for stream, parts in boundaries.items():
            self.verifier.take_archived(Position(stream, parts[-1].last, parts[-1].hash))

    async def count(self) -> None:
        """Count what there is to verify."""
        known = 0
        async for extent in self._streams():
            known += max(0, extent.last - max(extent.first - 1, self._archived.get(extent.stream, 0)))
        self._progress.known, self._progress.events = known, 0

    async def go(self, until: int, now: datetime) -> None:
        """Verify all that the checkpoints up to a serial cover; *now* tells what may have begun since.

        Raises:
            Unavailable: the database has not answered for too long.
        """
        serial = 0
        while serial < until:
            page = await self._checkpoints(serial)
            for stored in page:
                if stored.serial <= until:
                    await self._take(stored)
            if not page:
                break
            serial = page[-1].serial
        self.verifier.finish()
        await self._look_for_more(now)

    async def _take(self, stored: StoredCheckpoint) -> None:
        if stored.made is None:
            self.verifier.take_unreadable(stored.serial, stored.wrong)
            return
        if stored.wrong:
            self.verifier.found(Fault.CHECKPOINT_DIFFERS, serial=stored.serial, text=stored.wrong)
        if is_genuine(stored.made, self._verify):  # where another one says that a stream ends is nothing to go by
            for head in stored.made.checkpoint.heads:
                await self._feed(head)
        self.verifier.take_checkpoint(stored.made)
        await self._breathe()

    async def _feed(self, head: Position) -> None:
        """Take the events of a stream up to its head."""
        stream = head.stream
        while True:
            waiting = self._buffers.get(stream)
            if waiting is None:
                if self._read.get(stream, 0) >= head.sequence:
                    return
                waiting = deque(await self._page(stream))
                if not waiting:
                    return  # what is missing is for the verifier to find
            taken = []
            while waiting and waiting[0].sequence <= head.sequence:
                taken.append(waiting.popleft())
            if taken:
                self._read[stream] = max(self._read.get(stream, 0), taken[-1].sequence)
                self._compare(stream, taken)
            if waiting:
                self._keep(stream, waiting)
                return
            self._buffers.pop(stream, None)
            await self._breathe()

    def _keep(self, stream: StreamUid, waiting: deque[StoredRow]) -> None:
        self._buffers[stream] = waiting
        while len(self._buffers) > MOST_BUFFERS:
            del self._buffers[next(iter(self._buffers))]  # they are read again

    def _compare(self, stream: StreamUid, rows: Sequence[StoredRow]) -> None:
        self.verifier.take_events([row.hash + row.canonical for row in rows])
        for row in rows:
            if row.wrong:
                self.verifier.found(Fault.COLUMNS, stream.bytes, row.sequence, text=row.wrong)
        self.columns += len(rows)
        self._progress.events += len(rows)

    async def _page(self, stream: StreamUid) -> Sequence[StoredRow]:
        after = self._read.get(stream, 0)

        for limit in (self._rows, 1):  # one by one, until the one is found whose columns cannot be read at all
            with suppress(CorruptRecord):
                return await self._patiently(partial(self._columns_and_bytes, stream, after, limit))
        return await self._patiently(partial(self._bytes_alone, stream, after))

    async def _columns_and_bytes(self, stream: StreamUid, after: int, limit: int) -> Sequence[StoredRow]:
        async with self._storage.transaction() as work:
            return await work.audit_checks.rows(stream, after, limit)

    async def _bytes_alone(self, stream: StreamUid, after: int) -> Sequence[StoredRow]:
        async with self._storage.transaction() as work:
            stored = await work.audit.stored(stream, after, LARGEST, 1)
        return [StoredRow(sequence, digest, data, "its columns cannot be read") for sequence, digest, data in stored]

    async def _checkpoints(self, serial: int) -> Sequence[StoredCheckpoint]:
        async def page() -> Sequence[StoredCheckpoint]:
            async with self._storage.transaction() as work:
                return await work.audit_checks.checkpoints(serial, CHECKPOINTS)

        try:
            return await self._patiently(page)
        except CorruptRecord as error:  # the columns of one beyond cannot be read at all
            self.verifier.found(Fault.CHECKPOINT_DIFFERS, serial=serial + 1, text=f"it or a later one: {error}")
            return ()

    async def _look_for_more(self, now: datetime) -> None:
        """Look for events that no checkpoint knows of: of streams that have ended, or that none has ever named."""
        newest = self.verifier.newest
        live = set() if newest is None else {head.stream for head in newest.checkpoint.heads}
        async for extent in self._streams():
            end = self.verifier.end_of(extent.stream)
            if end is None and not (extent.first == 1 and _is_new(extent, newest, now)):
                text = "no checkpoint has ever named the stream"
                self.verifier.found(Fault.UNSEALED, extent.stream.bytes, extent.first, extent.last, text=text)
            elif end is not None and extent.last > end and extent.stream not in live:
                text = "they stand after the end of the stream"
                self.verifier.found(Fault.UNSEALED, extent.stream.bytes, end + 1, extent.last, text=text)

    async def _streams(self) -> AsyncIterator[StreamExtent]:
        after: StreamUid | None = None
        while True:
            page = await self._patiently(partial(self._stream_page, after))
            for extent in page:
                yield extent
            if len(page) < STREAMS:
                return
            after = page[-1].stream
            await self._breathe()

    async def _stream_page(self, after: StreamUid | None) -> Sequence[StreamExtent]:
        async with self._storage.transaction() as work:
            return await work.audit_checks.streams(after, STREAMS)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        for left in reversed(range(TRIES)):
            try:
                return await work()
            except Unavailable as error:
                if not left:
                    raise
                _log.warning("audit.verification_interrupted", reason=str(error))
            await self._sleep(REST)
        raise AssertionError("unreachable")

    async def _breathe(self) -> None:
        """Rest for as long as was worked: calls come first, and one core is never its own."""
        worked = time.perf_counter() - self._worked
        if worked >= SLICE:
            await self._sleep(min(worked, 1.0))
            self._worked = time.perf_counter()


def _is_new(extent: StreamExtent, newest: SignedCheckpoint | None, now: datetime) -> bool:
    """Whether a stream may have begun since the newest checkpoint, which the next one will name."""
    since = now if newest is None else newest.checkpoint.at
    return since - BEGUN_WITHIN <= extent.began_at <= now + BEGUN_WITHIN
