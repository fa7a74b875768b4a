"""The one place where records are written, and how stored ones become values again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import Row, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite

from kms.core.errors import CorruptRecord, KmsError, invalid

from .session import Session

# What survives a round trip through both engines exactly, and so may stand under a MAC.
Value = None | int | str | bytes | UUID | datetime

_INT64: Final = range(-(2**63), 2**63)

AT_ONCE: Final = 1_000  # records in one step, which has the session's bound
# Rows that one statement names with their values: a thousand take a third of a second to put into words (measured).
IN_ONE_STEP: Final = 250

T = TypeVar("T")


def insertion(session: Session, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT of the session's engine, for its ON CONFLICT clause."""
    return sqlite.insert(table) if session.dialect == "sqlite" else postgresql.insert(table)


async def store(
    session: Session, table: Table, row: Mapping[str, Value], came_from: int, *, otherwise: KmsError
) -> int:
    """Write a record over the revision that it came from, 0 for a new one; returns its revision.

    *row* holds every column but revision and mac. *otherwise* is raised when a new record's identity is taken, or when
    the stored revision is another than *came_from*; the transaction may go on then, since nothing was written.

    Raises:
        InvalidRequest: a text cannot be stored: NUL or a lone surrogate.
    """
    if await _write(session, table, [(row, came_from)]) != 1:
        raise otherwise
    return came_from + 1


async def store_all(
    session: Session, table: Table, rows: Sequence[tuple[Mapping[str, Value], int]], *, otherwise: KmsError
) -> None:
    """Write many records of one table, each with the revision that it came from, as store() does.

    After a refusal the transaction does not commit, since some of them were written.
    """
    for same in ([row for row in rows if row[1] == 0], [row for row in rows if row[1] != 0]):
        for start in range(0, len(same), AT_ONCE):
            part = same[start : start + AT_ONCE]
            if await _write(session, table, part) != len(part):
                session.spoil(otherwise)
                raise otherwise


async def store_unchanged(session: Session, table: Table, rows: Sequence[tuple[Mapping[str, Value], int]]) -> int:
    """Write stored records over the revisions that they came from, but for those whose stored revision is another.

    Returns how many were written; the rest is as it was.

    Raises:
        InvalidRequest: as store().
    """
    return sum([await _write(session, table, rows[start : start + AT_ONCE]) for start in range(0, len(rows), AT_ONCE)])


async def _write(session: Session, table: Table, rows: Sequence[tuple[Mapping[str, Value], int]]) -> int:
    """Write records, all of them new or none; returns how many were written."""
    if rows[0][1] == 0:
        # The database answers "0 rows", not an error that would end a PostgreSQL transaction.
        insert = insertion(session, table).on_conflict_do_nothing()
        return await session.change(insert, [_whole(session, table, row, 0) for row, _ in rows])
    came_from = {column.name: f"from_{column.name}" for column in (*table.primary_key.columns, table.c.revision)}
    update = table.update().where(*(table.c[name] == bindparam(other) for name, other in came_from.items()))
    values = []
    for row, revision in rows:
        changed = _whole(session, table, row, revision)
        found_by = {other: row.get(name, revision) for name, other in came_from.items()}
        values.append(found_by | {name: changed[name] for name in changed if name not in table.primary_key.columns})
    return await session.change(update, values)


def _whole(session: Session, table: Table, row: Mapping[str, Value], came_from: int) -> dict[str, Value]:
    require_own(session, row["tenant_id"])
    for name, value in row.items():
        _check(name, value)
    revision = came_from + 1
    whole = {**row, "revision": revision, "mac": _mac(table, row, revision)}
    if whole.keys() != set(table.columns.keys()):
        raise RuntimeError(f"a record of {table.name} is written whole or not at all")
    return whole


def require_own(session: Session, tenant: Value) -> None:
    """Refuse to write what belongs to another tenant than the transaction's."""
    if session.tenant not in {None, tenant}:
        raise RuntimeError("a transaction of one tenant cannot write another's record")


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


def units(period: timedelta, unit: timedelta) -> int:
    """Return a period in whole *units*.

    Raises:
        InvalidRequest: it is none.
    """
    number, rest = divmod(period, unit)
    if rest:
        raise invalid("period", f"must be a whole number of {unit // timedelta(seconds=1)} seconds")
    return number


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
