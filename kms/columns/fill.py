"""Filling: passes over the rows that have a plaintext and no ciphertext, until there are none; then the switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from kms_client import Client
from psycopg import sql

from kms.failpoints import reach

from . import guard, state
from .batches import LAST, LAST_DEADLINE, MOST_PASSES, Done, Identity, Page, Progress, finish, forget, run
from .cells import (
    ALIAS,
    AS_TEXT,
    DEADLINE,
    MAX_VALUE,
    Cell,
    cells_of,
    compute_index,
    cut,
    document_with,
    encrypt,
    index_version,
    row_condition,
)
from .database import Connection, named
from .errors import ColumnsError
from .indexes import build, drop_pending, pending_index
from .locks import locked
from .rows import Row, read, update, update_statements
from .state import Known, State

Batch = list[tuple[Identity, Row]]


def missing(known: Known, alias: str | None = None) -> sql.Composable:
    """Return the condition under which a row's plaintext has no whole ciphertext, whether or not it is protected."""
    column = known.column
    needed = [column.ciphertext]
    if not column.paths:  # a document may have nothing at any of its paths
        needed += [column.version, *([column.blind_index] if column.blind_index else [])]

    def name(one: str) -> sql.Identifier:
        return sql.Identifier(one) if alias is None else sql.Identifier(alias, one)

    return sql.SQL("({} IS NOT NULL AND ({}))").format(
        name(column.column), sql.SQL(" OR ").join(sql.SQL("{} IS NULL").format(name(one)) for one in needed)
    )


def _any(conditions: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL("({})").format(sql.SQL(" OR ").join(conditions))


@dataclass(slots=True)
class Fill:
    """The task: columns of one table that are being filled."""

    client: Client
    columns: Sequence[Known]
    deadline: float = DEADLINE
    name: str = "fill"
    table: str = field(init=False)
    identity: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.table, self.identity = self.columns[0].table, self.columns[0].identity

    @property
    def condition(self) -> sql.Composed:
        """Which rows are still to be done."""
        return sql.SQL("{} AND {}").format(
            _any([missing(one, ALIAS) for one in self.columns]),  # the predicate of the index, as it stands there
            _any([sql.SQL("{} AND {}").format(missing(one, ALIAS), row_condition(one)) for one in self.columns]),
        )

    def index(self) -> sql.Composed:
        """Which rows are in the index of those that are still to be done: a row's own condition may not be there."""
        return _any([missing(one) for one in self.columns])

    def outputs(self) -> list[sql.Composable]:
        """Return what is read of a row: for each column whether it is to be done, and the plaintext of each cell."""
        found: list[sql.Composable] = []
        for one in self.columns:
            due = sql.SQL("({} AND {})").format(missing(one, ALIAS), row_condition(one))
            found.append(due)
            found += [
                sql.SQL("CASE WHEN {} THEN {} END").format(due, cut(cell.plaintext, MAX_VALUE))
                for cell in cells_of(one)
            ]
        return found

    def read(self, connection: Connection, after: Identity | None, limit: int) -> Page[Row]:
        """Return the next rows that have something to do."""
        return read(connection, self.table, self.identity, self.outputs(), self.condition, after, limit)

    def work(self, rows: Sequence[tuple[Identity, Row]]) -> Batch:
        """Encrypt and compute the indexes; returns ctid, xmin and what is staged for each row."""
        staged: list[list[object]] = [list(row[:2]) for _, row in rows]
        at = 2
        for one in self.columns:
            cells = cells_of(one)
            due = [bool(row[at]) for _, row in rows]
            values = [[row[at + 1 + i] for _, row in rows] for i in range(len(cells))]
            at += 1 + len(cells)
            columns = self._seal([identity for identity, _ in rows], one, cells, values)
            for n, line in enumerate(staged):
                line.append(due[n])
                line += [column[n] for column in columns]
        return [(identity, tuple(line)) for (identity, _), line in zip(rows, staged, strict=True)]

    def _seal(
        self, rows: list[Identity], known: Known, cells: tuple[Cell, ...], values: list[list[bytes | None]]
    ) -> list[list[object]]:
        """Return what is staged for one column: what is stored for each cell, the versions, and the blind indexes."""
        versions: list[object] = [None] * len(rows)
        stored: list[list[object]] = []
        for cell, plaintexts in zip(cells, values, strict=True):
            there = [n for n, value in enumerate(plaintexts) if value is not None]
            which, given = [rows[n] for n in there], [value for value in plaintexts if value is not None]
            sealed: list[object] = [None] * len(rows)
            if not cell.encrypted:
                for n, index in zip(there, self._indexes(known, which, given), strict=True):
                    sealed[n], versions[n] = index, index_version(index)
                return [sealed, versions]
            for n, one in zip(
                there, encrypt(self.client, cell, which, given, deadline=self.deadline) if there else [], strict=True
            ):
                before = versions[n]
                sealed[n] = cell.to_store(one.ciphertext)
                versions[n] = min(before, one.version) if isinstance(before, int) else one.version
            stored.append(sealed)
            if known.column.blind_index is not None:
                blind: list[object] = [None] * len(rows)
                for n, index in zip(there, self._indexes(known, which, given), strict=True):
                    blind[n] = index
                return [sealed, versions, blind]
        return [*stored, versions]

    def _indexes(self, known: Known, rows: list[Identity], values: list[bytes]) -> list[bytes]:
        for row, value in zip(rows, values, strict=True):
            if len(value) > MAX_VALUE:
                raise ColumnsError(
                    f"{known.table}.{known.column.column}, row {', '.join(row)}: longer than {MAX_VALUE} bytes"
                )
        return (
            [versions[0] for versions in compute_index(self.client, known, rows, values, deadline=self.deadline)]
            if values
            else []
        )

    def plan(self) -> tuple[list[tuple[str, sql.Composable]], list[str]]:
        """Return the assignments of the update, and the types of what is staged."""
        assignments: list[tuple[str, sql.Composable]] = []
        types: list[str] = []
        for one in self.columns:
            column = one.column
            due = sql.Identifier("s", f"c{len(types)}")
            types.append("bool")
            cells = cells_of(one)
            staged = [sql.Identifier("s", f"c{len(types) + i}") for i in range(len(cells))]
            types += ["bytea"] * len(cells)
            new: list[tuple[str, sql.Composable]] = [
                (
                    column.ciphertext,
                    document_with(one, one.column.column, AS_TEXT, staged) if column.paths else staged[0],
                ),
                (column.version, sql.Identifier("s", f"c{len(types)}")),
            ]
            types.append("int8")
            if column.blind_index is not None:
                new.append((column.blind_index, sql.Identifier("s", f"c{len(types)}")))
                types.append("bytea")
            assignments += [
                (name, sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(due, value, sql.Identifier(ALIAS, name)))
                for name, value in new
            ]
        return assignments, types

    def write(self, connection: Connection, work: Batch) -> Done:
        """Write the ciphertexts beside what they were made of."""
        assignments, types = self.plan()
        changed = update(connection, self.table, self.identity, assignments, types, work)
        return Done(changed, len(work) - changed)

    def statements(self) -> list[sql.Composed]:
        """Return what --dry-run shows."""
        assignments, types = self.plan()
        return [update_statements(self.table, self.identity, assignments, types)[0]]


def fill(
    connection: Connection,
    client: Client,
    columns: Sequence[Known],
    *,
    tell: Callable[[Progress], None],
    wait: Callable[[Connection], None],
) -> Progress:
    """Fill columns of one table and switch them to `protected`.

    Raises:
        ColumnsError: a value cannot be encrypted, or rows change faster than they are filled.
    """
    task = Fill(client, columns)
    build(connection, task.table, pending_index(task.table, task.identity, task.index()))
    for _ in range(MOST_PASSES):
        progress = run(connection, task, tell=tell, wait=wait)
        if few_left(connection, task.table, task.condition) and switch(connection, task):
            break
    else:
        raise ColumnsError(f"{task.table}: rows are written faster than they are encrypted")
    drop_pending(connection, task.table)
    forget(connection, task.name, task.table)
    return progress


def few_left(connection: Connection, table: str, condition: sql.Composed) -> bool:
    """Return whether so few rows are left to be done that writers may wait for them."""
    left = sql.SQL("SELECT count(*) <= {} FROM (SELECT FROM {} AS t WHERE {} LIMIT {}) AS few").format(
        sql.Literal(LAST), named(table), condition, sql.Literal(LAST + 1)
    )
    [(few,)] = connection.execute(left).fetchall()
    return bool(few)


def switch(connection: Connection, task: Fill) -> bool:
    """Let the ciphertexts count from now on; returns False where too much plaintext has come since the last pass."""

    def act() -> bool:
        if not finish(connection, replace(task, deadline=LAST_DEADLINE)):
            return False
        names = [one.column.column for one in task.columns]
        state.move(connection, task.table, names, State.FILLING, State.PROTECTED)
        guard.make(connection, task.table, [one for one in state.known(connection) if one.table == task.table])
        reach("columns.before_switch")
        return True

    switched = locked(connection, task.table, "SHARE ROW EXCLUSIVE", act)
    if switched:
        reach("columns.switched")
    return switched
