"""No version encrypts past its limit: encryptions are taken from blocks that were reserved durably before."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from kms.core.errors import VersionExhausted
from kms.core.ports import Counter, Counters
from kms.core.usage import Allowance, next_block
from kms.failpoints import reach

# One entry is some 300 bytes; what is evicted loses the rest of its block, which then counts as used.
MOST_COUNTERS: Final = 100_000


class UsageCounter:
    """Counts the uses of one version on this node, at most *stop_at* over all nodes; None for no limit."""

    __slots__ = ("_allowance", "_clock", "_counter", "_counters", "_refilling", "stop_at")

    def __init__(self, counters: Counters, counter: Counter, stop_at: int | None, clock: Callable[[], float]) -> None:
        self._counters = counters
        self._counter = counter
        self.stop_at = stop_at
        self._clock = clock
        self._allowance = Allowance()
        self._refilling = asyncio.Lock()

    def take_reserved(self, count: int) -> bool:
        """Use *count* from the block at hand; False where it does not hold them and take() has to be awaited."""
        return self._allowance.take(count)

    async def take(self, count: int) -> None:
        """Use *count*, reserving another block first where needed.

        Raises:
            VersionExhausted: fewer than *count* are left before the limit.
            StorageUnavailable: no block could be reserved.
        """
        if self._allowance.take(count):
            return
        async with self._refilling:
            while not self._allowance.take(count):  # again where others have taken from the block at hand meanwhile
                now = self._clock()
                size = max(next_block(self._allowance.block, now - self._allowance.since), count)
                if await self._counters.reserve(self._counter, size, self.stop_at) is None:
                    # Near the end a block does not fit any more, but exactly what is missing may.
                    size = count - self._allowance.left
                    if await self._counters.reserve(self._counter, size, self.stop_at) is None:
                        raise VersionExhausted("the version has reached its limit of encryptions; rotate the key")
                reach("counters.reserved")
                self._allowance.refill(size, now)


class UsageCounters:
    """The counters of this node, bounded; they outlive cached DEKs, so that a reload wastes no block."""

    def __init__(self, counters: Counters, clock: Callable[[], float], most: int = MOST_COUNTERS) -> None:
        self._counters = counters
        self._clock = clock
        self._most = most
        self._known: OrderedDict[Counter, UsageCounter] = OrderedDict()

    def of(self, counter: Counter, stop_at: int | None) -> UsageCounter:
        """Return the counter, always the same one while it is remembered, with this limit from now on."""
        usage = self._known.get(counter)
        if usage is None:
            usage = self._known[counter] = UsageCounter(self._counters, counter, stop_at, self._clock)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(counter)
            usage.stop_at = stop_at
        return usage

    async def reserved(self, counters: list[Counter]) -> list[int]:
        """Return what has been reserved of each on all nodes so far."""
        return await self._counters.reserved(counters)
