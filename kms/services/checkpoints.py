"""Checkpoints of the audit trail: made, signed in the token, stored, and anchored outside of the database.

The steps, which docs/audit.md numbers the same:

1. read the newest checkpoint, where the streams end, and the roots of tenants;
2. sign in the token, under no lock of the database;
3. store under the head's row lock; whoever was overtaken begins again;
4. anchor; only then has seal() returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import structlog

from kms.core.anchors import Verify, is_genuine
from kms.core.audit_ports import Anchor, AnchorStore, Position, Roots, TenantRoot
from kms.core.checkpoint_ports import CheckpointRecords, StreamEnd
from kms.core.checkpoints import NOTHING, Checkpoint, SignedCheckpoint, body_of, message_of, roots_digest
from kms.core.errors import Conflict, CorruptRecord, KmsError, RolledBack, StorageUnavailable
from kms.core.ports import HealthStatus, PartHealth, Signer
from kms.failpoints import reach
from kms.services.anchor_stores import LOCK

_log = structlog.get_logger(__name__)

TRIES: Final = 5  # of a checkpoint that others overtake
TICK: Final = 0.5  # seconds between two looks whether a checkpoint is due
LATE: Final = 3  # so many intervals without an anchor, while there is something new, are told as ill health
# A stream begins before its first checkpoint by no more than this, also where the clocks of nodes differ.
BEGUN_WITHIN: Final = timedelta(hours=1)


class CheckpointStorage(CheckpointRecords, Protocol):
    """The database, as far as checkpoints need it."""

    @property
    def shared(self) -> bool: ...  # noqa: D102

    def exclusive(self, name: str) -> AbstractAsyncContextManager[None]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Interval:
    """When a checkpoint is due by itself, whichever comes first; and only if there is something new."""

    time: timedelta = timedelta(seconds=10)
    events: int = 10_000


class Witness(Protocol):
    """Is told of anchors, and holds nothing up."""

    def tell(self, anchor: Anchor) -> None:
        """Take note."""
        ...


class Checkpoints:
    """Sealing; belongs to one event loop."""

    def __init__(
        self,
        storage: CheckpointStorage,
        signer: Signer,
        verify: Verify,
        roots: Roots,
        anchors: AnchorStore,
        head: Callable[[], Position],
        installation: UUID,
        node: str,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        *,
        interval: Interval = Interval(),
        witnesses: Sequence[Witness] = (),
    ) -> None:
        """*head* is the last durable event of this node's stream; *verify* belongs to the signer's public key."""
        self._storage = storage
        self._signer = signer
        self._verify = verify
        self._roots = roots
        self._anchors = anchors
        self._head = head
        self._installation = installation
        self._node = node
        self._now = now
        self._clock = clock
        self._interval = interval
        self._witnesses = tuple(witnesses)
        self._known: SignedCheckpoint | None = None  # the newest that this process has made, or has found genuine
        self._waiting: asyncio.Future[None] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._sealed = 0  # of this node's stream
        self._anchored_at = clock()
        self._failed: str = ""
        self._failed_at: datetime | None = None
        self._lies = ""  # what a checkpoint cannot be made over
        self._anchored = 0
        self.made = 0
        self.failures = 0

    @property
    def serial(self) -> int:
        """The newest checkpoint's that this process knows of; 0 for none."""
        return 0 if self._known is None else self._known.serial

    @property
    def anchored(self) -> int:
        """The serial of the checkpoint that this process has anchored last; 0 for none."""
        return self._anchored

    @property
    def anchor_age(self) -> float:
        """Seconds since this node last anchored, 0 where there has been nothing new since."""
        return 0.0 if self._head().sequence <= self._sealed else self._clock() - self._anchored_at

    async def seal(self) -> None:
        """Return when a checkpoint that covers all that is durable now has been signed, stored and anchored.

        Calls at the same time share one; one that is under way covers no later calls.

        Raises:
            HsmUnavailable, StorageUnavailable, Unavailable: it is not known to be.
            RolledBack, CorruptRecord: the database does not hold what it held.
        """
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        waiting = self._waiting
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        await asyncio.shield(waiting)

    async def run(self) -> None:
        """Make checkpoints when they are due, until cancelled."""
        last = self._clock()
        while True:
            await asyncio.sleep(min(TICK, self._interval.time.total_seconds()))
            new = self._head().sequence - self._sealed
            over = self._clock() - last >= self._interval.time.total_seconds()
            if new <= 0 or (new < self._interval.events and not over):
                continue
            last = self._clock()
            try:
                await self.seal()
            except KmsError as error:
                _log.warning("checkpoint.put_off", reason=str(error))

    async def health(self) -> PartHealth:
        """Say whether checkpoints are made and anchored."""
        if self._lies:
            return PartHealth(HealthStatus.UNHEALTHY, self._lies)
        if self._failed:
            since = self._failed_at.isoformat(timespec="seconds") if self._failed_at else "the start"
            return PartHealth(HealthStatus.DEGRADED, f"no checkpoint since {since}: {self._failed}")
        if self.anchor_age > LATE * self._interval.time.total_seconds():
            return PartHealth(HealthStatus.DEGRADED, f"no checkpoint for {self.anchor_age:.0f} s")
        return PartHealth(HealthStatus.HEALTHY)

    async def _work(self) -> None:
        while (waiting := self._waiting) is not None:
            self._waiting = None
            try:
                await self._make()
            except (RolledBack, CorruptRecord) as error:
                self._lies = str(error)
                self._fail(waiting, error)
            except Exception as error:  # noqa: BLE001  whoever waits gets it
                self._fail(waiting, error)
            else:
                self._failed, self._failed_at, self._lies = "", None, ""
                waiting.set_result(None)

    def _fail(self, waiting: asyncio.Future[None], error: Exception) -> None:
        self.failures += 1
        self._failed = str(error)
        self._failed_at = self._failed_at or self._now()
        waiting.set_exception(error)
        waiting.exception()  # looked at: its callers may all have gone

    async def _make(self) -> None:
        async with self._storage.exclusive(LOCK):
            for _ in range(TRIES):
                covered = self._head().sequence
                try:
                    made = await self._add()
                except Conflict:
                    continue
                await self.anchor(made)
                self._sealed = covered
                return
        raise StorageUnavailable("other nodes' checkpoints have overtaken this one again and again")

    async def anchor(self, made: SignedCheckpoint) -> None:
        """Remember a checkpoint, which is stored, outside of the database."""
        anchor = Anchor(self._installation, made.serial, made.hash)
        await self._anchors.put(anchor)
        reach("anchor.written")
        self._known = made
        self._anchored = made.serial
        self._anchored_at = self._clock()
        self.made += 1
        for witness in self._witnesses:
            witness.tell(anchor)

    async def _add(self) -> SignedCheckpoint:
        previous = await self._previous()
        before = () if previous is None else previous.checkpoint.heads
        since = (self._now() if previous is None else previous.checkpoint.at) - BEGUN_WITHIN
        own = self._head()
        known = {head.stream for head in before} | ({own.stream} if own.sequence else set())
        ends = await self._storage.stream_ends(known, since)
        _check_own(own, ends)
        roots = await self._roots.roots()
        checkpoint = self.next_one(previous, heads_of(before, ends), roots)
        made = await self.sign(checkpoint)
        reach("anchor.signed")
        await self._storage.add_checkpoint(made, 0 if previous is None else previous.serial, roots)
        reach("anchor.stored")
        return made

    def next_one(
        self, previous: SignedCheckpoint | None, heads: tuple[Position, ...], roots: Sequence[TenantRoot]
    ) -> Checkpoint:
        """Return what the next checkpoint says; its time is not before that of the one before."""
        now = self._now()
        return Checkpoint(
            serial=1 if previous is None else previous.serial + 1,
            previous=NOTHING if previous is None else previous.hash,
            installation=self._installation,
            heads=heads,
            roots=roots_digest(roots),
            at=now if previous is None else max(now, previous.checkpoint.at),
            node=self._node,
        )

    async def sign(self, checkpoint: Checkpoint) -> SignedCheckpoint:
        """Let the token sign a checkpoint.

        Raises:
            HsmUnavailable: it does not.
        """
        body = body_of(checkpoint)
        return SignedCheckpoint(checkpoint, body, await self._signer.sign(message_of(body)))

    async def _previous(self) -> SignedCheckpoint | None:
        """Return the newest stored checkpoint, having seen that it is not older than, or another one beside, the last.

        Raises:
            RolledBack: it is.
        """
        found = await self._storage.newest_checkpoint()
        known = self._known
        if known is not None and (found is None or found.serial < known.serial):
            serial = 0 if found is None else found.serial
            raise RolledBack(f"the newest checkpoint in the database is {serial}, and {known.serial} was there before")
        if found is None or (known is not None and found.hash == known.hash):
            return found
        if known is not None and found.serial == known.serial:
            raise RolledBack(f"the database holds another checkpoint {found.serial} than before")
        if found.checkpoint.installation != self._installation or not is_genuine(found, self._verify):
            raise RolledBack(f"the token has not signed the checkpoint {found.serial} of this installation")
        self._known = found
        return found


def _check_own(own: Position, ends: Sequence[StreamEnd]) -> None:
    """Look whether the database still holds what this process has written last.

    Raises:
        CorruptRecord: it does not.
    """
    if own.sequence == 0:
        return
    end = next((end.position for end in ends if end.position.stream == own.stream), None)
    if end is None or end.sequence < own.sequence or (end.sequence == own.sequence and end.hash != own.hash):
        raise CorruptRecord(f"the last events of the stream {own.stream} are gone or altered")


def heads_of(before: Sequence[Position], ends: Sequence[StreamEnd]) -> tuple[Position, ...]:
    """Return the heads of the next checkpoint, given those of the one before and where streams end now.

    All streams stay that may go on: those that no other one has succeeded. One that has been stays until a checkpoint
    has named its end.

    Raises:
        CorruptRecord: a stream ends before where it was, or its last event is another one.
    """
    old = {head.stream: head for head in before}
    heads = dict(old)  # a stream whose events are all archived ends where it did
    for end in ends:
        head, was = end.position, old.get(end.position.stream)
        if was is not None and (
            head.sequence < was.sequence or (head.sequence == was.sequence and head.hash != was.hash)
        ):
            raise CorruptRecord(f"events of the stream {head.stream} that a checkpoint covers are gone or altered")
        heads[head.stream] = head
    succeeded = {end.succeeds for end in ends if end.succeeds is not None}
    kept = [head for head in heads.values() if head.stream not in succeeded or old.get(head.stream) != head]
    return tuple(sorted(kept, key=lambda head: head.stream.bytes))
