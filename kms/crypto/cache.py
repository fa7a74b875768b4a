"""A bounded cache whose entries live for a fixed time; the daemon keeps the ciphers of DEKs in it, and records too."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class DekCache(Generic[K, V]):
    """At most *capacity* entries, the least recently used leaving first, each for *lifetime* seconds at most.

    An entry may be given a shorter life of its own. A life begins before the load and use does not prolong it, so that no entry is ever older than it says.
    One key is loaded once at a time, however many wait for it. All methods belong to one event loop.

    Attributes:
        hits: look-ups that found a live entry.
        misses: calls of get() that found none.
        evictions: entries that left for want of room.
        expirations: entries that left at the end of their lifetime.
    """

    def __init__(self, capacity: int, lifetime: float, clock: Callable[[], float]) -> None:
        if capacity < 1 or lifetime <= 0:
            raise ValueError("capacity and lifetime must be positive")
        self._capacity = capacity
        self._lifetime = lifetime
        self._clock = clock
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._loads: dict[K, asyncio.Task[V]] = {}
        # The event loop holds tasks weakly, and a dropped load has left _loads.
        self._running: set[asyncio.Task[V]] = set()
        self.hits = 0
        self.misses = 0
        self.evictions = 0
        self.expirations = 0

    def __len__(self) -> int:
        return len(self._entries)

    def peek(self, key: K) -> V | None:
        """Return the live entry, or None; the look-up counts as a use, and finding nothing is counted by get()."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        end, value = entry
        if self._clock() >= end:
            del self._entries[key]
            self.expirations += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return value

    async def get(self, key: K, load: Callable[[], Awaitable[V]], lifetime: float = math.inf) -> V:
        """Return the live entry, or what *load* returns, to be kept for *lifetime* seconds where that is shorter.

        A load that fails, or returns None, leaves nothing behind. It goes on for the others, and for the cache, when
        a waiter is cancelled; so it needs a deadline of its own.

        Raises:
            Exception: what *load* raises, to everyone who waits for it.
        """
        value = self.peek(key)
        if value is not None:
            return value
        self.misses += 1
        task = self._loads.get(key)
        if task is None:
            task = asyncio.ensure_future(_awaited(load))
            self._loads[key] = task
            self._running.add(task)
            task.add_done_callback(partial(self._settle, key, self._clock() + min(self._lifetime, lifetime)))
        return await asyncio.shield(task)

    def drop(self, key: K) -> None:
        """Forget an entry; a load of it that is running serves those who wait for it and is not stored."""
        self._entries.pop(key, None)
        self._loads.pop(key, None)

    def drop_where(self, predicate: Callable[[K], bool]) -> None:
        """Drop every key that *predicate* is true of."""
        for key in [key for key in (*self._entries, *self._loads) if predicate(key)]:
            self.drop(key)

    def clear(self) -> None:
        """Drop every key."""
        self._entries.clear()
        self._loads.clear()

    def sweep(self) -> None:
        """Forget the entries whose lifetime is over. Without it one that nobody asks for stays in memory."""
        now = self._clock()
        for key in [key for key, (end, _) in self._entries.items() if now >= end]:
            del self._entries[key]
            self.expirations += 1

    def _settle(self, key: K, end: float, task: asyncio.Task[V]) -> None:
        # Runs before anyone who waits is woken: it was the task's first callback.
        self._running.discard(task)
        # Looking at the exception also says that it was seen, should every waiter be gone.
        failed = task.cancelled() or task.exception() is not None
        if self._loads.get(key) is not task:
            return
        del self._loads[key]
        if failed or task.result() is None:
            return
        self._entries[key] = (end, task.result())
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
            self.evictions += 1


async def _awaited(load: Callable[[], Awaitable[V]]) -> V:
    return await load()
