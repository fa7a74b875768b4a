"""How often something may happen: token buckets, and many of them by subject.

A bucket is kept as one number, the time at which it will be full again (the generic cell rate algorithm of ITU-T I.371,
annex A): nothing has to fill it, and an unused one is worth nothing. All times are whole nanoseconds of a clock that
never goes back (the boot-time clock); where one goes back nevertheless, time stands still here. Arithmetic is in whole
numbers, so that no rounding ever grants one more.

Within any time t a bucket grants at most burst + rate * t.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .callers import TokenLimits

SECOND: Final = 1_000_000_000  # nanoseconds
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

# Of each Limiter; measured: 500 bytes for a subject with one rate, 730 with four. Beyond it the one that was quiet for
# longest is forgotten.
SUBJECTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Rate:
    """*amount* in every *period* (nanoseconds) on average, and at most *burst* at once."""

    amount: int
    period: int
    burst: int

    def __post_init__(self) -> None:
        if min(self.amount, self.period, self.burst) < 1:
            raise ValueError("amount, period and burst of a rate must be at least 1")


def window(amount: int, period: int) -> Rate:
    """Return the rate that stands for *amount* in each window of *period* nanoseconds.

    As with windows that begin anew one after another, up to twice the amount fits around the end of one; never more.
    """
    return Rate(amount, period, burst=amount)


@lru_cache(maxsize=1024)
def rates_of(limits: TokenLimits) -> tuple[Rate, ...]:
    """Return the rates that a token's limits stand for.

    Raises:
        ValueError: a limit is below 1, or there is a burst without a rate.
    """
    windows = ((limits.per_minute, MINUTE), (limits.per_hour, HOUR), (limits.per_day, DAY))
    found = [window(amount, period) for amount, period in windows if amount is not None]
    if limits.rate is not None:
        found.append(Rate(limits.rate, SECOND, limits.burst or limits.rate))
    elif limits.burst is not None:
        raise ValueError("a burst is of a rate")
    return tuple(found)


class TokenBucket:
    """One bucket, full at first."""

    __slots__ = ("_full", "_rate", "_seen")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._full = 0  # the time at which it is full, times rate.amount; 0: it is
        self._seen = 0

    def wait(self, now: int, amount: int = 1) -> int:
        """Return in how many nanoseconds *amount* is there if nobody else takes; 0 if it is there.

        Raises:
            ValueError: it never is, being more than the burst.
        """
        rate = self._rate
        if amount > rate.burst:
            raise ValueError(f"{amount} at once is more than the burst of {rate.burst}")
        self._seen = now = max(now, self._seen)
        missing = max(self._full - now * rate.amount, 0) + (amount - rate.burst) * rate.period
        return -(-missing // rate.amount) if missing > 0 else 0

    def spend(self, now: int, amount: int = 1) -> None:
        """Take what wait() has found to be there."""
        self._seen = now = max(now, self._seen)
        self._full = max(self._full, now * self._rate.amount) + amount * self._rate.period

    def take(self, now: int, amount: int = 1) -> int:
        """Take *amount* and return 0, or take nothing and return the nanoseconds to wait.

        Raises:
            ValueError: *amount* is more than the burst.
        """
        wait = self.wait(now, amount)
        if not wait:
            self.spend(now, amount)
        return wait


class _Subject:
    __slots__ = ("blocked_until", "buckets", "rates")

    def __init__(self, rates: tuple[Rate, ...]) -> None:
        self.rates = rates
        self.buckets = [TokenBucket(rate) for rate in rates]
        self.blocked_until = 0


class Limiter:
    """Buckets of many subjects; who asks for too much is blocked for *block* nanoseconds, or until there is some again.

    Being refused costs nothing and prolongs nothing. Whoever is forgotten for want of room begins with full buckets.
    """

    def __init__(self, rates: tuple[Rate, ...] = (), *, block: int = 0, most: int = SUBJECTS) -> None:
        """Without *rates*, each subject brings its own."""
        self._rates = rates
        self._block = block
        self._most = most
        self._subjects: OrderedDict[Hashable, _Subject] = OrderedDict()
        self._seen = 0

    def __len__(self) -> int:
        return len(self._subjects)

    def wait(self, subject: Hashable, now: int, rates: tuple[Rate, ...] | None = None) -> int:
        """Return for how many nanoseconds *subject* must wait before once more is granted; 0: it need not.

        One that must is blocked from here on. *rates* are its own; where they change, it begins with full buckets.
        """
        self._seen = now = max(now, self._seen)
        found = self._find(subject, self._rates if rates is None else rates)
        if found.blocked_until > now:
            return found.blocked_until - now
        wait = max([bucket.wait(now) for bucket in found.buckets], default=0)
        if not wait:
            return 0
        wait = max(wait, self._block)
        found.blocked_until = now + wait
        return wait

    def spend(self, subject: Hashable, now: int) -> None:
        """Count once more, after wait() has returned 0."""
        now = max(now, self._seen)
        for bucket in self._subjects[subject].buckets:
            bucket.spend(now)

    def take(self, subject: Hashable, now: int, rates: tuple[Rate, ...] | None = None) -> int:
        """Count once more and return 0, or count nothing and return the nanoseconds to wait."""
        wait = self.wait(subject, now, rates)
        if not wait:
            self.spend(subject, now)
        return wait

    def blocked(self, subject: Hashable, now: int) -> int:
        """Return for how many nanoseconds *subject* is blocked; 0: it is not. Leaves no trace."""
        found = self._subjects.get(subject)
        return 0 if found is None else max(found.blocked_until - max(now, self._seen), 0)

    def _find(self, subject: Hashable, rates: tuple[Rate, ...]) -> _Subject:
        found = self._subjects.get(subject)
        if found is not None and (found.rates is rates or found.rates == rates):
            self._subjects.move_to_end(subject)
            return found
        found = self._subjects[subject] = _Subject(rates)
        self._subjects.move_to_end(subject)
        if len(self._subjects) > self._most:
            self._subjects.popitem(last=False)
        return found
