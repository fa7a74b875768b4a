"""What the pass that settles intents reads of the audit log; events are parsed from the bytes that the chain covers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BindParameter, Row, bindparam, exists, func, select

from kms.core.audit import AuditEvent, Phase, StreamUid, parse

from .audit_tables import audit_log
from .records import read
from .session import Session

_intent: Final = audit_log.alias("intent")
_outcome: Final = audit_log.alias("outcome")
# Written out, since no index on a part of the rows serves a parameter.
_INTENT: Final[BindParameter[str]] = bindparam("intents", Phase.INTENT.value, literal_execute=True)
_SETTLED: Final[BindParameter[str]] = bindparam("settled", "audit.settled", literal_execute=True)
_FIRST: Final[BindParameter[int]] = bindparam("first", 1, literal_execute=True)


class AuditReads:
    """AuditReadRepository on one transaction over tenants."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def settled_at(self) -> datetime | None:
        """Return when a pass over the intents last ended; None where none has."""
        query = select(func.max(audit_log.c.at).label("at")).where(audit_log.c.action == _SETTLED)
        rows = await self._session.rows(query)
        found: list[datetime | None] = read(rows, lambda row: row.at)
        return found[0] if found else None

    async def unsettled(
        self, since: datetime, after: tuple[StreamUid, int] | None, limit: int
    ) -> list[AuditEvent | tuple[StreamUid, int]]:
        """Return at most *limit* intents without an outcome, not older than *since* and beyond *after*, in order.

        One whose row contradicts its bytes stands as its place alone: nothing of it can be believed.
        """
        settled = exists().where(
            _outcome.c.intent_stream == _intent.c.stream_id, _outcome.c.intent_sequence == _intent.c.sequence
        )
        columns = (_intent.c.stream_id, _intent.c.sequence, _intent.c.at, _intent.c.tenant_id, _intent.c.canonical)
        query = select(*columns).where(_intent.c.phase == _INTENT, _intent.c.at >= since, ~settled)
        if after is not None:
            beyond = (_intent.c.stream_id == after[0]) & (_intent.c.sequence > after[1])
            query = query.where((_intent.c.stream_id > after[0]) | beyond)
        query = query.order_by(_intent.c.stream_id, _intent.c.sequence).limit(limit)
        return read(await self._session.rows(query), _event)

    async def ended(self, streams: Sequence[StreamUid]) -> set[StreamUid]:
        """Return those of at most 1,000 streams whose node has begun another one since."""
        first, later = audit_log.alias("first"), audit_log.alias("later")
        newer = exists().where(
            later.c.node == first.c.node,
            later.c.sequence == _FIRST,
            later.c.at >= first.c.at,
            later.c.stream_id != first.c.stream_id,
        )
        query = select(first.c.stream_id).where(first.c.sequence == _FIRST, first.c.stream_id.in_(streams), newer)
        return {StreamUid(row.stream_id) for row in await self._session.rows(query)}


def _event(row: Row[Any]) -> AuditEvent | tuple[StreamUid, int]:
    try:
        event = parse(row.canonical)
    except ValueError:
        return StreamUid(row.stream_id), row.sequence
    told = (event.stream, event.sequence, event.at, event.tenant)
    return event if told == (row.stream_id, row.sequence, row.at, row.tenant_id) else (row.stream_id, row.sequence)
