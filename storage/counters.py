"""Durable counters: records that only grow. The tenant's root is locked, so that no number of nodes passes a limit together."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Row, select, tuple_

from kms.core.errors import Conflict
from kms.core.ports import Counter

from .integrity import Identity
from .node_tables import counters as c
from .records import find, store
from .session import Session

MOST_AT_ONCE: Final = 5_000  # counters in one query; three parameters each, of the 32,766 that SQLite takes


async def reserve(session: Session, counter: Counter, amount: int, stop_at: int | None) -> int | None:
    """Add *amount*, at least 1, and return the sum; None, and nothing is added, where that would pass *stop_at*.

    Raises:
        CorruptRecord: the counter was set back, or removed.
    """
    if amount < 1:
        raise ValueError("a block has at least one use")
    stored = (await _found(session, [counter])).get(_identity(counter))
    reserved, revision = (0, 0) if stored is None else (stored.reserved, stored.revision)
    total = int(reserved) + amount
    if stop_at is not None and total > stop_at:
        return None
    row = {
        "tenant_id": counter.tenant,
        "subject_uid": counter.subject,
        "version": counter.version,
        "reserved": total,
    }
    await store(session, c, row, revision, otherwise=Conflict("the counter was changed in between"))
    return total


async def reserved(session: Session, counters: list[Counter]) -> list[int]:
    """Return what has been reserved of each so far, 0 for one never reserved; at most MOST_AT_ONCE of them.

    Raises:
        CorruptRecord: one was set back, or removed; of counters of several tenants only MACs are verified.
    """
    if len(counters) > MOST_AT_ONCE:
        raise ValueError(f"at most {MOST_AT_ONCE} counters at once")
    found = await _found(session, counters) if counters else {}
    return [found[_identity(counter)].reserved if _identity(counter) in found else 0 for counter in counters]


async def _found(session: Session, counters: list[Counter]) -> dict[tuple[Any, ...], Row[Any]]:
    asked = [_identity(counter) for counter in counters]
    wanted = {identity[1:] for identity in asked}

    def named(there: list[Identity]) -> list[Identity]:
        return [identity for identity in there if identity in wanted]

    groups: list[Identity] = [(subject,) for subject in {counter.subject for counter in counters}]
    query = select(c).where(tuple_(c.c.tenant_id, c.c.subject_uid, c.c.version).in_(asked))
    rows = await find(session, c, query, lambda row: row, groups=groups, wanted=named)
    return {(row.tenant_id, row.subject_uid, row.version): row for row in rows}


def _identity(counter: Counter) -> tuple[Any, ...]:
    return (counter.tenant, counter.subject, counter.version)
