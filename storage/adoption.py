"""Sealing records that were stored before records had MACs: at the first start, and never again.

Tenant by tenant: nodes are emptied, records get their MACs and leaves some at a time, and the root comes last. So a crash
is resumed from the beginning of one tenant, and who has a root is never adopted again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, Table, bindparam, select, tuple_, update

from kms.core.errors import CorruptRecord
from kms.core.integrity import Entry, Place, paths_of, root_of, with_changes
from kms.core.names import TenantUid

from .integrity import IDENTITIES, columns_of, mac_of, place_of
from .integrity_tables import tenant_roots as r
from .integrity_tables import tree_nodes as n
from .session import Session
from .tables import tenants
from .tree_writing import write_nodes, write_root

AT_ONCE: Final = 500  # records in one transaction
MOST_TENANTS: Final = 1_000  # in one look

Cursor = tuple[int, tuple[Any, ...]]  # the number of a table, and the last identity in it
START: Final[Cursor] = (0, ())


async def without_root(session: Session) -> list[TenantUid]:
    """Return at most MOST_TENANTS tenants that have no root."""
    query = select(tenants.c.tenant_id).outerjoin(r, r.c.tenant_id == tenants.c.tenant_id)
    rows = await session.rows(query.where(r.c.tenant_id.is_(None)).order_by(tenants.c.tenant_id).limit(MOST_TENANTS))
    return [row.tenant_id for row in rows]


async def clear(session: Session, tenant: TenantUid) -> None:
    """Begin with a tenant: forget what an adoption that was broken off has left."""
    await require_rootless(session, tenant)
    await session.change(update(n).where(n.c.tenant_id == tenant).values(body=b""))


async def seal(session: Session, tenant: TenantUid, tables: Sequence[Table], after: Cursor) -> Cursor | None:
    """Seal the next records of a tenant, at most AT_ONCE; returns where to go on, None at the end."""
    await require_rootless(session, tenant)
    number, last = after
    room = AT_ONCE
    while number < len(tables):
        rows = await _next(session, tenant, tables[number], last, room)
        if rows:
            await _seal(session, tenant, tables[number], rows)
        if len(rows) == room:
            keys = columns_of(rows[-1])
            return number, tuple(keys[key.name] for key in tables[number].primary_key.columns)
        room -= len(rows)
        number, last = number + 1, ()
    return None


async def _next(
    session: Session, tenant: TenantUid, table: Table, last: tuple[Any, ...], limit: int
) -> Sequence[Row[Any]]:
    keys = list(table.primary_key.columns)
    query = select(table).where(table.c.tenant_id == tenant)
    if last:
        beyond = [bindparam(None, value, key.type) for key, value in zip(keys, last, strict=True)]
        query = query.where(tuple_(*keys) > tuple_(*beyond))
    return await session.rows(query.order_by(*keys).limit(limit))


async def _seal(session: Session, tenant: TenantUid, table: Table, rows: Sequence[Row[Any]]) -> None:
    keys = list(table.primary_key.columns)
    changes: dict[Place, Entry | None] = {}
    sealed: list[dict[str, Any]] = []
    for row in rows:
        values = columns_of(row)
        mac = mac_of(session, table, values)
        sealed.append({"sealed": mac} | {f"of_{key.name}": values[key.name] for key in keys})
        if table.name in IDENTITIES:
            changes[place_of(table, values)] = Entry(values["revision"], mac)
    itself = (key == bindparam(f"of_{key.name}", type_=key.type) for key in keys)
    if await session.change(update(table).where(*itself).values(mac=bindparam("sealed")), sealed) != len(rows):
        raise CorruptRecord(f"records of {table.name} cannot be sealed")
    if changes:
        await write_nodes(session, tenant, with_changes(await _nodes(session, tenant, changes), changes))


async def finish(session: Session, tenant: TenantUid) -> None:
    """End with a tenant: from here on its records are believed no more without their MACs."""
    rows = await session.rows(select(n.c.prefix, n.c.body).where(n.c.tenant_id == tenant, n.c.prefix == ""))
    await write_root(session, tenant, 0, root_of({row.prefix: row.body for row in rows}))


async def require_rootless(session: Session, tenant: TenantUid) -> None:
    """Make sure that nobody adopts what has a root.

    Raises:
        CorruptRecord: it has one.
    """
    if await session.rows(select(r.c.epoch).where(r.c.tenant_id == tenant)):
        raise CorruptRecord("a tenant's records were sealed already")


async def _nodes(session: Session, tenant: TenantUid, changes: Mapping[Place, object]) -> dict[str, bytes]:
    wanted = sorted(paths_of(place.leaf for place in changes))
    query = select(n.c.prefix, n.c.body).where(n.c.tenant_id == tenant, n.c.prefix.in_(wanted))
    return {row.prefix: row.body for row in await session.rows(query)}
