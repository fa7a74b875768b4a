"""The months of the audit log: what they hold, and how they leave the database once they are archived.

On PostgreSQL a month is a partition, which a function of the owner takes away (migration 0012). On SQLite its rows are
deleted, some at a time, and the triggers that refuse it are away for that transaction alone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from kms.core.audit import StreamUid
from kms.core.audit_lines import StoredEvent
from kms.core.errors import FailedPrecondition
from kms.core.retention import Month

from .audit_tables import audit_log as a
from .records import read
from .session import Session

_PARTITIONS = """
    SELECT replace(substr(c.relname, length('audit_log_') + 1), '_', '-') FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'audit.audit_log'::regclass ORDER BY 1"""
_TRIGGERS = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_log' ORDER BY name"


def _stored(row: Row[Any]) -> StoredEvent:
    return StoredEvent(StreamUid(row.stream_id), row.sequence, row.canonical, row.hash)


class AuditMonths:
    """AuditMonthRepository on one transaction over all tenants, or of the installation to take something away."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def partitions(self) -> list[Month]:
        """Return the months that the database keeps apart, ordered; on SQLite it keeps none apart."""
        if self._session.dialect == "sqlite":
            return []
        return read(await self._session.raw(_PARTITIONS), lambda row: Month.parse(row[0]))

    async def streams_after(self, stream: StreamUid | None, limit: int) -> list[tuple[StreamUid, int, datetime]]:
        """Return at most *limit* streams (1,000) beyond one, ordered, each with its first event's sequence and time."""
        found: list[tuple[StreamUid, int, datetime]] = []
        # One probe of the primary key for each: whatever else there is of a stream is never looked at.
        while len(found) < limit:
            query = select(a.c.stream_id, a.c.sequence, a.c.at).order_by(a.c.stream_id, a.c.sequence).limit(1)
            if stream is not None:
                query = query.where(a.c.stream_id > stream)
            rows = await self._session.rows(query)
            if not rows:
                break
            stream = StreamUid(rows[0].stream_id)
            found.append((stream, rows[0].sequence, rows[0].at))
        return found

    async def events_after(self, stream: StreamUid, sequence: int, month: Month, limit: int) -> list[StoredEvent]:
        """Return at most *limit* events (1,000) of a stream beyond a sequence, in order, no later than the end of a month."""
        query = select(a.c.stream_id, a.c.sequence, a.c.at, a.c.canonical, a.c.hash)
        query = query.where(a.c.stream_id == stream, a.c.sequence > sequence)
        if self._session.dialect != "sqlite":  # where it would have to look through the rest of the stream
            query = query.where(a.c.at >= month.first, a.c.at < month.end)
        rows = await self._session.rows(query.order_by(a.c.sequence).limit(limit))
        return read([row for row in rows if row.at < month.end], _stored)

    async def drop(self, month: Month) -> bool:
        """Take away an archived month as a whole, in a transaction of the installation; False on SQLite, which cannot.

        Raises:
            FailedPrecondition: it is refused: too young, not archived as it is, or under a legal hold.
            StorageUnavailable: somebody uses the table for too long.
        """
        if self._session.dialect == "sqlite":
            return False
        [[refusal]] = await self._session.raw(f"SELECT audit.drop_month('{month}-01')")
        if refusal:
            raise FailedPrecondition(f"{month} stays in the database: {refusal}")
        return True

    async def remove(self, stream: StreamUid, first: int, last: int) -> int:
        """Delete a part of a stream (2,000 events) on SQLite; returns how many rows that were."""
        if self._session.dialect != "sqlite":
            raise RuntimeError("on PostgreSQL months leave as a whole")
        triggers = await self._session.raw(_TRIGGERS)
        for row in triggers:
            await self._session.raw(f'DROP TRIGGER "{row.name}"')
        part = f"stream_id = '{stream}' AND sequence BETWEEN {first:d} AND {last:d}"
        gone = await self._session.raw(f"DELETE FROM audit_log WHERE {part} RETURNING 1")  # noqa: S608  a UUID and numbers
        for row in triggers:
            await self._session.raw(row.sql)
        return len(gone)
