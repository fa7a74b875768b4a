"""The connection to an application's database: what it prints and what it must not hide is fixed here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql

from .errors import ColumnsError, DatabaseGone

Connection = psycopg.Connection[tuple[Any, ...]]

CONNECT_TIMEOUT: Final = 10  # seconds
LOCK_TIMEOUT: Final = "2s"  # a lock that is not there soon is left to the applications, and tried again
STATEMENT_TIMEOUT: Final = "10min"  # of one statement; counts and checks of large tables are the longest

# What ciphertexts are made of, and rows told apart by, must not depend on how a server, role or database is set up.
_SETTINGS: Final = {
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",  # the shortest text that is read back as the same number
    "bytea_output": "hex",
    "xmloption": "content",
    "row_security": "off",  # an error instead of rows that are not seen
    "lock_timeout": LOCK_TIMEOUT,
    "statement_timeout": STATEMENT_TIMEOUT,
    "idle_in_transaction_session_timeout": "1min",
    "search_path": "pg_catalog",
    "application_name": "kms columns",
}


def connect(conninfo: str) -> Connection:
    """Connect to an application's database, in autocommit mode; not through a pooler that changes servers.

    Args:
        conninfo: a libpq URL or keywords, completed by the PG... environment; without a password in it, if others may see it.

    Raises:
        DatabaseGone: nobody answers, or the login is refused.
        ColumnsError: it is a database that cannot be protected.
    """
    try:
        connection = psycopg.connect(conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT, prepare_threshold=None)
    except psycopg.Error as error:
        raise DatabaseGone(f"the database cannot be reached: {_first_line(error)}") from None
    try:
        for name, value in _SETTINGS.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        _require_utf8(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def named(table: str) -> sql.Identifier:
    """Return a table's quoted name from `schema.table`."""
    return sql.Identifier(*table.split(".", 1))


def quieten(connection: Connection) -> bool:
    """Let the runner's writes fire none of the application's triggers; returns whether the role may.

    Those that stamp or copy rows would say that people had changed them. Needs a superuser, or from PostgreSQL 15 on
    GRANT SET ON PARAMETER session_replication_role.
    """
    try:
        connection.execute("SET session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the server complains of as a ColumnsError; of its message only what holds no value of a row.

    Raises:
        DatabaseGone: the connection has ended.
        ColumnsError: anything else.
    """
    try:
        yield
    except psycopg.Error as error:
        if isinstance(error, _GONE) or (error.sqlstate is None and isinstance(error, _LOST)):
            raise DatabaseGone("the database has ended the connection; run the command again") from None
        raise ColumnsError(_without_values(error)) from None


# Their first lines name tables, columns, constraints, roles and locks; those of other classes may repeat a value.
_WITHOUT_VALUES: Final = (
    psycopg.errors.IntegrityError,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateColumn,
    psycopg.errors.DependentObjectsStillExist,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.StringDataRightTruncation,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.WrongObjectType,
)
_LOST: Final = (psycopg.OperationalError, psycopg.InterfaceError)  # where no server has said what is wrong
_GONE: Final = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    psycopg.errors.IdleInTransactionSessionTimeout,
)


def _without_values(error: psycopg.Error) -> str:
    where = ".".join(part for part in (error.diag.schema_name, error.diag.table_name) if part)
    said = error.diag.message_primary if isinstance(error, _WITHOUT_VALUES) else type(error).__name__
    return f"{where}: {said}" if where else f"the database says: {said}"


def _require_utf8(connection: Connection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ColumnsError(f"the database's encoding is {encoding}; only UTF8 is protected byte for byte")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
