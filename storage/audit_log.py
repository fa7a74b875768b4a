"""What the daemon asks of the audit log beside writing to it: where chains end, and room for the months ahead."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import func, select

from kms.core.audit import StreamUid
from kms.core.audit_ports import Position

from .audit_tables import audit_log as a
from .session import Session


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The last event of a stream: where it stands, when it was written, and by which node."""

    position: Position
    at: datetime
    node: str


async def stream_ends(session: Session, since: datetime) -> list[StreamEnd]:
    """Return the end of every stream that has an event from *since* on, in one snapshot, ordered by stream."""
    # Partitions that end before it are left out; within the others one row of a stream is as good as another.
    month = since.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    late = [a.c.at >= month] if session.dialect == "postgresql" else []
    # From one stream to the next along the primary key: looking at every event would take too long.
    first = select(a.c.stream_id).where(*late).order_by(a.c.stream_id).limit(1).scalar_subquery()
    streams = select(first.label("stream_id")).cte("streams", recursive=True)
    following = select(a.c.stream_id).where(a.c.stream_id > streams.c.stream_id, *late).order_by(a.c.stream_id).limit(1)
    streams = streams.union_all(select(following.scalar_subquery()).where(streams.c.stream_id.is_not(None)))
    b = a.alias()
    late_too = [b.c.at >= month] if session.dialect == "postgresql" else []
    newest = (
        select(b.c.sequence)
        .where(b.c.stream_id == streams.c.stream_id, *late_too)
        .order_by(b.c.sequence.desc())
        .limit(1)
        .scalar_subquery()
    )
    ends = (
        select(a.c.stream_id, a.c.sequence, a.c.hash, a.c.at, a.c.node)
        .select_from(streams)
        .join(a, (a.c.stream_id == streams.c.stream_id) & (a.c.sequence == newest))
        .where(a.c.at >= since)
        .order_by(a.c.stream_id)
    )
    rows = await session.rows(ends)
    return [StreamEnd(Position(StreamUid(row.stream_id), row.sequence, row.hash), row.at, row.node) for row in rows]


async def ensure_month(session: Session, month: date) -> None:
    """Make sure that events of a month of UTC can be stored.

    Raises:
        CorruptRecord: the month is no near one.
    """
    if session.dialect == "postgresql":
        await session.rows(select(func.audit.make_partition(month)))
