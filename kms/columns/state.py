"""What is known in the application's database itself of its protection: schema kms_columns.

The state of a column decides what is plaintext and what is ciphertext; how a value looks never does. Applications may read
the table `columns`; nothing in it is secret.

    (none) -> filling -> protected -> verified -> blanked -> dropped
                 |           |            |           |
                 |           +------------+-----------+--> undoing -> (none)
                 +--> (none)

In each of them a row's ciphertext is what counts where there is one, for the guard (guard.py) keeps none that is stale. So a
reader needs to know but one thing of the state: whether the plaintext column is still there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from psycopg.types.json import Jsonb

from .database import Connection
from .errors import WrongState
from .plan import Column, Table

SCHEMA: Final = "kms_columns"


class State(StrEnum):
    """How far a column is."""

    FILLING = "filling"  # the plaintext is what counts; ciphertexts are written beside it
    PROTECTED = "protected"  # the ciphertext is what counts; every row has one, and none comes without
    VERIFIED = "verified"  # and every one of them has been decrypted and compared
    BLANKED = "blanked"  # no plaintext is taken any more, and what was there goes from the rows
    DROPPED = "dropped"  # and its column from the table
    UNDOING = "undoing"  # row by row the plaintext is brought back: where a row has a ciphertext, that is what counts


@dataclass(frozen=True, slots=True)
class Known:
    """A column whose protection has begun: what was decided then, and its state."""

    table: str
    column: Column
    identity: tuple[str, ...]  # columns
    sql_type: str  # of the plaintext column, with its modifiers, as format_type() prints it
    state: State
    key_name: str  # resource name
    index_key_name: str | None = None  # of the key of the blind index, or of the hashes
    not_null: bool = False  # whether the plaintext column was so before it was blanked


_DDL: Final = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.columns (
    table_name text NOT NULL,
    column_name text NOT NULL,
    state text NOT NULL CHECK (state IN ({", ".join(f"'{state.value}'" for state in State)})),
    mode text NOT NULL,
    key_name text NOT NULL,
    index_key_name text,
    ciphertext_column text NOT NULL,
    version_column text NOT NULL,
    index_column text,
    identity text[] NOT NULL,
    sql_type text NOT NULL,
    not_null boolean NOT NULL DEFAULT false,
    definition jsonb NOT NULL,  -- the plan's column, whole
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, column_name)
);
CREATE TABLE IF NOT EXISTS {SCHEMA}.progress (
    table_name text NOT NULL,
    task text NOT NULL,
    cursor text[],  -- the identity of the last row that is done; NULL before the first
    passes bigint NOT NULL DEFAULT 0,  -- whole ones
    seen bigint NOT NULL DEFAULT 0,
    changed bigint NOT NULL DEFAULT 0,
    skipped bigint NOT NULL DEFAULT 0,  -- rows that somebody changed meanwhile: they come again with the next pass
    total bigint NOT NULL DEFAULT 0,  -- rows, as the server guesses
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, task)
);
"""


def create(connection: Connection) -> None:
    """Make the schema; does nothing where it is."""
    connection.execute(_DDL)


def known(connection: Connection) -> list[Known]:
    """Return all columns whose protection has begun, by table and column; none where the schema is not there."""
    [(there,)] = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{SCHEMA}.columns",)).fetchall()
    if not there:
        return []
    rows = connection.execute(
        "SELECT table_name, definition, identity, sql_type, state, key_name, index_key_name, not_null"  # noqa: S608
        f" FROM {SCHEMA}.columns ORDER BY table_name, column_name"
    ).fetchall()
    return [
        Known(table, Column.model_validate(definition), tuple(identity), sql_type, State(state), *others)
        for table, definition, identity, sql_type, state, *others in rows
    ]


def add(
    connection: Connection,
    table: Table,
    column: Column,
    key_name: str,
    identity: tuple[str, ...],
    sql_type: str,
    index_key_name: str | None = None,
) -> None:
    """Note that a column's protection begins."""
    connection.execute(
        f"INSERT INTO {SCHEMA}.columns (table_name, column_name, state, mode, key_name, ciphertext_column, version_column,"  # noqa: S608
        " index_column, identity, sql_type, definition, index_key_name)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            table.table,
            column.column,
            State.FILLING.value,
            column.mode.value,
            key_name,
            column.ciphertext,
            column.version,
            column.blind_index,
            list(identity),
            sql_type,
            Jsonb(column.model_dump(mode="json")),
            index_key_name,
        ),
    )


def move(connection: Connection, table: str, columns: Iterable[str], before: State, after: State | None) -> None:
    """Bring columns of a table from one state to another, all or none; None forgets them.

    Raises:
        WrongState: one is not in the state *before*.
    """
    names = sorted(columns)
    if after is None:
        cursor = connection.execute(
            f"DELETE FROM {SCHEMA}.columns WHERE table_name = %s AND column_name = ANY(%s) AND state = %s",  # noqa: S608
            (table, names, before.value),
        )
    else:
        cursor = connection.execute(
            f"UPDATE {SCHEMA}.columns SET state = %s, changed_at = now()"  # noqa: S608
            " WHERE table_name = %s AND column_name = ANY(%s) AND state = %s",
            (after.value, table, names, before.value),
        )
    if cursor.rowcount != len(names):
        raise WrongState(f"{table}: somebody else is at work, or not all of {', '.join(names)} are {before.value}")


def note_not_null(connection: Connection, table: str, columns: Iterable[str]) -> None:
    """Note which plaintext columns are NOT NULL, for that goes before they are blanked."""
    connection.execute(
        f"UPDATE {SCHEMA}.columns AS c SET not_null = a.attnotnull FROM pg_attribute a"  # noqa: S608
        " WHERE a.attrelid = format('%%I.%%I', split_part(c.table_name, '.', 1), substr(c.table_name, strpos(c.table_name, '.') + 1))::regclass"
        " AND a.attname = c.column_name AND c.table_name = %s AND c.column_name = ANY(%s)",
        (table, sorted(columns)),
    )


def with_column(known: Known, column: Column) -> Known:
    """Return what is known with another definition of the column: what becomes of its plaintext may be decided later."""
    return replace(known, column=column)


def forget_progress(connection: Connection, table: str) -> None:
    """Forget how far all tasks of a table are; those that are not at their end begin anew."""
    connection.execute(f"DELETE FROM {SCHEMA}.progress WHERE table_name = %s", (table,))  # noqa: S608
