"""Looking at every record of a tenant, both ways: each row has its place in the tree, and each place its row.

A page is a transaction of its own, so that work on a large tenant holds up nobody; what is wrong is listed, not raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Table, bindparam, select, tuple_

from kms.core.canonical import decode
from kms.core.errors import CorruptRecord
from kms.core.integrity import (
    DEPTH,
    DIGITS,
    NONE,
    Entry,
    Found,
    Leaf,
    Lie,
    Page,
    Place,
    ScrubCursor,
    child_hash,
    found_of,
    node_hash,
    parse_leaf,
)
from kms.core.names import TenantUid

from .integrity import IDENTITIES, entries_of, place_of, root_hash, verify_mac
from .integrity_tables import tenant_roots as r
from .integrity_tables import tree_nodes as n
from .session import Session
from .tables import tenants

AT_ONCE: Final = 250  # records in one page
LEAVES_AT_ONCE: Final = 64


async def tenants_after(session: Session, after: TenantUid | None, limit: int) -> list[TenantUid]:
    """Return tenants that have a record of themselves or a root, ordered."""
    found: set[TenantUid] = set()
    for column in (tenants.c.tenant_id, r.c.tenant_id):
        query = select(column) if after is None else select(column).where(column > after)
        found |= {row.tenant_id for row in await session.rows(query.order_by(column).limit(limit))}
    return sorted(found)[:limit]


async def page(session: Session, tenant: TenantUid, tables: Sequence[Table], cursor: ScrubCursor) -> Page:
    """Look at the next records, or the next leaves, of a tenant.

    Raises:
        CorruptRecord: broken() says what that means.
    """
    if cursor.table < len(tables):
        return await _rows(session, tenant, tables, cursor)
    return await _leaves(session, tenant, {table.name: table for table in tables}, cursor.leaf)


def broken(tables: Sequence[Table], cursor: ScrubCursor, error: CorruptRecord) -> Page:
    """Return the page that could not be read: nothing more can be said of that table, or, without a root, of the tenant."""
    table = tables[cursor.table].name if cursor.table < len(tables) else ""
    found = found_of(table, error)
    return Page(ScrubCursor(cursor.table + 1) if found.table else None, 0, (found,))


async def _rows(session: Session, tenant: TenantUid, tables: Sequence[Table], cursor: ScrubCursor) -> Page:
    table = tables[cursor.table]
    keys = list(table.primary_key.columns)
    query = select(table).where(table.c.tenant_id == tenant)
    if cursor.last:
        beyond = [bindparam(None, value, key.type) for key, value in zip(keys, cursor.last, strict=True)]
        query = query.where(tuple_(*keys) > tuple_(*beyond))
    rows = await session.rows(query.order_by(*keys).limit(AT_ONCE))
    lies: list[Found] = []
    there: dict[Place, Entry] = {}
    for row in rows:
        try:
            values = verify_mac(session, table, row)
        except CorruptRecord as error:
            lies.append(found_of(table.name, error))
        else:
            there[place_of(table, values)] = Entry(values["revision"], values["mac"])
    if table.name in IDENTITIES:
        lies += await entries_of(session, tenant, there)
    if len(rows) < AT_ONCE:
        return Page(ScrubCursor(cursor.table + 1), len(rows), tuple(lies))
    return Page(ScrubCursor(cursor.table, tuple(getattr(rows[-1], key.name) for key in keys)), len(rows), tuple(lies))


async def _leaves(session: Session, tenant: TenantUid, tables: Mapping[str, Table], after: str) -> Page:
    """Go down the tree, at each level along no more nodes than the page can have leaves."""
    expected = {"": await root_hash(session, tenant)}
    lies: list[Found] = []
    for depth in range(DEPTH):
        bodies = await _genuine(session, tenant, expected, lies)
        below = {
            prefix + digit: child
            for prefix, body in bodies.items()
            for digit in DIGITS
            if (child := child_hash(body, digit)) != NONE and prefix + digit >= after[: depth + 1]
        }
        # One more than wanted, since the first may have nothing beyond *after*.
        expected = {prefix: below[prefix] for prefix in sorted(below)[: LEAVES_AT_ONCE + 1]}
    expected = {prefix: expected[prefix] for prefix in sorted(expected) if prefix > after}
    expected = dict(list(expected.items())[:LEAVES_AT_ONCE])
    known: Leaf = {}
    for body in (await _genuine(session, tenant, expected, lies)).values():
        known |= parse_leaf(body)
    lies += [Found(table, Lie.MISSING) for table in await _missing(session, tenant, tables, known)]
    last = max(expected, default="")
    return Page(ScrubCursor(len(tables), (), last) if last else None, 0, tuple(lies))


async def _genuine(
    session: Session, tenant: TenantUid, expected: Mapping[str, bytes], lies: list[Found]
) -> dict[str, bytes]:
    """Return the bodies of nodes that are what their parents say; the others are noted."""
    query = select(n.c.prefix, n.c.body).where(n.c.tenant_id == tenant, n.c.prefix.in_(expected))
    stored = {row.prefix: row.body for row in await session.rows(query)} if expected else {}
    genuine = {}
    for prefix, right in expected.items():
        body = stored.get(prefix, b"")
        if node_hash(prefix, body) == right:
            genuine[prefix] = body
        else:
            lies.append(Found("", Lie.PATH))
    return genuine


async def _missing(session: Session, tenant: TenantUid, tables: Mapping[str, Table], known: Leaf) -> list[str]:
    """Return the tables of records that the tree knows and the database has not, each as often as it has some."""
    by_table: dict[str, set[tuple[Any, ...]]] = {}
    for place in known:
        by_table.setdefault(place.table, set()).add((*decode(place.group), *decode(place.identity)))
    missing: list[str] = []
    for name, identities in by_table.items():
        group, rest = IDENTITIES[name]
        columns = [tables[name].c[column] for column in (*group, *rest)]
        query = select(*columns, tables[name].c.revision).where(tables[name].c.tenant_id == tenant)
        asked = sorted(identities)
        for start in range(0, len(asked), AT_ONCE):
            part = asked[start : start + AT_ONCE]
            rows = await session.rows(query.where(tuple_(*columns).in_(part)) if columns else query)
            there = {tuple(row)[:-1] for row in rows}
            missing += [name for identity in part if identity not in there]
    return missing
