"""Sharing due work between nodes, and what has been seen of versions.

A claim only shares work: that it is done once is the business of revisions and unique keys. One that lies further ahead
than nodes' clocks may differ was made by a clock that has since gone back, and holds up nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, Row, Select, delete, exists, or_, select, tuple_

from kms.core.census import Uses
from kms.core.keyring import Key, Tenant
from kms.core.ports import Counter
from kms.core.rotation import CLOCK_SLACK

from . import keys, tenants
from .epochs import later
from .node_tables import claims as c
from .node_tables import version_uses as u
from .records import IN_ONE_STEP, readable
from .session import Session, insertion
from .tables import encryption_keys as k
from .tables import tenants as t

MOST_USES: Final = 1_000  # at once
MOST_CLAIMS: Final = 1_000  # at once


async def claim_keys(
    session: Session, node: UUID, now: datetime, until: datetime, limit: int
) -> list[tuple[Tenant, Key]]:
    """Claim at most *limit* keys that are due, the longest due first, or whose schedule lies beyond CLOCK_SLACK."""
    one = select(k)
    # Two queries, each along an index of its own: one for both would sort all that is due each time.
    due = one.where(k.c.due_at <= now).order_by(k.c.due_at)
    claimed = await _claim(session, k.c.id, due, node, now, until, limit)
    ahead = one.where(k.c.scheduled_from > now + CLOCK_SLACK).order_by(k.c.scheduled_from.desc())
    claimed += await _claim(session, k.c.id, ahead, node, now, until, limit - len(claimed))
    if not claimed:
        return []
    found = readable(session, k, claimed, keys.key)
    query = select(t).where(t.c.tenant_id.in_({key.tenant for key in found}))
    owners = {tenant.uid: tenant for tenant in readable(session, t, await session.rows(query), tenants.tenant)}
    return [(owners[key.tenant], key) for key in found if key.tenant in owners]


async def claim_tenants(session: Session, node: UUID, now: datetime, until: datetime, limit: int) -> list[Tenant]:
    """Claim at most *limit* tenants whose KEK versions are due, the longest due first."""
    due = select(t).where(t.c.due_at <= now, t.c.primary_kek > 0).order_by(t.c.due_at)
    return readable(session, t, await _claim(session, t.c.tenant_id, due, node, now, until, limit), tenants.tenant)


async def release(session: Session, node: UUID, subjects: Sequence[UUID]) -> None:
    """Give claims back; at most MOST_CLAIMS of them."""
    if len(subjects) > MOST_CLAIMS:
        raise ValueError(f"at most {MOST_CLAIMS} claims at once")
    await session.change(delete(c).where(c.c.node_id == node, c.c.subject_uid.in_(subjects)))


async def _claim(
    session: Session, subject: Column[UUID], due: Select[Any], node: UUID, now: datetime, until: datetime, limit: int
) -> list[Row[Any]]:
    """Claim the rows that *due* selects and nobody has claimed, in its order."""
    if limit > MOST_CLAIMS:
        raise ValueError(f"at most {MOST_CLAIMS} claims at once")
    table = subject.table
    latest = until + CLOCK_SLACK  # what lasts longer was claimed by a clock that has gone back since
    taken = exists().where(
        c.c.tenant_id == table.c.tenant_id,
        c.c.subject_uid == subject,
        c.c.claimed_until > now,
        c.c.claimed_until <= latest,
    )
    # The lock keeps two nodes that look at the same moment apart, and lets new versions of these keys be added.
    free = due.where(~taken).limit(limit).with_for_update(skip_locked=True, key_share=True, of=table)
    rows = {(row.tenant_id, getattr(row, subject.name)): row for row in await session.rows(free)} if limit else {}
    if not rows:
        return []
    first = insertion(session, c).values(
        [{"tenant_id": tenant, "subject_uid": uid, "node_id": node, "claimed_until": until} for tenant, uid in rows]
    )
    # Another node may have claimed some after this transaction looked, and be done with its own.
    claim = first.on_conflict_do_update(
        index_elements=[c.c.tenant_id, c.c.subject_uid],
        set_={"node_id": first.excluded.node_id, "claimed_until": first.excluded.claimed_until},
        where=or_(c.c.claimed_until <= now, c.c.claimed_until > latest),
    ).returning(c.c.tenant_id, c.c.subject_uid)
    won = {(row.tenant_id, row.subject_uid) for row in await session.rows(claim)}
    return [row for identity, row in rows.items() if identity in won]


async def add_uses(session: Session, uses: Mapping[Counter, Uses]) -> None:
    """Merge what a node has seen: the later of two times, the sum of refusals."""
    if len(uses) > MOST_USES:
        raise ValueError(f"at most {MOST_USES} versions at once")
    # In one order for all nodes, so that no two wait for each other.
    ordered = sorted(uses.items(), key=lambda entry: (entry[0].tenant, entry[0].subject, entry[0].version))
    for start in range(0, len(ordered), IN_ONE_STEP):
        await _add_uses(session, ordered[start : start + IN_ONE_STEP])


async def _add_uses(session: Session, uses: Sequence[tuple[Counter, Uses]]) -> None:
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
            for counter, seen in uses
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
