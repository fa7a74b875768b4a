"""PostgreSQL: one database that all nodes of an installation share; works through a transaction pooler too.

Nothing is set for a session: the role, time limits, and for whom the work is, are set in the statement that begins each
transaction and end with it, so that nothing can leak to the next user of a connection, in our pool or in a pooler's.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Any, Final

import psycopg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import create_async_engine

from kms.core.audit_ports import RecordSealer
from kms.core.errors import StorageUnavailable
from kms.core.names import TenantUid
from kms.core.ports import ChangeSignal
from kms.core.refused import Refused

from .breaker import Breaker
from .conninfo import database_name, parameters
from .database import EXCLUSIVE_WAIT, Database, taken
from .epochs import CHANNEL
from .errors import CannotOpen, explained
from .revision import require_found
from .roles import APP, REVISION, SWEEPER, TAKE_READER, USER, cannot_take, excess_of
from .running import running
from .seals import Changes, Seals, ignore
from .session import BOUND, Line, Session, Tasks

# Milliseconds, less than a session's bound: the server answers with an error while the line is still good.
STATEMENT_TIMEOUT: Final = 1_500
LOCK_TIMEOUT: Final = 1_000
IDLE_TIMEOUT: Final = 5_000  # between the statements of one transaction
# The holder of a named lock waits for the token meanwhile; a frozen holder loses the lock after this time.
EXCLUSIVE_IDLE_TIMEOUT: Final = 45_000
EXCLUSIVE_POLL: Final = 0.05  # seconds
NOTIFY_GRACE: Final = 0.1  # seconds
EXCLUSIVE_LOCKS: Final = 4  # at once in one process, each with a connection of its own

# What is told to the database stands between quotes: resource names and trust domains, and nothing that could end them.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._/-]{0,512}")

_WRITE: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresqlDatabase(Database):
    """Storage on PostgreSQL."""

    def __init__(
        self, line: Line, pool_size: int, connector: _Connector, acting: Callable[[], str], organization: str
    ) -> None:
        super().__init__(line, pool_size)
        self._connector = connector
        self._acting = acting
        self._organization = organization
        self._lock_slots = asyncio.Semaphore(EXCLUSIVE_LOCKS)
        self.excess = ""  # what its user can do beyond its roles, in words

    def _statement(self, tenant: TenantUid | None, *, write: bool) -> str:
        mode = _WRITE if write else _READ
        return begin(mode, tenant=tenant, acting=self._acting(), organization=self._organization)

    async def _turn(self, places: AsyncExitStack, *, write: bool) -> None:
        """Wait for nothing: writers of different rows do not meet."""

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[None]:
        """Hold a lock of that name on all nodes of the installation, at most 45 seconds; a crash releases it.

        Raises:
            StorageUnavailable: it was not free in time; or, at the end, it was lost while it was held.
        """
        deadline = time.monotonic() + EXCLUSIVE_WAIT
        async with AsyncExitStack() as waiting:
            self._line.breaker.look()
            await taken(self._named(name), EXCLUSIVE_WAIT, waiting, f"the lock {name}")
            await taken(self._lock_slots, deadline - time.monotonic(), waiting, f"the lock {name}")
            if self._closed:
                raise StorageUnavailable("the storage is closed")
            self._line.breaker.enter()
            statement = begin(_WRITE, idle_timeout=EXCLUSIVE_IDLE_TIMEOUT)
            session = Session(self._line, statement, waiting.pop_all(), tenant=None, write=False)
        async with running(session):
            # Asking again and again keeps the bound of one step, which one long wait in the server would not.
            attempt = select(func.pg_try_advisory_xact_lock(func.hashtextextended(f"kms/exclusive/{name}", 0)))
            while not (await session.rows(attempt))[0][0]:
                if time.monotonic() > deadline:
                    raise StorageUnavailable(f"the lock {name} was not free in time")
                await asyncio.sleep(EXCLUSIVE_POLL)
            yield

    @property
    def shared(self) -> bool:
        """Other nodes use the same database."""
        return True

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[ChangeSignal]:
        """Listen on a connection of its own; while it cannot be had, a signal is only late."""
        signal = _Notifications(self._connector, self._line.tasks)
        try:
            yield signal
        finally:
            signal.close()


class _Notifications:
    """LISTEN on a connection of its own, which is made again whenever it is lost.

    Through a transaction pooler nothing arrives, and the wait is as long as it may be.
    """

    def __init__(self, connector: _Connector, tasks: Tasks) -> None:
        self._connector = connector
        self._tasks = tasks
        self._making: asyncio.Task[None] | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._fresh = False  # nobody has been told yet of the new connection
        self._closed = False

    async def wait(self, seconds: float) -> None:
        """Return at the next signal, or after that many *seconds*."""
        end = time.monotonic() + seconds
        if self._connection is None:
            if self._making is None or self._making.done():
                self._making = self._tasks.start(self._make())
            # A task of its own, since a library's call on a frozen server cannot be cancelled.
            await asyncio.wait({self._making}, timeout=seconds)
        if self._fresh:
            self._fresh = False  # what was sent before is lost: look at once
            return
        if self._connection is not None:
            try:
                async with aclosing(self._connection.notifies(timeout=seconds, stop_after=1)) as arriving:
                    async for _ in arriving:
                        return
            except (psycopg.Error, OSError):
                _drop(self._connection)
                self._connection = None
        await asyncio.sleep(max(end - time.monotonic(), 0))

    def close(self) -> None:
        """Close the connection without waiting for the server."""
        self._closed = True
        if self._connection is not None:
            _drop(self._connection)
            self._connection = None

    async def _make(self) -> None:
        with suppress(psycopg.Error, OSError):
            connection = await self._connector.apart()
            late = asyncio.get_running_loop().call_later(BOUND, shut_down, connection)
            try:
                await connection.execute(f"LISTEN {CHANNEL}")
            except BaseException:
                _drop(connection)
                raise
            finally:
                late.cancel()
            if self._closed:
                _drop(connection)
            else:
                self._connection, self._fresh = connection, True


class _Connector:
    """Makes the pool's connections, and remembers the newest."""

    def __init__(self, url: str) -> None:
        self._parameters = parameters(url)
        self.newest: psycopg.AsyncConnection[Any] | None = None

    async def __call__(self, *_args: object, **_kwargs: object) -> psycopg.AsyncConnection[Any]:
        # Statements prepared in the server would belong to a pooler's connection, not to ours. With autocommit the
        # driver begins nothing by itself.
        made = await psycopg.AsyncConnection.connect(**self._parameters, prepare_threshold=None, autocommit=True)
        self.newest = made
        return made

    async def apart(self) -> psycopg.AsyncConnection[Any]:
        """Make a connection that is none of the pool's."""
        return await psycopg.AsyncConnection.connect(**self._parameters, prepare_threshold=None, autocommit=True)


async def open_postgresql(
    url: str,
    pool_size: int = 8,
    *,
    sealer: RecordSealer,
    on_changes: Changes = ignore,
    refused: Refused | None = None,
    acting: Callable[[], str] = str,
    organization: str = "",
    bound: float = BOUND,
) -> PostgresqlDatabase:
    """Open a database that `kmsd migrate` has made; *url* is a libpq connection string or URI.

    *sealer* computes the MACs of records; *on_changes* is called, after a commit, with what it has changed;
    *refused* are tenants whose records are not looked at.
    *acting* returns for whom the present task works, a resource name or nothing; *organization* is the trust domain.
    Both are told to the database in every transaction. *bound* is how many seconds one step of a transaction may take.

    Raises:
        CannotOpen: the URI is none, the database is missing or not of this release, or not in UTF-8, or the user may
            not take the roles of a daemon.
        StorageUnavailable: it does not answer, or refuses the user.
    """
    connector = _Connector(url)
    engine = create_async_engine(
        "postgresql+psycopg://",
        async_creator=connector,
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=EXCLUSIVE_LOCKS,
        pool_use_lifo=True,
    )
    seals = Seals(sealer, on_changes, refused or Refused())
    line = Line(engine, shut_down, Breaker(time.monotonic), Tasks(), seals, bound)
    database = PostgresqlDatabase(line, pool_size, connector, acting, organization)
    try:
        database.excess = await _verify(line)
    except BaseException as error:
        # The first connection asks the server a few things before any session knows it.
        if connector.newest is not None:
            shut_down(connector.newest)
        await database.close()
        if isinstance(error, StorageUnavailable) and isinstance(error.__cause__, Exception):
            raise explained(error.__cause__, database_name(url)) from error
        raise
    return database


async def _verify(line: Line) -> str:
    """Look at the database as the user itself, whose roles may be missing; returns what that user can do beyond them."""
    statement = f"{_READ}; SELECT {_set(_limits(IDLE_TIMEOUT))}"
    async with running(Session(line, statement, AsyncExitStack(), tenant=None, write=False)) as session:
        [[encoding]] = await session.raw("SELECT current_setting('server_encoding')")
        if encoding != "UTF8":
            raise CannotOpen(f"the database is in {encoding}; make one in UTF8")
        [user] = await session.raw(USER)
        revision = await session.raw(REVISION)
        if revision and not revision[0][0]:
            await session.raw(TAKE_READER)
            revision = await session.raw(REVISION)
            if not revision[0][0]:
                raise cannot_take(user[0])
        rows = await session.raw("SELECT version_num FROM security_internal.alembic_version") if revision else []
    require_found([row[0] for row in rows])
    return excess_of(user)


def begin(
    mode: str,
    *,
    tenant: TenantUid | None = None,
    acting: str = "",
    organization: str = "",
    idle_timeout: int = IDLE_TIMEOUT,
) -> str:
    """Return the statements that begin a transaction, sent in one message: one round trip."""
    settings = _limits(idle_timeout)
    if mode == _WRITE:
        # A server that confirms commits before they are on disk would lose keys and counts that were acknowledged.
        settings["synchronous_commit"] = "coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on')"
    # All of them, always: what somebody behind the same pooler left behind in the session must not count.
    settings["app.current_tenant_id"] = _quoted("" if tenant is None else str(tenant))
    settings["app.current_user_id"] = _quoted(acting)
    settings["app.current_organization_id"] = _quoted(organization)
    settings["role"] = f"'{SWEEPER if tenant is None else APP}'"
    return f"{mode}; SELECT {_set(settings)}"


def _limits(idle_timeout: int) -> dict[str, str]:
    return {
        "statement_timeout": f"'{STATEMENT_TIMEOUT}'",
        "lock_timeout": f"'{LOCK_TIMEOUT}'",
        "idle_in_transaction_session_timeout": f"'{idle_timeout}'",
    }


def _set(settings: dict[str, str]) -> str:
    """Set for this transaction only."""
    return ", ".join(f"set_config('{name}', {value}, true)" for name, value in settings.items())


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text) is None:
        raise ValueError("no resource name")
    return f"'{text}'"


def _drop(connection: psycopg.AsyncConnection[Any]) -> None:
    shut_down(connection)
    connection.pgconn.finish()


def shut_down(driver: Any) -> None:
    """End whatever waits for the server on this connection.

    Shutting down the socket, not closing it: the waiting call reads an end of file at once and cleans up itself. Its
    cancellation would take ten seconds more, and closing under it would leave the event loop a dead descriptor.
    """
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(driver.pgconn.socket)) as line:
        line.shutdown(socket.SHUT_RDWR)
