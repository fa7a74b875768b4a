"""Taking the plaintext away: `blank` empties its column, `drop` drops it. Each is a command of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import field as made

from kms_client import Client
from psycopg import sql

from kms.failpoints import reach

from . import guard, state
from .batches import Done, Identity, Page, Progress, forget, run_until_nothing_is_left
from .cells import ALIAS, row_condition
from .database import Connection, named
from .errors import NotVerified, WrongState
from .locks import locked
from .plan import Plaintext
from .rows import Row, read, update
from .state import Known, State
from .verify import Batch, Verify


@dataclass(slots=True)
class Blank:
    """The task: a plaintext goes only after its ciphertext has been decrypted once more, and is equal to it."""

    client: Client
    columns: Sequence[Known]
    name: str = "blank"
    table: str = made(init=False)
    identity: tuple[str, ...] = made(init=False)

    def __post_init__(self) -> None:
        self.table, self.identity = self.columns[0].table, self.columns[0].identity

    @property
    def condition(self) -> sql.Composed:
        """Which rows still have a plaintext."""
        return sql.SQL(" OR ").join([left(one, ALIAS) for one in self.columns])

    def read(self, connection: Connection, after: Identity | None, limit: int) -> Page[Row]:
        """Return the next rows."""
        outputs = Verify(self.client, self.columns).outputs()
        return read(connection, self.table, self.identity, outputs, self.condition, after, limit)

    def work(self, rows: Batch) -> list[tuple[Identity, Row]]:
        """Decrypt and compare; returns ctid and xmin of the rows.

        Raises:
            NotVerified: a ciphertext is not that of the plaintext.
        """
        findings = Verify(self.client, self.columns).work(rows)
        if findings:
            first = findings[0]
            raise NotVerified(
                f"{self.table}: {first.column} of row {', '.join(first.row)} {first.fault}; its plaintext is kept."
                " Mend the row, or undo the protection"
            )
        return [(identity, row[:2]) for identity, row in rows]

    def write(self, connection: Connection, work: list[tuple[Identity, Row]]) -> Done:
        """Take the plaintexts away."""
        assignments: list[tuple[str, sql.Composable]] = [
            (
                one.column.column,
                sql.SQL("CASE WHEN {} THEN NULL ELSE {} END").format(
                    left(one, ALIAS), sql.Identifier(ALIAS, one.column.column)
                ),
            )
            for one in self.columns
        ]
        changed = update(connection, self.table, self.identity, assignments, [], work)
        return Done(changed, len(work) - changed)


def left(known: Known, alias: str) -> sql.Composed:
    """Return the condition under which a protected row still has its plaintext."""
    column = sql.Identifier(alias, known.column.column)
    return sql.SQL("({} IS NOT NULL AND {})").format(column, row_condition(known, alias))


def blank(
    connection: Connection,
    client: Client,
    columns: Sequence[Known],
    *,
    tell: Callable[[Progress], None],
    wait: Callable[[Connection], None],
) -> Progress | None:
    """Empty the plaintext columns of a table, but for those that the plan keeps; returns None where there was none to empty.

    Raises:
        WrongState: they are not verified.
        NotVerified: a ciphertext is not that of its plaintext.
    """
    columns = [one for one in columns if one.column.plaintext is not Plaintext.KEEP]
    for one in columns:
        _require(one, {State.VERIFIED, State.BLANKED, State.DROPPED}, "verified")
    mine = [one for one in columns if one.state is not State.DROPPED]
    if not mine:
        return None
    table = mine[0].table
    fresh = [one for one in mine if one.state is State.VERIFIED]
    if fresh:
        locked(connection, table, "ACCESS EXCLUSIVE", lambda: _begin(connection, table, fresh))
        reach("columns.blank_begun")
    progress = run_until_nothing_is_left(connection, Blank(client, mine), tell=tell, wait=wait)
    forget(connection, "blank", table)
    # The planner's statistics hold values, too.
    connection.execute(
        sql.SQL("ANALYZE {} ({})").format(
            named(table), sql.SQL(", ").join(sql.Identifier(one.column.column) for one in mine)
        )
    )
    return progress


def _begin(connection: Connection, table: str, columns: Sequence[Known]) -> None:
    names = [one.column.column for one in columns]
    state.note_not_null(connection, table, names)
    for name in names:
        connection.execute(
            sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL").format(named(table), sql.Identifier(name))
        )
    state.move(connection, table, names, State.VERIFIED, State.BLANKED)
    _make_guard(connection, table)


def drop(connection: Connection, columns: Sequence[Known]) -> list[str]:
    """Drop the plaintext columns of a table, which are empty, but for those that the plan keeps; returns which were there.

    Raises:
        WrongState: they are not blanked.
        NotVerified: one is not empty.
    """
    columns = [one for one in columns if one.column.plaintext is Plaintext.DROP]
    for one in columns:
        _require(one, {State.BLANKED, State.DROPPED}, "blanked")
    mine = [one for one in columns if one.state is State.BLANKED]
    if not mine:
        return []
    table = mine[0].table
    names = [one.column.column for one in mine]
    for one in mine:
        # Looked at without a lock: the guard lets no plaintext in any more.
        found = sql.SQL("SELECT EXISTS (SELECT FROM {} AS t WHERE {} IS NOT NULL)").format(
            named(table), sql.Identifier(ALIAS, one.column.column)
        )
        [(there,)] = connection.execute(found).fetchall()
        if there:
            raise NotVerified(f"{table}.{one.column.column}: is not empty; run `kms columns blank` to its end first")

    def act() -> None:
        state.move(connection, table, names, State.BLANKED, State.DROPPED)
        _make_guard(connection, table)
        connection.execute(
            sql.SQL("ALTER TABLE {} {}").format(
                named(table), sql.SQL(", ").join(sql.SQL("DROP COLUMN {}").format(sql.Identifier(n)) for n in names)
            )
        )
        reach("columns.before_drop")

    locked(connection, table, "ACCESS EXCLUSIVE", act)
    reach("columns.dropped")
    return names


def _make_guard(connection: Connection, table: str) -> None:
    guard.make(connection, table, [one for one in state.known(connection) if one.table == table])


def _require(known: Known, states: set[State], wanted: str) -> None:
    if known.state not in states:
        raise WrongState(f"{known.table}.{known.column.column}: is {known.state.value}, and must be {wanted} first")
