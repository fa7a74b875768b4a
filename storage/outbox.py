"""What is to be told to others, and how far each sink is with it.

Positions come from one row that is locked until the commit, so that a sink which has read up to a position has missed
nothing. Whoever adds items does so as the last thing before the epochs, since others wait for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, or_, select, update

from kms.core.canonical import Value
from kms.core.errors import Conflict
from kms.core.outbox import OutboxItem, Topic

from .event_tables import outbox_head as h
from .event_tables import outbox_items as o
from .event_tables import sink_positions as s
from .integrity import columns_of
from .records import readable, remove, store_all
from .session import Session, insertion
from .types import EPOCH


class Outbox:
    """OutboxRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add_all(self, items: Sequence[OutboxItem]) -> None:
        """Store new items, which get the next positions in their order; at most 1,000 at once."""
        if not items:
            return
        first = insertion(self._session, h).values(id=1, position=len(items))
        taken = first.on_conflict_do_update(index_elements=[h.c.id], set_={"position": h.c.position + len(items)})
        [[last]] = await self._session.rows(taken.returning(h.c.position))
        rows: list[tuple[dict[str, Value], int]] = [
            (
                {
                    "tenant_id": item.tenant,
                    "id": item.uid,
                    "position": position,
                    "topic": item.topic.value,
                    "body": item.body,
                    "created_at": item.created_at,
                },
                0,
            )
            for position, item in enumerate(items, last - len(items) + 1)
        ]
        await store_all(self._session, o, rows, otherwise=Conflict("an item of the outbox is stored already"))


def _item(row: Row[Any]) -> OutboxItem:
    return OutboxItem(row.id, row.tenant_id, Topic(row.topic), row.body, row.created_at, row.position)


async def items_after(session: Session, position: int, topics: Collection[Topic], limit: int) -> list[OutboxItem]:
    """Return at most *limit* items of all tenants and of these topics beyond a position, in order."""
    query = select(o).where(o.c.position > position, o.c.topic.in_([topic.value for topic in topics]))
    return readable(session, o, await session.rows(query.order_by(o.c.position).limit(limit)), _item)


async def claim(session: Session, sink: str, node: UUID, now: datetime, until: datetime) -> int | None:
    """Let *node* alone deliver to a sink until a time; returns the sink's position, None while another node delivers.

    A new sink begins at the end: what was there before it is not told.
    """
    head = select(func.coalesce(func.max(h.c.position), 0)).scalar_subquery()
    first = insertion(session, s).values(sink=sink, position=head, node_id=node, leased_until=until)
    taken = first.on_conflict_do_update(
        index_elements=[s.c.sink],
        set_={"node_id": node, "leased_until": until},
        where=or_(s.c.node_id == node, s.c.leased_until <= now),
    )
    rows = await session.rows(taken.returning(s.c.position))
    return int(rows[0].position) if rows else None


async def advance(session: Session, sink: str, node: UUID, position: int, until: datetime) -> bool:
    """Note that a sink has got all up to a position; False where another node has taken over."""
    change = update(s).where(s.c.sink == sink, s.c.node_id == node).values(position=position, leased_until=until)
    return await session.change(change) == 1


async def release(session: Session, sink: str, node: UUID, now: datetime) -> None:
    """Let any node deliver to a sink."""
    await session.change(update(s).where(s.c.sink == sink, s.c.node_id == node).values(leased_until=now))


async def release_all(session: Session) -> None:
    """Let any node deliver to every sink."""
    await session.change(update(s).values(leased_until=EPOCH))


async def prune(session: Session, before: datetime, limit: int) -> int:
    """Remove at most *limit* items of all tenants that are older, whether told or not; returns how many."""
    query = select(o.c.tenant_id, o.c.id, o.c.revision).where(o.c.created_at < before)
    rows = await session.rows(query.order_by(o.c.created_at).limit(limit))
    return await remove(session, o, [columns_of(row) for row in rows])
