"""Rows of a protected table: read in the order of their identity, and written where nobody has changed them since."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from .batches import Identity, Page
from .cells import ALIAS, identity_texts
from .database import Connection, named

# What one batch may hold in memory, but for its last fetch: values have at most 1 MiB, and a row has many.
BYTES: Final = 16 << 20
FIRST_FETCH: Final = 16  # rows; how large they are is known only then
# A row that an application holds is left to it after so long; deadlock_timeout, 1 s by default, is longer, so that no
# transaction of an application is ever the victim of a deadlock with a batch.
ROW_PATIENCE: Final = "100ms"

Row = tuple[Any, ...]  # ctid and xmin as text, then what was asked for


def read(
    connection: Connection,
    table: str,
    identity: Sequence[str],
    outputs: Sequence[sql.Composable],
    condition: sql.Composable,
    after: Identity | None,
    limit: int,
    *,
    percent: float | None = None,
) -> Page[Row]:
    """Return the next rows: their identities, and ctid, xmin and *outputs* of each.

    Args:
        connection: in autocommit mode.
        table: as `schema.table`.
        identity: its columns.
        outputs: SQL over the alias `t`; what is long is bytea.
        condition: which rows, over the alias `t`.
        after: the identity of the last row before; None for the first.
        limit: the most rows; fewer come where they are large.
        percent: of the blocks, chosen at random; None for all.
    """
    columns = sql.SQL(", ").join(sql.Identifier(ALIAS, column) for column in identity)
    beyond: sql.Composable = sql.SQL("true")
    if after is not None:
        beyond = sql.SQL("({}) > ({})").format(columns, sql.SQL(", ").join(map(sql.Literal, after)))
    query = sql.SQL(
        "SELECT {identity}, t.ctid::text, t.xmin::text{outputs} FROM {table} AS t {sample}"
        " WHERE {beyond} AND ({condition}) ORDER BY {columns} LIMIT {limit}"
    ).format(
        identity=identity_texts(identity),
        outputs=sql.Composed([sql.SQL(", ") + output for output in outputs]),
        table=named(table),
        sample=sql.SQL("" if percent is None else f"TABLESAMPLE SYSTEM ({percent})"),
        beyond=beyond,
        condition=condition,
        columns=columns,
        limit=sql.Literal(limit),
    )
    rows: list[Row] = []
    size, fetch, last = 0, FIRST_FETCH, False
    with connection.transaction(), connection.cursor("kms_columns_rows", binary=True) as cursor:
        cursor.execute(query)
        while len(rows) < limit and size < BYTES:
            fetch = min(fetch, limit - len(rows))
            fetched = cursor.fetchmany(fetch)
            rows += fetched
            if len(fetched) < fetch:
                last = True
                break
            size += sum(len(value) for row in fetched for value in row if isinstance(value, bytes))
            fetch = max(1, (BYTES - size) * len(rows) // (size + 1))
    return Page([(tuple(row[0]), row[1:]) for row in rows], last)


def update(
    connection: Connection,
    table: str,
    identity: Sequence[str],
    assignments: Sequence[tuple[str, sql.Composable]],
    types: Sequence[str],
    rows: Sequence[tuple[Identity, Row]],
) -> int:
    """Write rows, in the transaction that is open; returns how many: those that somebody has changed or holds are not.

    Args:
        connection: with an open transaction.
        table: as `schema.table`.
        identity: its columns.
        assignments: columns, and SQL of their new values over `t` and the staged columns `s.c0`, `s.c1`, ...
        types: of the staged columns.
        rows: ctid, xmin and the values of the staged columns; they go by COPY, which no statement log shows.
    """
    _stage(connection, types, rows)
    fast, patient = update_statements(table, identity, assignments, types)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(ROW_PATIENCE)))
            return connection.execute(fast).rowcount
    except psycopg.errors.LockNotAvailable:
        return connection.execute(patient).rowcount


def update_statements(
    table: str, identity: Sequence[str], assignments: Sequence[tuple[str, sql.Composable]], types: Sequence[str]
) -> tuple[sql.Composed, sql.Composed]:
    """Return the statement that writes what is staged, and the one that leaves out rows that others hold."""
    parts = {
        "table": named(table),
        "staged": _staged(types),
        "same": sql.SQL("t.ctid = s.row_ctid::tid AND t.xmin::text = s.row_xmin AND {} = s.identity").format(
            identity_texts(identity)
        ),
        "assignments": sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(column), value) for column, value in assignments
        ),
    }
    fast = sql.SQL("UPDATE {table} AS t SET {assignments} FROM {staged} AS s WHERE {same}").format(**parts)
    patient = sql.SQL(
        "WITH free AS MATERIALIZED (SELECT s.row_ctid, s.identity FROM {staged} AS s JOIN {table} AS t ON {same}"
        " FOR UPDATE OF t SKIP LOCKED)"
        " UPDATE {table} AS t SET {assignments} FROM {staged} AS s JOIN free USING (row_ctid, identity) WHERE {same}"
    ).format(**parts)
    return fast, patient


def _staged(types: Sequence[str]) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"kms_columns_{hashlib.sha256(' '.join(types).encode()).hexdigest()[:16]}")


def _stage(connection: Connection, types: Sequence[str], rows: Sequence[tuple[Identity, Row]]) -> None:
    columns = [sql.SQL("{} {}").format(sql.Identifier(f"c{i}"), sql.SQL(kind)) for i, kind in enumerate(types)]
    staged = _staged(types)
    connection.execute("SET LOCAL client_min_messages = warning")  # that it is there is no news
    connection.execute(
        sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(
            staged, sql.SQL(", ").join([sql.SQL("identity text[], row_ctid text, row_xmin text"), *columns])
        )
    )
    copied = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(staged)
    with connection.cursor() as cursor, cursor.copy(copied) as copy:
        copy.set_types(["text[]", "text", "text", *types])
        for key, values in rows:
            copy.write_row((list(key), *values))
