"""Column types that give back exactly what was written, on both engines.

On SQLite the tables are STRICT, so every type maps to INTEGER, TEXT or BLOB there.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, ClauseElement, DateTime, Dialect, Integer, LargeBinary, SmallInteger, Text, Uuid
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator, TypeEngine

from kms.core.errors import CorruptRecord

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


class Uid(TypeDecorator[UUID]):
    """A UUID: uuid on PostgreSQL; on SQLite TEXT, lower case with hyphens, since a hex number would become one."""

    impl = Uuid
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the engine's type."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Uuid())

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        """Turn a value into what is stored."""
        return str(value) if dialect.name == "sqlite" and value is not None else value

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        """Turn what is stored into a value."""
        if value is None or dialect.name != "sqlite":
            return value  # type: ignore[no-any-return]  # a UUID, by the engine's own type
        try:
            uid = UUID(value)
        except ValueError as error:
            raise CorruptRecord("a stored UUID is none") from error
        if str(uid) != value:
            raise CorruptRecord("a stored UUID is not in canonical form")
        return uid


class Timestamp(TypeDecorator[datetime]):
    """An aware time, in UTC to the microsecond: timestamptz on PostgreSQL, on SQLite microseconds since 1970."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the engine's type."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Turn a value into what is stored."""
        if value is None:
            return None
        value = value.astimezone(UTC)
        # Integer arithmetic: a float of this size has no exact microseconds.
        return (value - EPOCH) // MICROSECOND if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Turn what is stored into a value."""
        if value is None:
            return None
        try:
            if dialect.name == "sqlite":
                return EPOCH + int(value) * MICROSECOND
            moment: datetime = value
            return moment.astimezone(UTC)  # PostgreSQL answers in the session's zone
        except (OverflowError, TypeError) as error:
            raise CorruptRecord("a stored time is out of range") from error


class LongAgo(ClauseElement):
    """1970, as the default of a column."""

    inherit_cache = True


@compiles(LongAgo)
def _long_ago(_element: LongAgo, compiler: Any, **_options: Any) -> str:
    return "0" if compiler.dialect.name == "sqlite" else "'1970-01-01 00:00:00+00'"


class NoBytes(ClauseElement):
    """No bytes at all, as the default of a column."""

    inherit_cache = True


@compiles(NoBytes)
def _no_bytes(_element: NoBytes, compiler: Any, **_options: Any) -> str:
    return "x''" if compiler.dialect.name == "sqlite" else "''::bytea"


Bytes: Final = LargeBinary()
Int64: Final = BigInteger().with_variant(Integer(), "sqlite")
Small: Final = SmallInteger().with_variant(Integer(), "sqlite")
Words: Final = Text()
# Order by code point, as SQLite does, so that pages are the same on both engines.
Slug: Final = Text().with_variant(Text(collation="C"), "postgresql")
