"""The file of a SQLite database, and how every connection to it is set up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import URL

from .errors import CannotOpen, DatabaseMissing

# WAL with synchronous=FULL is durable at every commit; NORMAL would lose the last ones in a power cut.
PRAGMAS: Final = (
    "journal_mode=wal",
    "synchronous=full",
    "foreign_keys=on",
    "recursive_triggers=on",
    "busy_timeout=1000",
)


def sqlite_url(path: Path, driver: str) -> URL:
    """Return the URL of an existing file: nothing is created where it is missing."""
    return URL.create(f"sqlite+{driver}", database=f"file:{quote(str(path))}", query={"mode": "rw", "uri": "true"})


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from every other one on the machine, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def require_file(path: Path) -> None:
    """Make sure that there is a file, and that nobody else can read it.

    Raises:
        DatabaseMissing: there is none.
        CannotOpen: it is another user's.
    """
    if not path.is_file():
        raise DatabaseMissing(f"there is no database {path}; make it with `kmsd migrate`")
    if path.stat().st_mode & 0o077:
        try:
            path.chmod(0o600)
        except OSError as error:
            raise CannotOpen(f"the database {path} is open to others: {error.strerror}") from error


def prepare(connection: Any, _record: object) -> None:
    """Set up a new connection, of either driver."""
    connection.isolation_level = None  # the driver begins nothing by itself
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def make_file(path: Path) -> None:
    """Make an empty database that only this user can read, if there is none; its WAL gets the same mode from SQLite.

    Raises:
        CannotOpen: the directory is missing or not writable.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise CannotOpen(f"the database {path} cannot be made: {error.strerror}") from error
