"""Rows of the audit log as PostgreSQL takes them: one INSERT, its parameters in the server's binary form.

Several rows go as one array for each column, so that the statement stays the same however many they are. Few rows go one by
one: for arrays the server plans and runs a function of as many columns, which costs it more than the rows (docs/benchmarks.md).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import chain, repeat
from typing import Final, NamedTuple
from uuid import UUID

from psycopg.pq import Format

from kms.core.canonical import microseconds

from .audit_rows import COLUMNS, NUMBERS, OCTETS, WORDS, Row

FEW: Final = 4  # rows

_LENGTH: Final = struct.Struct(">i").pack
_NUMBER: Final = struct.Struct(">iq").pack
_INTEGER: Final = struct.Struct(">q").pack
_HEADER: Final = struct.Struct(">iiIii").pack
_NULL: Final = _LENGTH(-1)
_SINCE_2000: Final = microseconds(datetime(2000, 1, 1, tzinfo=UTC))  # where PostgreSQL's own time begins


class _Kind(NamedTuple):
    """A type of the server and the type of its arrays, by number."""

    array: int
    element: int


_TEXT: Final = _Kind(1009, 25)
_BIGINT: Final = _Kind(1016, 20)
_BYTEA: Final = _Kind(1001, 17)
_UUID: Final = _Kind(2951, 2950)
_TIMESTAMPTZ: Final = _Kind(1185, 1184)


def _array(kind: _Kind, count: int, elements: bytes, *, nulls: bool = False) -> bytes:
    return _HEADER(1, nulls, kind.element, count, 1) + elements


def _pieces(values: Sequence[bytes]) -> bytes:
    return b"".join(chain.from_iterable(zip(map(_LENGTH, map(len, values)), values, strict=True)))


def _texts(values: Sequence[str]) -> bytes:
    first = values[0]
    count = len(values)
    if values.count(first) == count:  # most columns of most groups
        data = first.encode()
        return _array(_TEXT, count, (_LENGTH(len(data)) + data) * count)
    return _array(_TEXT, count, _pieces([value.encode() for value in values]))


def _octets(values: Sequence[bytes]) -> bytes:
    return _array(_BYTEA, len(values), _pieces(values))


def _numbers(values: Sequence[int]) -> bytes:
    return _array(_BIGINT, len(values), b"".join(map(_NUMBER, repeat(8), values)))


def _uids(values: Sequence[UUID | None]) -> bytes:
    pieces = [_NULL if value is None else b"\0\0\0\x10" + value.bytes for value in values]
    return _array(_UUID, len(values), b"".join(pieces), nulls=True)


def _times(values: Sequence[datetime | None]) -> bytes:
    pieces = [_NULL if value is None else _NUMBER(8, microseconds(value) - _SINCE_2000) for value in values]
    return _array(_TIMESTAMPTZ, len(values), b"".join(pieces), nulls=True)


def _arrays(rows: Sequence[Row]) -> list[bytes]:
    """Return the columns of rows, in the order of COLUMNS."""
    plain, tenants, keys, intents, kept_until, streams, sequences, times, canonicals, hashes = zip(*rows, strict=True)
    columns = list(zip(*plain, strict=True))
    return [
        *map(_texts, columns[:WORDS]),
        *map(_numbers, columns[WORDS : WORDS + NUMBERS]),
        *map(_octets, columns[WORDS + NUMBERS :]),
        _uids(tenants),
        _uids(keys),
        _uids(intents),
        _times(kept_until),
        _uids(streams),
        _numbers(sequences),
        _times(times),
        _octets(canonicals),
        _octets(hashes),
    ]


def _single(row: Row) -> tuple[bytes | None, ...]:
    """Return the columns of one row, in the order of COLUMNS."""
    numbers = row.plain[WORDS : WORDS + NUMBERS]
    return (
        *[word.encode() for word in row.plain[:WORDS]],
        *map(_INTEGER, numbers),
        *row.plain[WORDS + NUMBERS :],
        row.tenant.bytes,
        None if row.key is None else row.key.bytes,
        None if row.intent_stream is None else row.intent_stream.bytes,
        None if row.kept_until is None else _time(row.kept_until),
        row.stream.bytes,
        _INTEGER(row.sequence),
        _time(row.at),
        row.canonical,
        row.hash,
    )


def _time(value: datetime) -> bytes:
    return _INTEGER(microseconds(value) - _SINCE_2000)


_KINDS: Final = (
    *repeat(_TEXT, WORDS),
    *repeat(_BIGINT, NUMBERS),
    *repeat(_BYTEA, OCTETS),
    *(_UUID, _UUID, _UUID, _TIMESTAMPTZ),
    *(_UUID, _BIGINT, _TIMESTAMPTZ, _BYTEA, _BYTEA),
)
_INTO: Final = f"INSERT INTO audit.audit_log ({', '.join(COLUMNS)})"


class Statement(NamedTuple):
    """What libpq is given: the text, and the type and format of each parameter."""

    text: bytes
    types: list[int]
    formats: list[int]


def _numbered(first: int) -> str:
    return ", ".join(f"${number}" for number, _ in enumerate(COLUMNS, first))


_MANY: Final = Statement(
    f"{_INTO} SELECT * FROM unnest({_numbered(1)})".encode(),  # noqa: S608  names of our own
    [kind.array for kind in _KINDS],
    [Format.BINARY] * len(COLUMNS),
)


@cache  # up to FEW
def _few(count: int) -> Statement:
    rows = ", ".join(f"({_numbered(1 + row * len(COLUMNS))})" for row in range(count))
    types = [kind.element for kind in _KINDS] * count
    return Statement(f"{_INTO} VALUES {rows}".encode(), types, [Format.BINARY] * len(types))


def statement_of(rows: Sequence[Row]) -> tuple[Statement, Sequence[bytes | None]]:
    """Return the statement that writes these rows, at least one, and its parameters."""
    if len(rows) > FEW:
        return _MANY, _arrays(rows)
    return _few(len(rows)), list(chain.from_iterable(map(_single, rows)))
