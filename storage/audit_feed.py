"""The audit trail stream by stream, for sinks; how far a sink is stands in sink_positions under `<sink>.<stream>`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, delete, or_, select, update

from kms.core.audit import StreamUid
from kms.core.audit_lines import StoredEvent

from .audit_tables import audit_log as a
from .event_tables import sink_positions as s
from .records import read
from .session import Session, insertion

# A sink's name is a slug and holds neither: all keys of a sink lie between.
_DOT: Final = "."
_BEHIND_DOT: Final = "/"


def _key(sink: str, stream: StreamUid) -> str:
    return f"{sink}{_DOT}{stream.hex}"


def _stored(row: Row[Any]) -> StoredEvent:
    return StoredEvent(StreamUid(row.stream_id), row.sequence, row.canonical, row.hash)


class AuditFeed:
    """AuditFeedRepository on one transaction over all tenants."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def claim(
        self, sink: str, stream: StreamUid, node: UUID, now: datetime, until: datetime, *, enter: bool
    ) -> int | None:
        """Let *node* alone deliver a stream to a sink until a time; returns the last sequence that has arrived.

        With *enter* the stream is entered where it is not yet; None while another node delivers, or for one not entered.
        """
        key, free = _key(sink, stream), or_(s.c.node_id == node, s.c.leased_until <= now)
        taken = {"node_id": node, "leased_until": until}
        if enter:
            first = insertion(self._session, s).values(sink=key, position=0, **taken)
            claimed = first.on_conflict_do_update(index_elements=[s.c.sink], set_=taken, where=free)
            rows = await self._session.rows(claimed.returning(s.c.position))
        else:
            change = update(s).where(s.c.sink == key, free).values(**taken)
            rows = await self._session.rows(change.returning(s.c.position))
        return int(rows[0].position) if rows else None

    async def events_after(self, stream: StreamUid, sequence: int, limit: int) -> list[StoredEvent]:
        """Return at most *limit* events (1,000) of a stream beyond a sequence, in order."""
        query = select(a.c.stream_id, a.c.sequence, a.c.canonical, a.c.hash)
        query = query.where(a.c.stream_id == stream, a.c.sequence > sequence).order_by(a.c.sequence).limit(limit)
        return read(await self._session.rows(query), _stored)

    async def advance(self, sink: str, stream: StreamUid, node: UUID, sequence: int, until: datetime) -> bool:
        """Note that a sink has got all of a stream up to a sequence; False where another node has taken over."""
        change = update(s).where(s.c.sink == _key(sink, stream), s.c.node_id == node)
        return await self._session.change(change.values(position=sequence, leased_until=until)) == 1

    async def release(self, sink: str, stream: StreamUid, node: UUID, now: datetime) -> None:
        """Let any node deliver the stream."""
        change = update(s).where(s.c.sink == _key(sink, stream), s.c.node_id == node)
        await self._session.change(change.values(leased_until=now))

    async def left(self, sink: str, now: datetime, limit: int) -> list[StreamUid]:
        """Return at most *limit* (1,000) entered streams that no node delivers to a sink, and that are not told to the end."""
        return [stream for stream, more in await self._entered(sink, now, limit) if more]

    async def forget(self, sink: str, before: datetime, limit: int) -> int:
        """Strike out at most *limit* (1,000) streams told to the end that nobody has claimed since *before*; returns how many."""
        over = [_key(sink, stream) for stream, more in await self._entered(sink, before, limit) if not more]
        if not over:
            return 0
        return await self._session.change(delete(s).where(s.c.sink.in_(over), s.c.leased_until <= before))

    async def _entered(self, sink: str, free_at: datetime, limit: int) -> Sequence[tuple[StreamUid, bool]]:
        """Return streams whose claim was over at that time, and whether there is more of them to tell."""
        own = (s.c.sink > f"{sink}{_DOT}", s.c.sink < f"{sink}{_BEHIND_DOT}", s.c.leased_until <= free_at)
        rows = await self._session.rows(select(s.c.sink, s.c.position).where(*own).order_by(s.c.sink).limit(limit))
        found = read(rows, lambda row: (StreamUid(UUID(hex=row.sink.rpartition(_DOT)[2])), row.position))
        entered = []
        for stream, position in found:
            more = select(a.c.sequence).where(a.c.stream_id == stream, a.c.sequence > position).limit(1)
            entered.append((stream, bool(await self._session.rows(more))))
        return entered
