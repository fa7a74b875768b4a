"""How records are verified and sealed, in one place: kms/core/integrity.py on one transaction.

A transaction of one tenant that reads has a snapshot; one that writes locks the tenant's root before it looks at a record.
So both see records and tree as of one moment. What reads over all tenants verifies only the MACs of what it lists: a
sweep looks again in a transaction of the tenant before it changes anything; a single record that it looks up is
verified against its own tenant's tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, Select, Table, TextClause, and_, bindparam, select

from kms.core.audit_ports import TenantRoot
from kms.core.canonical import EPOCH, Value, decode, encode
from kms.core.errors import CorruptRecord
from kms.core.integrity import (
    DEPTH,
    NONE,
    Entry,
    Found,
    Leaf,
    Lie,
    Place,
    child_hash,
    found_of,
    leaf_of,
    lie,
    parse_leaf,
    paths_of,
    record_message,
    root_message,
    verify_entry,
    verify_node,
)
from kms.core.names import TenantUid

from .integrity_tables import tenant_roots as r
from .integrity_tables import tree_nodes as n
from .schemas import INTERNAL
from .seals import MOST_CHANGES, Tree
from .session import Session
from .types import LongAgo

# What stands in the trees: the columns that make the group, whose records share a leaf, and the rest of the identity.
# All of them stay as they are for a record's whole life.
IDENTITIES: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "tenants": ((), ()),
    "keks": ((), ("version",)),
    "encryption_keys": (("key_id",), ("id",)),
    "key_versions": (("key_uid",), ("version",)),
    "policies": (("policy_id",), ("version",)),
    "places": (("key_uid",), ("place_id",)),
    "place_counts": (("key_uid",), ("place_id", "version")),
    "receipts": (("subject",), ("id",)),
    "principals": (("principal_id",), ()),
    "grants": (("principal_id",), ("id",)),
    "api_tokens": (("key_prefix",), ("id",)),
    "certificate_pins": (("principal",), ("fingerprint",)),
    "approvals": (("id",), ()),
    "approval_votes": (("approval_id",), ("principal",)),
    "quorum_rules": ((), ("permission",)),
    "counters": (("subject_uid",), ("version",)),
    "legal_holds": ((), ("hold_id",)),
    "audit_archives": ((), ("month",)),
    "compliance_reports": (("id",), ()),
    "blobs": (("blob_id",), ()),  # many: each in a leaf of its own, and not one leaf that grows with every blob
    "enclave_upgrades": ((), ("id",)),
}
# Progress and notices: a MAC, and no place in a tree (docs/threat-model.md).
MAC_ONLY: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "operations": (("id",), ()),
    "security_events": (("id",), ()),
    "outbox_items": (("id",), ()),
    "blob_uploads": (("id",), ()),
    "enclaves": (("id",), ()),
}
_ALL: Final = {**IDENTITIES, **MAC_ONLY}
# Columns too large to be read with every list; what is in them is verified by its own means wherever it is used.
APART: Final[Mapping[str, frozenset[str]]] = {"compliance_reports": frozenset({"body"})}
NODES_AT_ONCE: Final = 5_000  # in one query
_defaults: dict[str, dict[str, Value]] = {}

Identity = tuple[Value, ...]
Wanted = Callable[[list[Identity]], Sequence[Identity]]


def page(after: Value, limit: int) -> Wanted:
    """Want the first *limit* records beyond *after* by the last part of their identity; None: from the first."""

    def wanted(there: list[Identity]) -> Sequence[Identity]:
        return [identity for identity in there if after is None or identity[-1] > after][:limit]  # type: ignore[operator]

    return wanted


def defaults(table: Table) -> Mapping[str, Value]:
    """Return the declared defaults of a table's columns; those of all others are NULL."""
    found = _defaults.get(table.name)
    if found is None:
        declared = [column for column in table.c if column.server_default is not None and column.name != "mac"]
        found = {column.name: _value(column.server_default) for column in declared}
        _defaults[table.name] = found
    return found


def _value(default: Any) -> Value:
    declared = default.arg
    if isinstance(declared, LongAgo):
        return EPOCH
    if not isinstance(declared, TextClause):
        raise TypeError("a default is a text, or long ago")
    if declared.text.startswith("'"):
        return declared.text.strip("'")
    return int(declared.text)


def columns_of(row: Row[Any]) -> dict[str, Any]:
    """Return the columns of a row by their names."""
    return row._asdict()


def place_of(table: Table, values: Mapping[str, Value]) -> Place:
    """Return where a record stands."""
    group, rest = _ALL[table.name]
    return Place(table.name, encode([values[name] for name in group]), encode([values[name] for name in rest]))


def mac_of(session: Session, table: Table, values: Mapping[str, Value]) -> bytes:
    """Return the MAC of a record, 32 bytes."""
    apart = APART.get(table.name)
    covered = values if apart is None else {name: value for name, value in values.items() if name not in apart}
    return session.touched.seals.sealer.mac(record_message(table.name, covered, defaults(table)))


def verify_mac(session: Session, table: Table, row: Row[Any]) -> dict[str, Any]:
    """Make sure that a row of all columns is as somebody who holds the key has written it; returns its columns.

    Raises:
        CorruptRecord: it is not.
    """
    values = columns_of(row)
    try:
        right = mac_of(session, table, values)
    except (ValueError, TypeError) as error:
        raise lie(Lie.MAC, table.name) from error
    if right != values["mac"]:  # a MAC that is right is no secret to whoever wrote a wrong one
        raise lie(Lie.MAC, table.name)
    return values


async def verify(
    session: Session,
    table: Table,
    rows: Sequence[Row[Any]],
    groups: Sequence[Identity] | None,
    wanted: Wanted | None,
    *,
    alone: bool,
) -> None:
    """Make sure that rows are the newest of their records, and that none is missing.

    Args:
        session: a transaction.
        table: the table of all rows.
        rows: with all columns.
        groups: the groups that were read; None where rows of any may have been.
        wanted: picks from the identities that the tree has in these groups, in order, those that must be there; None:
            all of them.
        alone: whether a single record was looked up; then its tree is looked at also in work over tenants.

    Raises:
        CorruptRecord: they are not.
    """
    verified = [verify_mac(session, table, row) for row in rows]
    touched = session.touched
    if session.write and len(touched.loaded) + len(rows) <= MOST_CHANGES:
        touched.loaded |= {(values["tenant_id"], place_of(table, values)): values for values in verified}
    if table.name not in IDENTITIES:
        return
    found = {place_of(table, values): Entry(values["revision"], values["mac"]) for values in verified}
    if session.tenant is None:
        if alone and not session.write:
            for place, row in zip(found, rows, strict=True):
                [known] = await _known(session, row.tenant_id, [place])
                verify_entry(place, known, found[place])
        return
    keys = [encode(group) for group in groups or ()]
    leaves = {place.leaf for place in found} | {leaf_of(table.name, key) for key in keys}
    if not leaves:
        return
    tree = await loaded(session, session.tenant, leaves)
    if tree.epoch == 0 and not tree.written:
        await _require_no_tenant(session, table, found=bool(found))
        return
    for place, entry in found.items():
        verify_entry(place, _entry(tree, place), entry)
    for key in keys:
        _require_whole(tree, table.name, key, found, wanted)


def _require_whole(tree: Tree, table: str, group: bytes, found: Mapping[Place, Entry], wanted: Wanted | None) -> None:
    there = {place for place in leaf_in(tree, leaf_of(table, group)) if place[:2] == (table, group)}
    for place, written in tree.written.items():
        if place[:2] == (table, group):
            (there.discard if written.now is None else there.add)(place)
    missing = there - found.keys()
    if not missing:
        return
    by_identity = {(*decode(place.group), *decode(place.identity)): place for place in there}
    identities = sorted(by_identity, key=tuple)
    for identity in identities if wanted is None else wanted(identities):
        if by_identity[identity] in missing:
            raise lie(Lie.MISSING, table)


async def _known(session: Session, tenant: TenantUid, places: Sequence[Place]) -> list[Entry | None]:
    tree = await loaded(session, tenant, {place.leaf for place in places})
    if tree.epoch == 0 and not tree.written:
        raise lie(Lie.ROOT_MISSING)
    return [_entry(tree, place) for place in places]


def _entry(tree: Tree, place: Place) -> Entry | None:
    written = tree.written.get(place)
    return leaf_in(tree, place.leaf).get(place) if written is None else written.now


def leaf_in(tree: Tree, prefix: str) -> Leaf:
    """Return what the tree knows in a leaf that has been loaded.

    Raises:
        CorruptRecord: it cannot be read.
    """
    leaf = tree.leaves.get(prefix)
    if leaf is None:
        leaf = tree.leaves[prefix] = parse_leaf(tree.nodes.get(prefix, b""))
    return leaf


async def _require_no_tenant(session: Session, table: Table, *, found: bool) -> None:
    """Make sure that who has no tree has no records either."""
    if not found:
        tenants = table.metadata.tables[f"{INTERNAL}.tenants"]
        query = select(tenants.c.revision).where(tenants.c.tenant_id == session.tenant)
        found = bool(await session.rows(query))
    if found:
        raise lie(Lie.ROOT_MISSING)


async def entries_of(session: Session, tenant: TenantUid, found: Mapping[Place, Entry]) -> list[Found]:
    """Say which of these records are not as the tenant's tree knows them.

    Raises:
        CorruptRecord: the tenant's root is wrong or missing.
    """
    try:  # all at once; where a node among them is broken, one by one
        await loaded(session, tenant, {place.leaf for place in found})
    except CorruptRecord:
        await _tree(session, tenant)
    lies = []
    for place, entry in found.items():
        try:
            [known] = await _known(session, tenant, [place])
            verify_entry(place, known, entry)
        except CorruptRecord as error:
            lies.append(found_of(place.table, error))
    return lies


async def root_hash(session: Session, tenant: TenantUid) -> bytes:
    """Return the hash of a tenant's root node, 32 bytes.

    Raises:
        CorruptRecord: the tenant's root is wrong or missing.
    """
    tree = await _tree(session, tenant)
    if tree.epoch == 0:
        raise lie(Lie.ROOT_MISSING)
    return tree.root


async def lock(session: Session, table: Table) -> None:
    """Lock the root of the transaction's tenant, where it writes and has not looked at a record yet."""
    if session.write and session.tenant is not None and table.name in IDENTITIES:
        await _tree(session, session.tenant)


async def _tree(session: Session, tenant: TenantUid) -> Tree:
    tree = session.touched.trees.get(tenant)
    if tree is None:
        query = select(r.c.epoch, r.c.root, r.c.mac).where(r.c.tenant_id == tenant)
        rows = await session.rows(query.with_for_update() if session.write else query)
        tree = _rooted(session, tenant, rows)
    return tree


def _rooted(session: Session, tenant: TenantUid, rows: Sequence[Row[Any]]) -> Tree:
    touched = session.touched
    epoch = rows[0].epoch if rows else 0
    if rows:
        verify_root(session, tenant, rows[0])
    # The epoch of another tenant than the transaction's may have grown since its snapshot.
    if tenant == session.tenant and epoch < touched.floor:
        raise lie(Lie.ROOT_OLDER if epoch else Lie.ROOT_MISSING)
    touched.seals.seen(tenant, epoch)
    tree = touched.trees[tenant] = Tree(epoch, rows[0].root if rows else NONE)
    return tree


def verify_root(session: Session, tenant: TenantUid, row: Row[Any]) -> None:
    """Verify the MAC of a tenant's root.

    Raises:
        CorruptRecord: it is wrong.
    """
    if session.touched.seals.sealer.mac(root_message(tenant, row.epoch, row.root)) != row.mac:
        raise lie(Lie.ROOT_MAC)


def _rooted_paths(tenant: Any, prefixes: Sequence[Any]) -> Select[Any]:
    below = and_(n.c.tenant_id == r.c.tenant_id, n.c.prefix.in_(prefixes))
    query = select(r.c.epoch, r.c.root, r.c.mac, n.c.prefix, n.c.body).join(n, below)
    return query.where(r.c.tenant_id == tenant)


# Nearly every read looks at one path; making its statement anew takes a quarter of the time of its execution.
_PATH: Final = tuple(f"prefix_{length}" for length in range(DEPTH + 1))
_ONE_PATH: Final = _rooted_paths(bindparam("tenant", type_=r.c.tenant_id.type), [bindparam(name) for name in _PATH])


async def loaded(session: Session, tenant: TenantUid, leaves: Iterable[str]) -> Tree:
    """Return the tenant's tree with the nodes on the paths of these leaves, verified."""
    wanted = sorted(paths_of(leaves))  # parents before children
    tree = session.touched.trees.get(tenant)
    missing = wanted if tree is None else [prefix for prefix in wanted if prefix not in tree.nodes]
    stored: dict[str, bytes] = {}
    for start in range(0, len(missing), NODES_AT_ONCE):
        part = missing[start : start + NODES_AT_ONCE]
        if tree is None:  # a reader's first look: root and nodes together
            if len(part) == len(_PATH):
                rows = await session.rows(_ONE_PATH, {"tenant": tenant, **dict(zip(_PATH, part, strict=True))})
            else:
                rows = await session.rows(_rooted_paths(tenant, part))
            # Every tree has the node without digits; who removes that has not removed the root.
            tree = _rooted(session, tenant, rows) if rows else await _tree(session, tenant)
        else:
            query = select(n.c.prefix, n.c.body).where(n.c.tenant_id == tenant, n.c.prefix.in_(part))
            rows = await session.rows(query)
        stored |= {row.prefix: row.body for row in rows}
    if tree is None:
        tree = await _tree(session, tenant)
    if tree.epoch == 0:
        return tree
    for prefix in missing:
        expected = child_hash(tree.nodes[prefix[:-1]], prefix[-1]) if prefix else tree.root
        body = stored.get(prefix, b"")
        verify_node(prefix, body, expected)
        tree.nodes[prefix] = body
    return tree


async def all_roots(session: Session) -> list[TenantRoot]:
    """Return the roots of all tenants, ordered by tenant, in one snapshot.

    Raises:
        CorruptRecord: the MAC of one is wrong.
    """
    rows = await session.rows(select(r.c.tenant_id, r.c.epoch, r.c.root, r.c.mac))
    for row in rows:
        verify_root(session, row.tenant_id, row)
    return sorted((TenantRoot(row.tenant_id, row.epoch, row.root) for row in rows), key=lambda root: root.tenant.bytes)
