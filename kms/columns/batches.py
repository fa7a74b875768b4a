"""The one loop: rows in the order of their identity, some at a time, with progress that survives a kill.

A pass ends behind the rows that were there when it came to the last of them: it does not run after those that writers
go on adding at the end of the order, which would never let it end. Each batch is read without a transaction, worked on by the daemon, and written in one transaction together with the
progress. A row that somebody has changed between is left as it is, and comes again with the next pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Generic, Protocol, TypeVar

from kms_client import DeadlineExceeded, Unavailable

from kms.failpoints import reach

from .database import Connection
from .errors import ColumnsError
from .state import SCHEMA

BATCH: Final = 1_000  # rows
MOST_PASSES: Final = 1_000
# Writers wait for these, and for the daemon no longer than LAST_DEADLINE for each of its calls.
LAST: Final = 200  # rows
LAST_READS: Final = 3  # the last finds none
LAST_DEADLINE: Final = 2.0  # seconds
PAUSE: Final = 0.2  # seconds after a pass that could change nothing

Identity = tuple[str, ...]  # of a row: the columns of its identity, as text


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is."""

    cursor: Identity | None = None
    passes: int = 0
    seen: int = 0
    changed: int = 0
    skipped: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """What one batch came to."""

    changed: int = 0
    skipped: int = 0


R = TypeVar("R")
W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """Some rows in the order of their identities."""

    rows: Sequence[tuple[Identity, R]] = field(repr=False)
    last: bool  # no more were behind them when they were read


class Task(Protocol, Generic[R, W]):
    """What is done with the rows of one table."""

    name: str  # such as `fill` or `reencrypt`; one at a time for a table
    table: str

    def read(self, connection: Connection, after: Identity | None, limit: int) -> Page[R]:
        """Return the next rows that have something to do, in the order of their identities."""
        ...

    def work(self, rows: Sequence[tuple[Identity, R]]) -> W:
        """Ask the daemon; no transaction is open."""
        ...

    def write(self, connection: Connection, work: W, /) -> Done:
        """Write what has come of it, in the transaction that also writes the progress."""
        ...


def run(
    connection: Connection,
    task: Task[R, W],
    *,
    tell: Callable[[Progress], None],
    wait: Callable[[Connection], None],
    batch: int = BATCH,
) -> Progress:
    """Carry a task through one whole pass, going on from where it was; its progress says what was changed and skipped.

    Args:
        connection: in autocommit mode.
        task: what to do.
        tell: is told after each batch.
        wait: returns when the database can bear another batch (kms/columns/pressure.py).
        batch: the most rows of a batch.
    """
    progress = _begun(connection, task)
    while True:
        wait(connection)
        page = task.read(connection, progress.cursor, batch)
        if page.rows:
            work = task.work(page.rows)
            with connection.transaction():
                done = task.write(connection, work)
                progress = replace(
                    progress,
                    cursor=page.rows[-1][0],
                    seen=progress.seen + len(page.rows),
                    changed=progress.changed + done.changed,
                    skipped=progress.skipped + done.skipped,
                )
                _save(connection, task, progress)
                reach("columns.batch_written")
            reach("columns.batch_committed")
            tell(progress)
        if page.last:
            break
    progress = replace(progress, cursor=None, passes=progress.passes + 1)
    _save(connection, task, progress)
    return progress


def run_until_nothing_is_left(
    connection: Connection,
    task: Task[R, W],
    *,
    tell: Callable[[Progress], None],
    wait: Callable[[Connection], None],
    batch: int = BATCH,
    sleep: Callable[[float], None] = time.sleep,
) -> Progress:
    """Repeat passes until one has found nothing to do; each pass sees only what is still to be done.

    Raises:
        ColumnsError: still something is left after MOST_PASSES.
    """
    for _ in range(MOST_PASSES):
        before = _begun(connection, task)
        after = run(connection, task, tell=tell, wait=wait, batch=batch)
        if before.cursor is None and after.seen == before.seen:
            return after
        if after.changed == before.changed:  # others hold all that is left
            sleep(PAUSE)
    raise ColumnsError(f"{task.table}: rows change faster than they are worked on")


def finish(connection: Connection, task: Task[R, W]) -> bool:
    """Do what is left of a task, in the transaction that is open, under a lock that lets nobody write meanwhile.

    Returns False where that is more than a few rows, or the daemon does not answer at once: then another pass is due,
    without the lock.
    """
    for _ in range(LAST_READS):
        rows = task.read(connection, None, LAST).rows
        if not rows:
            return True
        try:
            work = task.work(rows)
        except (DeadlineExceeded, Unavailable):
            return False
        if task.write(connection, work).skipped:
            return False
    return False


def forget(connection: Connection, task: str, table: str) -> None:
    """Forget the progress of a task that is over."""
    connection.execute(f"DELETE FROM {SCHEMA}.progress WHERE table_name = %s AND task = %s", (table, task))  # noqa: S608


def _begun(connection: Connection, task: Task[R, W]) -> Progress:
    row = connection.execute(
        f"INSERT INTO {SCHEMA}.progress (table_name, task, total)"  # noqa: S608
        " SELECT %(table)s, %(task)s, greatest(reltuples, 0)::bigint FROM pg_class"
        " WHERE oid = (SELECT format('%%I.%%I', %(schema)s::text, %(name)s::text)::regclass)"
        " ON CONFLICT (table_name, task) DO UPDATE SET updated_at = now()"
        " RETURNING cursor, passes, seen, changed, skipped, total",
        {
            "table": task.table,
            "task": task.name,
            "schema": task.table.partition(".")[0],
            "name": task.table.partition(".")[2],
        },
    ).fetchone()
    if row is None:
        raise ColumnsError(f"{task.table}: there is no such table")
    cursor, *numbers = row
    return Progress(None if cursor is None else tuple(cursor), *numbers)


def _save(connection: Connection, task: Task[R, W], progress: Progress) -> None:
    connection.execute(
        f"UPDATE {SCHEMA}.progress SET cursor = %s, passes = %s, seen = %s, changed = %s, skipped = %s, updated_at = now()"  # noqa: S608
        " WHERE table_name = %s AND task = %s",
        (
            None if progress.cursor is None else list(progress.cursor),
            progress.passes,
            progress.seen,
            progress.changed,
            progress.skipped,
            task.table,
            task.name,
        ),
    )
