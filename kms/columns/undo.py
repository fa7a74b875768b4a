"""Undoing: the plaintext comes back from the ciphertexts, row by row, and then goes what the runner has added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as made

from kms_client import Client
from psycopg import sql

from kms.failpoints import reach

from . import guard, state
from .batches import LAST_DEADLINE, MOST_PASSES, Done, Identity, Page, Progress, finish, run
from .cells import ALIAS, AS_JSON, DEADLINE, MAX_STORED, Cell, cells_of, cut, decrypt, document_with
from .database import Connection, named
from .errors import ColumnsError, NotVerified, WrongState
from .fill import few_left
from .indexes import build, drop_pending, pending_index
from .locks import locked
from .plan import Mode, shortened
from .rows import Row, read, update
from .state import Known, State
from .tables import attributes

Batch = list[tuple[Identity, Row]]


@dataclass(slots=True)
class Undo:
    """The task: rows that have a ciphertext get the plaintext that it says, and lose it."""

    client: Client
    columns: Sequence[Known]
    categories: dict[str, str]  # of the plaintext columns' types
    deadline: float = DEADLINE
    name: str = "undo"
    table: str = made(init=False)
    identity: tuple[str, ...] = made(init=False)

    def __post_init__(self) -> None:
        self.table, self.identity = self.columns[0].table, self.columns[0].identity

    def condition(self, alias: str | None) -> sql.Composed:
        """Which rows have a ciphertext."""
        names = [one.column.ciphertext for one in self.columns]
        return sql.SQL("({})").format(
            sql.SQL(" OR ").join(
                sql.SQL("{} IS NOT NULL").format(sql.Identifier(n) if alias is None else sql.Identifier(alias, n))
                for n in names
            )
        )

    def read(self, connection: Connection, after: Identity | None, limit: int) -> Page[Row]:
        """Return the next rows."""
        outputs: list[sql.Composable] = []
        for one in self.columns:
            outputs.append(sql.SQL("({} IS NOT NULL)").format(sql.Identifier(ALIAS, one.column.ciphertext)))
            outputs += [cut(cell.stored, MAX_STORED) for cell in cells_of(one) if cell.encrypted]
        return read(connection, self.table, self.identity, outputs, self.condition(ALIAS), after, limit)

    def work(self, rows: Sequence[tuple[Identity, Row]]) -> Batch:
        """Decrypt; returns ctid, xmin and what is staged for each row.

        Raises:
            NotVerified: something does not decrypt; nothing of the row is changed.
        """
        staged: list[list[object]] = [list(row[:2]) for _, row in rows]
        at = 2
        for one in self.columns:
            for line, (_, row) in zip(staged, rows, strict=True):
                line.append(row[at])
            at += 1
            for cell in cells_of(one):
                if not cell.encrypted:
                    continue
                values = self._decrypt(cell, [(identity, row[at]) for identity, row in rows])
                for line, value in zip(staged, values, strict=True):
                    line.append(value)
                at += 1
        return [(identity, tuple(line)) for (identity, _), line in zip(rows, staged, strict=True)]

    def _decrypt(self, cell: Cell, rows: list[tuple[Identity, bytes | None]]) -> list[bytes | None]:
        there = [n for n, (_, stored) in enumerate(rows) if stored is not None]
        found: list[bytes | None] = [None] * len(rows)
        if not there:
            return found
        identities = [rows[n][0] for n in there]
        stored = [bytes(rows[n][1] or b"") for n in there]
        for n, plain in zip(there, decrypt(self.client, cell, identities, stored, deadline=self.deadline), strict=True):
            if plain is None:
                raise NotVerified(f"{cell}, row {', '.join(rows[n][0])}: does not decrypt in its row; mend it first")
            found[n] = plain
        return found

    def write(self, connection: Connection, work: Batch) -> Done:
        """Write the plaintexts, and take the ciphertexts away."""
        assignments: list[tuple[str, sql.Composable]] = []
        types: list[str] = []
        for one in self.columns:
            column = one.column
            due = sql.Identifier("s", f"c{len(types)}")
            types.append("bool")
            if column.mode is not Mode.HASH_ONLY:
                cells = cells_of(one)
                staged = [sql.Identifier("s", f"c{len(types) + i}") for i in range(len(cells))]
                types += ["bytea"] * len(cells)
                assignments.append((column.column, _when(due, column.column, self._value(one, staged))))
            added = [column.ciphertext, column.version, *([column.blind_index] if column.blind_index else [])]
            assignments += [(name, _when(due, name, sql.SQL("NULL"))) for name in added]
        changed = update(connection, self.table, self.identity, assignments, types, work)
        return Done(changed, len(work) - changed)

    def _value(self, known: Known, staged: Sequence[sql.Composable]) -> sql.Composable:
        if known.column.paths:
            return document_with(known, known.column.ciphertext, AS_JSON, staged)
        if known.sql_type == "bytea":
            return staged[0]
        text = sql.SQL("convert_from({}, 'UTF8')").format(staged[0])
        if self.categories[known.column.column] == "S":
            # Without a cast, which would cut off what is too long for varchar(n); assigning it is an error.
            return text
        return sql.SQL("{}::{}").format(text, sql.SQL(known.sql_type))


def _when(due: sql.Composable, column: str, value: sql.Composable) -> sql.Composable:
    return sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(due, value, sql.Identifier(ALIAS, column))


def undo(
    connection: Connection,
    client: Client,
    columns: Sequence[Known],
    *,
    tell: Callable[[Progress], None],
    wait: Callable[[Connection], None],
) -> Progress | None:
    """Undo the protection of columns of a table, all or none; they are then as if it had never begun.

    Raises:
        WrongState: a plaintext column is dropped; or a hash is all that is left of the plaintext.
        NotVerified: a ciphertext does not decrypt; what was undone before stays so.
    """
    for one in columns:
        gone = one.state is State.DROPPED
        if gone or (one.state is State.BLANKED and one.column.mode is Mode.HASH_ONLY):
            raise WrongState(f"{one.table}.{one.column.column}: is {one.state.value}; its plaintext cannot be had back")
    table = columns[0].table
    locked(connection, table, "SHARE ROW EXCLUSIVE", lambda: _begin(connection, table, columns))
    reach("columns.undo_begun")
    there = attributes(connection, table)
    mine = [one for one in columns if one.column.ciphertext in there]
    progress = None
    if mine:
        task = Undo(client, mine, {one.column.column: there[one.column.column].category for one in mine})
        build(connection, table, pending_index(table, task.identity, task.condition(None)))
        for _ in range(MOST_PASSES):
            progress = run(connection, task, tell=tell, wait=wait)
            few = few_left(connection, table, task.condition(ALIAS))
            if few and locked(connection, table, "ACCESS EXCLUSIVE", lambda: _remove(connection, task)):
                break
        else:
            raise ColumnsError(f"{table}: ciphertexts are written faster than they are decrypted")
        reach("columns.undo_removed")
    _finish(connection, table, columns)
    return progress


def _begin(connection: Connection, table: str, columns: Sequence[Known]) -> None:
    for before in State:
        names = [one.column.column for one in columns if one.state is before]
        if names and before is not State.UNDOING:
            state.move(connection, table, names, before, State.UNDOING)
    _make_guard(connection, table)


def _remove(connection: Connection, task: Undo) -> bool:
    """Remove the added columns; returns False where too many ciphertexts have come since the last pass."""
    if not finish(connection, replace(task, deadline=LAST_DEADLINE)):
        return False
    changes: list[sql.Composable] = []
    for one in task.columns:
        column = one.column
        added = (column.ciphertext, column.version, column.blind_index)
        changes += [sql.SQL("DROP COLUMN {}").format(sql.Identifier(name)) for name in added if name is not None]
        if one.not_null:
            changes.append(
                sql.SQL("ADD CONSTRAINT {} CHECK ({} IS NOT NULL) NOT VALID").format(
                    _check_name(one), sql.Identifier(column.column)
                )
            )
    _make_guard(connection, task.table, without=frozenset(one.column.column for one in task.columns))
    connection.execute(sql.SQL("ALTER TABLE {} {}").format(named(task.table), sql.SQL(", ").join(changes)))
    reach("columns.before_undo_removed")
    return True


def _finish(connection: Connection, table: str, columns: Sequence[Known]) -> None:
    """Make columns NOT NULL again that were so, without a long lock: what has been checked is not looked at again."""
    strict = [one for one in columns if one.not_null]
    for one in strict:
        connection.execute(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(named(table), _check_name(one)))

    def act() -> None:
        for one in strict:
            connection.execute(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL").format(
                    named(table), sql.Identifier(one.column.column)
                )
            )
            connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(named(table), _check_name(one)))
        state.move(connection, table, [one.column.column for one in columns], State.UNDOING, None)
        _make_guard(connection, table)
        state.forget_progress(connection, table)
        reach("columns.before_undone")

    locked(connection, table, "ACCESS EXCLUSIVE", act)
    drop_pending(connection, table)


def _check_name(known: Known) -> sql.Identifier:
    return sql.Identifier(shortened(known.column.column, "_kms_not_null"))


def _make_guard(connection: Connection, table: str, without: frozenset[str] = frozenset()) -> None:
    columns = [one for one in state.known(connection) if one.table == table and one.column.column not in without]
    guard.make(connection, table, columns)
