"""Fair turns at one event loop: what works at once is bounded, and tenants that wait are served in turn, by cost.

All calls share one event loop, so that a call is slow when many work beside it. Here a call begins its work when there is
room, and waits otherwise, in the queue of its tenant. Queues are served by deficit round robin (Shreedhar and Varghese,
1995): each tenant may spend a quantum of cost a round, so that one with many or large calls gets no more than the others.
A tenant with next to nothing at work begins at once even where there is no room, up to twice the room.

Room is given back when no new call has arrived for some passes of the loop. gRPC takes calls in one after another, one in
a pass, and knows no tenants: were those that are in worked on first, a flood would wait there, with all others behind it.

Room is for work that holds the loop. A call that has worked for long waits for something else, the token or the database,
and its room is given back, so that hung calls do not hold up those that need neither.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

# What a tenant may spend in a round of the queues: four single values, or a sixteenth of a batch of 10,000.
QUANTUM: Final = 64 << 10
# The part of the room that each tenant has for itself.
SHARE: Final = 8
# Passes of the loop. With 64 single calls of a flood in flight, a call of another tenant took 63 ms with 0, 54 ms with 3,
# and 3.4 ms with 6 to 24 (medians of two runs beside other load); the CPU time for a call did not grow.
QUIET: Final = 8
LONGEST_ROUND: Final = 64
# Where calls end further apart, nobody floods, and room is given back at once: a round costs a lone call 10 us. Nanoseconds.
SPARSE: Final = 300_000
# A call that has worked for so long waits for something else: a batch of 10,000 alone takes some 20 ms. Nanoseconds.
LONGEST_WORK: Final = 50_000_000
# How long to wait is told by how long the oldest has waited, and at least: nanoseconds.
SHORTEST_RETRY: Final = 100_000_000


class QueueFull(Exception):
    """A tenant has as many calls waiting as it may have; *wait* is how long its oldest has waited, in nanoseconds."""

    def __init__(self, wait: int) -> None:
        super().__init__(f"the queue is full; its oldest waits for {wait} ns")
        self.wait = wait


class Turns:
    """The calls of all tenants that work, and those that wait for it. Belongs to one event loop."""

    def __init__(self, room: int, queue: int, clock: Callable[[], int]) -> None:
        """*room* is the cost that may work at once, *queue* how many calls of a tenant may wait; *clock* in nanoseconds."""
        self._room = room
        self._share = max(room // SHARE, 1)
        self._longest_queue = queue
        self._clock = clock
        self._tenants: dict[str, _Tenant] = {}
        self._ring: deque[_Tenant] = deque()  # those with calls that wait, the next one first
        self._working: OrderedDict[_Work, None] = OrderedDict()  # those that hold room, the oldest first
        self._ended: list[_Work] = []  # their room is given back at the end of the round
        self._passes = 0  # of the loop in this round
        self._quiet = 0  # the last of them, in which no call arrived
        self._arrived = False  # in this pass
        self._last_end = 0
        self._timer: asyncio.TimerHandle | None = None  # while calls wait
        self.at_work = 0  # cost
        self.waiting = 0  # calls

    def __len__(self) -> int:
        """Return the number of tenants that have calls here."""
        return len(self._tenants)

    def turn(self, tenant: str, cost: int) -> Turn:
        """Return what to hold during the work of a call: entering it waits, and raises QueueFull where too many do."""
        return Turn(self, tenant, cost)

    async def begin(self, name: str, cost: int) -> _Work:
        """Wait until a call may work; what is returned must be given to end().

        Raises:
            QueueFull: as many calls of this tenant wait as may.
        """
        self._arrived = True
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant(name)
        has_room = self.at_work < self._room and not self._ring
        if not tenant.queue and (has_room or self._is_owed(tenant)):
            return self._start(tenant, cost)
        now = self._clock()
        if len(tenant.queue) >= self._longest_queue:
            raise QueueFull(max(now - next(iter(tenant.queue.values())).since, SHORTEST_RETRY))
        if not tenant.queue:
            self._ring.append(tenant)
        future: asyncio.Future[_Work] = asyncio.get_running_loop().create_future()
        tenant.queue[future] = _Waiter(cost, now)
        self.waiting += 1
        self._watch()
        try:
            return await future
        except asyncio.CancelledError:
            if future in tenant.queue:
                self._remove(tenant, future)
                self._forget_unused(tenant)
            elif not future.cancelled():  # it was given its turn in the same pass
                self.end(future.result())
            raise

    def end(self, work: _Work) -> None:
        """A call that had begun works no more."""
        if work not in self._working:
            return
        del self._working[work]
        now = self._clock()
        sparse, self._last_end = now - self._last_end > SPARSE, now
        if sparse and not self._ended and not self.waiting:
            self._give_back([work])
            return
        if not self._ended:
            self._passes = self._quiet = 0
            asyncio.get_running_loop().call_soon(self._pass)
        self._ended.append(work)

    def _pass(self) -> None:
        """Give back the room of what has ended, once no call arrives any more."""
        self._passes += 1
        self._quiet = 0 if self._arrived else self._quiet + 1
        self._arrived = False
        if self._quiet < QUIET and self._passes < LONGEST_ROUND:
            asyncio.get_running_loop().call_soon(self._pass)
            return
        ended, self._ended = self._ended, []
        self._give_back(ended)

    def _watch(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LONGEST_WORK / 1e9, self._look_for_hung)

    def _look_for_hung(self) -> None:
        self._timer = None
        now, hung = self._clock(), []
        for work in self._working:
            if now - work.since < LONGEST_WORK:
                break
            hung.append(work)
        for work in hung:
            del self._working[work]
        self._give_back(hung)
        if self.waiting:
            self._watch()

    def _give_back(self, works: list[_Work]) -> None:
        for work in works:
            work.tenant.at_work -= work.cost
            self.at_work -= work.cost
        while self._ring and self.at_work < self._room:
            self._serve(self._ring[0])
        for work in works:
            while work.tenant.queue and self._is_owed(work.tenant):
                self._start_first(work.tenant)
            self._forget_unused(work.tenant)

    def _is_owed(self, tenant: _Tenant) -> bool:
        """Whether a tenant may begin although there is no room."""
        return tenant.at_work < self._share and self.at_work < 2 * self._room

    def _serve(self, tenant: _Tenant) -> None:
        """Let the tenant at the head of the ring begin a call, or pass on to the next one."""
        cost = next(iter(tenant.queue.values())).cost
        if tenant.credit >= cost:
            tenant.credit -= cost
            self._start_first(tenant)
        else:
            tenant.credit += QUANTUM
            self._ring.rotate(-1)

    def _start_first(self, tenant: _Tenant) -> None:
        future, waiter = next(iter(tenant.queue.items()))
        self._remove(tenant, future)
        if future.cancelled():
            self._forget_unused(tenant)
        else:
            future.set_result(self._start(tenant, waiter.cost))

    def _start(self, tenant: _Tenant, cost: int) -> _Work:
        # What is larger than the room takes all of it, and no more.
        work = _Work(tenant, min(cost, self._room), self._clock())
        tenant.at_work += work.cost
        self.at_work += work.cost
        self._working[work] = None
        return work

    def _remove(self, tenant: _Tenant, future: asyncio.Future[_Work]) -> None:
        del tenant.queue[future]
        self.waiting -= 1
        if not tenant.queue:
            tenant.credit = 0
            self._ring.remove(tenant)
        if not self.waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget_unused(self, tenant: _Tenant) -> None:
        if not tenant.queue and not tenant.at_work and self._tenants.get(tenant.name) is tenant:
            del self._tenants[tenant.name]


class Turn:
    """One call's turn, as a context manager; a class, since a generator costs three times as much, for every call."""

    __slots__ = ("_cost", "_tenant", "_turns", "_work")

    def __init__(self, turns: Turns, tenant: str, cost: int) -> None:
        self._turns = turns
        self._tenant = tenant
        self._cost = cost
        self._work: _Work | None = None

    async def __aenter__(self) -> None:
        self._work = await self._turns.begin(self._tenant, self._cost)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._work is not None:
            self._turns.end(self._work)


class _Waiter:
    __slots__ = ("cost", "since")

    def __init__(self, cost: int, since: int) -> None:
        self.cost = cost
        self.since = since


class _Work:
    """One call that works: what it takes of the room, and since when."""

    __slots__ = ("cost", "since", "tenant")

    def __init__(self, tenant: _Tenant, cost: int, since: int) -> None:
        self.tenant = tenant
        self.cost = cost
        self.since = since


class _Tenant:
    """What one tenant has at work and waiting; forgotten when that is nothing."""

    __slots__ = ("at_work", "credit", "name", "queue")

    def __init__(self, name: str) -> None:
        self.name = name
        self.at_work = 0  # cost
        self.credit = 0  # cost that it may still spend in this round
        self.queue: OrderedDict[asyncio.Future[_Work], _Waiter] = OrderedDict()
