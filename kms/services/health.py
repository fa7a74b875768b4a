"""Health of each part, looked at again and again, so that asking for it costs nothing and never waits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import structlog

from kms.core.errors import KmsError
from kms.core.ports import HealthStatus, PartHealth

_log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[PartHealth]]

REMEMBERED: Final = 1_800  # looks: an hour of them, one every 2 seconds
MANY_FAILURES: Final = 0.05  # of the calls; from here on the API is degraded
FEWEST_CALLS: Final = 20  # of which a rate says something
_SERVING: Final = frozenset({HealthStatus.HEALTHY, HealthStatus.DEGRADED})


@dataclass(frozen=True, slots=True)
class PartReport:
    """How a part is, and how it was at the looks that are remembered."""

    name: str
    health: PartHealth
    since: datetime | None  # when its status last changed; None before the first look
    looks: int
    availability: float  # part of these looks at which it served, 0 to 1
    error_rate: (
        float  # part of what was asked of it that failed, 0 to 1: of the calls where it counts them, else of the looks
    )


@dataclass(slots=True)
class _Watched:
    check: Check
    served: deque[bool] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    since: datetime | None = None


class HealthMonitor:
    """Checks every part each *interval* seconds and tells *on_change* of every part whose status changed."""

    def __init__(
        self,
        parts: Mapping[str, Check],
        interval: float,
        deadline: float,
        on_change: Callable[[str, PartHealth], Awaitable[None]],
        now: Callable[[], datetime],
    ) -> None:
        self._parts = {name: _Watched(check) for name, check in parts.items()}
        self._interval = interval
        self._deadline = deadline
        self._on_change = on_change
        self._now = now
        self.latest: dict[str, PartHealth] = dict.fromkeys(parts, PartHealth(HealthStatus.UNKNOWN, "not looked at yet"))

    async def run(self) -> None:
        """Look at all parts until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Look at all parts once."""
        found = await asyncio.gather(*(self._check(watched.check) for watched in self._parts.values()))
        for (part, watched), health in zip(self._parts.items(), found, strict=True):
            before, self.latest[part] = self.latest[part], health
            watched.served.append(health.status in _SERVING)
            if health.status is not before.status:
                watched.since = self._now()
                _log.info("health.changed", part=part, status=health.status, reason=health.reason)
                await self._on_change(part, health)

    def reports(self) -> list[PartReport]:
        """Return how each part is and was, by name; asks none of them."""
        return [self._report(name, self._parts[name]) for name in sorted(self._parts)]

    def _report(self, name: str, watched: _Watched) -> PartReport:
        health, looks = self.latest[name], len(watched.served)
        served = sum(watched.served) / looks if looks else 0.0
        failed = 1 - served if looks else 0.0
        rate = failed if health.error_rate is None else health.error_rate
        return PartReport(name, health, watched.since, looks, served, rate)

    async def _check(self, check: Check) -> PartHealth:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._deadline):
                health = await check()
        except TimeoutError:
            health = PartHealth(HealthStatus.UNHEALTHY, f"did not answer within {self._deadline} s")
        except KmsError as error:
            health = PartHealth(HealthStatus.UNHEALTHY, str(error))
        except Exception as error:  # noqa: BLE001  a mistake in a check must not end the daemon
            _log.exception("health.check_failed")
            health = PartHealth(HealthStatus.UNHEALTHY, f"the check failed: {type(error).__name__}")
        return replace(health, response_time=time.perf_counter() - started)


class ApiHealth:
    """The API as a part: degraded while many of the calls of the last looks fail, for reasons that are the daemon's."""

    def __init__(self, answered: Callable[[], tuple[int, int]], looks: int = 150) -> None:
        """*answered* tells how many calls were answered since the start, and how many of them failed.

        Args:
            answered: counts that only grow.
            looks: how many looks the rate is over: five minutes of them.
        """
        self._answered = answered
        self._seen: deque[tuple[int, int]] = deque([answered()], maxlen=looks + 1)

    async def check(self) -> PartHealth:
        """Return the part of the calls that failed since the oldest look that is remembered."""
        self._seen.append(self._answered())
        (calls_then, failed_then), (calls_now, failed_now) = self._seen[0], self._seen[-1]
        calls, failed = calls_now - calls_then, failed_now - failed_then
        rate = failed / calls if calls else 0.0
        if calls >= FEWEST_CALLS and rate >= MANY_FAILURES:
            return PartHealth(HealthStatus.DEGRADED, f"{failed} of the last {calls} calls failed", error_rate=rate)
        return PartHealth(HealthStatus.HEALTHY, error_rate=rate)
