"""What is added to a table before its rows are filled: columns, state, guard, and indexes, without long locks."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from kms.failpoints import reach

from . import guard, state
from .database import Connection, named
from .errors import PlanError, WrongState
from .locks import locked
from .plan import Column, Plan, Table
from .state import Known, State
from .tables import Catalogued, identity_of, look_up, require_fit


def intended(plan: Plan, table: Table, identity: tuple[str, ...], catalogued: Catalogued) -> list[Known]:
    """Return the columns of a table as they are when their protection begins."""
    return [
        Known(
            table.table,
            column,
            identity,
            catalogued.attributes[column.column].sql_type,
            State.FILLING,
            plan.key_name(column.key),
            None if column.index is None else plan.key_name(column.index.key),
        )
        for column in table.columns
    ]


def expand(connection: Connection, plan: Plan, table: Table) -> list[Known]:
    """Begin the protection of those columns of a table that are not protected yet; returns all of the plan's.

    Raises:
        PlanError: the plan does not fit the table, or says something else than when the protection began.
    """
    state.create(connection)
    known = {one.column.column: one for one in state.known(connection) if one.table == table.table}
    fresh = [column for column in table.columns if column.column not in known]
    for column in table.columns:
        if column not in fresh:
            require_same(plan, known[column.column], column)
    if fresh:
        beginning = table.model_copy(update={"columns": tuple(fresh)})
        catalogued = look_up(connection, table)
        identity = identity_of(table, catalogued)
        require_fit(beginning, catalogued, identity)
        _require_free_names(beginning, catalogued)
        begun = intended(plan, beginning, identity, catalogued)

        def begin() -> None:
            for statement in statements(connection, table, [*known.values(), *begun], begun):
                connection.execute(statement)
            for one in begun:
                state.add(connection, table, one.column, one.key_name, one.identity, one.sql_type, one.index_key_name)

        locked(connection, table.table, "ACCESS EXCLUSIVE", begin)
        reach("columns.expanded")
        known |= {one.column.column: one for one in begun}
    return [known[column.column] for column in table.columns]


def statements(
    connection: Connection, table: Table, all_columns: Sequence[Known], begun: Sequence[Known]
) -> list[sql.Composed]:
    """Return what adds the columns and the guard."""
    additions: list[sql.Composable] = []
    external: list[sql.Composable] = []
    for known in begun:
        column = known.column
        kind = "jsonb" if column.paths else "bytea"
        additions += [
            sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(column.ciphertext), sql.SQL(kind)),
            sql.SQL("ADD COLUMN {} bigint").format(sql.Identifier(column.version)),
        ]
        if column.blind_index is not None:
            additions.append(sql.SQL("ADD COLUMN {} bytea").format(sql.Identifier(column.blind_index)))
        if not column.paths:  # a ciphertext cannot be compressed, and need not be tried
            external.append(sql.SQL("ALTER COLUMN {} SET STORAGE EXTERNAL").format(sql.Identifier(column.ciphertext)))
    alter = sql.SQL("ALTER TABLE {} {}").format(named(table.table), sql.SQL(", ").join(additions))
    store = sql.SQL("ALTER TABLE {} {}").format(named(table.table), sql.SQL(", ").join(external))
    return [alter, *([store] if external else []), *guard.statements(connection, table.table, all_columns)]


def require_same(plan: Plan, known: Known, column: Column) -> None:
    """Check that the plan still says what a column's protection began with.

    Raises:
        PlanError: it says something else.
        WrongState: the protection is being undone.
    """
    if known.state is State.UNDOING:
        raise WrongState(f"{known.table}.{column.column}: is being undone; run `kms columns undo` until that is done")
    free = {"comment", "plaintext", "classification", "accept_leakage"}
    same = known.column.model_dump(exclude=free) == column.model_dump(exclude=free)
    if not same or known.key_name != plan.key_name(column.key):
        raise PlanError(
            f"{known.table}.{column.column}: the plan differs from the one that its protection began with;"
            " undo it first, or take back the change"
        )


def _require_free_names(table: Table, catalogued: Catalogued) -> None:
    for column in table.columns:
        for name in (column.ciphertext, column.version, column.blind_index):
            if name is not None and name in catalogued.attributes:
                raise PlanError(
                    f"{table.table}.{column.column}: there is already a column {name}; choose another name in the plan"
                )
