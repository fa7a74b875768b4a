r"""MACs of records, and the tree of each tenant that shows which records there are and which revision is the newest.

MAC of a record = HMAC-SHA-256(key, "kms/v1/record\0" || encode([table, then name and value of each column but mac, by name]));
                  a column that has its declared default, NULL where none is declared, is left out, so that a column that is
                  added later alters no MAC
leaf of a record = first 4 hex digits of SHA-256(table || 0 || group), where the group is the leading part of its identity
leaf            = entries [table, group, identity, revision, mac] in order; hash = SHA-256(00 || entries)
inner node      = 16 hashes, zeroes for one without records;                hash = SHA-256(01 || hashes)
MAC of a root   = HMAC-SHA-256(key, "kms/v1/root\0" || tenant (16) || epoch u64 || root (32))

Nodes bear the first 0 to 4 hex digits of what lies below them; the one without digits is the root (FORMATS, section 7).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from .canonical import Value, decode, encode
from .errors import CorruptRecord
from .names import TenantUid

RECORD_LABEL: Final = b"kms/v1/record\0"
ROOT_LABEL: Final = b"kms/v1/root\0"
DEPTH: Final = 4  # hex digits of a leaf's prefix
HASH: Final = 32  # bytes
NONE: Final = bytes(HASH)  # in place of the hash of what has no records
DIGITS: Final = "0123456789abcdef"
_EPOCH: Final = struct.Struct(">Q")


class Lie(StrEnum):
    """What is wrong with a record, in words."""

    MAC = "its MAC is wrong"
    OLDER = "it is older than the tenant's tree says"
    OTHER = "it is not the one that the tenant's tree knows"
    MISSING = "it is missing from the database"
    UNKNOWN = "the tenant's tree does not know it"
    PATH = "the tenant's tree is broken where it belongs"
    ROOT_MAC = "the MAC of the tenant's root is wrong"
    ROOT_MISSING = "the tenant's root is missing"
    ROOT_OLDER = "the tenant's root is older than this node has seen"


ROLLED_BACK: Final = frozenset({Lie.OLDER, Lie.ROOT_OLDER})
OF_THE_ROOT: Final = frozenset({Lie.ROOT_MAC, Lie.ROOT_MISSING, Lie.ROOT_OLDER})


@dataclass(frozen=True, slots=True)
class Found:
    """A lie that a look at all records has found; the table is empty for one about the tree itself."""

    table: str
    what: str
    rolled_back: bool = False  # whether it shows an older state than was stored before


@dataclass(frozen=True, slots=True)
class ScrubCursor:
    """How far a look at all records of a tenant is: the table and the last identity in it, then the last leaf."""

    table: int = 0
    last: tuple[Any, ...] = ()
    leaf: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What a part of such a look has found, and where to go on; None at the end."""

    after: ScrubCursor | None
    records: int
    lies: tuple[Found, ...]


def found_of(table: str, error: CorruptRecord) -> Found:
    """Return what an error says of a table."""
    what = next((what for what in Lie if str(error).endswith(what)), str(error))
    return Found("" if what in OF_THE_ROOT else table, what, error.rolled_back)


def lie(what: Lie, table: str = "") -> CorruptRecord:
    """Make the error for a lie about a record of that table, or about the tenant's tree."""
    error = CorruptRecord(f"a stored record of {table} cannot be trusted: {what}" if table else f"{what}")
    error.rolled_back = what in ROLLED_BACK
    return error


class Place(NamedTuple):
    """Where a record stands in its tenant's tree: group and identity are canonical bytes of the values that make them."""

    table: str
    group: bytes
    identity: bytes

    @property
    def leaf(self) -> str:
        """The prefix of its leaf, 4 hex digits."""
        return leaf_of(self.table, self.group)


class Entry(NamedTuple):
    """What a leaf knows of a record."""

    revision: int
    mac: bytes


Leaf = dict[Place, Entry]


def leaf_of(table: str, group: bytes) -> str:
    """Return the prefix of the leaf in which all records of one group stand, 4 hex digits."""
    return hashlib.sha256(table.encode() + b"\0" + group).hexdigest()[:DEPTH]


def path_of(leaf: str) -> list[str]:
    """Return the prefixes from the root to a leaf."""
    return [leaf[:length] for length in range(DEPTH + 1)]


def record_message(table: str, columns: Mapping[str, Value], defaults: Mapping[str, Value]) -> bytes:
    """Return what the MAC of a record covers; *columns* may have one `mac`, which is left out.

    Raises:
        ValueError, TypeError: a value has no canonical form.
    """
    values: list[Value] = [table]
    for name in sorted(columns):
        value = columns[name]
        if name != "mac" and value != defaults.get(name):
            values += (name, value)
    return RECORD_LABEL + encode(values)


def root_message(tenant: TenantUid, epoch: int, root: bytes) -> bytes:
    """Return what the MAC of a tenant's root covers."""
    return ROOT_LABEL + tenant.bytes + _EPOCH.pack(epoch) + root


def leaf_body(entries: Leaf) -> bytes:
    """Return the bytes of a leaf; none at all for one without records."""
    return b"".join(encode([*place, *entries[place]]) for place in sorted(entries))


def parse_leaf(body: bytes) -> Leaf:
    """Undo leaf_body().

    Raises:
        CorruptRecord: the bytes are those of no leaf.
    """
    try:
        values = decode(body)
        entries: Leaf = {}
        for start in range(0, len(values), 5):
            table, group, identity, revision, mac = values[start : start + 5]
            if not (
                isinstance(table, str)
                and isinstance(group, bytes)
                and isinstance(identity, bytes)
                and isinstance(revision, int)
                and isinstance(mac, bytes)
            ):
                raise lie(Lie.PATH)
            entries[Place(table, group, identity)] = Entry(revision, mac)
    except ValueError as error:
        raise lie(Lie.PATH) from error
    return entries


def node_hash(prefix: str, body: bytes) -> bytes:
    """Return the hash of a node: zeroes for one without records."""
    if not body.strip(b"\0"):
        return NONE
    return hashlib.sha256((b"\0" if len(prefix) == DEPTH else b"\1") + body).digest()


def child_hash(body: bytes, digit: str) -> bytes:
    """Return what an inner node says of its child; *body* may be empty.

    Raises:
        CorruptRecord: it is no inner node.
    """
    if not body:
        return NONE
    if len(body) != HASH * len(DIGITS):
        raise lie(Lie.PATH)
    start = HASH * DIGITS.index(digit)
    return body[start : start + HASH]


def with_child(body: bytes, digit: str, child: bytes) -> bytes:
    """Return an inner node with another hash for one child."""
    body = body or NONE * len(DIGITS)
    start = HASH * DIGITS.index(digit)
    return body[:start] + child + body[start + HASH :]


def verify_node(prefix: str, body: bytes, expected: bytes) -> None:
    """Make sure that a node is the one that its parent, or the root's row, names.

    Raises:
        CorruptRecord: it is another one, or missing.
    """
    if node_hash(prefix, body) != expected:
        raise lie(Lie.PATH)


def verify_entry(place: Place, known: Entry | None, found: Entry | None) -> None:
    """Compare what the tree knows of a record with what is stored; None for nothing.

    Raises:
        CorruptRecord: they differ; the error names the table and what is wrong.
    """
    if known == found:
        return
    if found is None:
        raise lie(Lie.MISSING, place.table)
    if known is None:
        raise lie(Lie.UNKNOWN, place.table)
    raise lie(Lie.OLDER if found.revision < known.revision else Lie.OTHER, place.table)


def with_changes(nodes: Mapping[str, bytes], changes: Mapping[Place, Entry | None]) -> dict[str, bytes]:
    """Return the nodes that change when records are written, or removed (None), with their new bodies.

    *nodes* holds, verified, every node on the paths of the changed records' leaves that there is.
    """
    changed: dict[str, bytes] = {}
    by_leaf: dict[str, list[Place]] = {}
    for place in changes:
        by_leaf.setdefault(place.leaf, []).append(place)
    for prefix, places in by_leaf.items():
        entries = parse_leaf(nodes.get(prefix, b""))
        for place in places:
            entry = changes[place]
            if entry is None:
                entries.pop(place, None)
            else:
                entries[place] = entry
        changed[prefix] = leaf_body(entries)
    level = set(by_leaf)
    for _ in range(DEPTH):
        for prefix in sorted(level):
            parent = prefix[:-1]
            body = changed.get(parent, nodes.get(parent, b""))
            changed[parent] = with_child(body, prefix[-1], node_hash(prefix, changed[prefix]))
        level = {prefix[:-1] for prefix in level}
    return changed


def tree(entries: Mapping[Place, Entry]) -> dict[str, bytes]:
    """Return all nodes of the tree of these records."""
    return with_changes({}, entries)


def root_of(nodes: Mapping[str, bytes]) -> bytes:
    """Return the root hash of a tree."""
    return node_hash("", nodes.get("", b""))


def paths_of(leaves: Iterable[str]) -> set[str]:
    """Return the prefixes of all nodes on the paths of leaves."""
    return {prefix for leaf in leaves for prefix in path_of(leaf)}
