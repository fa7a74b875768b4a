"""Other values that a column could hold: of its type, plausible, and not what is there."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Integer, LargeBinary, Text
from sqlalchemy.sql.type_api import TypeEngine

from storage.types import LongAgo, NoBytes, Timestamp, Uid

SECOND = timedelta(seconds=1)
MICROSECONDS = 1_000_000


def kind_of(column: Column[Any]) -> str:
    """What a column holds: uid, time, number, bytes or text."""
    type_: TypeEngine[Any] = column.type
    if isinstance(type_, Uid):
        return "uid"
    if isinstance(type_, Timestamp):
        return "time"
    if isinstance(type_, LargeBinary):
        return "bytes"
    if isinstance(type_, Integer):
        return "number"
    if isinstance(type_, Text):
        return "text"
    raise TypeError(f"{column}: no attack knows the type {type_!r}; add it here")


def altered(column: Column[Any], engine: str, value: Any, random: Random) -> Any:
    """Return a little more than *value*, or a made-up one in the place of nothing."""
    kind = kind_of(column)
    if value is None:
        return invented(column, engine, random)
    if kind == "uid":
        return _uid(engine, random)
    if kind == "time":
        return value + (MICROSECONDS if engine == "sqlite" else SECOND)
    if kind == "number":
        return value + 1
    if kind == "bytes":
        data = bytearray(value or bytes(32))
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        return bytes(data)
    return f"{value}x"


def invented(column: Column[Any], engine: str, random: Random) -> Any:
    """Return a value out of nothing."""
    kind = kind_of(column)
    if kind == "uid":
        return _uid(engine, random)
    if kind == "time":
        # Recent, since the trail has partitions for no other times.
        moment = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=random.randrange(3600))
        return int(moment.timestamp()) * MICROSECONDS if engine == "sqlite" else moment
    if kind == "number":
        return random.randrange(1, 100)
    if kind == "bytes":
        return random.randbytes(32)
    return f"made-{random.randrange(10**9)}"


def beyond(column: Column[Any], engine: str, random: Random) -> Any:
    """Return a value that no row has."""
    return random.randrange(10_000, 30_000) if kind_of(column) == "number" else invented(column, engine, random)


def borrowed(column: str, value: Any, rows: Iterable[dict[str, Any]]) -> Any:
    """Return another row's value, None where all have the same."""
    return next((row[column] for row in rows if row[column] is not None and row[column] != value), None)


def default_of(column: Column[Any], engine: str) -> Any:
    """Return what the engine puts into a column that a statement leaves out, as the driver gives it; None for nothing."""
    if column.server_default is None:
        return None
    default: Any = column.server_default
    if isinstance(default.arg, LongAgo):
        return 0 if engine == "sqlite" else datetime(1970, 1, 1, tzinfo=UTC)
    if isinstance(default.arg, NoBytes):
        return b""
    text = str(default.arg)
    return int(text) if kind_of(column) == "number" else text.strip("'")


def _uid(engine: str, random: Random) -> Any:
    uid = UUID(bytes=random.randbytes(16), version=4)
    return str(uid) if engine == "sqlite" else uid
