"""Durable counters: one statement adds and compares, so that no number of nodes passes a limit together."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select, tuple_

from kms.core.ports import Counter

from .node_tables import counters as c
from .records import insertion
from .session import Session

MOST_AT_ONCE: Final = 5_000  # counters in one query; three parameters each, of the 32,766 that SQLite takes


async def reserve(session: Session, counter: Counter, amount: int, stop_at: int | None) -> int | None:
    """Add *amount*, at least 1, and return the sum; None, and nothing is added, where that would pass *stop_at*."""
    if amount < 1:
        raise ValueError("a block has at least one use")
    if stop_at is not None and amount > stop_at:
        return None
    first = insertion(session, c).values(
        tenant_id=counter.tenant, subject_uid=counter.subject, version=counter.version, reserved=amount
    )
    total = c.c.reserved + first.excluded.reserved
    statement = first.on_conflict_do_update(
        index_elements=[c.c.tenant_id, c.c.subject_uid, c.c.version],
        set_={"reserved": total},
        where=None if stop_at is None else total <= stop_at,
    )
    rows = await session.rows(statement.returning(c.c.reserved))
    return int(rows[0].reserved) if rows else None


async def reserved(session: Session, counters: list[Counter]) -> list[int]:
    """Return what has been reserved of each so far, 0 for one never reserved; at most MOST_AT_ONCE of them."""
    if len(counters) > MOST_AT_ONCE:
        raise ValueError(f"at most {MOST_AT_ONCE} counters at once")
    wanted = [(counter.tenant, counter.subject, counter.version) for counter in counters]
    if not wanted:
        return []
    query = select(c.c.tenant_id, c.c.subject_uid, c.c.version, c.c.reserved).where(
        tuple_(c.c.tenant_id, c.c.subject_uid, c.c.version).in_(wanted)
    )
    found = {(row.tenant_id, row.subject_uid, row.version): row.reserved for row in await session.rows(query)}
    return [found.get(identity, 0) for identity in wanted]
