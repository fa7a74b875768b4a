"""Room for the audit events of the months ahead: without it, the first event of a month could not be stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import date, datetime
from typing import Final, Protocol

import structlog

from kms.core.errors import KmsError
from kms.core.ports import HealthStatus, PartHealth

_log = structlog.get_logger(__name__)

AHEAD: Final = 3  # months beyond the present one that are made
FEWEST: Final = 2  # months beyond the present one; with fewer, somebody has to look
INTERVAL: Final = 86_400.0  # seconds between two looks
RETRY: Final = 600.0  # seconds after one that failed


class AuditMonths(Protocol):
    """Makes room for the audit events of a month."""

    async def ensure_audit_month(self, month: date) -> None:
        """Make sure that events of a month of UTC can be stored, given by its first day."""
        ...


class AuditPartitions:
    """Makes room in time, at the start and daily."""

    def __init__(self, months: AuditMonths, now: Callable[[], datetime]) -> None:
        self._months = months
        self._now = now
        self._until: date | None = None  # the last month that there is room for
        self._failure = "nobody has looked yet"

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            made = await self.look()
            await asyncio.sleep(INTERVAL if made else RETRY)

    async def look(self) -> bool:
        """Make what is missing; whether all is there."""
        present = _month(self._now())
        for count in range(AHEAD + 1):
            month = _later(present, count)
            try:
                await self._months.ensure_audit_month(month)
            except KmsError as error:
                self._failure = str(error)
                _log.warning("audit.no_partition", month=month.isoformat(), reason=self._failure)
                return False
            self._until = month if self._until is None else max(self._until, month)
        return True

    async def health(self) -> PartHealth:
        """Say whether there is room for long enough that somebody can do something about it."""
        present = _month(self._now())
        ahead = -1 if self._until is None else _count(self._until) - _count(present)
        if ahead >= FEWEST:
            return PartHealth(HealthStatus.HEALTHY)
        reason = f"room for audit events of {max(ahead, 0)} months ahead, not {FEWEST}: {self._failure}"
        return PartHealth(HealthStatus.DEGRADED, reason)


def _month(moment: datetime) -> date:
    return moment.date().replace(day=1)


def _count(month: date) -> int:
    return month.year * 12 + month.month - 1


def _later(month: date, count: int) -> date:
    year, index = divmod(_count(month) + count, 12)
    return date(year, index + 1, 1)
