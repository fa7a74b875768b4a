"""Health of each part, looked at again and again, so that asking for it costs nothing and never waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import structlog

from kms.core.errors import KmsError
from kms.core.ports import HealthStatus, PartHealth

_log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[PartHealth]]


class HealthMonitor:
    """Checks every part each *interval* seconds and tells *on_change* of every part whose status changed."""

    def __init__(
        self,
        parts: Mapping[str, Check],
        interval: float,
        deadline: float,
        on_change: Callable[[str, PartHealth], Awaitable[None]],
    ) -> None:
        self._parts = parts
        self._interval = interval
        self._deadline = deadline
        self._on_change = on_change
        self.latest: dict[str, PartHealth] = dict.fromkeys(parts, PartHealth(HealthStatus.UNKNOWN, "not looked at yet"))

    async def run(self) -> None:
        """Look at all parts until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Look at all parts once."""
        found = await asyncio.gather(*(self._check(check) for check in self._parts.values()))
        for part, health in zip(self._parts, found, strict=True):
            before, self.latest[part] = self.latest[part], health
            if health.status is not before.status:
                _log.info("health.changed", part=part, status=health.status, reason=health.reason)
                await self._on_change(part, health)

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
