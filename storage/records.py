"""The one place where records are written, and how stored ones become values again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Executable, Row, Table, and_, bindparam
from sqlalchemy.dialects import postgresql, sqlite

from kms.core.errors import CorruptRecord, KmsError, invalid

from .session import Session

# What survives a round trip through both engines exactly, and so may stand under a MAC.
Value = None | int | str | bytes | UUID | datetime

_INT64: Final = range(-(2**63), 2**63)

T = TypeVar("T")


def insertion(session: Session, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT of the session's engine, for its ON CONFLICT clause."""
    return sqlite.insert(table) if session.dialect == "sqlite" else postgresql.insert(table)


async def store(
    session: Session, table: Table, row: Mapping[str, Value], came_from: int, *, otherwise: KmsError
) -> int:
    """Write a record over the revision that it came from, 0 for a new one; returns its revision.

    *row* holds every column but revision and mac. *otherwise* is raised when a new record's identity is taken, or when
    the stored revision is another than *came_from*.

    Raises:
        InvalidRequest: a text cannot be stored: NUL or a lone surrogate.
    """
    whole = _whole(session, table, row, came_from)
    if await session.change(_statement(session, table, whole, came_from)) != 1:
        raise otherwise
    return came_from + 1


async def store_unchanged(session: Session, table: Table, rows: Sequence[tuple[Mapping[str, Value], int]]) -> int:
    """Write records over the revisions that they came from, but for those whose stored revision is another.

    Returns how many were written; the rest is as it was. All of them have been stored before.

    Raises:
        InvalidRequest: as store().
    """
    if not rows:
        return 0
    identity = list(table.primary_key.columns)
    own = {column.name for column in identity}
    statement = (
        table.update()
        .where(*(column == bindparam(f"its_{column.name}") for column in identity))
        .where(table.c.revision == bindparam("came_from"))
        .values({column.name: bindparam(f"new_{column.name}") for column in table.c if column.name not in own})
    )
    return await session.change(
        statement,
        [
            {("its_" if name in own else "new_") + name: value for name, value in whole.items()}
            | {"came_from": came_from}
            for row, came_from in rows
            for whole in (_whole(session, table, row, came_from),)
        ],
    )


def _whole(session: Session, table: Table, row: Mapping[str, Value], came_from: int) -> Mapping[str, Value]:
    """Return a row with the next revision and the MAC of all that.

    Raises:
        InvalidRequest: a value cannot be stored.
    """
    if session.tenant not in {None, row["tenant_id"]}:
        raise RuntimeError("a transaction of one tenant cannot write another's record")
    for name, value in row.items():
        _check(name, value)
    revision = came_from + 1
    whole = {**row, "revision": revision, "mac": _mac(table, row, revision)}
    if whole.keys() != set(table.columns.keys()):
        raise RuntimeError(f"a record of {table.name} is written whole or not at all")
    return whole


def _statement(session: Session, table: Table, whole: Mapping[str, Value], came_from: int) -> Executable:
    if came_from == 0:
        # The database answers "0 rows", not an error that would end a PostgreSQL transaction.
        return insertion(session, table).values(**whole).on_conflict_do_nothing()
    identity = list(table.primary_key.columns)
    content = {name: value for name, value in whole.items() if name not in {column.name for column in identity}}
    return (
        table.update()
        .where(and_(*(column == whole[column.name] for column in identity)), table.c.revision == came_from)
        .values(**content)
    )


def _mac(table: Table, row: Mapping[str, Value], revision: int) -> bytes:
    """Return the record's MAC: empty until records are sealed (FORMATS, section 7). It gets all that such a MAC covers."""
    del table, row, revision
    return b""


def _check(name: str, value: Value) -> None:
    if isinstance(value, str):
        if "\0" in value or not _encodes(value):
            raise invalid(name, "must be Unicode text without NUL")
    elif isinstance(value, int) and value not in _INT64:
        raise invalid(name, "must be a 64-bit integer")
    elif isinstance(value, datetime) and value.tzinfo is None:
        raise invalid(name, "must be a time with a zone")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read(rows: Sequence[Row[Any]], make: Callable[[Row[Any]], T]) -> list[T]:
    """Turn rows into values.

    Raises:
        CorruptRecord: a stored record makes no sense.
    """
    try:
        return [make(row) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptRecord("a stored record makes no sense") from error


def read_one(rows: Sequence[Row[Any]], make: Callable[[Row[Any]], T]) -> T | None:
    """Turn the only row, if there is one, into a value.

    Raises:
        CorruptRecord: the stored record makes no sense.
    """
    return next(iter(read(rows, make)), None)
