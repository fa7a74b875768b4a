"""This node among the nodes of the installation: it hears of stops in time, says so, or stops answering.

Step by step, again and again (docs/revocation-cycle.md):
1. the boot-time clock is read;
2. the epochs are read, of all tenants;
3. what this node holds of tenants whose epochs have changed is dropped;
4. only then the lease is renewed, as of step 1;
5. the newest revocation is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID, uuid4

import structlog

from kms.core.errors import AuditUnavailable, KmsError, StorageUnavailable
from kms.core.lease import OVER, Lease
from kms.core.names import TenantUid
from kms.core.ports import HealthStatus, Node, Nodes, PartHealth, TenantEpoch
from kms.core.propagation import NodeStop, Propagation, StopState
from kms.services.audit import UNRECORDED, Act, Acts

_log = structlog.get_logger(__name__)

LOOKS: Final = 5  # in one revocation deadline, so that several may fail before the lease is over
HEARTBEAT: Final = 10.0  # seconds between two signs of life where nothing changes
LEAST_PAUSE: Final = 0.02  # seconds between two looks, however many signals come
APPLICATIONS: Final = "applications"  # among the nodes of a stop, all that may hold DEKs
SIGNAL_WAIT: Final = 10.0  # seconds after which a connection for signals that was lost is made again
PROPAGATION_POLL: Final = 0.05  # seconds
# A node is struck out when nothing has been heard of it for the first by the wall clock and for the second by the
# boot-time clock of the node that looks: longer than any lease, so that no clock that jumps strikes out a living node.
DEAD_AFTER: Final = timedelta(hours=1)
UNHEARD_FOR: Final = 120.0  # seconds


class Holdings(Protocol):
    """What this node holds of tenants, and the lease under which it may use it: Keyrings."""

    lease: Lease

    def stop(self, tenants: AbstractSet[TenantUid]) -> None:
        """Drop all of these tenants."""
        ...

    def reread(self, tenants: AbstractSet[TenantUid]) -> None:
        """Read records of these tenants again before their next use."""
        ...


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a node last said of itself, and since when, by our boot-time clock, it has said nothing new."""

    seen_at: datetime
    since: float


def _overlook(tenant: TenantUid) -> None:
    """Tell nobody."""


class Membership:
    """Keeps this node's lease.

    Attributes:
        uid: of this node, new at every start.
        name: of this node, for people.
        epoch: the newest revocation that this node acts on.
    """

    def __init__(
        self,
        nodes: Nodes,
        holdings: Holdings,
        deadline: timedelta,
        name: str,
        now: Callable[[], datetime],
        boottime: Callable[[], float],
        listeners: Sequence[Callable[[AbstractSet[TenantUid]], None]] = (),
        trail: Acts = UNRECORDED,
        set_back: Callable[[TenantUid], None] = _overlook,
    ) -> None:
        """*listeners* are called with the tenants whose records have changed, before the lease is renewed: step 3.

        *set_back* is told of a tenant whose epochs have gone back, which only whoever writes past the daemons can do.
        """
        self._set_back = set_back
        self._trail = trail
        self.uid = uuid4()
        self.name = name
        self.epoch = 0
        self._nodes = nodes
        self._holdings = holdings
        self._deadline = deadline
        self._now = now
        self._boottime = boottime
        self._listeners = listeners
        self._applied: Mapping[TenantUid, TenantEpoch] = {}
        self._joined = False
        self._told: tuple[int, float] | None = None  # the epoch acknowledged, and when
        self._sights: dict[UUID, _Sight] = {}
        self._signal = asyncio.Event()
        self._heard = True

    async def look(self) -> None:
        """Hear from the database once; the first time also joins.

        Raises:
            StorageUnavailable: it does not answer; the lease stays as it was.
        """
        if not self._joined:
            await self._join(0)
        began = self._boottime()
        newest, epochs = await self._nodes.epochs()
        self._apply(epochs)
        self.epoch = newest
        if self._nodes.shared:
            self._holdings.lease = Lease.begun(began, self._deadline)
        await self._acknowledge(newest)

    async def run(self) -> None:
        """Look until cancelled, then leave. An outage of the database ends the lease, and its end renews it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                if self._nodes.shared:
                    tasks.create_task(self._listen())
                while True:
                    await self._try_to_look()
                    await asyncio.sleep(LEAST_PAUSE)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._interval):
                            await self._signal.wait()
                    self._signal.clear()
        finally:
            if self._nodes.shared:
                self._holdings.lease = OVER
            with suppress(StorageUnavailable, AuditUnavailable):
                async with self._act("node.left", self.uid, self.name):
                    await self._nodes.leave(self.uid)

    def drop(self, tenant: TenantUid) -> None:
        """Drop all that this node holds of a tenant, at once: after a commit of this node's own that stops something."""
        self._holdings.stop({tenant})
        self._tell({tenant})

    def valid(self) -> bool:
        """Whether the lease holds now."""
        return self._holdings.lease.valid(self._boottime())

    def remaining(self) -> float:
        """Return how many seconds of the lease are left; infinitely many where nobody shares the database."""
        return self._holdings.lease.remaining(self._boottime())

    async def health(self) -> PartHealth:
        """Say whether this node may answer."""
        if self.valid():
            return PartHealth(HealthStatus.HEALTHY)
        seconds = self._deadline.total_seconds()
        return PartHealth(
            HealthStatus.UNHEALTHY,
            f"no word from the database for longer than cache.revocation_deadline ({seconds:g} s) allows: encryption and"
            " decryption have stopped, and go on by themselves when it answers",
        )

    async def members(self) -> tuple[int, list[Node]]:
        """Return the newest revocation's epoch, and all nodes that have joined and not left."""
        newest, _ = await self._nodes.epochs()
        return newest, await self._nodes.nodes()

    async def propagation(self, epoch: int, committed: datetime, *, wait: bool, leased: bool = False) -> Propagation:
        """Tell how a stop has reached the nodes; *committed* is a time of this node's clock, not before the commit.

        Call drop() first: this node counts as having stopped. With *wait*, return when all have, which is after the
        revocation deadline at the latest. Where DEKs are *leased*, applications are among them: nobody hears of an
        application that it has stopped, so that it counts as stopped when the deadline has passed.
        """
        at_commit = self._boottime() - max((self._now() - committed).total_seconds(), 0.0)
        deadline = self._deadline.total_seconds()
        known = False
        stops = {self.uid: NodeStop(self.name, StopState.ACKNOWLEDGED, self._since(at_commit))}
        while self._nodes.shared:
            left = at_commit + deadline - self._boottime()
            try:
                async with asyncio.timeout(max(left, PROPAGATION_POLL)):
                    nodes = await self._nodes.nodes()
            except (StorageUnavailable, TimeoutError):
                pass  # what cannot be read is decided by the deadline
            else:
                known = True
                self._note(stops, nodes, epoch, self._since(at_commit))
            if (known and not _waiting(stops)) or not wait:
                break
            if self._boottime() >= at_commit + deadline:
                break
            await asyncio.sleep(PROPAGATION_POLL)
        while leased and wait and self._boottime() < at_commit + deadline:  # noqa: ASYNC110  no clock announces a moment
            await asyncio.sleep(PROPAGATION_POLL)
        if leased:
            stops[_APPLICATIONS] = NodeStop(APPLICATIONS, StopState.WAITING)
        if self._boottime() >= at_commit + deadline:
            # Whoever has not said so has no lease any more from before the commit.
            for uid in _waiting(stops):
                stops[uid] = NodeStop(stops[uid].name, StopState.EXPIRED, self._deadline)
            known = True
        complete = (known or not self._nodes.shared) and not _waiting(stops)
        last = max(stop.after for stop in stops.values() if stop.after is not None) if complete else None
        return Propagation(committed, complete, last, tuple(sorted(stops.values(), key=lambda stop: stop.name)))

    @property
    def _interval(self) -> float:
        return self._deadline.total_seconds() / LOOKS if self._nodes.shared else HEARTBEAT

    def _since(self, moment: float) -> timedelta:
        return timedelta(seconds=self._boottime() - moment)

    async def _try_to_look(self) -> None:
        try:
            await self.look()
        except KmsError as error:
            if self._heard:
                _log.warning("node.database_silent", reason=str(error), lease_seconds=round(self.remaining(), 1))
            self._heard = False
            return
        if not self._heard:
            _log.info("node.database_heard_again")
        self._heard = True

    async def _listen(self) -> None:
        # Apart from the looks: a connection that hangs delays the signals and never a look.
        async with self._nodes.changes() as signal:
            while True:
                await signal.wait(SIGNAL_WAIT)
                self._signal.set()

    def _apply(self, epochs: Mapping[TenantUid, TenantEpoch]) -> None:
        # Unequal, not greater: a database that was restored has gone back.
        known = self._applied
        changed = {tenant for tenant, epoch in epochs.items() if epoch != known.get(tenant, _NEVER)}
        stopped = {tenant for tenant in changed if epochs[tenant].revoked != known.get(tenant, _NEVER).revoked}
        # Numbers only grow, and a row once made stays: whoever changes that hides a stop, and so all of it is dropped.
        back = known.keys() - epochs.keys() | {
            tenant for tenant in changed if _is_older(epochs[tenant], known.get(tenant))
        }
        if stopped | back:
            self._holdings.stop(stopped | back)
        if reread := changed - stopped - back:
            self._holdings.reread(reread)
        if changed | back:
            self._tell(changed | back)
        self._applied = epochs
        for tenant in back:
            self._set_back(tenant)

    def _tell(self, tenants: AbstractSet[TenantUid]) -> None:
        for listener in self._listeners:
            listener(tenants)

    async def _join(self, acknowledged: int) -> None:
        now = self._now()
        async with self._act("node.joined", self.uid, self.name):
            await self._nodes.join(Node(self.uid, self.name, now, now, acknowledged))
        self._joined = True
        if not self._nodes.shared:  # whoever else is there has gone without a word
            for node in await self._nodes.nodes():
                if node.uid != self.uid:
                    await self._nodes.leave(node.uid)

    async def _acknowledge(self, epoch: int) -> None:
        now = self._boottime()
        if self._told is not None and self._told[0] == epoch and now < self._told[1] + HEARTBEAT:
            return
        if not await self._nodes.acknowledge(self.uid, epoch, self._now()):
            _log.warning("node.struck_out", name=self.name)
            await self._join(epoch)
        self._told = (epoch, now)
        if self._nodes.shared:
            await self._strike_out_the_dead()

    async def _strike_out_the_dead(self) -> None:
        now, wall = self._boottime(), self._now()
        sights: dict[UUID, _Sight] = {}
        for node in await self._nodes.nodes():
            before = self._sights.get(node.uid)
            if before is None or before.seen_at != node.seen_at:
                sights[node.uid] = _Sight(node.seen_at, now)
            elif now < before.since + UNHEARD_FOR or wall < node.seen_at + DEAD_AFTER:
                sights[node.uid] = before
            else:
                _log.info("node.gone", name=node.name, seen_at=node.seen_at.isoformat())
                async with self._act("node.struck_out", node.uid, node.name):
                    await self._nodes.leave(node.uid)
        self._sights = sights

    def _act(self, action: str, uid: UUID, name: str) -> AbstractAsyncContextManager[Act]:
        return self._trail.act(action, resource=str(uid), resource_type="node", by=self.name, details={"name": name})

    @staticmethod
    def _note(stops: dict[UUID, NodeStop], nodes: list[Node], epoch: int, after: timedelta) -> None:
        there = {node.uid: node for node in nodes}
        for node in nodes:
            if node.acknowledged >= epoch and stops.get(node.uid, _UNHEARD).state is not StopState.ACKNOWLEDGED:
                stops[node.uid] = NodeStop(node.name, StopState.ACKNOWLEDGED, after)
            elif node.uid not in stops:
                stops[node.uid] = NodeStop(node.name, StopState.WAITING)
        for uid in _waiting(stops):
            if uid not in there:  # a node leaves when it answers nobody any more
                stops[uid] = NodeStop(stops[uid].name, StopState.ACKNOWLEDGED, after)


_NEVER: Final = TenantEpoch(0, 0)
_APPLICATIONS: Final = UUID(int=0)
_UNHEARD: Final = NodeStop("", StopState.WAITING)


def _is_older(epoch: TenantEpoch, known: TenantEpoch | None) -> bool:
    return known is not None and (epoch.changes < known.changes or epoch.revoked < known.revoked)


def _waiting(stops: Mapping[UUID, NodeStop]) -> list[UUID]:
    return [uid for uid, stop in stops.items() if stop.state is StopState.WAITING]
