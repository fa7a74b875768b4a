"""Fair turns at one event loop: what works at once is bounded, and tenants that wait are served in turn, by cost.

All calls share one event loop, so that a call is slow when many work beside it. Here a call begins its work when there is
room, and waits otherwise, in the queue of its tenant. Queues are served by deficit round robin (Shreedhar and Varghese,
1995): each tenant may spend a quantum of cost a round, so that one with many or large calls gets no more than the others.

Room is for work that holds the loop. But a call may also wait itself, for the token or the database, in room that nobody
uses then. Therefore a tenant with little at work begins at once even where there is no room, up to twice the room.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

# What a tenant may spend in a round of the queues: some twenty single values, or a quarter of a batch of 10,000.
QUANTUM: Final = 256 << 10
# The part of the room that each tenant has for itself.
SHARE: Final = 8
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
        self._longest = queue
        self._clock = clock
        self._tenants: dict[str, _Tenant] = {}
        self._ring: deque[_Tenant] = deque()  # those with calls that wait, the next one first
        self.at_work = 0  # cost
        self.waiting = 0  # calls

    def __len__(self) -> int:
        """Return the number of tenants that have calls here."""
        return len(self._tenants)

    def turn(self, tenant: str, cost: int) -> Turn:
        """Return what to hold during the work of a call: entering it waits, and raises QueueFull where too many do."""
        return Turn(self, tenant, cost)

    async def begin(self, name: str, cost: int) -> None:
        """Wait until a call may work; if this returns, end() must follow.

        Raises:
            QueueFull: as many calls of this tenant wait as may.
        """
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant(name)
        has_room = self.at_work < self._room and not self._ring
        if not tenant.queue and (has_room or self._is_owed(tenant)):
            self._start(tenant, cost)
            return
        now = self._clock()
        if len(tenant.queue) >= self._longest:
            raise QueueFull(max(now - next(iter(tenant.queue.values())).since, SHORTEST_RETRY))
        if not tenant.queue:
            self._ring.append(tenant)
        future = asyncio.get_running_loop().create_future()
        tenant.queue[future] = _Waiter(cost, now)
        self.waiting += 1
        try:
            await future
        except asyncio.CancelledError:
            if future in tenant.queue:
                self._remove(tenant, future)
                self._forget_unused(tenant)
            elif not future.cancelled():  # it was given its turn in the same pass of the loop
                self.end(name, cost)
            raise

    def end(self, name: str, cost: int) -> None:
        """A call that had begun works no more."""
        tenant = self._tenants[name]
        held = min(cost, self._room)
        tenant.at_work -= held
        self.at_work -= held
        while self._ring and self.at_work < self._room:
            self._serve(self._ring[0])
        while tenant.queue and self._is_owed(tenant):
            self._start_first(tenant)
        self._forget_unused(tenant)

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
        if not future.cancelled():
            self._start(tenant, waiter.cost)
            future.set_result(None)
        else:
            self._forget_unused(tenant)

    def _start(self, tenant: _Tenant, cost: int) -> None:
        held = min(cost, self._room)
        tenant.at_work += held
        self.at_work += held

    def _remove(self, tenant: _Tenant, future: asyncio.Future[None]) -> None:
        del tenant.queue[future]
        self.waiting -= 1
        if not tenant.queue:
            tenant.credit = 0
            self._ring.remove(tenant)

    def _forget_unused(self, tenant: _Tenant) -> None:
        if not tenant.queue and not tenant.at_work:
            self._tenants.pop(tenant.name, None)


class Turn:
    """One call's turn, as a context manager; a class, since a generator costs three times as much, for every call."""

    __slots__ = ("_cost", "_tenant", "_turns")

    def __init__(self, turns: Turns, tenant: str, cost: int) -> None:
        self._turns = turns
        self._tenant = tenant
        self._cost = cost

    async def __aenter__(self) -> None:
        await self._turns.begin(self._tenant, self._cost)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.end(self._tenant, self._cost)


class _Waiter:
    __slots__ = ("cost", "since")

    def __init__(self, cost: int, since: int) -> None:
        self.cost = cost
        self.since = since


class _Tenant:
    """What one tenant has at work and waiting; forgotten when that is nothing."""

    __slots__ = ("at_work", "credit", "name", "queue")

    def __init__(self, name: str) -> None:
        self.name = name
        self.at_work = 0  # cost
        self.credit = 0  # cost that it may still spend in this round
        self.queue: OrderedDict[asyncio.Future[None], _Waiter] = OrderedDict()
