"""What compliance reports need from outside, as Protocols."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .names import TenantUid
from .reports import Report, ReportUid


class ReportRepository(Protocol):
    """Reports of one tenant, in one transaction."""

    async def get(self, tenant: TenantUid, uid: ReportUid) -> Report | None:
        """Return one report with its content."""
        ...

    async def list_newest(
        self, tenant: TenantUid, before: tuple[datetime, ReportUid] | None, limit: int
    ) -> list[Report]:
        """Return at most *limit* reports stored before *before*, without their contents, the newest first."""
        ...

    async def list_over(self, tenant: TenantUid, before: datetime, limit: int) -> list[Report]:
        """Return at most *limit* reports stored before *before* that are archived or were never completed, the oldest first."""
        ...

    async def count_generating(self, tenant: TenantUid, since: datetime) -> int:
        """Return how many reports that were asked for since then are being made."""
        ...

    async def add(self, report: Report) -> Report:
        """Store a new report with revision 1 and return it so.

        Raises:
            Conflict: that uid is taken.
        """
        ...

    async def replace(self, report: Report) -> Report:
        """Store a changed report, content included, over the revision that it came from; returns it with the next.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def remove(self, report: Report) -> None:
        """Remove a report.

        Raises:
            Conflict: the stored revision is another, or it is gone; nothing of the transaction is committed then.
        """
        ...


@dataclass(frozen=True, slots=True)
class TrailCheck:
    """The outcome of the last verification of the audit trail."""

    at: datetime
    covers: datetime  # all events before that time
    events: int
    problems: int
    detail: str = ""  # what is wrong


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """The outcome of the last pass over all records of a tenant."""

    at: datetime
    records: int
    corrupt: int


class Evidence(Protocol):
    """What other parts of the daemon know; None: nothing is known, which is not the same as nothing wrong."""

    async def trail_check(self, tenant: TenantUid) -> TrailCheck | None:
        """Return the last verification of the audit trail that covers the tenant's events."""
        ...

    async def record_check(self, tenant: TenantUid) -> RecordCheck | None:
        """Return the last whole pass over the tenant's records."""
        ...


class NoEvidence:
    """Nothing is known."""

    async def trail_check(self, tenant: TenantUid) -> TrailCheck | None:
        """Return None."""
        del tenant
        return None

    async def record_check(self, tenant: TenantUid) -> RecordCheck | None:
        """Return None."""
        del tenant
        return None
