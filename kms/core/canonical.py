"""One byte form of typed values, under which records are MACed and audit events chained.

Each value is a tag and its bytes, so that no two lists of values look alike and NULL is not empty. Only types that both
database engines give back exactly as they got them are there; everything else is turned into text or bytes before.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

Value = None | int | str | bytes | UUID | datetime

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

# Tags; a UUID's is 4, a time's 5. For those who cannot wait for encode(), too.
INTEGER: Final = 1  # and an int64
TEXT: Final = 2  # and its length in bytes u32, and UTF-8
OCTETS: Final = 3  # and their length u32, and they
_NULL: Final = b"\0"
_INTEGER: Final = struct.Struct(">Bq")
SIZED: Final = struct.Struct(">BI")
_UUID: Final = b"\4"  # and 16 bytes; tag 5 is a time, int64 microseconds since 1970 UTC


def microseconds(moment: datetime) -> int:
    """Return a time as microseconds since 1970 UTC, exactly."""
    return (moment - EPOCH) // _MICROSECOND


def encode(values: Iterable[Value]) -> bytes:
    """Return the bytes that stand for these values in this order.

    Raises:
        ValueError: an integer beyond 64 bits, a lone surrogate.
        TypeError: a value of no such type.
    """
    parts: list[bytes] = []
    add = parts.append
    for value in values:
        kind = type(value)
        if kind is str:
            data = value.encode()  # type: ignore[union-attr]  # a text, by the test before
            add(SIZED.pack(TEXT, len(data)))
            add(data)
        elif value is None:
            add(_NULL)
        elif isinstance(value, int):
            try:
                add(_INTEGER.pack(INTEGER, value))
            except struct.error as error:
                raise ValueError("an integer beyond 64 bits") from error
        elif isinstance(value, bytes):
            add(SIZED.pack(OCTETS, len(value)))
            add(value)
        elif isinstance(value, UUID):
            add(_UUID)
            add(value.bytes)
        elif isinstance(value, datetime):
            add(_INTEGER.pack(5, microseconds(value)))
        elif isinstance(value, str):  # an enumeration of texts
            data = value.encode()
            add(SIZED.pack(TEXT, len(data)))
            add(data)
        else:
            raise TypeError(f"no canonical form for {kind.__name__}")
    return b"".join(parts)


def decode(data: bytes) -> list[Value]:
    """Undo encode().

    Raises:
        ValueError: the bytes are cut off, or stand for nothing.
    """
    values: list[Value] = []
    position, end = 0, len(data)
    while position < end:
        tag = data[position]
        if tag == 0:
            values.append(None)
            position += 1
        elif tag in (INTEGER, 5) and position + 9 <= end:
            (_, number) = _INTEGER.unpack_from(data, position)
            try:
                values.append(number if tag == INTEGER else EPOCH + number * _MICROSECOND)
            except OverflowError as error:
                raise ValueError("a time out of range") from error
            position += 9
        elif tag in (TEXT, OCTETS) and position + 5 <= end:
            (_, length) = SIZED.unpack_from(data, position)
            position += 5
            if position + length > end:
                raise ValueError("cut off")
            piece = data[position : position + length]
            values.append(piece.decode() if tag == TEXT else piece)
            position += length
        elif tag == 4 and position + 17 <= end:
            values.append(UUID(bytes=data[position + 1 : position + 17]))
            position += 17
        else:
            raise ValueError("no tag, or cut off")
    return values
