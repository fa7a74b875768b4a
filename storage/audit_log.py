"""The audit trail as it is read: events from their bytes, compared with every column beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, false, func, or_, select, true, tuple_, type_coerce

from kms.core.audit import FIELDS, AuditEvent, StreamUid, parse
from kms.core.audit_filters import (
    DAY,
    MONTH,
    SUMS,
    AuditFilter,
    AuditPosition,
    AuditSum,
    Pair,
    Span,
    StreamHead,
)
from kms.core.errors import CorruptRecord
from kms.core.names import TenantUid

from .audit_tables import audit_log as a
from .records import read
from .session import Session
from .types import Int64

COLUMNS: Final = {
    name: {"tenant": "tenant_id", "key": "key_uid", "stream": "stream_id"}.get(name, name)
    for name in (*FIELDS, "stream", "sequence", "at")
}
_FORMATS: Final = {DAY: ("YYYY-MM-DD", "%Y-%m-%d"), MONTH: ("YYYY-MM", "%Y-%m")}
_MICROSECONDS: Final = 1_000_000


def event_of_row(row: Row[Any]) -> AuditEvent:
    """Return the event of a row.

    Raises:
        CorruptRecord: its bytes are none, or a column tells something else.
    """
    where = f"audit event {row.stream_id}-{row.sequence}"
    try:
        event = parse(row.canonical)
    except (ValueError, TypeError) as error:
        raise CorruptRecord(f"{where} is not what was written: its bytes are no event") from error
    for name, column in COLUMNS.items():
        if getattr(event, name) != getattr(row, column):
            raise CorruptRecord(f"{where} is not what was written: its column {column} tells something else")
    return event


class AuditLog:
    """AuditRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid | None, stream: StreamUid, sequence: int) -> AuditEvent | None:
        """Return one event."""
        query = select(a).where(*_of(tenant), a.c.stream_id == stream, a.c.sequence == sequence)
        found = read(await self._session.rows(query), event_of_row)
        if len(found) > 1:  # the key of a partitioned table has the time in it
            raise CorruptRecord(f"audit event {stream}-{sequence} is there more than once")
        return found[0] if found else None

    async def list_events(
        self, tenant: TenantUid | None, wanted: AuditFilter, span: Span, limit: int
    ) -> list[AuditEvent]:
        """Return the first *limit* events of a span that are wanted, in the span's order."""
        query = select(a).where(*_of(tenant), self._holds(wanted), *_inside(span))
        return read(await self._session.rows(_ordered(query, span).limit(limit)), event_of_row)

    async def slice_end(self, tenant: TenantUid | None, wanted: AuditFilter, span: Span, rows: int) -> datetime | None:
        """Return where a slice of *rows* events that have to be looked at ends; None where there are fewer."""
        query = select(a.c.at).where(*_of(tenant), *_base(wanted), *_inside(span))
        # Nothing but the time: events of one time belong to one slice.
        query = query.order_by(a.c.at.desc() if span.newest_first else a.c.at).offset(rows).limit(1)
        found = await self._session.rows(query)
        return found[0].at if found else None

    async def sum_up(
        self, tenant: TenantUid | None, wanted: AuditFilter, span: Span, groups: Sequence[str], limit: int
    ) -> list[AuditSum]:
        """Return the sums of at most *limit* groups, in no order."""
        by = [self._group(name).label(f"group_{index}") for index, name in enumerate(groups)]
        query = (
            select(
                *by,
                func.count().label("events"),
                *(func.sum(a.c[name]).label(name) for name in ("items", "failures", "bytes_in", "bytes_out")),
                func.sum(func.length(a.c.canonical)).label("size"),
                func.min(a.c.at).label("first_at"),
                func.max(a.c.at).label("last_at"),
            )
            .where(*_of(tenant), self._holds(wanted), *_inside(span))
            .group_by(*by)
            .limit(limit)
        )
        return read(await self._session.rows(query), lambda row: _sum(row, len(groups)))

    async def heads(self, limit: int) -> list[StreamHead]:
        """Return the first and last events of at most *limit* streams, those that began last first."""
        # Written out, since SQLite takes the index of first events only where it sees the number.
        one: ColumnElement[int] = bindparam("one", 1, literal_execute=True)
        query = select(a).where(a.c.sequence == one).order_by(a.c.at.desc(), a.c.stream_id).limit(limit)
        heads = []
        for first in read(await self._session.rows(query), event_of_row):
            last = select(a).where(a.c.stream_id == first.stream).order_by(a.c.sequence.desc()).limit(1)
            [(event, digest)] = read(await self._session.rows(last), lambda row: (event_of_row(row), row.hash))
            heads.append(StreamHead(first.stream, first.node, first.at, event.sequence, event.at, digest))
        return heads

    async def stored(self, stream: StreamUid, after: int, last: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Return at most *limit* events of a stream beyond *after* and up to *last*, as they are stored."""
        query = select(a.c.sequence, a.c.hash, a.c.canonical).where(
            a.c.stream_id == stream, a.c.sequence > after, a.c.sequence <= last
        )
        rows = await self._session.rows(query.order_by(a.c.sequence).limit(limit))
        return [(row.sequence, row.hash, row.canonical) for row in rows]

    def _holds(self, wanted: AuditFilter) -> ColumnElement[bool]:
        parts = [*_base(wanted)]
        for name, values in wanted.equal.items():
            if name != wanted.leading:
                parts.append(a.c[COLUMNS[name]].in_(values))
        # Not LIKE, which knows no capitals on SQLite, nor a range, which goes by the database's collation.
        for name, texts in wanted.begins.items():
            column = a.c[COLUMNS[name]]
            parts.append(or_(*(func.substr(column, 1, len(text)) == text for text in texts)))
        parts += [a.c[name] >= least for name, least in wanted.least.items()]
        parts += [a.c[name] != "" for name in wanted.present]
        parts += [self._find(a.c.details, text) > 0 for text in wanted.details]
        if wanted.pair is not None:
            parts.append(self._has(wanted.pair))
        if wanted.within is not None:
            spans = [and_(a.c.at >= begin, a.c.at < end) for begin, end in wanted.within]
            parts.append(or_(*spans) if spans else false())
        if wanted.beyond:
            seen = [and_(a.c.stream_id == stream, a.c.sequence > last) for stream, last in wanted.beyond.items()]
            parts.append(or_(a.c.stream_id.not_in(list(wanted.beyond)), *seen))
        if wanted.either:
            parts.append(or_(*map(self._holds, wanted.either)))
        return and_(*parts) if parts else true()

    def _has(self, pair: Pair) -> ColumnElement[bool]:
        """Whether the context, which is canonical JSON in ASCII, has a pair.

        Keys have no quotes, and a quote inside a value stands behind a backslash: nothing else looks like a pair.
        """
        looked_for = [f"{json.dumps(pair.key)}:{json.dumps(form)}" for form in pair.forms]
        return or_(*(self._find(a.c.context, text) > 0 for text in looked_for))

    def _find(self, column: ColumnElement[str], text: str) -> ColumnElement[int]:
        """Where a text stands in a column; 0 where it does not."""
        return (func.instr if self._session.dialect == "sqlite" else func.strpos)(column, text)

    def _group(self, name: str) -> ColumnElement[Any]:
        if name not in _FORMATS:
            return a.c[COLUMNS[name]]
        postgresql, sqlite = _FORMATS[name]
        if self._session.dialect == "sqlite":
            return func.strftime(sqlite, type_coerce(a.c.at, Int64) // _MICROSECONDS, "unixepoch")
        return func.to_char(func.timezone("UTC", a.c.at), postgresql)


def _of(tenant: TenantUid | None) -> list[ColumnElement[bool]]:
    return [] if tenant is None else [a.c.tenant_id == tenant]


def _base(wanted: AuditFilter) -> list[ColumnElement[bool]]:
    """What an index alone decides: the times, and one value of one field."""
    parts: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        parts.append(a.c.at >= wanted.since)
    if wanted.until is not None:
        parts.append(a.c.at < wanted.until)
    if wanted.leading is not None:
        parts.append(a.c[COLUMNS[wanted.leading]] == wanted.equal[wanted.leading][0])
    return parts


def _inside(span: Span) -> list[ColumnElement[bool]]:
    parts: list[ColumnElement[bool]] = []
    if span.after is not None:
        parts += _following(span.after, newest_first=span.newest_first)
    if span.end is not None:
        parts.append(a.c.at >= span.end if span.newest_first else a.c.at <= span.end)
    return parts


def _following(after: AuditPosition, *, newest_first: bool) -> list[ColumnElement[bool]]:
    place = tuple_(a.c.stream_id, a.c.sequence)
    last = tuple_(after.stream, after.sequence, types=[a.c.stream_id.type, a.c.sequence.type])
    if newest_first:
        return [a.c.at <= after.at, or_(a.c.at < after.at, place < last)]
    return [a.c.at >= after.at, or_(a.c.at > after.at, place > last)]


def _ordered(query: Select[Any], span: Span) -> Select[Any]:
    order = (a.c.at, a.c.stream_id, a.c.sequence)
    return query.order_by(*(column.desc() for column in order)) if span.newest_first else query.order_by(*order)


def _sum(row: Row[Any], groups: int) -> AuditSum:
    # PostgreSQL sums up to numbers that are no integers.
    numbers = {name: int(getattr(row, name)) for name in SUMS}
    return AuditSum(group=tuple(row[:groups]), first_at=row.first_at, last_at=row.last_at, **numbers)
