"""SQL indexes on what the runner adds, built while applications go on writing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from kms.failpoints import reach

from .cells import index_name
from .database import LOCK_TIMEOUT, STATEMENT_TIMEOUT, Connection, named
from .plan import Mode, shortened
from .state import Known

# A concurrent build waits for all transactions that are older, and holds up none; it must end some time all the same.
BUILD_TIMEOUT: Final = "12h"
_PENDING: Final = "_kms_pending"

_LEAVES: Final = """
SELECT n.nspname || '.' || c.relname FROM pg_partition_tree(format('%%I.%%I', %s::text, %s::text)::regclass) AS p
JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.isleaf ORDER BY c.oid
"""
_THERE: Final = """
SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = format('%%I.%%I', %s::text, %s::text)::regclass
"""


@dataclass(frozen=True, slots=True)
class SqlIndex:
    """An index: its name on the table itself, what it is on, and which rows."""

    name: str
    on: sql.Composable
    unique: bool = False
    where: sql.Composable | None = None

    def statement(self, table: str, name: str, *, concurrently: bool) -> sql.Composed:
        """Return what makes it on a table."""
        return sql.SQL("CREATE {}INDEX {}{} ON {} {}{}").format(
            sql.SQL("UNIQUE " if self.unique else ""),
            sql.SQL("CONCURRENTLY " if concurrently else ""),
            sql.Identifier(name),
            named(table),
            self.on,
            sql.SQL("") if self.where is None else sql.SQL(" WHERE ") + self.where,
        )


def indexes_of(known: Known) -> list[SqlIndex]:
    """Return the indexes on what is added for a column: by version, and by which values are found."""
    column = known.column
    unique = column.index is not None and column.index.unique
    found = [_on(known, column.version, unique=False)]
    if column.blind_index is not None:
        found.append(_on(known, column.blind_index, unique=unique))
    elif column.mode is Mode.HASH_ONLY:
        found.append(_on(known, column.ciphertext, unique=unique))
    elif column.mode is Mode.DETERMINISTIC:
        # Ciphertexts have any length, and an entry of a B-tree at most 2,704 bytes.
        by_hash = sql.SQL("USING hash ({})").format(sql.Identifier(column.ciphertext))
        found.append(SqlIndex(index_name(known.table, column.ciphertext), by_hash))
    return found


def _on(known: Known, column: str, *, unique: bool) -> SqlIndex:
    return SqlIndex(index_name(known.table, column), sql.SQL("({})").format(sql.Identifier(column)), unique)


def pending_index(table: str, identity: Sequence[str], condition: sql.Composed) -> SqlIndex:
    """Return the index on the rows that are still to be done, so that the last look under a lock is a short one.

    Args:
        table: as `schema.table`.
        identity: its columns.
        condition: which rows, over the table's own columns without an alias.
    """
    digest = hashlib.sha256(condition.as_string(None).encode()).hexdigest()[:8]
    on = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Identifier, identity)))
    return SqlIndex(shortened(f"{table.partition('.')[2]}_{digest}", _PENDING), on, where=condition)


def build(connection: Connection, table: str, index: SqlIndex) -> None:
    """Build an index without holding up writers; one that a killed build has left half done is built anew.

    That of a partitioned table is built on each partition, and then on the table, where there is nothing left to build.
    """
    leaves = _leaves(connection, table)
    if leaves == [table]:
        _build_on(connection, table, index.name, index)
        return
    for leaf in leaves:
        digest = hashlib.sha256(f"{table} {index.name}".encode()).hexdigest()[:8]
        suffix = _PENDING if index.where is not None else "_kms"
        _build_on(connection, leaf, shortened(f"{leaf.partition('.')[2]}_{digest}", suffix), index)
    if index.where is None and index.name not in _there(connection, table):
        connection.execute(index.statement(table, index.name, concurrently=False))


def drop_pending(connection: Connection, table: str) -> None:
    """Drop the indexes on the rows that were still to be done."""
    for leaf in _leaves(connection, table):
        for name in _there(connection, leaf):
            if name.endswith(_PENDING):
                _drop(connection, leaf, name)


def _build_on(connection: Connection, table: str, name: str, index: SqlIndex) -> None:
    valid = _there(connection, table).get(name)
    if valid:
        return
    if valid is not None:
        _drop(connection, table, name)
    with _patience(connection):
        connection.execute(index.statement(table, name, concurrently=True))
    reach("columns.index_built")


def _drop(connection: Connection, table: str, name: str) -> None:
    with _patience(connection):
        connection.execute(
            sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(table.partition(".")[0], name))
        )


def _leaves(connection: Connection, table: str) -> list[str]:
    schema, _, name = table.partition(".")
    return [leaf for (leaf,) in connection.execute(_LEAVES, (schema, name)).fetchall()] or [table]


def _there(connection: Connection, table: str) -> dict[str, bool]:
    schema, _, name = table.partition(".")
    return dict(connection.execute(_THERE, (schema, name)).fetchall())


@contextmanager
def _patience(connection: Connection) -> Iterator[None]:
    connection.execute(
        "SELECT set_config('lock_timeout', '0', false), set_config('statement_timeout', %s, false)", (BUILD_TIMEOUT,)
    )
    try:
        yield
    finally:
        connection.execute(
            "SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false)",
            (LOCK_TIMEOUT, STATEMENT_TIMEOUT),
        )
