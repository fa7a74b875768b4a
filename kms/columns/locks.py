"""Locks: one runner at a time for a table, and short ones against the applications."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

import psycopg
from psycopg import sql

from .database import Connection, named
from .errors import ColumnsError, WrongState

TRIES: Final = 60  # for a lock on a table, each LOCK_TIMEOUT long
PAUSE: Final = 1.0  # seconds between them, for those who queue behind

T = TypeVar("T")


@contextmanager
def alone(connection: Connection, table: str) -> Iterator[None]:
    """Be the only runner that is at work on a table; the server knows when a runner has died.

    Raises:
        WrongState: another one is.
    """
    key = f"kms_columns {table}"
    [(mine,)] = connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (key,)).fetchall()
    if not mine:
        raise WrongState(f"{table}: another `kms columns` is at work on it")
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # a connection that is gone has no lock any more
            connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (key,))


def locked(
    connection: Connection,
    table: str,
    mode: str,
    act: Callable[[], T],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Act in one transaction under a lock on a table; a lock that is not there soon is given up, and tried again.

    Raises:
        ColumnsError: no lock after TRIES.
    """
    for _ in range(TRIES):
        try:
            with connection.transaction():
                connection.execute(sql.SQL("LOCK TABLE {} IN {} MODE").format(named(table), sql.SQL(mode)))
                return act()
        except psycopg.errors.LockNotAvailable:
            sleep(PAUSE)
    raise ColumnsError(f"{table}: no lock on it can be had; end the long transactions on it and run the command again")
