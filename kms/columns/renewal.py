"""Renewal: what is stored of a column is brought to the newest version of a key, pass by pass (docs/columns.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kms_client import InvalidRequest
from kms_client.formats.columns import row_value
from psycopg import sql

from . import batches
from .batches import BATCH, Done, Identity, Page, Progress
from .cells import MAX_STORED, Cell, cells_of, cut
from .database import Connection, named, quieten, translated
from .errors import ColumnsError, NotVerified, WrongState
from .locks import alone
from .rows import Row, read, update
from .state import Known, State

MOST_NAMED: Final = 5  # rows that an error names
LONGEST_REST: Final = 5.0  # seconds between passes that found rows which others hold

Tell = Callable[[Progress], None]
Wait = Callable[[Connection], None]


@dataclass(frozen=True, slots=True)
class Brought:
    """What has come of one column: rows that were written, and the version that all are of now."""

    changed: int
    version: int


@dataclass(frozen=True, slots=True)
class Change:
    """What is written into a row: a value for each staged column."""

    identity: Identity
    row: Row = field(repr=False)  # ctid and xmin as text, and what was read
    values: tuple[bytes | int | None, ...] = field(repr=False)


class Renewal:
    """A task that brings what is stored of one column to a version; a subclass says how."""

    fault = "cannot be re-encrypted"

    def __init__(self, known: Known, name: str, target: int, stale: sql.Composable) -> None:
        """*stale* is the condition of rows of `t` that are of an older version than *target*."""
        self.known = known
        self.table = known.table
        self.name = f"{name} {known.column.column}"
        self.target = target
        self.stale = stale
        self.cells = cells_of(known)
        self.where = f"{known.table}.{known.column.column}"
        self.begin()

    def begin(self) -> None:
        """Begin a pass, or go on with one."""
        self.changed = self.skipped = self.failures = 0
        self.failed: list[Identity] = []  # the first of them
        self.reason = ""  # of the first

    def assignments(self) -> list[tuple[str, sql.Composable]]:
        """Return columns, and SQL of their new values over `t` and `s.c0`, `s.c1`, ..."""
        raise NotImplementedError

    def types(self) -> list[str]:
        """Return the types of `s.c0`, `s.c1`, ..."""
        raise NotImplementedError

    def work(self, rows: Sequence[tuple[Identity, Row]]) -> list[Change]:
        """Ask the daemon; rows of which it makes nothing are in `failed` instead."""
        raise NotImplementedError

    def read(self, connection: Connection, after: Identity | None, limit: int) -> Page[Row]:
        """Return the next rows that are of an older version."""
        return read(connection, self.table, self.known.identity, self.outputs(), self.stale, after, limit)

    def outputs(self) -> list[sql.Composable]:
        """Return what is read of a row: the ciphertexts of its cells."""
        return [cut(cell.stored, MAX_STORED) for cell in self.cells]

    def write(self, connection: Connection, work: Sequence[Change]) -> Done:
        """Write what has come of it where rows are as they were."""
        rows = [(change.identity, (*change.row[:2], *change.values)) for change in work]
        failures = self.failures
        changed = self.put(connection, rows) if rows else 0
        skipped = len(work) - changed - (self.failures - failures)
        self.changed += changed
        self.skipped += skipped
        return Done(changed, skipped)

    def put(self, connection: Connection, rows: Sequence[tuple[Identity, Row]]) -> int:
        """Write rows; returns how many took it."""
        return update(connection, self.table, self.known.identity, self.assignments(), self.types(), rows)

    def fail(self, identity: Identity, reason: str) -> None:
        """Note a row of which nothing can be made, and why."""
        self.failures += 1
        self.reason = self.reason or reason
        if len(self.failed) < MOST_NAMED:
            self.failed.append(identity)

    def ciphertexts(
        self, cell: Cell, rows: Sequence[tuple[Identity, Row]], bad: dict[int, str]
    ) -> tuple[list[int], list[bytes]]:
        """Return the ciphertexts of a cell and the indexes of their rows; what is none makes its row bad."""
        number = self.cells.index(cell)
        indexes, found = [], []
        for index, (_, row) in enumerate(rows):
            stored = row[2 + number]
            if stored is None or index in bad:
                continue
            try:
                found.append(cell.ciphertext(stored))
            except InvalidRequest as error:
                bad[index] = str(error)
            else:
                indexes.append(index)
        return indexes, found


def require_ciphertexts(known: Known) -> None:
    """Refuse a column of which nothing can be decrypted.

    Raises:
        WrongState: it is of mode hash_only, or its protection is being undone.
    """
    where = f"{known.table}.{known.column.column}"
    if not cells_of(known)[0].encrypted:
        raise WrongState(f"{where}: mode hash_only has no ciphertexts")
    if known.state is State.UNDOING:
        raise WrongState(f"{where}: its protection is being undone")


def bring(
    connection: Connection,
    task: Renewal,
    *,
    tell: Tell,
    wait: Wait,
    batch: int = BATCH,
    rest: Callable[[float], None] = time.sleep,
) -> Brought:
    """Repeat passes until no row is of an older version; goes on where a run was ended.

    Args:
        connection: in autocommit mode; from then on its writes fire no triggers of the application, if the role may.
        task: what is done.
        tell: is told after each batch.
        wait: returns when the database can bear another batch.
        batch: the most rows of a batch.
        rest: waits for some seconds, where others hold all that is left.

    Raises:
        NotVerified: rows are left of which the daemon makes nothing; all others have been brought.
        WrongState: another runner is at work on the table.
        ColumnsError: still something is left after batches.MOST_PASSES; or what the database says.
    """
    with translated(), alone(connection, task.table):
        quieten(connection)
        return _bring(connection, task, tell, wait, batch, rest)


def _bring(
    connection: Connection, task: Renewal, tell: Tell, wait: Wait, batch: int, rest: Callable[[float], None]
) -> Brought:
    changed, pause = 0, 0.0
    for number in range(batches.MOST_PASSES):
        left = _left(connection, task)
        if left == 0:
            batches.forget(connection, task.name, task.table)
            return Brought(changed, task.target)
        task.begin()
        batches.run(connection, task, tell=tell, wait=wait, batch=batch)
        changed += task.changed
        if task.changed:
            pause = 0.0
        elif task.skipped:
            pause = min(max(2 * pause, 0.1), LONGEST_REST)
            rest(pause)
        elif number > 0:  # the first one may have gone on in the middle
            break
    else:
        raise ColumnsError(f"{task.where}: rows change faster than they are worked on; run it again")
    named_rows = ", ".join(row_value(identity) for identity in task.failed)
    raise NotVerified(f"{task.where}: {left} rows {task.fault} ({task.reason}), such as: {named_rows}")


def _left(connection: Connection, task: Renewal) -> int:
    query = sql.SQL("SELECT count(*) FROM {} AS t WHERE {}").format(named(task.table), task.stale)
    [(count,)] = connection.execute(query).fetchall()
    return int(count)
