"""What nodes must no longer believe, and which nodes there are; none of it is a record.

A tenant's row is changed in the transaction that changes what it is about, as its last statement: the row is locked
until the commit, so that the order of numbers is the order of commits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Table, case, delete, func, select, update

from kms.core.names import TenantUid
from kms.core.ports import Node, TenantEpoch

from .node_tables import claims
from .node_tables import epochs as e
from .node_tables import installation as i
from .node_tables import nodes as n
from .records import read, require_own
from .session import Session, insertion

CHANNEL: Final = "kms_revocations"


def later(table: Table, name: str, incoming: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the later of a stored time and an incoming one, either of which may be missing."""
    stored = table.c[name]
    return case((stored.is_(None), incoming), (incoming.is_(None), stored), (incoming > stored, incoming), else_=stored)


class Epochs:
    """EpochRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def changed(self, tenant: TenantUid) -> None:
        """Let every node read the tenant's records again. DEKs in memory stay."""
        await self._raise(tenant, 0)

    async def revoked(self, tenant: TenantUid) -> int:
        """Let every node drop all that it holds of the tenant; returns the epoch that a node acknowledges by that."""
        first = insertion(self._session, i).values(id=1, revocations=1, seen_at=None)
        counted = first.on_conflict_do_update(index_elements=[i.c.id], set_={"revocations": i.c.revocations + 1})
        [[epoch]] = await self._session.rows(counted.returning(i.c.revocations))
        await self._raise(tenant, epoch)
        if self._session.dialect == "postgresql":
            await self._session.rows(select(func.pg_notify(CHANNEL, "")))
        return int(epoch)

    async def _raise(self, tenant: TenantUid, epoch: int) -> None:
        require_own(self._session, tenant)
        first = insertion(self._session, e).values(tenant_id=tenant, changes=1, revoked=epoch)
        newer = {"revoked": first.excluded.revoked} if epoch else {}
        await self._session.change(
            first.on_conflict_do_update(index_elements=[e.c.tenant_id], set_={"changes": e.c.changes + 1, **newer})
        )


async def all_epochs(session: Session) -> tuple[int, Mapping[TenantUid, TenantEpoch]]:
    """Return the newest revocation's epoch, and the epoch of every tenant that has one, in one snapshot."""
    newest = await session.rows(select(i.c.revocations))
    rows = await session.rows(select(e.c.tenant_id, e.c.changes, e.c.revoked))
    return (
        newest[0].revocations if newest else 0,
        {row.tenant_id: TenantEpoch(row.changes, row.revoked) for row in rows},
    )


async def join(session: Session, node: Node) -> None:
    """Enter a node, again where it is entered already."""
    row = {
        "node_id": node.uid,
        "name": node.name,
        "started_at": node.started_at,
        "seen_at": node.seen_at,
        "acknowledged": node.acknowledged,
    }
    entry = insertion(session, n).values(**row)
    await session.change(entry.on_conflict_do_update(index_elements=[n.c.node_id], set_=row))


async def leave_all(session: Session) -> None:
    """Strike out all nodes, and end their claims: where only one can be at a time, the others are dead."""
    for node in await all_nodes(session):
        await leave(session, node.uid)
    await session.change(delete(claims))


async def acknowledge(session: Session, node: UUID, epoch: int, now: datetime) -> bool:
    """Note that a node has been seen, and has acted on all revocations up to *epoch*; False where it has been struck out."""
    return await session.change(update(n).where(n.c.node_id == node).values(seen_at=now, acknowledged=epoch)) == 1


async def all_nodes(session: Session) -> list[Node]:
    """Return all nodes that have joined and not left."""
    query = select(n.c.node_id, n.c.name, n.c.started_at, n.c.seen_at, n.c.acknowledged).order_by(n.c.name)
    return read(
        await session.rows(query),
        lambda row: Node(row.node_id, row.name, row.started_at, row.seen_at, row.acknowledged),
    )


async def leave(session: Session, node: UUID) -> None:
    """Strike out a node, remembering when it was last seen."""
    gone = await session.rows(delete(n).where(n.c.node_id == node).returning(n.c.seen_at))
    if not gone:
        return
    first = insertion(session, i).values(id=1, revocations=0, seen_at=gone[0].seen_at)
    seen = later(i, "seen_at", first.excluded.seen_at)
    await session.change(first.on_conflict_do_update(index_elements=[i.c.id], set_={"seen_at": seen}))


async def last_seen(session: Session) -> datetime | None:
    """Return when any node was last seen, struck out or not."""
    rows = [*await session.rows(select(n.c.seen_at)), *await session.rows(select(i.c.seen_at))]
    return max((row.seen_at for row in rows if row.seen_at is not None), default=None)
