"""Migrations: one history for both engines, run by `kmsd migrate` and only looked at by the daemon."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import psycopg
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from sqlalchemy import Connection, Engine, NullPool, create_engine, event, inspect, text
from sqlalchemy.schema import CreateSchema

from .conninfo import database_name, parameters
from .errors import CannotOpen, DatabaseOutdated, UserRefused, explained, translated
from .revision import require_found, script
from .roles import OWNER, REVISION, TAKE_READER, TAKEN, USER, cannot_take, excess_of
from .schemas import INTERNAL
from .sqlite_file import make_file, prepare, require_file, sqlite_url

# A file (SQLite), or a libpq connection string or URI (PostgreSQL).
Target: TypeAlias = Path | str

# Seconds that a migration waits for a table's lock; everybody else queues behind it meanwhile.
LOCK_TIMEOUT: Final = 5
# Seconds that a migration waits for another one to end.
TURN_TIMEOUT: Final = 60


def current(target: Target) -> list[str]:
    """Return the revisions that the database says it is of; none for an empty one.

    Raises:
        DatabaseMissing: there is no database.
        StorageUnavailable: it does not answer.
    """
    with _connected(target) as connection:
        if connection.dialect.name == "postgresql" and connection.execute(text(REVISION)).scalar() is False:
            connection.execute(text(TAKE_READER))
            if not connection.execute(text(REVISION)).scalar():
                raise cannot_take(str(connection.execute(text("SELECT session_user")).scalar()))
        return _found(connection)


def require_current(target: Target) -> None:
    """Make sure that the database is of this release.

    Raises:
        CannotOpen: it is missing, empty, of an older release or of a newer one.
        StorageUnavailable: it does not answer.
    """
    require_found(current(target))


def excess(url: str, needed: Sequence[str] = TAKEN) -> str:
    """Say what a daemon's user on PostgreSQL can do beyond its roles, in words; nothing for one that is as it should be.

    Raises:
        UserRefused: it may not take the roles that are needed.
        StorageUnavailable: the database does not answer.
    """
    with _connected(url) as connection:
        return excess_of(connection.execute(text(USER)).one(), needed)


def upgrade(target: Target) -> None:
    """Bring the database to this release, in one transaction; a SQLite file is made where there is none.

    Raises:
        CannotOpen: it is from a newer release, or cannot be made, or this user may not change it.
        StorageUnavailable: it does not answer, or is in use.
    """
    if isinstance(target, Path):
        make_file(target)
    with _connected(target) as connection, connection.begin():
        schema = None
        if connection.dialect.name == "postgresql":
            schema = INTERNAL
            connection.execute(text(f"SET LOCAL lock_timeout = '{TURN_TIMEOUT}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('kms/migrate', 0))"))
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'"))
            # Row-level security holds for the owner, too; this is how it says that it migrates.
            connection.execute(text("SELECT set_config('app.migrating', 'on', true)"))
            _require_owner(connection)
            if not inspect(connection).has_schema(schema):  # IF NOT EXISTS would need the right to create it anyway
                connection.execute(CreateSchema(schema))
        if found := _found(connection):
            try:
                require_found(found)
            except DatabaseOutdated:
                pass
            else:
                return
        _run(connection, schema)
        if schema is None and (broken := connection.execute(text("PRAGMA foreign_key_check")).all()):
            raise CannotOpen(f"the migration would leave {len(broken)} references to nothing; nothing was changed")


def _require_owner(connection: Connection) -> None:
    """Make sure that this user can change the tables, and that their rows are not hidden from it.

    Raises:
        UserRefused: it cannot.
    """
    made = connection.execute(text(OWNER)).one_or_none()
    if made is None:
        return
    user, owner, owns, limited = made
    if not owns:
        raise UserRefused(f"{user} cannot migrate tables of {owner}; set storage.migration_url to a URL for {owner}")
    # There is always one row, of the installation; what changes rows that nobody sees changes none, without an error.
    if limited and not connection.execute(text("SELECT 1 FROM security_internal.tenants LIMIT 1")).all():
        raise UserRefused(
            f"row-level security hides all rows from {user}; migrate as who made the tables, or a superuser"
        )


def _run(connection: Connection, schema: str | None) -> None:
    history = script()

    def steps(revision: Any, _context: Any) -> Any:
        return history._upgrade_revs("head", revision)  # noqa: SLF001  what `alembic upgrade` does

    with EnvironmentContext(Config(), history, fn=steps) as environment:
        environment.configure(connection=connection, version_table_schema=schema, transactional_ddl=True)
        environment.run_migrations()


def _found(connection: Connection) -> list[str]:
    schema = INTERNAL if connection.dialect.name == "postgresql" else None
    if not inspect(connection).has_table("alembic_version", schema=schema):
        return []
    name = "alembic_version" if schema is None else f"{schema}.alembic_version"
    return list(connection.execute(text(f"SELECT version_num FROM {name}")).scalars())  # noqa: S608  no input


@contextmanager
def _connected(target: Target) -> Iterator[Connection]:
    engine = _sqlite(target) if isinstance(target, Path) else _postgresql(target)
    try:
        with engine.connect() as connection:
            yield connection
    except CannotOpen:
        raise
    except Exception as error:
        meaning = translated(error) if isinstance(target, Path) else explained(error, database_name(target))
        if meaning is error:
            raise
        raise meaning from error
    finally:
        engine.dispose()


def _postgresql(url: str) -> Engine:
    given = parameters(url)
    return create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(**given, prepare_threshold=None), poolclass=NullPool
    )


def _prepare_in_turn(connection: Any, record: object) -> None:
    """Set up a connection, once nobody else is at the file: SQLite itself does not wait to give a new one its WAL."""
    deadline = time.monotonic() + TURN_TIMEOUT
    while True:
        try:
            prepare(connection, record)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _sqlite(path: Path) -> Engine:
    require_file(path)

    def prepare_for_ddl(connection: Any, record: object) -> None:
        _prepare_in_turn(connection, record)
        connection.execute(f"PRAGMA busy_timeout={TURN_TIMEOUT * 1000}").close()
        # Dropping a table while it is rebuilt would delete what refers to it. Inside a transaction this does nothing.
        connection.execute("PRAGMA foreign_keys=OFF").close()

    engine = create_engine(sqlite_url(path, "pysqlite"), poolclass=NullPool)
    event.listen(engine, "connect", prepare_for_ddl)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine
