"""One transaction on one connection, with a bound on every step that holds even when the database is frozen.

A library's call cannot be cancelled safely: psycopg waits up to ten seconds more for a frozen server, and SQLite's
thread goes on anyway. So every call runs in a task of its own that is never cancelled. When it is late, the line to the
database is cut, which ends the call with an error. A caller that goes away leaves the task behind; the last step, which
rolls back and gives the connection back, waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from sqlalchemy import CursorResult, Executable, Row, Table, exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from kms.core.errors import StorageUnavailable
from kms.core.names import TenantUid

from .breaker import Breaker
from .errors import translated
from .seals import Seals, Touched

BOUND: Final = 1.9  # seconds for one step, but where whoever opens the database says otherwise
GRACE: Final = 0.1  # seconds for a cut line to be noticed

T = TypeVar("T")


@dataclass(slots=True)
class Tasks:
    """The tasks of one storage that may outlive their callers."""

    running: set[asyncio.Task[Any]] = field(default_factory=set)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run to the end, whoever waits for it."""
        task = asyncio.create_task(work)
        self.running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that a failure after its caller left is no noise


@dataclass(frozen=True, slots=True)
class Line:
    """How sessions reach one database."""

    engine: AsyncEngine
    cut: Callable[[Any], None]  # ends a call on the driver's connection from outside
    breaker: Breaker
    tasks: Tasks
    seals: Seals
    bound: float  # seconds for one step


class Session:
    """One transaction; its steps come one after another."""

    def __init__(
        self, line: Line, begin: str, places: AsyncExitStack, *, tenant: TenantUid | None, write: bool
    ) -> None:
        self.tenant = tenant
        self.write = write
        # Before the snapshot, which may be older than what is seen later.
        floor = 0 if tenant is None else line.seals.epochs.get(tenant, 0)
        self.touched = Touched(line.seals, floor)
        self._line = line
        self._begin = begin
        self._places = places  # what to give back at the very end: a slot, SQLite's turn to write
        self._connection: AsyncConnection | None = None
        self._driver: Any = None
        self._step: asyncio.Task[Any] | None = None
        self._failure: Exception | None = None
        self._late = False

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._line.engine.dialect.name

    async def open(self) -> None:
        """Connect and begin.

        Raises:
            StorageUnavailable: the database does not answer, or refuses.
        """
        await self._bounded(self._open())

    async def rows(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Execute a statement, with *values* for its parameters, and return its rows, all of them."""
        return await self._on_connection(lambda connection: _fetched(connection.execute(statement, values)))

    async def change(self, statement: Executable, rows: Sequence[Mapping[str, Any]] | None = None) -> int:
        """Execute a statement that writes, once or for each of *rows*; returns the number of rows it changed."""
        if not self.write:
            raise RuntimeError("a transaction that was begun for reading cannot write")
        options = {"preserve_rowcount": True}  # which SQLAlchemy forgets for an INSERT otherwise
        return await self._on_connection(
            lambda connection: _counted(connection.execute(statement, rows, execution_options=options))
        )

    def spoil(self, reason: Exception) -> None:
        """Let the transaction end without a commit, since a part of what belongs together has been written."""
        self._failure = reason

    async def raw(self, statement: str, bound: float | None = None) -> Sequence[Row[Any]]:
        """Execute a statement of the engine's own, with a bound of its own, and return its rows."""
        return await self._on_connection(lambda connection: _fetched(connection.exec_driver_sql(statement)), bound)

    async def end(self, *, commit: bool) -> None:
        """Commit or roll back, and give the connection back; a roll back raises nothing.

        Raises:
            StorageUnavailable: the commit was not confirmed; its outcome is unknown.
        """
        # PostgreSQL answers COMMIT after a failed statement with a silent roll back, so it must not be asked.
        failure = self._failure if commit else None
        task = self.leave(commit=commit and failure is None)
        if failure is not None:
            raise failure
        if self._late:
            return
        await asyncio.wait({task}, timeout=self._line.bound + GRACE)
        if not commit:
            return
        if not task.done():
            raise self._silence()
        if (error := task.exception()) is None:
            return
        if self._late:
            raise self._silence() from error
        raise translated(error) if isinstance(error, Exception) else error

    def leave(self, *, commit: bool = False) -> asyncio.Task[None]:
        """End the transaction without waiting for it."""
        return self._line.tasks.start(self._end(commit))

    async def _open(self) -> None:
        for attempt in (1, 2):
            connection = await self._line.engine.connect()
            self._connection = connection
            self._driver = (await connection.get_raw_connection()).driver_connection
            # The tenant is for whoever listens to statements, as the tests do.
            await connection.execution_options(kms_begin=self._begin, kms_tenant=self.tenant)
            try:
                await connection.begin()
            except exc.DBAPIError as error:
                # A pooled connection may have died since its last use. Nothing has been done yet, so a second
                # connection may try; the pool has thrown away all that are older than this discovery.
                if attempt == 2 or not error.connection_invalidated or self._late:
                    raise
                self._connection = self._driver = None
                await connection.close()
            else:
                return

    async def _on_connection(self, work: Callable[[AsyncConnection], Awaitable[T]], bound: float | None = None) -> T:
        if self._failure is not None:
            raise self._failure
        if self._connection is None:
            raise RuntimeError("the transaction is not open")
        return await self._bounded(work(self._connection), bound)

    async def _bounded(self, work: Awaitable[T], bound: float | None = None) -> T:
        """Do one step; its error ends the transaction's use."""
        limit = self._line.bound if bound is None else bound
        task = self._step = self._line.tasks.start(self._watched(work, limit))
        done, _ = await asyncio.wait({task}, timeout=limit + GRACE)
        if not done:
            self._failure = self._silence()
            raise self._failure
        try:
            result: T = task.result()
        except Exception as error:
            if self._late:
                self._failure = self._silence()
                raise self._failure from error
            self._line.breaker.answered()  # a refusal is an answer
            self._failure = translated(error)
            if self._failure is error:
                raise
            raise self._failure from error
        self._line.breaker.answered()
        return result

    async def _watched(self, work: Awaitable[T], limit: float) -> T:
        watch = asyncio.get_running_loop().call_later(limit, self._cut)
        try:
            return await work
        finally:
            watch.cancel()

    def _cut(self) -> None:
        self._late = True
        if self._driver is not None:
            self._line.cut(self._driver)

    def _silence(self) -> StorageUnavailable:
        self._late = True
        self._line.breaker.silent()
        return StorageUnavailable("the database did not answer in time")

    async def _end(self, commit: bool) -> None:
        async with self._places:
            if self._step is not None and not self._step.done():
                await asyncio.wait({self._step})
            if self._connection is None:
                return
            try:
                await self._watched(
                    self._connection.commit() if commit else self._connection.rollback(), self._line.bound
                )
            finally:
                await self._connection.close()


def insertion(session: Session, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT of the session's engine, for its ON CONFLICT clause."""
    return sqlite.insert(table) if session.dialect == "sqlite" else postgresql.insert(table)


async def _fetched(execution: Awaitable[CursorResult[Any]]) -> Sequence[Row[Any]]:
    # Values are converted here, inside the step, so that what cannot be read is translated like any other failure.
    result = await execution
    return result.all() if result.returns_rows else []


async def _counted(execution: Awaitable[CursorResult[Any]]) -> int:
    return (await execution).rowcount
