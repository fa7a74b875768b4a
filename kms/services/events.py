"""Security events for those who look into them: found, read, investigated, summed up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Final

from kms.core.errors import Conflict, NotFound
from kms.core.events import DaySum, EventUid, SecurityEvent
from kms.core.names import INSTALLATION_UID, Principal, SecurityEventName, SecurityEventsParent, TenantName, TenantUid
from kms.core.ports import Storage
from kms.core.repositories import EventFilter, UnitOfWork
from kms.services.visibility import visible_tenant

_ATTEMPTS: Final = 5  # against the writer of final counts


class SecurityEvents:
    """A tenant's events for its principals, the installation's for operators."""

    def __init__(self, storage: Storage, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self._now = now

    async def list_newest(
        self,
        caller: Principal,
        parent: SecurityEventsParent,
        wanted: EventFilter,
        before: tuple[datetime, EventUid] | None,
        limit: int,
    ) -> list[SecurityEvent]:
        """Return at most *limit* events that were stored before *before*, the newest first.

        Raises:
            NotFound: no such tenant, or they are not the caller's to see.
        """
        owner = await self._owner(caller, parent, str(parent))
        async with self._storage.transaction(owner) as work:
            return await work.security_events.list_newest(owner, wanted, before, limit)

    async def get(self, caller: Principal, name: SecurityEventName) -> SecurityEvent:
        """Return one event.

        Raises:
            NotFound: no such event, or not the caller's to see.
        """
        owner = await self._owner(caller, name.parent, str(name))
        async with self._storage.transaction(owner) as work:
            return await _stored(work, owner, name)

    async def update(
        self, caller: Principal, name: SecurityEventName, etag: str, changes: Mapping[str, Any]
    ) -> SecurityEvent:
        """Note what an investigation has found: notes, false_alarm, incident; *resolved* is true or false.

        Raises:
            Conflict: the event is not as *etag* has seen it.
        """
        owner = await self._owner(caller, name.parent, str(name))
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._storage.transaction(owner, write=True) as work:
                    event = await _stored(work, owner, name, etag)
                    return await work.security_events.replace(self._changed(event, dict(changes), caller))
            except Conflict:
                if etag or attempt == _ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def sum_by_day(
        self, caller: Principal, parent: SecurityEventsParent, first: date, last: date
    ) -> list[DaySum]:
        """Return the sums of the days from *first* to *last*, ordered.

        Raises:
            NotFound: no such tenant, or they are not the caller's to see.
        """
        owner = await self._owner(caller, parent, str(parent))
        async with self._storage.transaction(owner) as work:
            return await work.security_events.sum_by_day(owner, first, last)

    def _changed(self, event: SecurityEvent, changes: dict[str, Any], caller: Principal) -> SecurityEvent:
        resolved = changes.pop("resolved", None)
        if resolved is False:
            changes |= {"resolved_at": None, "resolved_by": ""}
        elif resolved and event.resolved_at is None:
            changes |= {"resolved_at": self._now(), "resolved_by": str(caller)}
        return replace(event, **changes)

    async def _owner(self, caller: Principal, parent: SecurityEventsParent, asked: str) -> TenantUid:
        if caller.tenant != parent.tenant:
            raise NotFound(asked)
        if parent.tenant is None:
            return INSTALLATION_UID
        try:
            return (await visible_tenant(self._storage, caller, TenantName(parent.tenant))).uid
        except NotFound as error:
            raise NotFound(asked) from error


async def _stored(work: UnitOfWork, owner: TenantUid, name: SecurityEventName, etag: str = "") -> SecurityEvent:
    event = await work.security_events.get(owner, EventUid(name.event))
    if event is None:
        raise NotFound(str(name))
    if etag not in ("", event.etag):
        raise Conflict(f"{name} has been changed since")
    return event
