"""Refusals of callers who are not known: few of each address have an audit event of their own, the rest is summed.

So that nobody who cannot even show who it is fills the disk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network
from typing import Final

from kms.core.callers import Address

MINUTE: Final = 60.0  # seconds
EVENTS_OF_ONE: Final = 10  # events of one address in a minute
EVENTS_OF_ALL: Final = 600  # events of all addresses in a minute
MOST_SOURCES: Final = 1_000  # addresses that are told apart; all others are one
IPV6_PREFIX: Final = 64  # bits: who has one address of such a network usually has them all
OTHERS: Final = "others"


@dataclass(frozen=True, slots=True)
class Sum:
    """Refusals of one source that had no event of their own."""

    source: str
    count: int
    seconds: float  # in which they came


@dataclass(slots=True)
class _Source:
    events: int = 0  # in this minute
    summed: int = 0  # since the last sum was taken


class Strangers:
    """Counts what those do who are not known; its state is this node's, and in memory."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """*clock* shows seconds and never jumps."""
        self._clock = clock
        self._began = clock()
        self._taken = self._began
        self._events = 0
        self._sources: dict[str, _Source] = {}

    def has_event(self, address: Address | None) -> bool:
        """Count a refusal; whether it has an event of its own."""
        now = self._clock()
        if now >= self._began + MINUTE:
            self._began, self._events = now, 0
            for source in self._sources.values():
                source.events = 0
        source = self._source(address)
        if source.events >= EVENTS_OF_ONE or self._events >= EVENTS_OF_ALL:
            source.summed += 1
            return False
        source.events += 1
        self._events += 1
        return True

    def taken(self) -> list[Sum]:
        """Return what has been summed since the last time."""
        now = self._clock()
        sums = [Sum(name, source.summed, now - self._taken) for name, source in self._sources.items() if source.summed]
        self._taken = now
        # Whoever has had its events of this minute is remembered for the rest of it.
        self._sources = {name: _Source(source.events) for name, source in self._sources.items() if source.events}
        return sums

    def put_back(self, sum_: Sum) -> None:
        """Count what could not be told once more."""
        self._of(sum_.source).summed += sum_.count

    def _source(self, address: Address | None) -> _Source:
        if address is None:
            return self._of("")
        if isinstance(address, IPv6Address):
            return self._of(str(ip_network((address, IPV6_PREFIX), strict=False)))
        return self._of(str(address))

    def _of(self, name: str) -> _Source:
        if name not in self._sources and len(self._sources) >= MOST_SOURCES:
            name = OTHERS
        return self._sources.setdefault(name, _Source())
