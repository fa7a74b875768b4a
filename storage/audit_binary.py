"""Rows of the audit log as PostgreSQL takes them: one INSERT, its parameters in the server's binary form.

Of several rows a column in which all have the same value, as most columns of most groups do, goes as that one value, every other
as an array: for arrays the server plans and runs a function of as many columns, which costs it more than the rows
(docs/benchmarks.md). Few rows go one by one for the same reason.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from itertools import repeat
from typing import Any, Final, NamedTuple

from psycopg.pq import Format

from kms.core.canonical import microseconds

from .audit_rows import COLUMNS, NUMBERS, OCTETS, WORDS, Row

FEW: Final = 4  # rows
MOST_STATEMENTS: Final = 256  # whose texts are remembered, some 2 KB each

_LENGTH: Final = struct.Struct(">i").pack
_INTEGER: Final = struct.Struct(">q").pack
_HEADER: Final = struct.Struct(">iiIii").pack
_NULL: Final = _LENGTH(-1)
_SINCE_2000: Final = microseconds(datetime(2000, 1, 1, tzinfo=UTC))  # where PostgreSQL's own time begins


class _Kind(NamedTuple):
    """A type of the server and the type of its arrays, by number, and a value in its binary form."""

    array: int
    element: int
    encode: Callable[[Any], bytes]


_TEXT: Final = _Kind(1009, 25, str.encode)
_BIGINT: Final = _Kind(1016, 20, _INTEGER)
_BYTEA: Final = _Kind(1001, 17, bytes)
_UUID: Final = _Kind(2951, 2950, lambda uid: uid.bytes)
_TIMESTAMPTZ: Final = _Kind(1185, 1184, lambda moment: _INTEGER(microseconds(moment) - _SINCE_2000))

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


def statement_of(rows: Sequence[Row]) -> tuple[Statement, Sequence[bytes | None]]:
    """Return the statement that writes these rows, at least one, and its parameters."""
    if len(rows) <= FEW:
        return _few(len(rows)), [
            _value(kind, value) for row in rows for kind, value in zip(_KINDS, _flat(row), strict=True)
        ]
    plain, *own = zip(*rows, strict=True)
    columns = [*zip(*plain, strict=True), *own]
    shared = tuple([column.count(column[0]) == len(rows) for column in columns])
    return _many(shared), [
        _value(kind, column[0]) if same else _array(kind, column)
        for kind, column, same in zip(_KINDS, columns, shared, strict=True)
    ]


def _flat(row: Row) -> tuple[Any, ...]:
    return (*row.plain, *row[1:])


def _value(kind: _Kind, value: Any) -> bytes | None:
    return None if value is None else kind.encode(value)


def _array(kind: _Kind, values: Sequence[Any]) -> bytes:
    pieces = [_NULL if value is None else _sized(kind.encode(value)) for value in values]
    return _HEADER(1, None in values, kind.element, len(values), 1) + b"".join(pieces)


def _sized(data: bytes) -> bytes:
    return _LENGTH(len(data)) + data


@cache  # up to FEW
def _few(count: int) -> Statement:
    width = len(COLUMNS)
    rows = (", ".join(f"${row * width + number}" for number in range(1, width + 1)) for row in range(count))
    types = [kind.element for kind in _KINDS] * count
    return Statement(
        f"{_INTO} VALUES {', '.join(f'({row})' for row in rows)}".encode(), types, [Format.BINARY] * len(types)
    )


@lru_cache(MOST_STATEMENTS)
def _many(shared: tuple[bool, ...]) -> Statement:
    """Return the statement for rows that share the values of some columns; never of all, since each has its own number."""
    chosen = ", ".join(f"${number}" if same else f"c{number}" for number, same in enumerate(shared, 1))
    arrays = [number for number, same in enumerate(shared, 1) if not same]
    names, parameters = (", ".join(f"{sign}{number}" for number in arrays) for sign in "c$")
    return Statement(
        f"{_INTO} SELECT {chosen} FROM unnest({parameters}) AS rows ({names})".encode(),  # noqa: S608  names of our own
        [kind.element if same else kind.array for kind, same in zip(_KINDS, shared, strict=True)],
        [Format.BINARY] * len(COLUMNS),
    )
