"""No version encrypts past its limit: encryptions are taken from blocks that were reserved durably before.

Beyond the soft limit every reservation asks for a rotation, so that a request which a crash loses is made again.
"""

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


def _ignore(counter: Counter) -> None:
    """Nobody rotates on this node."""


class UsageCounter:
    """Counts the uses of one version on this node, at most *stop_at* over all nodes; None for no limit.

    *on_soft_limit* is told of every reservation that reaches *rotate_at*, or is refused; it must not wait.
    """

    __slots__ = (
        "_allowance",
        "_clock",
        "_counter",
        "_counters",
        "_on_soft_limit",
        "_refilling",
        "rotate_at",
        "stop_at",
    )

    def __init__(
        self,
        counters: Counters,
        counter: Counter,
        stop_at: int | None,
        clock: Callable[[], float],
        rotate_at: int | None = None,
        on_soft_limit: Callable[[Counter], None] = _ignore,
    ) -> None:
        self._counters = counters
        self._counter = counter
        self.stop_at = stop_at
        self.rotate_at = rotate_at
        self._clock = clock
        self._on_soft_limit = on_soft_limit
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
                await self._refill(count)

    async def _refill(self, count: int) -> None:
        now, at_hand = self._clock(), self._allowance
        left = None if self.stop_at is None else self.stop_at - at_hand.reserved
        size = max(next_block(at_hand.block, now - at_hand.since, left), count)
        total = await self._counters.reserve(self._counter, size, self.stop_at)
        if total is None:
            # Near the end a block does not fit any more, but exactly what is missing may.
            size = count - at_hand.left
            total = await self._counters.reserve(self._counter, size, self.stop_at)
        if total is None or (self.rotate_at is not None and total >= self.rotate_at):
            self._on_soft_limit(self._counter)
        if total is None:
            raise VersionExhausted("the version has reached its limit of encryptions; rotate the key")
        reach("counters.reserved")
        at_hand.refill(size, now, total)


class UsageCounters:
    """The counters of this node, bounded; they outlive cached DEKs, so that a reload wastes no block."""

    def __init__(self, counters: Counters, clock: Callable[[], float], most: int = MOST_COUNTERS) -> None:
        self._counters = counters
        self._clock = clock
        self._most = most
        self._known: OrderedDict[Counter, UsageCounter] = OrderedDict()
        self._watcher: Callable[[Counter], None] = _ignore

    def watch(self, on_soft_limit: Callable[[Counter], None]) -> None:
        """Tell *on_soft_limit* from now on of every reservation beyond a soft limit; it must not wait."""
        self._watcher = on_soft_limit

    def of(self, counter: Counter, stop_at: int | None, rotate_at: int | None = None) -> UsageCounter:
        """Return the counter, always the same one while it is remembered, with these limits from now on."""
        usage = self._known.get(counter)
        if usage is None:
            usage = UsageCounter(self._counters, counter, stop_at, self._clock, rotate_at, self._tell)
            self._known[counter] = usage
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(counter)
            usage.stop_at, usage.rotate_at = stop_at, rotate_at
        return usage

    async def reserved(self, counters: list[Counter]) -> list[int]:
        """Return what has been reserved of each on all nodes so far."""
        return await self._counters.reserved(counters)

    def _tell(self, counter: Counter) -> None:
        self._watcher(counter)
