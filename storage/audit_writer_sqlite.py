"""The audit log in the daemon's SQLite file: a connection of its own, in a thread of its own.

It takes turns with the daemon's other writers, who wait for the same lock, so that neither side starves the other and none
waits inside SQLite.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from queue import SimpleQueue
from typing import Any, Final, TypeVar
from urllib.parse import quote
from uuid import UUID

from kms.core.audit import StreamUid
from kms.core.audit_ports import Position
from kms.core.canonical import microseconds
from kms.core.errors import StorageUnavailable

from .audit_opening import open_audit_writer
from .audit_rows import COLUMNS, Row
from .audit_store import Collided, NotWritten, OutcomeUnknown
from .audit_writer import GroupCommit
from .errors import translated
from .sqlite import SqliteDatabase
from .sqlite_file import prepare

T = TypeVar("T")

_INSERT: Final = f"INSERT INTO audit_log ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
_LAST: Final = "SELECT sequence, hash FROM audit_log WHERE stream_id = ? ORDER BY sequence DESC LIMIT 1"
_NEWEST: Final = "SELECT stream_id FROM audit_log WHERE node = ? AND sequence = 1 ORDER BY at DESC LIMIT 1"

# When a COMMIT says so, the transaction is undone. After other errors, such as a failed fsync, it may be in the WAL.
_CERTAIN: Final = {"SQLITE_FULL", "SQLITE_READONLY", "SQLITE_BUSY"}

_text: Final = lru_cache(4_096)(str)  # of UUIDs, which come again and again


def _values(row: Row) -> tuple[Any, ...]:
    return (
        *row.plain,
        _text(row.tenant),
        None if row.key is None else _text(row.key),
        None if row.intent_stream is None else _text(row.intent_stream),
        None if row.kept_until is None else microseconds(row.kept_until),
        _text(row.stream),
        row.sequence,
        microseconds(row.at),
        row.canonical,
        row.hash,
    )


class SqliteAuditStore:
    """AuditStore on the file of a database."""

    def __init__(self, database: SqliteDatabase, reach: Callable[[str], None]) -> None:
        self._database = database
        self._reach = reach
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._connection: sqlite3.Connection | None = None  # the thread's, but for cut()
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    async def write(self, rows: Sequence[Row]) -> None:
        """Return once all rows are durable, in one commit."""
        try:
            async with self._database.writing_turn():
                await self._in_thread(lambda: self._write(rows))
        except StorageUnavailable as error:
            raise NotWritten(str(error)) from error

    async def last(self, stream: StreamUid) -> tuple[int, bytes] | None:
        """Return the number and hash of a stream's last event; None where it has none."""
        return await self._in_thread(lambda: self._last(stream))

    async def newest(self, node: str) -> Position | None:
        """Return the last event of the stream that a node began last; None where it began none."""
        return await self._in_thread(lambda: self._newest(node))

    def cut(self) -> None:
        """Interrupt what runs; a commit that waits for the disk cannot be."""
        with suppress(sqlite3.ProgrammingError):
            if (connection := self._connection) is not None:
                connection.interrupt()

    async def close(self) -> None:
        """End the thread once it has nothing to do; it is not waited for, since its disk may hang."""
        self._calls.put(None)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        answer: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((call, answer))
        return await answer

    def _work(self) -> None:
        while (given := self._calls.get()) is not None:
            call, answer = given
            try:
                result, failure = call(), None
            except Exception as error:  # noqa: BLE001  it is raised in the loop
                result, failure = None, error
            with suppress(RuntimeError):  # the loop is closed: nobody asks any more
                self._loop.call_soon_threadsafe(_answer, answer, result, failure)
        self._drop()

    def _write(self, rows: Sequence[Row]) -> None:
        values = list(map(_values, rows))
        committing = False
        try:
            connection = self._opened()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, values)
            self._reach("audit.group_written")
            committing = True
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            # Closing undoes what is not committed, in whatever state the connection is.
            self._drop()
            words = str(translated(error))
            name = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
            if committing and name not in _CERTAIN:
                raise OutcomeUnknown(words) from error
            raise (Collided if name == "SQLITE_CONSTRAINT" else NotWritten)(words) from error

    def _last(self, stream: UUID) -> tuple[int, bytes] | None:
        rows = self._asked(_LAST, str(stream))
        return (int(rows[0][0]), bytes(rows[0][1])) if rows else None

    def _newest(self, node: str) -> Position | None:
        rows = self._asked(_NEWEST, node)
        if not rows:
            return None
        stream = StreamUid(UUID(rows[0][0]))
        found = self._last(stream)
        return None if found is None else Position(stream, *found)

    def _asked(self, statement: str, value: str) -> list[Any]:
        try:
            return self._opened().execute(statement, (value,)).fetchall()
        except sqlite3.Error as error:
            self._drop()
            raise OutcomeUnknown(str(translated(error))) from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            place = f"file:{quote(str(self._database.path))}?mode=rw"
            connection = sqlite3.connect(place, uri=True, check_same_thread=False)
            try:
                prepare(connection, None)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _answer(answer: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
    if answer.done():  # who asked is gone
        return
    if failure is None:
        answer.set_result(result)
    else:
        answer.set_exception(failure)


async def open_sqlite_audit(
    database: SqliteDatabase,
    *,
    installation: UUID,
    node: str,
    now: Callable[[], datetime],
    release: str = "",
    details: Mapping[str, object] | None = None,
    reach: Callable[[str], None] = lambda _: None,
) -> GroupCommit:
    """Begin a new stream in the file of *database*; as open_audit_writer().

    Raises:
        AuditUnavailable: the log cannot be read, or the first event is not known to be durable.
    """
    return await open_audit_writer(
        SqliteAuditStore(database, reach),
        installation=installation,
        node=node,
        now=now,
        release=release,
        details=details,
        reach=reach,
    )
