"""What a transaction has written of records, carried into the tree of its tenant before it commits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Table, update

from kms.core.audit_ports import RecordChange
from kms.core.canonical import Value
from kms.core.errors import Conflict
from kms.core.integrity import Entry, Lie, Place, lie, root_message, root_of, with_changes
from kms.core.names import TenantUid

from .integrity import IDENTITIES, leaf_in, loaded, place_of
from .integrity_tables import tenant_roots as r
from .integrity_tables import tree_nodes as n
from .seals import MOST_CHANGES, Written
from .session import Session, insertion

UNTOLD: Final = frozenset({"counters", "outbox_items"})  # what only counts, or tells of another change
_WRITTEN_AT_ONCE: Final = 1_000  # nodes in one statement


def note(session: Session, table: Table, values: Mapping[str, Value], before: int, now: Entry | None) -> None:
    """Remember that a record was written over revision *before*, 0 for a new one; *now* is None for one removed.

    The root of its tenant must be locked where it stands in a tree.
    """
    touched, place = session.touched, place_of(table, values)
    tenant = values["tenant_id"]
    if table.name in IDENTITIES:
        if tenant != session.tenant or session.tenant is None:
            raise RuntimeError("records in a tree are written in transactions of their tenant")
        tree = touched.trees[session.tenant]
        earlier = tree.written.get(place)
        tree.written[place] = Written(before if earlier is None else earlier.before, now)
    if table.name not in UNTOLD and len(touched.changes) < MOST_CHANGES:
        old = touched.loaded.pop((tenant, place), None)  # type: ignore[arg-type]  # a UUID, by its column
        touched.changes.append(_change(table, values, old, now))


def _change(
    table: Table, values: Mapping[str, Value], old: Mapping[str, Value] | None, now: Entry | None
) -> RecordChange:
    keys = [column.name for column in table.primary_key.columns if column.name != "tenant_id"]
    before = {} if old is None else {name: value for name, value in old.items() if name not in {"mac", "tenant_id"}}
    after = {} if now is None else {name: value for name, value in values.items() if name not in {"mac", "tenant_id"}}
    if old is not None and now is not None:
        same = {name for name in after if after[name] == before.get(name)}
        before = {name: value for name, value in before.items() if name not in same and name in after}
        after = {name: value for name, value in after.items() if name not in same}
    tenant = values["tenant_id"]
    return RecordChange(
        table.name,
        tenant,  # type: ignore[arg-type]  # a UUID, by its column
        {name: _shown(values[name]) for name in keys},
        {name: _shown(value) for name, value in before.items()},
        {name: _shown(value) for name, value in after.items()},
    )


def _shown(value: Value) -> Value:
    return hashlib.sha256(value).digest() if isinstance(value, bytes) else value


async def settle(session: Session) -> None:
    """Carry what was written into the tree of its tenant, before the commit.

    Raises:
        CorruptRecord: the tree and what was written over do not agree.
        Conflict: somebody else has made the tree at the same moment.
    """
    for tenant, tree in session.touched.trees.items():
        changes = {place: written.now for place, written in tree.written.items()}
        if not changes:
            continue
        if tree.epoch == 0 and Place("tenants", b"", b"") not in changes:
            raise lie(Lie.ROOT_MISSING)
        await loaded(session, tenant, {place.leaf for place in changes})
        for place, written in tree.written.items():
            _require_before(place, leaf_in(tree, place.leaf).get(place), written.before)
        nodes = with_changes(tree.nodes, changes)
        await write_nodes(session, tenant, nodes)
        await write_root(session, tenant, tree.epoch, root_of(nodes))
        tree.epoch += 1


def _require_before(place: Place, known: Entry | None, before: int) -> None:
    if known is None and before:
        raise lie(Lie.UNKNOWN, place.table)
    if known is not None and known.revision != before:
        raise lie(Lie.MISSING if not before else Lie.OLDER if before < known.revision else Lie.OTHER, place.table)


async def write_nodes(session: Session, tenant: TenantUid, nodes: Mapping[str, bytes]) -> None:
    """Store nodes over what is there."""
    first = insertion(session, n)
    statement = first.on_conflict_do_update(
        index_elements=[n.c.tenant_id, n.c.prefix], set_={"body": first.excluded.body}
    )
    rows = [{"tenant_id": tenant, "prefix": prefix, "body": body} for prefix, body in sorted(nodes.items())]
    for start in range(0, len(rows), _WRITTEN_AT_ONCE):
        await session.change(statement, rows[start : start + _WRITTEN_AT_ONCE])


async def write_root(session: Session, tenant: TenantUid, epoch: int, root: bytes) -> None:
    """Store a root over that of *epoch*, 0 for none.

    Raises:
        Conflict: somebody else has made the tree at the same moment.
    """
    values = {
        "epoch": epoch + 1,
        "root": root,
        "mac": session.touched.seals.sealer.mac(root_message(tenant, epoch + 1, root)),
    }
    if epoch:
        written = await session.change(update(r).where(r.c.tenant_id == tenant, r.c.epoch == epoch).values(**values))
    else:
        written = await session.change(r.insert().values(tenant_id=tenant, **values))
    if written != 1:
        raise Conflict("the tenant's tree was changed in between")


def committed(session: Session) -> None:
    """Remember the epochs of what has been committed, and tell of the changes."""
    touched = session.touched
    for tenant, tree in touched.trees.items():
        touched.seals.seen(tenant, tree.epoch)
    if touched.changes:
        touched.seals.on_changes(touched.changes)
