"""Sharing due work between nodes, and what has been seen of versions.

A claim only shares work: that it is done once is the business of revisions and unique keys. One that lies further ahead
than nodes' clocks may differ was made by a clock that has since gone back, and holds up nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, Select, Table, delete, exists, or_, select, tuple_

from kms.core.census import Uses
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


async def claim_keys(
    session: Session, node: UUID, now: datetime, until: datetime, limit: int
) -> list[tuple[Tenant, Key]]:
    """Claim at most *limit* keys that are due, the longest due first, or whose schedule lies beyond CLOCK_SLACK."""
    query = select(k.c.tenant_id, k.c.id.label("subject_uid")).where(
        or_(k.c.due_at <= now, k.c.scheduled_from > now + CLOCK_SLACK)
    )
    claimed = await _claim(session, k, query.order_by(k.c.due_at), node, now, until, limit)
    if not claimed:
        return []
    found = select(*keys.COLUMNS).where(tuple_(k.c.tenant_id, k.c.id).in_(claimed))
    owners = {tenant.uid: tenant for tenant in await _tenants(session, {tenant for tenant, _ in claimed})}
    due = read(await session.rows(found.order_by(k.c.due_at)), keys.key)
    return [(owners[key.tenant], key) for key in due]


async def claim_tenants(session: Session, node: UUID, now: datetime, until: datetime, limit: int) -> list[Tenant]:
    """Claim at most *limit* tenants whose KEK versions are due."""
    query = select(t.c.tenant_id, t.c.tenant_id.label("subject_uid")).where(t.c.due_at <= now, t.c.primary_kek > 0)
    claimed = await _claim(session, t, query.order_by(t.c.due_at), node, now, until, limit)
    return await _tenants(session, {tenant for tenant, _ in claimed}) if claimed else []


async def release(session: Session, node: UUID, subjects: Sequence[UUID]) -> None:
    """Give claims back."""
    if subjects:
        await session.change(delete(c).where(c.c.node_id == node, c.c.subject_uid.in_(subjects)))


async def _claim(
    session: Session, table: Table, due: Select[Any], node: UUID, now: datetime, until: datetime, limit: int
) -> list[tuple[UUID, UUID]]:
    subject = due.selected_columns.subject_uid
    latest = until + CLOCK_SLACK
    taken = exists().where(
        c.c.tenant_id == table.c.tenant_id, c.c.subject_uid == subject, c.c.claimed_until.between(now, latest)
    )
    rows = await session.rows(due.where(~taken).limit(limit).with_for_update(skip_locked=True, of=table))
    if not rows:
        return []
    values = [
        {"tenant_id": row.tenant_id, "subject_uid": row.subject_uid, "node_id": node, "claimed_until": until}
        for row in rows
    ]
    first = insertion(session, c).values(values)
    won = first.on_conflict_do_update(
        index_elements=[c.c.tenant_id, c.c.subject_uid],
        set_={"node_id": first.excluded.node_id, "claimed_until": first.excluded.claimed_until},
        where=or_(c.c.claimed_until < now, c.c.claimed_until > latest),
    ).returning(c.c.tenant_id, c.c.subject_uid)
    return [(row.tenant_id, row.subject_uid) for row in await session.rows(won)]


async def _tenants(session: Session, uids: set[UUID]) -> list[Tenant]:
    query = select(*tenants.COLUMNS).where(t.c.tenant_id.in_(uids)).order_by(t.c.due_at)
    return read(await session.rows(query), tenants.tenant)


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
