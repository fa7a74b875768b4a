"""Long work: any node takes a running operation and carries it on, batch by batch, each followed by durable progress.

A lease only shares the work between nodes. Whose progress counts is decided by the operation's revision: a node whose
progress is not accepted has lost the operation, because another has taken it or a caller has cancelled it, and stops.
What a batch does must therefore bear being done by two nodes at once, and again after a crash.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID, uuid4

import structlog

from kms.core.errors import Conflict, FailedPrecondition, KmsError, NotFound, Unavailable
from kms.core.events import Severity
from kms.core.keyring import Tenant
from kms.core.names import OperationName, Principal, TenantName
from kms.core.operations import (
    KEPT,
    LEASE,
    Operation,
    OperationEvent,
    OperationKind,
    OperationState,
    OperationUid,
)
from kms.core.ports import Storage
from kms.failpoints import reach
from kms.services.audit import UNRECORDED, Act, Acts
from kms.services.visibility import visible_tenant

_log = structlog.get_logger(__name__)

MOST_AT_ONCE: Final = 2  # operations that a node carries on, in turns
MOST_FREE: Final = 100  # operations that are looked at to find those
# One batch ends well inside a lease, and begins with at least as much of it left as it may take.
BATCH_BOUND: Final = timedelta(seconds=6)
LONGEST_PAUSE: Final = 4.0  # seconds after a batch
LOOK_INTERVAL: Final = 1.0  # seconds between two looks for work of other nodes
# A part that an operation needs is away: seconds until this node tries again, doubled each time.
FIRST_REST: Final = 5.0
LONGEST_REST: Final = 300.0
MOST_RESTING: Final = 1_000

REMOVED_AT_ONCE: Final = 100
REMOVE_INTERVAL: Final = 3600.0  # seconds

LONGEST_WAIT: Final = timedelta(seconds=20)
WAIT_POLL: Final = 0.25  # seconds
MOST_TRIES: Final = 10  # of a change that collides with progress

_ANY_TIME: Final = datetime.max.replace(tzinfo=UTC)
_LOGGED: Final = {
    OperationEvent.CANCEL: "operation.cancelled",
    OperationEvent.RESUME: "operation.resumed",
}


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch has done: *done* units, up to *cursor*.

    *finished*: nothing is left, or, with an *error*, nothing more can be done now; a resumed operation begins at *cursor*.
    """

    cursor: str
    done: int
    finished: bool
    error: str = ""


class Runner(Protocol):
    """Carries out one kind of operation."""

    async def batch(self, operation: Operation) -> Batch:
        """Go on from the operation's cursor for much less than BATCH_BOUND; doing the same again must do no harm.

        Raises:
            Unavailable: a part does not answer; the operation is left for later.
            KmsError: it cannot go on; the operation fails with the message.
        """
        ...


class Operations:
    """The operations of all tenants, and this node's share in carrying them on."""

    def __init__(
        self,
        storage: Storage,
        runners: Mapping[OperationKind, Runner],
        node: UUID,
        now: Callable[[], datetime],
        *,
        clock: Callable[[], float] = time.monotonic,
        longest_wait: timedelta = LONGEST_WAIT,
        trail: Acts = UNRECORDED,
    ) -> None:
        self._trail = trail
        self._storage = storage
        self._runners = runners
        self._node = node
        self._now = now
        self._clock = clock
        self._longest_wait = longest_wait
        self._held: dict[OperationUid, Operation] = {}  # the one that has waited longest first
        self._resting: dict[OperationUid, tuple[float, float]] = {}  # until when, and for how long
        self._remove_at = 0.0
        self._woken = asyncio.Event()
        self._waiting: dict[OperationUid, set[asyncio.Future[Operation]]] = {}

    # For callers and services.

    async def start(self, tenant: Tenant, kind: OperationKind, target: str, by: str, total: int) -> Operation:
        """Begin an operation of *total* units; returns the running one of that kind and target, if there is one."""
        now = self._now()
        wanted = Operation(
            OperationUid(uuid4()), tenant.uid, kind, target, OperationState.RUNNING, by, now, now, total=total
        )
        async with self._storage.transaction(tenant.uid) as work:
            running = await work.operations.find(tenant.uid, kind, target, OperationState.RUNNING)
        if running is not None:
            return running
        async with (
            self._act("operation.begun", wanted, by=by),
            self._storage.transaction(tenant.uid, write=True) as work,
        ):
            running = await work.operations.find(tenant.uid, kind, target, OperationState.RUNNING)
            if running is not None:
                return running
            try:
                operation = await work.operations.add(wanted)
            except Conflict:  # another node was faster
                running = await work.operations.find(tenant.uid, kind, target, OperationState.RUNNING)
                if running is None:
                    raise
                return running
        _log.info("operation.started", operation=str(operation.uid), kind=kind, target=target, total=total)
        self.wake()
        return operation

    async def list_newest(
        self, caller: Principal, parent: TenantName, before: tuple[datetime, OperationUid] | None, limit: int
    ) -> tuple[Tenant, list[Operation]]:
        """Return at most *limit* operations that began before *before*, the newest first.

        Raises:
            NotFound: no such tenant, or not the caller's.
        """
        tenant = await visible_tenant(self._storage, caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            return tenant, await work.operations.list_newest(tenant.uid, before, limit)

    async def get(self, caller: Principal, name: OperationName) -> tuple[Tenant, Operation]:
        """Return an operation.

        Raises:
            NotFound: no such operation, or one of another tenant.
        """
        try:
            tenant = await visible_tenant(self._storage, caller, name.parent)
        except NotFound as error:
            raise NotFound(str(name)) from error
        return tenant, await self._read(tenant, OperationUid(name.operation))

    async def wait(self, caller: Principal, name: OperationName, seconds: float, etag: str) -> tuple[Tenant, Operation]:
        """Return the operation when it has ended, has changed since *etag* (where given), or when *seconds* are over.

        Raises:
            NotFound: as get().
        """
        end = self._clock() + min(seconds, self._longest_wait.total_seconds())
        tenant, operation = await self.get(caller, name)
        while operation.state is OperationState.RUNNING and etag in ("", operation.etag):
            left = end - self._clock()
            if left <= 0:
                break
            told = await self._told(operation.uid, min(left, WAIT_POLL))
            operation = told or await self._read(tenant, operation.uid)
        return tenant, operation

    async def cancel(self, caller: Principal, name: OperationName) -> tuple[Tenant, Operation]:
        """Stop an operation after the batch that it is at.

        Raises:
            NotFound: as get().
            FailedPrecondition: it does not run.
        """
        tenant, operation = await self.get(caller, name)
        return tenant, await self.change(tenant, operation.uid, OperationEvent.CANCEL)

    async def resume(self, caller: Principal, name: OperationName) -> tuple[Tenant, Operation]:
        """Let a cancelled or failed operation go on where it stopped.

        Raises:
            NotFound: as get().
            FailedPrecondition: it runs or has succeeded, or another one of its kind and target runs.
        """
        tenant, operation = await self.get(caller, name)
        return tenant, await self.change(tenant, operation.uid, OperationEvent.RESUME)

    async def change(self, tenant: Tenant, uid: OperationUid, event: OperationEvent) -> Operation:
        """Cancel or resume an operation, whatever progress it makes meanwhile.

        Raises:
            FailedPrecondition: its state does not allow that.
            Conflict: it went on changing.
        """
        for attempt in range(1, MOST_TRIES + 1):
            try:
                operation = await self._change(tenant, uid, event)
            except Conflict:
                if attempt == MOST_TRIES:
                    raise
            else:
                break
        self._held.pop(uid, None)
        _log.info(_LOGGED[event], operation=str(uid), kind=operation.kind, target=operation.target)
        self._tell(operation)
        self.wake()
        return operation

    async def _change(self, tenant: Tenant, uid: OperationUid, event: OperationEvent) -> Operation:
        async with self._storage.transaction(tenant.uid, write=True) as work:
            operation = await work.operations.get(tenant.uid, uid)
            if operation is None:
                raise NotFound(f"{tenant.name}/operations/{uid}")
            changed = operation.after(event, self._now())
            if event is OperationEvent.RESUME:
                running = await work.operations.find(
                    tenant.uid, operation.kind, operation.target, OperationState.RUNNING
                )
                if running is not None:
                    raise FailedPrecondition(f"{running.name(tenant.name)} does the same and is running")
            return await work.operations.replace(changed)

    # For this node's share of the work.

    async def run(self) -> None:
        """Carry operations on until cancelled, for at most half of the time."""
        while True:
            began = self._clock()
            try:
                worked = await self.step()
            except KmsError as error:
                _log.warning("operations.delayed", reason=str(error))
                worked = False
            if worked:
                await asyncio.sleep(min(self._clock() - began, LONGEST_PAUSE))
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_INTERVAL):
                    await self._woken.wait()
            self._woken.clear()

    def wake(self) -> None:
        """Look for work now."""
        self._woken.set()

    async def step(self) -> bool:
        """Carry one operation on by one batch; False where nothing waits for this node.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        if len(self._held) < MOST_AT_ONCE:
            await self._take()
        operation = next(iter(self._held.values()), None)
        if operation is None:
            await self._remove_ended()
            return False
        await self._carry_on(operation)
        return True

    async def _take(self) -> None:
        # Where this process is the whole installation, whoever carried an operation on before is dead.
        free_at = self._now() if self._storage.shared else _ANY_TIME
        async with self._storage.transaction() as work:
            free = await work.operations.list_free(free_at, MOST_FREE)
        for operation in free:
            if len(self._held) >= MOST_AT_ONCE:
                break
            resting_until, _ = self._resting.get(operation.uid, (0.0, 0.0))
            if operation.uid in self._held or operation.kind not in self._runners or resting_until > self._clock():
                continue
            if await self._store(operation.taken(self._node, self._now())):
                _log.info("operation.taken", operation=str(operation.uid), kind=operation.kind, done=operation.done)
                reach("operation.taken")

    async def _carry_on(self, operation: Operation) -> None:
        """Do one batch of an operation that this node holds, and store how far it is."""
        now = self._now()
        # Others have had their turns since the last progress.
        if operation.leased_until is None or operation.leased_until < now + LEASE / 2:
            if not await self._store(operation.taken(self._node, now)):
                return
            operation = self._held[operation.uid]
        batch = await self._batch(operation)
        if batch is None:
            return
        now = self._now()
        operation = operation.progressed(batch.cursor, batch.done, now)
        if batch.finished:
            event = OperationEvent.FAIL if batch.error else OperationEvent.SUCCEED
            operation = operation.after(event, now, batch.error)
        try:
            if batch.finished:
                async with self._act("operation.ended", operation, state=operation.state.value, reason=batch.error):
                    stored = await self._store(operation)
            else:
                stored = await self._store(operation)
        except Unavailable as error:
            self._leave(operation, str(error))
            return
        if stored:
            self._resting.pop(operation.uid, None)
            reach("operation.progressed")

    async def _batch(self, operation: Operation) -> Batch | None:
        """Do one batch; None where the operation has been left for later."""
        try:
            # Each batch is an act of its own: what it changes is then in the trail, whoever else goes on after a crash.
            async with self._act("operation.batch", operation, cursor=operation.cursor) as act:
                async with asyncio.timeout(BATCH_BOUND.total_seconds()):
                    batch = await self._runners[operation.kind].batch(operation)
                act.details.update(done=batch.done, reached=batch.cursor, finished=batch.finished)
        except TimeoutError:
            self._leave(operation, f"a batch took longer than {BATCH_BOUND.total_seconds():g} s")
        except Unavailable as error:
            self._leave(operation, str(error))
        except KmsError as error:
            return Batch(operation.cursor, 0, finished=True, error=str(error))
        except Exception as error:  # noqa: BLE001  a mistake in a runner must not end the daemon
            _log.exception("operation.broken", operation=str(operation.uid), kind=operation.kind)
            return Batch(operation.cursor, 0, finished=True, error=f"internal error ({type(error).__name__})")
        else:
            return batch
        return None

    async def _store(self, operation: Operation) -> bool:
        """Store a change of an operation that this node takes or holds; False where it is another's now."""
        self._held.pop(operation.uid, None)
        try:
            async with self._storage.transaction(operation.tenant, write=True) as work:
                operation = await work.operations.replace(operation)
        except Conflict:
            _log.info("operation.lost", operation=str(operation.uid), kind=operation.kind)
            return False
        self._tell(operation)
        if operation.state is OperationState.RUNNING:
            self._held[operation.uid] = operation
        else:
            tell = _log.error if operation.state is OperationState.FAILED else _log.info
            tell(
                "operation.ended",
                operation=str(operation.uid),
                kind=operation.kind,
                target=operation.target,
                state=operation.state,
                done=operation.done,
                reason=operation.error,
            )
        return True

    def _act(
        self, action: str, operation: Operation, by: str = "", **details: object
    ) -> AbstractAsyncContextManager[Act]:
        return self._trail.act(
            action,
            tenant=operation.tenant,
            resource=operation.target,
            resource_type="operation",
            by=by or operation.requested_by,
            severity=Severity.HIGH if operation.kind is OperationKind.DESTROY_KEY else Severity.INFO,
            details={"operation": str(operation.uid), "kind": operation.kind.value, **details},
        )

    def _leave(self, operation: Operation, why: str) -> None:
        """Stop for a while; when the lease is over, another node may try."""
        self._held.pop(operation.uid, None)
        _, rested = self._resting.pop(operation.uid, (0.0, FIRST_REST / 2))
        rest = min(rested * 2, LONGEST_REST)
        while len(self._resting) >= MOST_RESTING:
            del self._resting[next(iter(self._resting))]
        self._resting[operation.uid] = (self._clock() + rest, rest)
        _log.warning("operation.left", operation=str(operation.uid), kind=operation.kind, seconds=rest, reason=why)

    async def _remove_ended(self) -> None:
        """Remove some of what ended long ago, every now and then."""
        if self._clock() < self._remove_at:
            return
        async with self._storage.transaction(write=True) as work:
            removed = await work.operations.remove_ended(self._now() - KEPT, REMOVED_AT_ONCE)
        if removed < REMOVED_AT_ONCE:
            self._remove_at = self._clock() + REMOVE_INTERVAL

    # For those who wait.

    async def _read(self, tenant: Tenant, uid: OperationUid) -> Operation:
        async with self._storage.transaction(tenant.uid) as work:
            operation = await work.operations.get(tenant.uid, uid)
        if operation is None:
            raise NotFound(f"{tenant.name}/operations/{uid}")
        return operation

    async def _told(self, uid: OperationUid, seconds: float) -> Operation | None:
        """Return the operation as this node changes it within that many *seconds*, if it does."""
        news: asyncio.Future[Operation] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(uid, set()).add(news)
        try:
            await asyncio.wait({news}, timeout=seconds)
        finally:
            waiting = self._waiting.get(uid, set())
            waiting.discard(news)
            if not waiting:
                self._waiting.pop(uid, None)
        return news.result() if news.done() else None

    def _tell(self, operation: Operation) -> None:
        for news in self._waiting.pop(operation.uid, set()):
            if not news.done():
                news.set_result(operation)
