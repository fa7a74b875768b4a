"""How long the audit trail stays where: months that leave the database for files, and holds that keep them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from .names import INSTALLATION_PARENT, TenantUid

# PostgreSQL's own function refuses to take away what is younger, whatever a daemon is set to (migration 0012).
SHORTEST_HOT: Final = timedelta(days=30)
DEFAULT_HOT: Final = timedelta(days=90)
DEFAULT_KEEP: Final = timedelta(days=2_557)  # seven years

LONGEST_REASON: Final = 1_024  # characters
MOST_HOLDS: Final = 1_000  # of a tenant that are not released

_MONTH: Final = re.compile(r"([12][0-9]{3})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A month of UTC: what leaves the database as one, and is one file."""

    year: int
    number: int

    @classmethod
    def of(cls, moment: datetime) -> Self:
        """Return the month in which a time lies."""
        moment = moment.astimezone(UTC)
        return cls(moment.year, moment.month)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a month such as 2024-07.

        Raises:
            ValueError: it is none.
        """
        found = _MONTH.fullmatch(text)
        if found is None:
            raise ValueError("must be a month such as 2024-07")
        return cls(int(found[1]), int(found[2]))

    @property
    def first(self) -> datetime:
        """Its beginning."""
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """Its end, which belongs to the next one."""
        return self.next.first

    @property
    def next(self) -> Month:
        """The month after it."""
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    def over(self, now: datetime, hot: timedelta) -> bool:
        """Whether all of it is older than *hot*."""
        return self.end <= now - hot

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"


@dataclass(frozen=True, slots=True)
class LegalHold:
    """Why events of a tenant must stay as they are, until it is released.

    It keeps every month in which its tenant has an event within its times, in the database as long as the month is there
    and as a file afterwards. Resource and principal say which events are meant; whole months are kept all the same.
    """

    tenant: TenantUid  # INSTALLATION_UID for what belongs to no tenant
    hold_id: str
    reason: str
    created_at: datetime
    created_by: str
    resource: str = ""
    principal: str = ""
    from_at: datetime | None = None
    until_at: datetime | None = None  # that time itself is not meant
    released_at: datetime | None = None
    released_by: str = ""
    revision: int = 0

    def name(self, tenant: str | None) -> str:
        """The resource name; *tenant* is the owner's slug, None for the installation."""
        parent = INSTALLATION_PARENT if tenant is None else f"tenants/{tenant}"
        return f"{parent}/legalHolds/{self.hold_id}"

    def keeps(self, month: Month) -> bool:
        """Whether it keeps the tenant's events of a month."""
        if self.released_at is not None:
            return False
        return (self.from_at is None or self.from_at < month.end) and (
            self.until_at is None or self.until_at > month.first
        )
