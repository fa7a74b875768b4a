"""The stored audit trail as it is, for who verifies it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, select

from kms.core.audit import StreamUid
from kms.core.audit_checks import StoredCheckpoint, StoredRow, StreamExtent
from kms.core.errors import CorruptRecord

from . import checkpoints as chain
from .audit_log import event_of_row
from .audit_tables import audit_log as a
from .checkpoint_tables import checkpoints as c
from .session import Session


class AuditChecks:
    """AuditCheckRepository on one transaction over tenants."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def rows(self, stream: StreamUid, after: int, limit: int) -> Sequence[StoredRow]:
        """Return at most *limit* rows of a stream beyond a sequence, in order, their columns compared."""
        query = select(a).where(a.c.stream_id == stream, a.c.sequence > after)
        rows = await self._session.rows(query.order_by(a.c.sequence, a.c.at).limit(limit))
        # Each event is parsed as a whole: off the event loop, which serves calls meanwhile.
        return await asyncio.to_thread(lambda: [_compared(row) for row in rows])

    async def checkpoints(self, serial: int, limit: int) -> Sequence[StoredCheckpoint]:
        """Return at most *limit* checkpoints with higher serials, in order."""
        return await chain.as_stored(self._session, serial, limit)

    async def newest_serial(self) -> int:
        """Return the highest serial of a checkpoint, 0 for none."""
        [[serial]] = await self._session.rows(select(func.coalesce(func.max(c.c.serial), 0)))
        return int(serial)

    async def streams(self, after: StreamUid | None, limit: int) -> Sequence[StreamExtent]:
        """Return at most *limit* streams beyond one, in order."""
        found: list[StreamExtent] = []
        # Two probes of the primary key for each: whatever else there is of a stream is never looked at.
        while len(found) < limit:
            query = select(a.c.stream_id, a.c.sequence, a.c.at).order_by(a.c.stream_id, a.c.sequence).limit(1)
            if after is not None:
                query = query.where(a.c.stream_id > after)
            first = await self._session.rows(query)
            if not first:
                break
            after = StreamUid(first[0].stream_id)
            newest = select(a.c.sequence).where(a.c.stream_id == after).order_by(a.c.sequence.desc()).limit(1)
            [[last]] = await self._session.rows(newest)
            found.append(StreamExtent(after, first[0].sequence, first[0].at, last))
        return found


def _compared(row: Row[Any]) -> StoredRow:
    try:
        event_of_row(row)
    except CorruptRecord as error:
        return StoredRow(row.sequence, row.hash, row.canonical, str(error).partition(": ")[2])
    return StoredRow(row.sequence, row.hash, row.canonical, "")
