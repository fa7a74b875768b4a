"""The audit writer: many events in one commit, one after the other in a chain that has no gaps.

The loop owns the list of events that wait. Step by step:
1. append() turns an event into bytes, stamps it, and lets it wait;
2. all that wait become one group: numbers and hashes go on from the head, and the store writes the rows in one commit;
3. once the store has confirmed it, the head moves to the group's last event, and everybody who waits is told.

A group that the store refuses never happened: the head stays, whoever waits gets AuditUnavailable. A group whose outcome is
unknown (the line was lost, the answer is late) is looked for in the log; if it is not there it is written again, byte for
byte, so that a first attempt that comes through late collides with the second one and forks nothing. Nothing else is
written before that is settled.

Whoever waits gets an answer within BOUND. After a failure everybody is refused at once, while the writer tries by itself to
write an event of its own, "audit.resumed", which says what was lost; once that is durable, events are taken again.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, repeat
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog

from kms.core.audit import (
    AuditEvent,
    Category,
    Outcome,
    Retention,
    StreamUid,
    body_of,
    canonical,
    first_hash,
    next_hash,
)
from kms.core.audit_ports import AuditWriter, Position
from kms.core.canonical import EPOCH
from kms.core.errors import AuditUnavailable
from kms.core.ports import HealthStatus, PartHealth

from .audit_rows import Row, plain_values, require_storable
from .audit_store import BOUND, AuditStore, Collided, NotWritten, OutcomeUnknown, bounded

_log = structlog.get_logger(__name__)

PATIENCE: Final = 1.0  # seconds that an event waits for its group to begin, so that as much is left for the commit
MOST_WAITING: Final = 4_096  # events
MOST_WAITING_BYTES: Final = 16 << 20
LARGEST_GROUP: Final = 1_024  # events
LARGEST_GROUP_BYTES: Final = 4 << 20
# Seconds after a group of several, for each of its events: who was told just now comes back, and one larger commit costs less
# than two. A commit costs the daemon as much as some 15 events, so that more than a few callers are better off with fewer.
GATHER_EACH: Final = 0.0005
LONGEST_GATHER: Final = 0.008
SHORT_GATHER: Final = 0.002  # after a group of so many that it is no matter
MANY: Final = 64  # events
CLOSE_GRACE: Final = 3.0  # seconds for a store that has been cut off to notice, more than a new connection takes


@dataclass(slots=True)
class AuditCounts:
    """What a writer has done, for metrics."""

    events: int = 0  # durable
    groups: int = 0
    refused: int = 0  # events that were not taken, or whose callers were told that they are not known to be durable


class _Waiting(NamedTuple):
    event: AuditEvent
    body: bytes
    at: datetime
    waiter: asyncio.Future[Position] | None
    since: float  # by the loop's clock


@dataclass(slots=True)
class _Group:
    rows: list[Row]
    waiters: list[asyncio.Future[Position] | None]
    after: Position
    deadline: float


class _Contradiction(Exception):
    """What is stored of the stream is not what was written."""


class _Aborted(Exception):
    """The writer is closed before the outcome is known."""


class GroupCommit(AuditWriter):
    """AuditWriter on one store; belongs to one event loop."""

    def __init__(
        self,
        store: AuditStore,
        installation: UUID,
        stream: StreamUid,
        now: Callable[[], datetime],
        template: Mapping[str, Any],
        reach: Callable[[str], None],
    ) -> None:
        self._store = store
        self._head = Position(stream, 0, first_hash(installation, stream))
        self._now = now
        self._template = template  # what all events of the writer's own have in common
        self._reach = reach
        self._loop = asyncio.get_running_loop()
        self._last_at = EPOCH
        self._pending: deque[_Waiting] = deque()
        self._pending_bytes = 0
        self._wake: asyncio.Future[None] | None = None
        self._group: _Group | None = None  # that is being written, or whose outcome nobody knows
        self._refusal = ""  # why no event is taken
        self._refused_before = 0
        self._closing = False
        self._abort = asyncio.Event()
        self._seconds = 0.0  # that the last group took
        self.counts = AuditCounts()
        self.excess = ""  # what the store's user can do beyond its roles, in words
        self._task = asyncio.create_task(self._run())

    @property
    def head(self) -> Position:
        """The last event that is durable; sequence 0 before the first."""
        return self._head

    @property
    def waiting(self) -> int:
        """How many events wait for their group."""
        return len(self._pending)

    def append(self, event: AuditEvent) -> Awaitable[Position]:
        """Give an event its place; the result, once awaited, says that it is durable.

        Raises:
            AuditUnavailable: too many events wait, or the storage failed and has not come back yet; or, from the result,
                it refused the event or did not confirm it in time.
            ValueError: the event is none that can be stored.
        """
        if self._closing:
            raise AuditUnavailable("the audit writer is closed")
        if self._refusal:
            self.counts.refused += 1
            raise AuditUnavailable(self._refusal)
        if len(self._pending) >= MOST_WAITING or self._pending_bytes >= MOST_WAITING_BYTES:
            self.counts.refused += 1
            raise AuditUnavailable("too many events wait for the audit storage")
        waiter: asyncio.Future[Position] = self._loop.create_future()
        waiting = self._stamped(event, waiter)
        self._pending.append(waiting)
        self._pending_bytes += len(waiting.body)
        self._awaken()
        return waiter

    async def health(self) -> PartHealth:
        """Say whether events can be written, and how long the last group took."""
        if self._refusal:
            return PartHealth(HealthStatus.UNHEALTHY, self._refusal)
        return PartHealth(HealthStatus.HEALTHY, "", self._seconds)

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109  a frozen store cannot be cancelled
        """Take no more events, write those that wait, within *timeout* seconds and a few more; may be called twice."""
        self._closing = True
        self._awaken()
        if not self._task.done():
            await asyncio.wait({self._task}, timeout=timeout)
        if not self._task.done():
            self._abort.set()
            self._store.cut()
            await asyncio.wait({self._task}, timeout=CLOSE_GRACE)
        self._task.cancel()
        self._fail_all("the audit writer is closed")
        await self._store.close()

    def _stamped(self, event: AuditEvent, waiter: asyncio.Future[Position] | None) -> _Waiting:
        body = body_of(event)
        require_storable(event, body)
        # A clock that goes back does not take the stream with it; neither does an event that is lost.
        self._last_at = at = max(self._now(), self._last_at)
        return _Waiting(event, body, at, waiter, self._loop.time())

    def _awaken(self) -> None:
        """Let the writer go on, after whatever else appends in this pass of the loop."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _run(self) -> None:
        try:
            while not self._abort.is_set():
                if self._refusal:
                    if self._closing or not await self._resumed():
                        return
                elif self._pending:
                    if taken := self._take():
                        group = self._chained(taken)
                        await self._commit(group)
                        if len(group.rows) > 1 and not self._closing:
                            await asyncio.sleep(_gathering(len(group.rows)))
                elif self._closing:
                    return
                else:
                    self._wake = self._loop.create_future()
                    await self._wake
                    self._wake = None
        except _Aborted:
            return
        except Exception as error:  # noqa: BLE001  whatever it is, somebody who waits has to be told
            # A fork would deny what was acknowledged: better no service until somebody has looked.
            _log.critical("audit.stopped", reason=str(error), exc_info=not isinstance(error, _Contradiction))
            self._break(f"the audit trail is stopped: {error}")

    def _take(self) -> list[_Waiting]:
        """Take what the next group holds; what has waited too long fails, while nothing of it has been written."""
        latest = self._loop.time() - PATIENCE
        while self._pending and self._pending[0].since < latest:
            self._fail(self._popped().waiter, "the audit storage is too slow for all that is to be written")
        taken: list[_Waiting] = []
        size = 0
        while self._pending and len(taken) < LARGEST_GROUP and size < LARGEST_GROUP_BYTES:
            taken.append(self._popped())
            size += len(taken[-1].body)
        return taken

    def _popped(self) -> _Waiting:
        waiting = self._pending.popleft()
        self._pending_bytes -= len(waiting.body)
        return waiting

    def _chained(self, taken: Sequence[_Waiting]) -> _Group:
        """Give events their places after the head, which stays where it is."""
        stream, sequence, digest = self._head.stream, self._head.sequence, self._head.hash
        rows = []
        for event, body, at, _, _ in taken:
            sequence += 1
            data = canonical(stream, sequence, at, body)
            digest = next_hash(digest, data)
            event.stream, event.sequence, event.at = stream, sequence, at
            rows.append(
                Row(
                    plain_values(event),
                    event.tenant,
                    event.key,
                    event.intent_stream,
                    event.kept_until,
                    stream,
                    sequence,
                    at,
                    data,
                    digest,
                )
            )
        waiters = [waiting.waiter for waiting in taken]
        return _Group(rows, waiters, Position(stream, sequence, digest), taken[0].since + BOUND)

    async def _commit(self, group: _Group) -> bool:
        """Bring a group to its end; False where it was refused.

        Raises:
            _Contradiction: the log ends with something else.
            _Aborted: the writer was closed meanwhile.
        """
        self._group = group
        started = self._loop.time()
        late = self._loop.call_at(group.deadline, self._late)
        doubted = False
        try:
            for pause in _pauses():
                await self._pause(pause)
                try:
                    await bounded(self._store, self._store.write(group.rows))
                except Collided as error:
                    if await self._found(group):
                        break
                    if self._refused(error, doubted=doubted):
                        return False
                except NotWritten as error:
                    if self._refused(error, doubted=doubted):
                        return False
                except OutcomeUnknown as error:
                    doubted = True
                    _log.warning("audit.outcome_unknown", reason=str(error), events=len(group.rows))
                    if await self._found(group):
                        break
                else:
                    break
        finally:
            late.cancel()
        self._group = None
        self._seconds = self._loop.time() - started
        self._confirm(group)
        return True

    def _refused(self, error: NotWritten, *, doubted: bool) -> bool:
        """Whether the group is over: the attempt is, but one before it may still come through."""
        self._break(str(error))
        if not doubted:
            self._group = None
        return not doubted

    async def _found(self, group: _Group) -> bool:
        """Whether the log ends with the group, or where the group begins; asks until there is an answer."""
        for pause in _pauses():
            await self._pause(pause)
            try:
                found = await bounded(self._store, self._store.last(self._head.stream))
            except (NotWritten, OutcomeUnknown) as error:
                _log.debug("audit.no_answer", reason=str(error))
                continue
            if found == (group.after.sequence, group.after.hash):
                return True
            if found == (self._head.sequence, self._head.hash) or (found is None and self._head.sequence == 0):
                return False
            raise _Contradiction(f"stream {self._head.stream} does not end where it was written to")
        raise AssertionError

    async def _resumed(self) -> bool:
        """After a failure: write an event of the writer's own until it is durable; False where the writer is closed."""
        for pause in _pauses():
            await self._pause(pause)
            if self._closing:
                return False
            details = {"reason": self._refusal, "lost": self.counts.refused - self._refused_before}
            if await self._commit(self._chained([self._stamped(self._own("audit.resumed", details), None)])):
                break
        _log.info("audit.available", lost=details["lost"])
        self._refused_before = self.counts.refused
        self._refusal = ""
        return True

    def _own(self, action: str, details: Mapping[str, object]) -> AuditEvent:
        text = json.dumps(details, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return AuditEvent(
            **self._template,
            action=action,
            category=Category.SYSTEM,
            outcome=Outcome.SUCCESS,
            details=text,
            retention=Retention.PERMANENT,
        )

    async def begin(self, details: Mapping[str, object]) -> None:
        """Write the stream's first event.

        Raises:
            AuditUnavailable: it is not known to be durable.
        """
        await self.append(self._own("daemon.started", details))

    def _confirm(self, group: _Group) -> None:
        self._reach("audit.group_committed")
        self._head = group.after
        self.counts.events += len(group.rows)
        self.counts.groups += 1
        for waiter, row in zip(group.waiters, group.rows, strict=True):
            if waiter is not None and not waiter.done():  # the caller may be gone, or have been told already
                waiter.set_result(Position(row.stream, row.sequence, row.hash))

    def _late(self) -> None:
        self._break("the audit storage did not answer in time")
        self._store.cut()

    def _break(self, reason: str) -> None:
        """Take no more events, and tell everybody who waits."""
        if not self._refusal:
            _log.error("audit.unavailable", reason=reason)
        self._refusal = reason
        self._fail_all(reason)

    def _fail_all(self, reason: str) -> None:
        for waiter in [] if self._group is None else self._group.waiters:
            self._fail(waiter, reason)
        while self._pending:
            self._fail(self._popped().waiter, reason)

    def _fail(self, waiter: asyncio.Future[Position] | None, reason: str) -> None:
        if waiter is not None and not waiter.done():
            self.counts.refused += 1
            waiter.set_exception(AuditUnavailable(reason))
            waiter.exception()  # looked at: nobody need wait for it

    async def _pause(self, seconds: float) -> None:
        if seconds:
            try:
                async with asyncio.timeout(seconds):
                    await self._abort.wait()
            except TimeoutError:
                return
        if self._abort.is_set():
            raise _Aborted


def _pauses() -> Iterator[float]:
    """Seconds before each attempt: the second one comes soon, for a connection that had died unnoticed."""
    return chain((0.0, 0.02, 0.1, 0.3), repeat(1.0))


def _gathering(events: int) -> float:
    """Seconds to wait after a group of several events."""
    return SHORT_GATHER if events > MANY else min(LONGEST_GATHER, GATHER_EACH * events)
