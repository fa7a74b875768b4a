"""The audit trail for those who may read it: lists, named queries, who has used a subject's data, how far streams are.

However long the trail, a transaction looks at one slice of it, so that no reader keeps the database from others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kms.core.audit import AuditEvent, Phase, StreamUid
from kms.core.audit_filters import AuditFilter, AuditPosition, AuditSum, Pair, Span, StreamHead
from kms.core.audit_queries import QUERIES, Arguments, NamedQuery
from kms.core.canonical import EPOCH
from kms.core.errors import NotFound, invalid
from kms.core.names import INSTALLATION_UID, AuditEventName, Principal, SecurityEventsParent, TenantName, TenantUid
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.services.visibility import visible_tenant

SLICE: Final = 20_000  # events that one transaction looks at
MOST_SLICES: Final = 25  # for one page, which is short then
MOST_SUMMED: Final = 2_000_000  # events that one sum looks at
MOST_GROUPS: Final = 5_000
MOST_STREAMS: Final = 100

REPORTED: Final = ("principal", "action", "resource", "key", "outcome")  # what a report on a subject sums up by

# "h:" and the first 32 hexadecimal digits of the HMAC, of a value of the context of a tenant.
HashValue = Callable[[TenantUid, str, str], str]
# An event's values before and after a change, as JSON.
OpenValues = Callable[[AuditEvent], str]
# Whether a principal has a permission on a resource.
May = Callable[[Principal, str, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose events are read: with *everybody* those of all tenants, which only operators are shown."""

    parent: SecurityEventsParent
    everybody: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a named query has found: events, or where it sums up *sums*; *after* is where the next page begins."""

    query: NamedQuery
    since: datetime
    until: datetime
    events: Sequence[AuditEvent] = ()
    sums: Sequence[AuditSum] = ()
    after: AuditPosition | None = None


class AuditReader:
    """Reads the trail."""

    def __init__(
        self,
        storage: Storage,
        now: Callable[[], datetime],
        may: May,
        *,
        hashed: HashValue | None = None,
        values: OpenValues | None = None,
        rows: int = SLICE,
    ) -> None:
        """*hashed* and *values* are for what stands hashed and encrypted in events; without them it stays so."""
        self._storage = storage
        self._now = now
        self._may = may
        self._hashed = hashed
        self._values = values
        self._rows = rows

    async def list_events(
        self,
        caller: Principal,
        whose: Whose,
        wanted: AuditFilter,
        pair: tuple[str, str] | None,
        span: Span,
        limit: int,
    ) -> tuple[list[AuditEvent], AuditPosition | None]:
        """Return at most *limit* events that are wanted and have the *pair* in their context, and where to go on.

        Raises:
            NotFound: no such tenant, or its events are not the caller's to see.
            CorruptRecord: a stored event contradicts itself.
        """
        owner = await self._owner(caller, whose)
        if pair is not None:
            wanted = replace(wanted, pair=self._pair(owner, *pair))
        return await self._page(owner, wanted, span, limit)

    async def get(self, caller: Principal, name: AuditEventName) -> tuple[AuditEvent, str]:
        """Return one event, and its values before and after a change where the caller may see them.

        Raises:
            NotFound: no such event, or not the caller's to see.
        """
        # An operator finds events of tenants, too, under the installation's name.
        whose = Whose(name.parent, everybody=name.tenant is None)
        try:
            owner = await self._owner(caller, whose)
        except NotFound as error:
            raise NotFound(str(name)) from error
        async with self._reading(owner) as work:
            event = await work.audit.get(owner, StreamUid(name.stream), name.sequence)
        if event is None:
            raise NotFound(str(name))
        if not event.changes or self._values is None or not await self._may(caller, "audit.values", str(name)):
            return event, ""
        return event, self._values(event)

    async def query(
        self,
        caller: Principal,
        whose: Whose,
        query: NamedQuery,
        given: Mapping[str, str],
        period: tuple[datetime | None, datetime | None],
        after: AuditPosition | None,
        limit: int,
    ) -> Answer:
        """Answer a named query about a period, by default the last one of its usual length.

        Raises:
            NotFound: no such tenant, or its events are not the caller's to see.
            InvalidRequest: its parameters are others, or there is too much in the period.
        """
        values = query.complete(given)
        owner = await self._owner(caller, whose)
        until = period[1] or self._now()
        since = period[0] or until - query.back
        if since >= until:
            raise invalid("since", "must be before until")
        arguments = Arguments(values, since, until, _zone, lambda key, value: self._pair(owner, key, value))
        wanted = replace(query.wanted(arguments), since=since, until=until)
        if query.groups:
            return Answer(query, since, until, sums=await self._sums(owner, wanted, query.groups))
        events, following = await self._page(owner, wanted, Span(after), limit)
        return Answer(query, since, until, events=events, after=following)

    async def data_access(
        self,
        caller: Principal,
        parent: SecurityEventsParent,
        pair: tuple[str, str],
        period: tuple[datetime | None, datetime | None],
    ) -> tuple[list[AuditSum], datetime, datetime]:
        """Return who has used data whose context has the *pair*, by REPORTED, and the period that was looked at.

        Raises:
            NotFound: no such tenant, or its events are not the caller's to see.
            InvalidRequest: there is too much in the period.
        """
        owner = await self._owner(caller, Whose(parent))
        since, until = period[0] or EPOCH, period[1] or self._now()
        wanted = AuditFilter(
            since=since,
            until=until,
            equal={"phase": (Phase.OUTCOME.value, Phase.ACT.value)},
            pair=self._pair(owner, *pair),
        )
        return await self._sums(owner, wanted, REPORTED), since, until

    async def heads(self) -> list[StreamHead]:
        """Return how far the streams are, those that began last first."""
        async with self._storage.transaction() as work:
            return await work.audit.heads(MOST_STREAMS)

    async def _page(
        self, owner: TenantUid | None, wanted: AuditFilter, span: Span, limit: int
    ) -> tuple[list[AuditEvent], AuditPosition | None]:
        found: list[AuditEvent] = []
        for _ in range(MOST_SLICES):
            async with self._reading(owner) as work:
                end = None if wanted.plain else await work.audit.slice_end(owner, wanted, span, self._rows)
                found += await work.audit.list_events(owner, wanted, replace(span, end=end), limit - len(found) + 1)
            if len(found) > limit:
                return found[:limit], position(found[limit - 1])
            if end is None:
                return found, None
            span = span.beyond(end)
        return found, span.after

    async def _sums(self, owner: TenantUid | None, wanted: AuditFilter, groups: Sequence[str]) -> list[AuditSum]:
        sums: dict[tuple[object, ...], AuditSum] = {}
        span = Span(newest_first=False)
        for _ in range(MOST_SUMMED // SLICE):
            async with self._reading(owner) as work:
                end = await work.audit.slice_end(owner, wanted, span, self._rows)
                part = await work.audit.sum_up(owner, wanted, replace(span, end=end), groups, MOST_GROUPS + 1)
            for one in part:
                sums[one.group] = sums[one.group].plus(one) if one.group in sums else one
            if len(sums) > MOST_GROUPS:
                raise invalid("since", f"there are more than {MOST_GROUPS} groups in the period; ask for a shorter one")
            if end is None:
                return sorted(sums.values(), key=lambda one: [str(value or "") for value in one.group])
            span = span.beyond(end)
        raise invalid("since", f"there are more than {MOST_SUMMED} events in the period; ask for a shorter one")

    def _pair(self, owner: TenantUid | None, key: str, value: str) -> Pair:
        # The hash is the tenant's own, so that over all tenants only values that stand as they are can be found.
        if self._hashed is None or owner is None:
            return Pair(key, (value,))
        return Pair(key, (value, self._hashed(owner, key, value)))

    async def _owner(self, caller: Principal, whose: Whose) -> TenantUid | None:
        """Return whose events these are, None for everybody's."""
        parent = whose.parent
        if caller.tenant is not None and caller.tenant != parent.tenant:
            raise NotFound(str(parent))
        if parent.tenant is not None:
            if whose.everybody:
                raise invalid("all_tenants", "goes with the parent installation only")
            return (await visible_tenant(self._storage, caller, TenantName(parent.tenant))).uid
        return None if whose.everybody else INSTALLATION_UID

    @asynccontextmanager
    async def _reading(self, owner: TenantUid | None) -> AsyncIterator[UnitOfWork]:
        async with self._storage.transaction(owner) as work:
            yield work


def position(event: AuditEvent) -> AuditPosition:
    """Return where an event stands."""
    return AuditPosition(event.at, event.stream, event.sequence)


def named_query(name: str) -> NamedQuery:
    """Find a query of the catalogue.

    Raises:
        InvalidRequest: there is none of that name.
    """
    query = QUERIES.get(name)
    if query is None:
        raise invalid("query", f"must be one of {', '.join(QUERIES)}")
    return query


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise invalid("parameters", "zone must be a time zone that there is, such as Europe/Berlin") from error
