"""The one place where records are written and removed, and where stored ones become values again, verified."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy import Row, Select, Table, bindparam, delete, select, tuple_

from kms.core.canonical import Value
from kms.core.errors import CorruptRecord, KmsError, invalid
from kms.core.integrity import Entry

from .integrity import IDENTITIES, Identity, Wanted, lock, mac_of, verify, verify_mac
from .session import Session, insertion
from .tree_writing import note

_INT64: Final = range(-(2**63), 2**63)

AT_ONCE: Final = 1_000  # records in one step, which has the session's bound
# Rows that one statement names with their values: a thousand take a third of a second to put into words (measured).
IN_ONE_STEP: Final = 250

T = TypeVar("T")


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
    return sum(
        [await _unchanged(session, table, rows[start : start + AT_ONCE]) for start in range(0, len(rows), AT_ONCE)]
    )


async def _unchanged(session: Session, table: Table, rows: Sequence[tuple[Mapping[str, Value], int]]) -> int:
    # Which of them are written has to be known; nobody else changes any while the tenant's root is locked.
    await lock(session, table)
    keys = list(table.primary_key.columns)
    at = tuple_(*keys).in_([tuple(row[key.name] for key in keys) for row, _ in rows])
    query = select(*keys, table.c.revision).where(table.c.tenant_id == rows[0][0]["tenant_id"], at)
    stored: dict[tuple[Value, ...], int] = {tuple(row[:-1]): row.revision for row in await session.rows(query)}
    same = [(row, revision) for row, revision in rows if stored.get(tuple(row[key.name] for key in keys)) == revision]
    return await _write(session, table, same) if same else 0


async def _write(session: Session, table: Table, rows: Sequence[tuple[Mapping[str, Value], int]]) -> int:
    """Write records, all of them new or none; returns how many were written.

    Where it is neither none nor all of them, the transaction must not commit.
    """
    await lock(session, table)
    wholes = [_whole(session, table, row, revision) for row, revision in rows]
    if rows[0][1] == 0:
        # The database answers "0 rows", not an error that would end a PostgreSQL transaction.
        count = await session.change(insertion(session, table).on_conflict_do_nothing(), wholes)
    else:
        came_from = {column.name: f"from_{column.name}" for column in (*table.primary_key.columns, table.c.revision)}
        update = table.update().where(*(table.c[name] == bindparam(other) for name, other in came_from.items()))
        values = []
        for changed, (row, revision) in zip(wholes, rows, strict=True):
            found_by = {other: row.get(name, revision) for name, other in came_from.items()}
            values.append(found_by | {name: changed[name] for name in changed if name not in table.primary_key.columns})
        count = await session.change(update, values)
    if count == len(rows):
        for whole, (_, revision) in zip(wholes, rows, strict=True):
            note(session, table, whole, revision, Entry(revision + 1, whole["mac"]))  # type: ignore[arg-type]  # bytes
    return count


async def remove(session: Session, table: Table, rows: Sequence[Mapping[str, Value]]) -> int:
    """Remove records, at most AT_ONCE; returns how many.

    Each of *rows* has the columns of the identity, and of the place in the tree, and the revision. Where it is neither none
    nor all of them, the transaction does not commit.
    """
    if not rows:
        return 0
    for row in rows:
        require_own(session, row["tenant_id"])
    await lock(session, table)
    keys = [*table.primary_key.columns, table.c.revision]
    there = tuple_(*keys).in_([tuple(row[key.name] for key in keys) for row in rows])
    statement = delete(table).where(there)
    if session.tenant is not None:
        statement = statement.where(table.c.tenant_id == session.tenant)
    count = await session.change(statement)
    if count == len(rows):
        for row in rows:
            note(session, table, row, row["revision"], None)  # type: ignore[arg-type]  # an integer
    elif count and table.name in IDENTITIES:  # of the others, another node may remove some at the same moment
        session.spoil(CorruptRecord(f"some records of {table.name} were not there to be removed"))
    return count


def _whole(session: Session, table: Table, row: Mapping[str, Value], came_from: int) -> dict[str, Value]:
    require_own(session, row["tenant_id"])
    for name, value in row.items():
        _check(name, value)
    revision = came_from + 1
    whole = {**row, "revision": revision}
    if {*whole, "mac"} != set(table.columns.keys()):
        raise RuntimeError(f"a record of {table.name} is written whole or not at all")
    whole["mac"] = mac_of(session, table, whole)
    return whole


def require_own(session: Session, tenant: Value) -> None:
    """Refuse to write what belongs to another tenant than the transaction's."""
    if session.tenant not in {None, tenant}:
        raise RuntimeError("a transaction of one tenant cannot write another's record")


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


async def find(
    session: Session,
    table: Table,
    query: Select[Any],
    make: Callable[[Row[Any]], T],
    *,
    groups: Sequence[Identity] | None = None,
    wanted: Wanted | None = None,
) -> list[T]:
    """Return the values of the records that *query*, of all columns of one table, selects; each of them verified.

    Where *groups* names the groups (storage.integrity) that the query asks for, no record of them may be missing:
    *wanted* picks from their identities, in order, those that the query has to find; all of them without it.

    Raises:
        CorruptRecord: a stored record is not what was written last, or is missing, or makes no sense.
    """
    await lock(session, table)
    rows = await session.rows(query)
    await verify(session, table, rows, groups, wanted, alone=False)
    return read(rows, make)


async def find_one(
    session: Session,
    table: Table,
    query: Select[Any],
    make: Callable[[Row[Any]], T],
    *,
    groups: Sequence[Identity] | None = None,
    wanted: Wanted | None = None,
) -> T | None:
    """Return the value of the only record that *query* selects, if there is one, as find() does.

    Raises:
        CorruptRecord: as find().
    """
    await lock(session, table)
    rows = await session.rows(query)
    await verify(session, table, rows, groups, wanted, alone=True)
    return next(iter(read(rows, make)), None)


def readable(session: Session, table: Table, rows: Sequence[Row[Any]], make: Callable[[Row[Any]], T]) -> list[T]:
    """Turn rows of a sweep into values without those that are damaged: one must not stop the work on all others.

    Only their MACs are verified.

    Raises:
        CorruptRecord: no other is there; so it is told in the end.
    """
    made: list[T] = []
    damage: CorruptRecord | None = None
    for row in rows:
        try:
            verify_mac(session, table, row)
            made += read([row], make)
        except CorruptRecord as error:
            damage = error
            session.touched.seals.on_lie(row.tenant_id, error)
    if damage is not None and not made:
        raise damage
    return made


def read(rows: Sequence[Row[Any]], make: Callable[[Row[Any]], T]) -> list[T]:
    """Turn rows, verified or of no record, into values.

    Raises:
        CorruptRecord: what is stored makes no sense.
    """
    try:
        return [make(row) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptRecord("a stored record makes no sense") from error
