"""The trigger that keeps plaintext and ciphertext of a row together, whoever writes it.

One for each table, made from the states of its columns. It is no defence against those who may write the table: it
tells programs that do not know of the protection, instead of letting them make rows that nobody notices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from psycopg import sql

from .cells import row_condition
from .database import Connection, named
from .plan import Mode
from .state import SCHEMA, Known, State

NAME: Final = "zzz_kms_columns"  # triggers fire in the order of their names; what counts is what the last one leaves
SQLSTATE: Final = "23000"  # integrity_constraint_violation


def function_name(table: str) -> sql.Identifier:
    """Return the name of a table's guard function."""
    return sql.Identifier(SCHEMA, f"guard_{hashlib.sha256(table.encode()).hexdigest()[:16]}")


def statements(connection: Connection, table: str, columns: Sequence[Known]) -> list[sql.Composed]:
    """Return what makes a table's guard for the states of its columns; for none, what removes it."""
    trigger = sql.Identifier(NAME)
    drop = sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(trigger, named(table))
    if not columns:
        return [drop, sql.SQL("DROP FUNCTION IF EXISTS {}()").format(function_name(table))]
    body = sql.SQL("BEGIN\n{}RETURN NEW;\nEND").format(sql.Composed([_rules(column) for column in columns]))
    return [
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS {}"
        ).format(function_name(table), sql.Literal(body.as_string(connection))),
        drop,
        sql.SQL("CREATE TRIGGER {} BEFORE INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION {}()").format(
            trigger, named(table), function_name(table)
        ),
        # Also for the runner's own writes, which fire no other trigger.
        sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(named(table), trigger),
    ]


def make(connection: Connection, table: str, columns: Sequence[Known]) -> None:
    """Make a table's guard for the states of its columns, in the transaction that changes them."""
    for statement in statements(connection, table, columns):
        connection.execute(statement)


def _rules(known: Known) -> sql.Composable:
    column = known.column
    added = [column.ciphertext, column.version, *([column.blind_index] if column.blind_index else [])]
    complete = [column.ciphertext] if column.paths else added  # a document may have nothing at any of its paths
    bound = column.mode in (Mode.RANDOMIZED, Mode.BLIND_INDEX)
    parts: dict[str, sql.Composable] = {
        "plain": sql.Identifier("new", column.column),
        "ct": sql.Identifier("new", column.ciphertext),
        "ct_same": sql.SQL("NOT {}").format(_changed([column.ciphertext])),
        "plain_changed": _changed([column.column]),
        "identity_changed": _changed(known.identity) if bound else sql.SQL("false"),
        "protected": row_condition(known, "new"),
        "complete": sql.SQL(" AND ").join(
            sql.SQL("{} IS NOT NULL").format(sql.Identifier("new", name)) for name in complete
        ),
        "forget": sql.Composed([sql.SQL("{} := NULL; ").format(sql.Identifier("new", name)) for name in added]),
        "without": _refuse(known, f"{', '.join(complete)} must be written together, and with {column.column}"),
        "stale": _refuse(known, f"{column.column} or the identity is changed, so {column.ciphertext} must be as well"),
        "unprotected": _refuse(known, f"this row is not one that is protected, and must not have {column.ciphertext}"),
        "alone": _refuse(known, f"protection has only begun: {column.column} must be written with {column.ciphertext}"),
    }
    return sql.SQL(_TEMPLATES[known.state]).format(**parts)


def _changed(columns: Sequence[str]) -> sql.Composable:
    """Compare bytes and not values: types differ in what is equal, and how it is printed is up to the session."""
    new, old = (sql.SQL(", ").join(sql.Identifier(record, column) for column in columns) for record in ("new", "old"))
    return sql.SQL("(ROW({})::record OPERATOR(pg_catalog.*<>) ROW({})::record)").format(new, old)


def _refuse(known: Known, reason: str) -> sql.Composable:
    message = f"kms columns: {known.table}.{known.column.column}: {reason}"
    return sql.SQL("RAISE EXCEPTION USING ERRCODE = {}, MESSAGE = {};").format(
        sql.Literal(SQLSTATE), sql.Literal(message)
    )


# The plaintext counts; a ciphertext that no longer belongs to it goes, and comes again with the next pass.
_FILLING: Final = """
IF NOT {protected} THEN
    {forget}
ELSE
    IF TG_OP = 'UPDATE' THEN
        IF ({plain_changed} OR {identity_changed}) AND {ct_same} THEN {forget} END IF;
    END IF;
    IF {ct} IS NOT NULL AND {plain} IS NULL THEN {alone} END IF;
END IF;
"""
_PRESENT: Final = """
IF NOT {protected} AND {ct} IS NOT NULL THEN {unprotected} END IF;
IF {ct} IS NOT NULL AND NOT ({complete}) THEN {without} END IF;
"""
_PROTECTED: Final = (
    _PRESENT
    + """
IF {protected} AND {plain} IS NOT NULL AND {ct} IS NULL THEN {without} END IF;
IF TG_OP = 'UPDATE' AND {ct} IS NOT NULL THEN
    IF ({plain_changed} OR {identity_changed}) AND {ct_same} THEN {stale} END IF;
END IF;
"""
)
_BLANKED: Final = (
    _PRESENT
    + """
IF {protected} AND {plain} IS NOT NULL AND {ct} IS NULL THEN {without} END IF;
IF TG_OP = 'UPDATE' AND {ct} IS NOT NULL THEN
    IF (({plain_changed} AND {plain} IS NOT NULL) OR {identity_changed}) AND {ct_same} THEN {stale} END IF;
END IF;
IF {ct} IS NOT NULL THEN {plain} := NULL; END IF;
"""
)
_DROPPED: Final = (
    _PRESENT
    + """
IF TG_OP = 'UPDATE' AND {ct} IS NOT NULL THEN
    IF {identity_changed} AND {ct_same} THEN {stale} END IF;
END IF;
"""
)
_UNDOING: Final = """
IF TG_OP = 'UPDATE' AND {ct} IS NOT NULL THEN
    IF {plain_changed} AND {ct_same} THEN {forget}
    ELSIF {identity_changed} AND {ct_same} THEN {stale}
    END IF;
END IF;
"""
_TEMPLATES: Final = {
    State.FILLING: _FILLING,
    State.PROTECTED: _PROTECTED,
    State.VERIFIED: _PROTECTED,
    State.BLANKED: _BLANKED,
    State.DROPPED: _DROPPED,
    State.UNDOING: _UNDOING,
}
