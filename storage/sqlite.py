"""SQLite: the embedded database of one daemon, which owns its directory (storage.ownership)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from kms.core.audit_ports import RecordSealer
from kms.core.errors import CorruptRecord, StorageUnavailable
from kms.core.names import TenantUid
from kms.core.ports import ChangeSignal
from kms.core.refused import Refused

from .breaker import Breaker
from .database import EXCLUSIVE_WAIT, PLACE_WAIT, Database, taken
from .errors import CannotOpen
from .revision import require_found
from .running import running
from .schemas import SCHEMAS
from .seals import Changes, Seals, ignore
from .session import BOUND, Line, Session, Tasks
from .sqlite_file import identity, prepare, require_file, sqlite_url

TRANSACTIONS: Final = 5  # at once: one writer and four readers, each with a thread of its own
CHECK_BOUND: Final = 60.0  # seconds for reading the whole file at the start


class SqliteDatabase(Database):
    """Storage on SQLite."""

    def __init__(self, line: Line, path: Path) -> None:
        super().__init__(line, TRANSACTIONS)
        self._path = path
        self._file = identity(path)
        self._writer = asyncio.Lock()

    def _statement(self, tenant: TenantUid | None, *, write: bool) -> str:
        del tenant  # SQLite knows no row-level security
        # A deferred transaction that reads first and writes later fails at once when another writes meanwhile.
        return "BEGIN IMMEDIATE" if write else "BEGIN DEFERRED"

    async def _turn(self, places: AsyncExitStack, *, write: bool) -> None:
        # SQLite goes on writing to a file that was moved or removed, and all of that would be lost at the next start.
        if identity(self._path) != self._file:
            raise StorageUnavailable("the database file was moved or removed")
        if write:  # waiting here costs nothing, waiting in SQLite occupies a thread that polls
            await taken(self._writer, PLACE_WAIT, places, "the turn to write")

    @property
    def path(self) -> Path:
        """The database's file."""
        return self._path

    @asynccontextmanager
    async def writing_turn(self) -> AsyncIterator[None]:
        """Hold the turn to write, for whoever writes to the file by another way; turns go round in order.

        Raises:
            StorageUnavailable: it was not free in time, or the file was moved or removed.
        """
        async with AsyncExitStack() as places:
            await self._turn(places, write=True)
            yield

    @asynccontextmanager
    async def exclusive(self, name: str) -> AsyncIterator[None]:
        """Hold a lock of that name; the daemon that owns the directory is the whole installation."""
        async with AsyncExitStack() as held:
            await taken(self._named(name), EXCLUSIVE_WAIT, held, f"the lock {name}")
            yield

    @property
    def shared(self) -> bool:
        """The daemon that owns the directory is the whole installation."""
        return False

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[ChangeSignal]:
        """Nobody else makes changes: waiting is all there is."""
        yield _Silence()

    async def verify(self) -> None:
        """Look for damage in the whole file, and for migrations that are missing or too new.

        Raises:
            CannotOpen: it is damaged, or not of this release.
        """
        places = AsyncExitStack()
        try:
            async with running(Session(self._line, "BEGIN DEFERRED", places, tenant=None, write=False)) as session:
                answers = [row[0] for row in await session.raw("PRAGMA quick_check(1)", CHECK_BOUND)]
                if answers != ["ok"]:
                    raise CannotOpen(f"the database is damaged: {answers[0]}")
                tables = await session.raw("SELECT name FROM sqlite_master WHERE name = 'alembic_version'", CHECK_BOUND)
                found = await session.raw("SELECT version_num FROM alembic_version", CHECK_BOUND) if tables else []
        except CorruptRecord as error:
            raise CannotOpen(str(error)) from error
        require_found([row[0] for row in found])


class _Silence:
    """A signal that never comes."""

    async def wait(self, seconds: float) -> None:
        """Return after that many *seconds*."""
        await asyncio.sleep(seconds)


def _interrupt(driver: Any) -> None:
    with suppress(ValueError):  # closed already
        driver._conn.interrupt()  # noqa: SLF001  aiosqlite's own interrupt() would have to be awaited


async def open_sqlite(
    path: Path,
    *,
    sealer: RecordSealer,
    on_changes: Changes = ignore,
    refused: Refused | None = None,
    bound: float = BOUND,
) -> SqliteDatabase:
    """Open a database that `kmsd migrate` has made, and check the whole of it.

    *sealer* computes the MACs of records; *on_changes* is called, after a commit, with what it has changed;
    *refused* are tenants whose records are not looked at; *bound* is how many seconds one step of a transaction may take.

    Raises:
        CannotOpen: it is missing, damaged, unreadable, or not of this release.
        StorageUnavailable: it does not answer, or another process holds it.
    """
    require_file(path)
    engine = create_async_engine(
        sqlite_url(path, "aiosqlite"),
        pool_size=TRANSACTIONS,
        max_overflow=0,
        pool_timeout=PLACE_WAIT,
        execution_options={"schema_translate_map": dict.fromkeys(SCHEMAS)},
    )
    event.listen(engine.sync_engine, "connect", prepare)
    seals = Seals(sealer, on_changes, refused or Refused())
    database = SqliteDatabase(Line(engine, _interrupt, Breaker(time.monotonic), Tasks(), seals, bound), path)
    try:
        await database.verify()
    except BaseException:
        await database.close()
        raise
    return database
