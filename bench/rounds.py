"""Variants measured in alternation, so that what else the machine does falls on all of them.

Every round takes one short sample of each variant. A ratio is the median, over the rounds, of two samples of the same
round; a time is the median over the rounds. What others do on the machine only ever adds to a time, so the quietest
samples of two variants make a second ratio, the one that a machine of one's own would show.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")


class WrongResult(Exception):
    """What was measured did not do its work; its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One short measurement: seconds by the clock, CPU seconds of client and server, and the values or calls done."""

    seconds: float
    client: float
    server: float
    items: int


Sampler = Callable[[], Sample]


@dataclass(frozen=True, slots=True)
class Figures:
    """The samples of one variant, one for each round."""

    samples: Sequence[Sample]

    @property
    def microseconds(self) -> float:
        """Time for each item."""
        return median(sample.seconds / sample.items for sample in self.samples) * 1e6

    @property
    def rate(self) -> float:
        """Items per second."""
        return 1e6 / self.microseconds

    @property
    def client_microseconds(self) -> float:
        """CPU time of the client for each item."""
        return sum(sample.client for sample in self.samples) / self._items * 1e6

    @property
    def server_microseconds(self) -> float:
        """CPU time of the server for each item; over all rounds, since the system counts it in ticks of 10 ms."""
        return sum(sample.server for sample in self.samples) / self._items * 1e6

    @property
    def _items(self) -> int:
        return sum(sample.items for sample in self.samples)

    @property
    def _quietest(self) -> float:
        return min(sample.seconds / sample.items for sample in self.samples)

    def times(self, base: Figures) -> float:
        """How many times as long as *base* an item takes."""
        pairs = zip(self.samples, base.samples, strict=True)
        return median((own.seconds / own.items) / (its.seconds / its.items) for own, its in pairs)

    def times_quietest(self, base: Figures) -> float:
        """As times(), by the fastest sample of each."""
        return self._quietest / base._quietest


def alternate(samplers: Mapping[str, Sampler], rounds: int) -> dict[str, Figures]:
    """Take *rounds* samples of every variant, one after another."""
    taken: dict[str, list[Sample]] = {name: [] for name in samplers}
    for _ in range(rounds):
        for name, sampler in samplers.items():
            taken[name].append(sampler())
    return {name: Figures(samples) for name, samples in taken.items()}


def no_server() -> float:
    """The CPU clock of a variant without a server."""
    return 0.0


def repeated(
    work: Callable[[], T],
    items: int,
    seconds: float,
    *,
    check: Callable[[T], None] = lambda _: None,
    server: Callable[[], float] = no_server,
) -> Sampler:
    """Make a sampler that repeats *work*, of *items* items each, for about *seconds*.

    The last result of a sample is checked after the clock has stopped. *server* is its CPU clock.
    """

    def sample() -> Sample:
        calls = 0
        server_before, client_before, started = server(), time.process_time(), time.perf_counter()
        while True:
            result = work()
            calls += 1
            elapsed = time.perf_counter() - started
            if elapsed >= seconds:
                break
        taken = Sample(elapsed, time.process_time() - client_before, server() - server_before, calls * items)
        check(result)
        return taken

    return sample
