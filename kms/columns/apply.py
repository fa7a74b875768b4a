"""What the commands do with a plan: table after table, each by one runner at a time, going on where the last one ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from kms_client import Client

from . import blank, state, undo, verify
from .batches import Progress
from .database import Connection, quieten, translated
from .errors import WrongState
from .expand import expand, intended, require_same, statements
from .fill import Fill, fill
from .indexes import build, indexes_of
from .locks import alone
from .plan import Plan, Table
from .state import Known, State
from .tables import identity_of, look_up, require_fit

_WHOLE: Final = frozenset({State.VERIFIED, State.BLANKED, State.DROPPED})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command has come to for one column."""

    table: str
    column: str
    state: str  # afterwards; `none` once it is undone


@dataclass(slots=True)
class Runner:
    """A connection, a client, and a plan."""

    connection: Connection
    client: Client
    plan: Plan
    tell: Callable[[str, Progress], None]  # the table and the task, and how far it is
    wait: Callable[[Connection], None]
    only: Sequence[str] = ()  # tables; empty for all of the plan
    quiet: bool = field(init=False)  # whether its writes fire none of the application's triggers

    def __post_init__(self) -> None:
        with translated():
            self.quiet = quieten(self.connection)

    def apply(self) -> list[Outcome]:
        """Protect the columns of the plan, up to `verified`; does nothing for those that are that far.

        Raises:
            ColumnsError: it cannot go on; what is done is kept, and the next run goes on from there.
        """
        for table in self._tables():
            with self._alone(table):
                columns = expand(self.connection, self.plan, table)
                filling = [one for one in columns if one.state is State.FILLING]
                if filling:
                    for one in filling:
                        for index in indexes_of(one):
                            build(self.connection, table.table, index)
                    fill(self.connection, self.client, filling, tell=self._teller(table, "fill"), wait=self.wait)
                fresh = [one for one in self._known(table) if one.state is State.PROTECTED]
                if fresh:
                    self._verify(table, fresh)
        return self._outcomes()

    def statements(self) -> list[str]:
        """Return the SQL that apply() would begin with for columns that are not protected yet; nothing is changed.

        Raises:
            PlanError: the plan does not fit the database.
        """
        found: list[str] = []
        with translated():
            for table in self._tables():
                known = [one for one in state.known(self.connection) if one.table == table.table]
                names = {one.column.column for one in known}
                columns = tuple(column for column in table.columns if column.column not in names)
                if not columns:
                    continue
                catalogued = look_up(self.connection, table)
                identity = identity_of(table, catalogued)
                beginning = table.model_copy(update={"columns": columns})
                require_fit(beginning, catalogued, identity)
                begun = intended(self.plan, beginning, identity, catalogued)
                made = statements(self.connection, table, [*known, *begun], begun)
                for one in begun:
                    made += [i.statement(table.table, i.name, concurrently=True) for i in indexes_of(one)]
                made += Fill(self.client, begun).statements()
                found += [statement.as_string(self.connection) for statement in made]
        return found

    def verify(self) -> list[Outcome]:
        """Verify all columns of the plan.

        Raises:
            NotVerified: something is not what it should be.
            WrongState: a column is not filled yet, or is being undone.
        """
        for table in self._tables():
            with self._alone(table):
                columns = self._begun(table)
                verify.require_verifiable(columns)
                self._verify(table, columns)
        return self._outcomes()

    def blank(self) -> list[Outcome]:
        """Empty the plaintext columns; see blank.blank()."""
        for table in self._tables():
            with self._alone(table):
                blank.blank(
                    self.connection,
                    self.client,
                    self._begun(table),
                    tell=self._teller(table, "blank"),
                    wait=self.wait,
                )
        return self._outcomes()

    def drop(self) -> list[Outcome]:
        """Drop the plaintext columns; see blank.drop()."""
        for table in self._tables():
            with self._alone(table):
                blank.drop(self.connection, self._begun(table))
        return self._outcomes()

    def undo(self) -> list[Outcome]:
        """Bring the plaintext back, and remove what apply() has added; does nothing for what is not protected."""
        for table in self._tables():
            with self._alone(table):
                columns = self._begun(table, undoing=True)
                if columns:
                    undo.undo(self.connection, self.client, columns, tell=self._teller(table, "undo"), wait=self.wait)
        return self._outcomes()

    def _verify(self, table: Table, columns: Sequence[Known]) -> None:
        verify.verify(self.connection, self.client, columns, tell=self._teller(table, "verify"), wait=self.wait)

    def _tables(self) -> list[Table]:
        return [self.plan.table(name) for name in self.only] if self.only else list(self.plan.tables)

    def _known(self, table: Table) -> list[Known]:
        names = {column.column for column in table.columns}
        return [one for one in state.known(self.connection) if one.table == table.table and one.column.column in names]

    def _begun(self, table: Table, *, undoing: bool = False) -> list[Known]:
        """Return the plan's columns of a table, with what the plan now says of their plaintext."""
        known = {one.column.column: one for one in self._known(table)}
        if undoing:
            return list(known.values())
        found = []
        for column in table.columns:
            one = known.get(column.column)
            if one is None:
                raise WrongState(f"{table.table}.{column.column}: is not protected yet; run `kms columns apply` first")
            require_same(self.plan, one, column)
            found.append(state.with_column(one, column))
        return found

    def _outcomes(self) -> list[Outcome]:
        found = []
        for table in self._tables():
            known = {one.column.column: one.state.value for one in self._known(table)}
            found += [Outcome(table.table, c.column, known.get(c.column, "none")) for c in table.columns]
        return found

    def _teller(self, table: Table, task: str) -> Callable[[Progress], None]:
        return lambda progress: self.tell(f"{table.table}: {task}", progress)

    @contextmanager
    def _alone(self, table: Table) -> Iterator[None]:
        with translated(), alone(self.connection, table.table):
            yield


@dataclass(frozen=True, slots=True)
class Status:
    """A column whose protection has begun, and the work on its table that is not at its end."""

    known: Known
    at_work: tuple[str, ...]  # such as `fill 3000 of about 10000 rows`


def status(connection: Connection) -> list[Status]:
    """Return what the database itself knows of its protection; nothing is changed."""
    with translated():
        columns = state.known(connection)
        if not columns:
            return []
        tasks: dict[str, list[str]] = {}
        for table, task, changed, total in connection.execute(
            f"SELECT table_name, task, changed, total FROM {state.SCHEMA}.progress ORDER BY table_name, task"  # noqa: S608
        ):
            tasks.setdefault(table, []).append(f"{task.partition(' ')[0]} {changed} of about {total} rows")
        return [Status(one, tuple(tasks.get(one.table, ()))) for one in columns]
