"""Security events in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, or_, select

from kms.core.canonical import Value
from kms.core.errors import Conflict, CorruptRecord, KmsError
from kms.core.events import (
    EPOCH_DAY,
    Answer,
    Category,
    DaySum,
    EventType,
    EventUid,
    Outcome,
    SecurityEvent,
    Severity,
)
from kms.core.names import TenantUid
from kms.core.receipts import json_text
from kms.core.repositories import EventFilter

from .event_tables import security_events as e
from .records import find, find_one, read, store, store_all
from .session import Session


def _event(row: Row[Any]) -> SecurityEvent:
    indicators = json.loads(row.indicators)
    if not isinstance(indicators, list) or not all(isinstance(one, str) for one in indicators):
        raise CorruptRecord("stored indicators are none")
    return SecurityEvent(
        uid=row.id,
        tenant=row.tenant_id,
        type=EventType(row.event_type),
        severity=Severity(row.severity),
        category=Category(row.category),
        risk=row.risk_score,
        first_at=row.first_at,
        last_at=row.last_at,
        count=row.occurrences,
        threshold=row.threshold,
        created_at=row.created_at,
        description=row.description,
        blocked=bool(row.blocked),
        address=row.source_address,
        principal=row.principal,
        credential_kind=row.credential_kind,
        credential_id=row.credential_id,
        method=row.method,
        resource=row.resource,
        request_id=row.request_id,
        indicators=tuple(indicators),
        answer=Answer(row.answer),
        outcome=Outcome(row.outcome),
        notes=row.notes,
        false_alarm=None if row.false_alarm is None else bool(row.false_alarm),
        incident=row.incident,
        resolved_at=row.resolved_at,
        resolved_by=row.resolved_by,
        revision=row.revision,
    )


def _sum(row: Row[Any]) -> DaySum:
    return DaySum(
        day=EPOCH_DAY + timedelta(days=row.day),
        type=EventType(row.event_type),
        severity=Severity(row.severity),
        events=row.events,
        occurrences=int(row.occurrences),
        resolved=row.resolved,
    )


class SecurityEvents:
    """SecurityEventRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, uid: EventUid) -> SecurityEvent | None:
        """Return one event."""
        query = select(e).where(e.c.tenant_id == tenant, e.c.id == uid)
        return await find_one(self._session, e, query, _event)

    async def list_newest(
        self, tenant: TenantUid, wanted: EventFilter, before: tuple[datetime, EventUid] | None, limit: int
    ) -> list[SecurityEvent]:
        """Return at most *limit* events that were stored before *before*, the newest first."""
        query = select(e).where(e.c.tenant_id == tenant)
        if wanted.since is not None:
            query = query.where(e.c.created_at >= wanted.since)
        if wanted.severity is not Severity.INFO:
            query = query.where(e.c.severity.in_([severity.value for severity in wanted.severity.and_above]))
        if wanted.type is not None:
            query = query.where(e.c.event_type == wanted.type.value)
        if wanted.unresolved:
            query = query.where(e.c.resolved_at.is_(None))
        if before is not None:
            stored, uid = before
            query = query.where(or_(e.c.created_at < stored, (e.c.created_at == stored) & (e.c.id < uid)))
        query = query.order_by(e.c.created_at.desc(), e.c.id.desc()).limit(limit)
        return await find(self._session, e, query, _event)

    async def sum_by_day(self, tenant: TenantUid, first: date, last: date) -> list[DaySum]:
        """Return the sums of the days from *first* to *last*, ordered by day, type and severity."""
        query = (
            select(
                e.c.day,
                e.c.event_type,
                e.c.severity,
                func.count().label("events"),
                func.sum(e.c.occurrences).label("occurrences"),
                func.count(e.c.resolved_at).label("resolved"),
            )
            .where(e.c.tenant_id == tenant, e.c.day >= (first - EPOCH_DAY).days, e.c.day <= (last - EPOCH_DAY).days)
            .group_by(e.c.day, e.c.event_type, e.c.severity)
        )
        sums = read(await self._session.rows(query), _sum)
        return sorted(sums, key=lambda one: (one.day, one.type, one.severity))

    async def add_all(self, events: Sequence[SecurityEvent]) -> None:
        """Store new events with revision 1; at most 1,000 at once.

        Raises:
            Conflict: one of them is stored already; nothing of the transaction is committed then.
        """
        otherwise = Conflict("a security event is stored already")
        await store_all(self._session, e, [(_row(event), 0) for event in events], otherwise=otherwise)

    async def replace(self, event: SecurityEvent) -> SecurityEvent:
        """Store a changed event over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        otherwise: KmsError = Conflict(f"security event {event.uid} was changed in between")
        revision = await store(self._session, e, _row(event), event.revision, otherwise=otherwise)
        return replace(event, revision=revision)


def _row(event: SecurityEvent) -> dict[str, Value]:
    return {
        "tenant_id": event.tenant,
        "id": event.uid,
        "event_type": event.type.value,
        "severity": event.severity.value,
        "category": event.category.value,
        "risk_score": event.risk,
        "day": event.day,
        "first_at": event.first_at,
        "last_at": event.last_at,
        "occurrences": event.count,
        "threshold": event.threshold,
        "created_at": event.created_at,
        "description": event.description,
        "blocked": int(event.blocked),
        "source_address": event.address,
        "principal": event.principal,
        "credential_kind": event.credential_kind,
        "credential_id": event.credential_id,
        "method": event.method,
        "resource": event.resource,
        "request_id": event.request_id,
        "indicators": json_text(list(event.indicators)),
        "answer": event.answer.value,
        "outcome": event.outcome.value,
        "notes": event.notes,
        "false_alarm": None if event.false_alarm is None else int(event.false_alarm),
        "incident": event.incident,
        "resolved_at": event.resolved_at,
        "resolved_by": event.resolved_by,
    }
