"""Days to keep: what has passed them is deleted, blanked or pseudonymised (docs/columns.md).

No value is read, and no key is needed: a row's age is a column of its own, and the pseudonym of a value is the blind
index that stands beside it already. The application's triggers and foreign keys work as for its own statements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from psycopg import sql

from kms.failpoints import reach

from .database import Connection, named, translated
from .errors import ColumnsError, DatabaseGone, WrongState
from .plan import CatalogRule, Expiry, Plan
from .state import Known, State, known

BATCH: Final = 1_000  # rows of one statement, which is a transaction of its own


@dataclass(frozen=True, slots=True)
class Expired:
    """What one rule came to; *reason* says why it could not be carried out, or not for all rows."""

    rule: CatalogRule
    changed: int = 0  # rows that were deleted, blanked or pseudonymised
    left: int = 0  # rows whose days are over, and that are still as they were
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Deed:
    """A rule in SQL: which rows it is about, and what is done with them."""

    rule: CatalogRule
    due: sql.Composable  # a condition of a row of `t`
    emptied: tuple[str, ...] = ()  # columns; none: the row is deleted
    pseudonym: str | None = None  # the column that must have one before the value goes

    @property
    def table(self) -> sql.Identifier:
        return named(self.rule.table)

    def statement(self, batch: int) -> sql.Composed:
        act, condition = sql.SQL("DELETE FROM {} AS t USING due").format(self.table), self.due
        if self.emptied:
            nothing = sql.SQL(", ").join(sql.SQL("{} = NULL").format(sql.Identifier(name)) for name in self.emptied)
            act = sql.SQL("UPDATE {} AS t SET {} FROM due").format(self.table, nothing)
        if self.pseudonym is not None:
            condition = sql.SQL("{} AND t.{} IS NOT NULL").format(condition, sql.Identifier(self.pseudonym))
        # A ctid is unique within one partition only. Rows that others hold are left for the next time.
        return sql.SQL(
            "WITH due AS MATERIALIZED (SELECT t.tableoid, t.ctid FROM {} AS t WHERE {}"
            " LIMIT {} FOR UPDATE OF t SKIP LOCKED) {} WHERE t.tableoid = due.tableoid AND t.ctid = due.ctid"
        ).format(self.table, condition, sql.Literal(batch), act)


def enforced(plan: Plan) -> list[CatalogRule]:
    """Return the rules that say what becomes of what has passed its days, rows that are deleted first."""
    rules = [rule for rule in plan.catalog if rule.on_expiry is not None]
    return sorted(rules, key=lambda rule: (rule.on_expiry is not Expiry.DELETE, rule.table, rule.column))


def due(connection: Connection, plan: Plan, now: datetime) -> list[Expired]:
    """Count, for each rule, the rows that are due; nothing is changed.

    Raises:
        DatabaseGone: the connection has ended.
    """
    columns = known(connection)

    def looked_at(rule: CatalogRule) -> Expired:
        return Expired(rule, left=_count(connection, _deed(columns, rule, now)))

    return [_tried(rule, looked_at) for rule in enforced(plan)]


def expire(
    connection: Connection,
    plan: Plan,
    now: datetime,
    *,
    tell: Callable[[Expired], None],
    wait: Callable[[Connection], None],
    stopped: Callable[[], bool] = lambda: False,
    batch: int = BATCH,
) -> list[Expired]:
    """Carry out every rule; one that cannot be carried out does not hold up the others.

    Args:
        connection: in autocommit mode; each batch is one statement, and whole or not at all.
        plan: its catalog has the rules.
        now: what days are counted back from.
        tell: is told after each batch how far a rule is.
        wait: returns when the database can bear another batch.
        stopped: whether to end before the next batch.
        batch: the most rows of a batch.

    Raises:
        DatabaseGone: the connection has ended.
    """
    columns = known(connection)

    def carried_out(rule: CatalogRule) -> Expired:
        deed = _deed(columns, rule, now)
        statement, changed = deed.statement(batch), 0
        while not stopped():
            wait(connection)
            gone = connection.execute(statement).rowcount
            reach("columns.expired")
            if gone == 0:
                break
            changed += gone
            tell(Expired(rule, changed))
        return Expired(rule, changed, _count(connection, deed))

    return [_tried(rule, carried_out) for rule in enforced(plan) if not stopped()]


def _tried(rule: CatalogRule, act: Callable[[CatalogRule], Expired]) -> Expired:
    try:
        with translated():
            return act(rule)
    except DatabaseGone:
        raise
    except ColumnsError as error:
        return Expired(rule, reason=str(error))


def _count(connection: Connection, deed: _Deed) -> int:
    query = sql.SQL("SELECT count(*) FROM {} AS t WHERE {}").format(deed.table, deed.due)
    [(count,)] = connection.execute(query).fetchall()
    return int(count)


def _deed(columns: list[Known], rule: CatalogRule, now: datetime) -> _Deed:
    """Decide by the column's state what a rule means.

    Raises:
        WrongState: there is no pseudonym to leave behind.
    """
    if rule.age is None or rule.keep_days is None:
        raise WrongState(f"{rule.table}: a rule without days to keep, or without a column that says how old a row is")
    # Compared as it is, so that an index on it serves; a date or a time without a zone is one of UTC.
    cutoff = sql.Literal(now - timedelta(days=rule.keep_days))
    old = sql.SQL("t.{} < {}").format(sql.Identifier(rule.age), cutoff)
    if rule.on_expiry is Expiry.DELETE:
        return _Deed(rule, old)
    found = next((one for one in columns if (one.table, one.column.column) == (rule.table, rule.column)), None)
    pseudonym = None if rule.on_expiry is Expiry.BLANK else _pseudonym(rule, found)
    emptied = [name for name in _of_value(rule, found) if name != pseudonym]
    something = sql.SQL(" OR ").join(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(name)) for name in emptied)
    return _Deed(rule, sql.SQL("{} AND ({})").format(old, something), tuple(emptied), pseudonym)


def _of_value(rule: CatalogRule, found: Known | None) -> list[str]:
    """Return the columns that hold the value or what is made of it."""
    if found is None:
        return [rule.column]
    column = found.column
    names = [column.ciphertext, column.version, *([column.blind_index] if column.blind_index else [])]
    return names if found.state is State.DROPPED else [column.column, *names]


def _pseudonym(rule: CatalogRule, found: Known | None) -> str:
    where = f"{rule.table}.{rule.column}"
    if found is None or found.column.blind_index is None:
        raise WrongState(f"{where}: only the hash of a column of mode blind_index can take a value's place")
    if found.state in (State.FILLING, State.UNDOING):
        raise WrongState(f"{where}: is {found.state.value}, when not every value has a hash that stays")
    return found.column.blind_index
