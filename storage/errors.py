"""Why the storage cannot be opened, for the operator who starts the daemon, and what a library's error means to a caller.

CannotOpen
|-- DatabaseMissing         nothing is there: make it with `kmsd migrate`
|-- DatabaseOutdated        made by an older release: `kmsd migrate`
|-- DatabaseTooNew          made by a newer release: start that one
|-- UserRefused             the database's user may do too little, or too much
`-- DirectoryInUse          another daemon owns the data directory
"""

from __future__ import annotations

import sqlite3
from typing import Final

import psycopg
from sqlalchemy import exc

from kms.core.errors import Conflict, CorruptRecord, KmsError, StorageUnavailable


class CannotOpen(Exception):
    """The storage cannot be used as it is; the message says why and what to do."""


class DatabaseMissing(CannotOpen):
    """There is no database, or an empty one."""


class DatabaseOutdated(CannotOpen):
    """An older release made the database."""


class DatabaseTooNew(CannotOpen):
    """A newer release made the database."""


class UserRefused(CannotOpen):
    """The database's user may not do what is needed, or may do more than it should."""


class DirectoryInUse(CannotOpen):
    """Another process owns the data directory."""


# PostgreSQL, appendix A "Error Codes"; by code or by its class, the first two characters.
_BY_SQLSTATE: Final = {
    "23505": (Conflict, "another record has this identity"),
    "23503": (Conflict, "a record that this one belongs to does not exist"),
    "40": (Conflict, "another transaction changed the same records"),
    "23": (CorruptRecord, "the database refuses a record that contradicts itself"),
    "22": (CorruptRecord, "the database refuses a value"),
    "XX": (CorruptRecord, "the database reports damaged data"),
    "42501": (StorageUnavailable, "the database does not let its user do this"),
    "57014": (StorageUnavailable, "the database did not finish in time"),
    "55P03": (StorageUnavailable, "a lock in the database was not free in time"),
    "53": (StorageUnavailable, "the database has no room or memory left"),
    "25006": (StorageUnavailable, "the database is read-only"),
}

# SQLite, "Result and Error Codes"; by extended code or by the code it extends.
_BY_SQLITE: Final = {
    "SQLITE_CONSTRAINT_UNIQUE": (Conflict, "another record has this identity"),
    "SQLITE_CONSTRAINT_PRIMARYKEY": (Conflict, "another record has this identity"),
    "SQLITE_CONSTRAINT_FOREIGNKEY": (Conflict, "a record that this one belongs to does not exist"),
    "SQLITE_CONSTRAINT": (CorruptRecord, "the database refuses a record that contradicts itself"),
    "SQLITE_CORRUPT": (CorruptRecord, "the database file is damaged"),
    "SQLITE_NOTADB": (CorruptRecord, "the database file is damaged"),
    "SQLITE_FULL": (StorageUnavailable, "the database has no room left"),
    "SQLITE_READONLY": (StorageUnavailable, "the database is read-only"),
    "SQLITE_BUSY": (StorageUnavailable, "the database is locked by another process"),
}


def explained(error: Exception, database: str) -> Exception:
    """Return a failure to connect in words for the operator, who may see what callers may not: hosts and users."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    if not isinstance(cause, psycopg.OperationalError) or cause.sqlstate is not None:
        return translated(error)
    answer = " ".join(str(cause).split())
    # The server's refusal has no code here, only its words, which are in English unless it was set up otherwise.
    if answer.endswith("does not exist") and ' database "' in answer:
        return DatabaseMissing(f"there is no database {database}; create it, then run `kmsd migrate`")
    return StorageUnavailable(f"the database {database} cannot be reached: {answer}")


def translated(error: Exception) -> Exception:
    """Return what a library's error means in the words of the core; what is not a library's comes back as it is."""
    if isinstance(error, KmsError):
        return error
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(cause, psycopg.DataError) and not cause.sqlstate:  # a value that Python cannot hold, such as infinity
        return CorruptRecord("the database holds a value that makes no sense")
    if isinstance(cause, psycopg.Error):
        state = cause.sqlstate or "no answer"
        kind, words = (
            _BY_SQLSTATE.get(state) or _BY_SQLSTATE.get(state[:2]) or (StorageUnavailable, "the database failed")
        )
        return kind(f"{words} ({state})")
    if isinstance(cause, sqlite3.Error):
        name = getattr(cause, "sqlite_errorname", "SQLITE_ERROR")
        base = "_".join(name.split("_")[:2])
        kind, words = _BY_SQLITE.get(name) or _BY_SQLITE.get(base) or (StorageUnavailable, "the database failed")
        return kind(f"{words} ({name})")
    if isinstance(error, exc.SQLAlchemyError | OSError):
        return StorageUnavailable(f"the database cannot be used ({type(error).__name__})")
    return error
