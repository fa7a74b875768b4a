"""Sharing due work between nodes, and what has been seen of versions.

A claim only shares work: that it is done once is the business of revisions and unique keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Row, Select, Table, delete, exists, select, tuple_

from kms.core.census import Uses
from kms.core.errors import CorruptRecord
from kms.core.keyring import Key, Tenant
from kms.core.ports import Counter
from kms.core.rotation import CLOCK_SLACK

from . import keys, tenants
from .epochs import later
from .node_tables import claims as c
from .node_tables import version_uses as u
from .records import insertion, read
from .session import Session
from .tables import encryption_keys as k
from .tables import tenants as t

MOST_USES: Final = 1_000  # at once
MOST_CLAIMS: Final = 1_000  # at once

T = TypeVar("T")


async def claim_keys(
    session: Session, node: UUID, now: datetime, until: datetime, limit: int
) -> list[tuple[Tenant, Key]]:
    """Claim at most *limit* keys that are due, the longest due first, or whose schedule lies beyond CLOCK_SLACK."""
    one = select(k.c.tenant_id, k.c.id.label("subject_uid"))
    # Two queries, each along an index of its own: one for both would sort all that is due each time.
    due = one.where(k.c.due_at <= now).order_by(k.c.due_at)
    claimed = await _claim(session, k, due, node, now, until, limit)
    ahead = one.where(k.c.scheduled_from > now + CLOCK_SLACK).order_by(k.c.scheduled_from.desc())
    claimed += await _claim(session, k, ahead, node, now, until, limit - len(claimed))
    if not claimed:
        return []
    found = await session.rows(select(*keys.COLUMNS).where(tuple_(k.c.tenant_id, k.c.id).in_(claimed)))
    by_uid: dict[tuple[UUID, UUID], Key] = {(key.tenant, key.uid): key for key in _readable(found, keys.key)}
    owners = await _tenants(session, {tenant for tenant, _ in by_uid})
    return [(owners[one[0]], by_uid[one]) for one in claimed if one in by_uid and one[0] in owners]


async def claim_tenants(session: Session, node: UUID, now: datetime, until: datetime, limit: int) -> list[Tenant]:
    """Claim at most *limit* tenants whose KEK versions are due, the longest due first."""
    due = select(t.c.tenant_id, t.c.tenant_id.label("subject_uid")).where(t.c.due_at <= now, t.c.primary_kek > 0)
    claimed = await _claim(session, t, due.order_by(t.c.due_at), node, now, until, limit)
    if not claimed:
        return []
    owners = await _tenants(session, {tenant for tenant, _ in claimed})
    return [owners[tenant] for tenant, _ in claimed if tenant in owners]


async def release(session: Session, node: UUID, subjects: Sequence[UUID]) -> None:
    """Give claims back; at most MOST_CLAIMS of them."""
    if len(subjects) > MOST_CLAIMS:
        raise ValueError(f"at most {MOST_CLAIMS} claims at once")
    await session.change(delete(c).where(c.c.node_id == node, c.c.subject_uid.in_(subjects)))


async def _claim(
    session: Session, table: Table, due: Select[Any], node: UUID, now: datetime, until: datetime, limit: int
) -> list[tuple[UUID, UUID]]:
    """Claim what *due* selects and nobody has claimed, in its order."""
    if limit > MOST_CLAIMS:
        raise ValueError(f"at most {MOST_CLAIMS} claims at once")
    taken = exists().where(
        c.c.tenant_id == table.c.tenant_id,
        c.c.subject_uid == due.selected_columns.subject_uid,
        c.c.claimed_until > now,
    )
    # The lock keeps two nodes that look at the same moment apart, and lets new versions of these keys be added.
    free = due.where(~taken).limit(limit).with_for_update(skip_locked=True, key_share=True, of=table)
    rows = [(row.tenant_id, row.subject_uid) for row in await session.rows(free)] if limit else []
    if not rows:
        return []
    first = insertion(session, c).values(
        [
            {"tenant_id": tenant, "subject_uid": subject, "node_id": node, "claimed_until": until}
            for tenant, subject in rows
        ]
    )
    # Another node may have claimed some after this transaction looked, and be done with its own.
    claim = first.on_conflict_do_update(
        index_elements=[c.c.tenant_id, c.c.subject_uid],
        set_={"node_id": first.excluded.node_id, "claimed_until": first.excluded.claimed_until},
        where=c.c.claimed_until <= now,
    )
    won = {
        (row.tenant_id, row.subject_uid) for row in await session.rows(claim.returning(c.c.tenant_id, c.c.subject_uid))
    }
    return [row for row in rows if row in won]


async def _tenants(session: Session, uids: set[UUID]) -> dict[UUID, Tenant]:
    found = await session.rows(select(*tenants.COLUMNS).where(t.c.tenant_id.in_(uids)))
    return {tenant.uid: tenant for tenant in _readable(found, tenants.tenant)}


def _readable(rows: Sequence[Row[Any]], make: Callable[[Row[Any]], T]) -> list[T]:
    """Turn rows into values without those that make no sense: one damaged record must not stop the work on all others.

    Raises:
        CorruptRecord: no other is there; so it is told in the end, and its claim is undone.
    """
    made: list[T] = []
    damage: CorruptRecord | None = None
    for row in rows:
        try:
            made += read([row], make)
        except CorruptRecord as error:
            damage = error
    if damage is not None and not made:
        raise damage
    return made


async def add_uses(session: Session, uses: Mapping[Counter, Uses]) -> None:
    """Merge what a node has seen: the later of two times, the sum of refusals."""
    if len(uses) > MOST_USES:
        raise ValueError(f"at most {MOST_USES} versions at once")
    if not uses:
        return
    # In one order for all nodes, so that no two wait for each other.
    ordered = sorted(uses.items(), key=lambda entry: (entry[0].tenant, entry[0].subject, entry[0].version))
    first = insertion(session, u).values(
        [
            {
                "tenant_id": counter.tenant,
                "subject_uid": counter.subject,
                "version": counter.version,
                "last_used_at": seen.last_used_at,
                "last_decrypted_at": seen.last_decrypted_at,
                "refused": seen.refused,
                "last_refused_at": seen.last_refused_at,
            }
            for counter, seen in ordered
        ]
    )
    times = ("last_used_at", "last_decrypted_at", "last_refused_at")
    await session.change(
        first.on_conflict_do_update(
            index_elements=[u.c.tenant_id, u.c.subject_uid, u.c.version],
            set_={
                **{name: later(u, name, first.excluded[name]) for name in times},
                "refused": u.c.refused + first.excluded.refused,
            },
        )
    )


async def uses_of(session: Session, counters: Sequence[Counter]) -> list[Uses]:
    """Return what has been seen of each version; at most 1,000 of them."""
    if len(counters) > MOST_USES:
        raise ValueError(f"at most {MOST_USES} versions at once")
    wanted = [(counter.tenant, counter.subject, counter.version) for counter in counters]
    if not wanted:
        return []
    query = select(u).where(tuple_(u.c.tenant_id, u.c.subject_uid, u.c.version).in_(wanted))
    found = {(row.tenant_id, row.subject_uid, row.version): _uses(row) for row in await session.rows(query)}
    return [found.get(identity, Uses()) for identity in wanted]


def _uses(row: Row[Any]) -> Uses:
    return Uses(row.last_used_at, row.last_decrypted_at, row.refused, row.last_refused_at)
