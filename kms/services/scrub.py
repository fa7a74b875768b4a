"""Looks at every stored record again and again, so that a lie about what nobody reads is found, too.

One pass goes through all tenants, a page at a time with a pause after each, so that it takes little from those who are
served. What it finds is a critical security event of the installation, one for each tenant and kind; what calls find is
told by kms/rpc/watch.py, and what the daemon's own work finds, here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Protocol, TypeVar
from uuid import uuid4

import structlog

from kms.core.errors import CorruptRecord, Unavailable
from kms.core.events import KINDS, EventType, EventUid, SecurityEvent, risk_of
from kms.core.integrity import Found, Page, ScrubCursor, found_of
from kms.core.names import INSTALLATION_UID, TenantUid
from kms.core.ports import HealthStatus, PartHealth
from kms.core.report_ports import RecordCheck

from .event_recorder import Noticed

_log = structlog.get_logger(__name__)

TENANTS_AT_ONCE: Final = 1_000
PAUSE: Final = 0.05  # seconds after each page: at most 5,000 records in a second
REST: Final = 30.0  # seconds until a pass goes on that the database has interrupted
MOST_TABLES: Final = 10  # that one event names
QUIET: Final = timedelta(minutes=10)  # between two events of one tenant and kind that background work raises
MOST_REMEMBERED: Final = 100_000  # tenants whose part of the last pass is known
MOST_QUIET: Final = 1_000  # tenants and kinds of which that is known


T = TypeVar("T")

_looking: ContextVar[bool] = ContextVar("looking", default=False)


class RecordScrub(Protocol):
    """Shows all records, a page at a time, and what is wrong with them: the database."""

    async def scrub_tenants(self, after: TenantUid | None, limit: int) -> list[TenantUid]:
        """Return at most *limit* tenants beyond *after*, ordered."""
        ...

    async def scrub(self, tenant: TenantUid, cursor: ScrubCursor) -> Page:
        """Look at some of a tenant's records."""
        ...


class Scrub:
    """One pass after the other.

    Attributes:
        records: how many the present pass, or the last one, has looked at.
        lies: how many are known: of the last whole pass, or more where the present one has found more already.
        passes: how many whole passes this process has made.
        ended_at: when the last one ended.
    """

    def __init__(
        self,
        storage: RecordScrub,
        offer: Callable[[Noticed], None],
        interval: timedelta,
        now: Callable[[], datetime],
        *,
        calling: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """*calling* says whether the present task works for a caller, whose lies are told elsewhere."""
        self.records = 0
        self.lies = 0
        self.passes = 0
        self.ended_at: datetime | None = None
        self._storage = storage
        self._offer = offer
        self._interval = interval
        self._now = now
        self._calling = calling
        self._sleep = sleep
        self._found = 0  # by the present pass
        self._met = 0  # by others since it began
        self._passing: dict[TenantUid, tuple[int, int]] = {}
        self._passed: dict[TenantUid, tuple[int, int]] = {}  # of the last whole pass: records and lies
        self._told: dict[tuple[TenantUid | None, EventType], datetime] = {}

    async def run(self) -> None:
        """Look at the start, and again and again, until cancelled."""
        while True:
            await self.look()
            await self._sleep(self._interval.total_seconds())

    async def look(self) -> None:
        """Make one whole pass; an outage of the database interrupts it."""
        self.records = self._found = self._met = 0
        self._passing = {}
        after: TenantUid | None = None
        while True:
            tenants = await self._patiently(partial(self._storage.scrub_tenants, after, TENANTS_AT_ONCE))
            if not tenants:
                break
            for tenant in tenants:
                await self._look_at(tenant)
            after = tenants[-1]
        self.lies = self._found + self._met
        self._passed = self._passing
        self.passes += 1
        self.ended_at = self._now()
        tell = _log.error if self.lies else _log.info
        tell("integrity.looked", records=self.records, lies=self.lies)

    def record_check(self, tenant: TenantUid) -> RecordCheck | None:
        """Return what reports say of the last whole pass over a tenant's records; None where there was none."""
        if self.ended_at is None or tenant not in self._passed:
            return None
        records, lies = self._passed[tenant]
        return RecordCheck(self.ended_at, records, lies)

    async def health(self) -> PartHealth:
        """Say how many lies are known; not of whom, and not about what."""
        known = max(self.lies, self._found + self._met)
        if not known:
            return PartHealth(HealthStatus.HEALTHY)
        return PartHealth(
            HealthStatus.DEGRADED,
            f"{known} stored records are not what was written last: they are refused, and the others served;"
            " see the security events, and docs/operations.md for the way out",
        )

    def met(self, tenant: TenantUid | None, error: CorruptRecord) -> None:
        """Take a lie that some other work has met; one that a call has met has its event already."""
        if _looking.get():  # it finds that itself
            return
        self._met += 1
        if not self._calling():
            found = found_of("", error)
            if self._loud(tenant, _type_of(found)):
                self._tell(tenant, _type_of(found), 1, [str(error)])

    def went_back(self, tenant: TenantUid) -> None:
        """Take it that a tenant's epochs have gone back; its records are verified by themselves."""
        self._met += 1
        self._tell(tenant, EventType.ROLLED_BACK_RECORD, 1, ["epochs: they have gone back"])

    async def _look_at(self, tenant: TenantUid) -> None:
        lies: list[Found] = []
        counted: Counter[EventType] = Counter()
        cursor: ScrubCursor | None = ScrubCursor()
        records, found = self.records, self._found
        while cursor is not None:
            page = await self._patiently(partial(self._storage.scrub, tenant, cursor))
            self.records += page.records
            self._found += len(page.lies)
            counted.update(map(_type_of, page.lies))
            lies += page.lies[: max(MOST_TABLES - len(lies), 0)]
            cursor = page.after
            await self._sleep(PAUSE)
        if len(self._passing) < MOST_REMEMBERED:
            self._passing[tenant] = (self.records - records, self._found - found)
        for kind, count in counted.items():
            words = sorted({f"{one.table or 'the tree'}: {one.what}" for one in lies if _type_of(one) is kind})
            self._tell(tenant, kind, count, words)

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        while True:
            token = _looking.set(True)
            try:
                return await work()
            except Unavailable as error:
                _log.warning("integrity.interrupted", reason=str(error))
            finally:
                _looking.reset(token)
            await self._sleep(REST)

    def _loud(self, tenant: TenantUid | None, kind: EventType) -> bool:
        now = self._now()
        last = self._told.get((tenant, kind))
        if last is not None and now < last + QUIET:
            return False
        if len(self._told) >= MOST_QUIET:
            self._told.clear()
        self._told[tenant, kind] = now
        return True

    def _tell(self, tenant: TenantUid | None, kind: EventType, count: int, words: Sequence[str]) -> None:
        now, made = self._now(), KINDS[kind]
        _log.error(
            "integrity.lie", tenant="" if tenant is None else str(tenant), type=kind, count=count, what=list(words)
        )
        event = SecurityEvent(
            uid=EventUid(uuid4()),
            tenant=INSTALLATION_UID,
            type=kind,
            severity=made.severity,
            category=made.category,
            risk=risk_of(kind, count, 1),
            first_at=now,
            last_at=now,
            count=count,
            threshold=1,
            created_at=now,
            description=made.description,
            blocked=made.blocked,
            indicators=(*([] if tenant is None else [f"tenant uid {tenant}"]), *words),
        )
        self._offer(Noticed(event, None))


def _type_of(found: Found) -> EventType:
    return EventType.ROLLED_BACK_RECORD if found.rolled_back else EventType.TAMPERED_RECORD
