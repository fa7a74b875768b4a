"""Models of SQLAlchemy 2 whose columns `kms columns` protects: other column types, and the same queries.

class User(Base):
    email: Mapped[str] = mapped_column(SearchableString(255))

protect(Base, create_engine(url, hide_parameters=True), kms)
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Engine, LargeBinary, Table, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapper, Session, deferred

from ..fields import AsyncEncrypting, Encrypting
from ..formats.errors import NotSupported
from ..tls import ConfigurationError
from .compiler import full_name
from .engine import Protection, is_async
from .types import EncryptedBytes, EncryptedJSON, EncryptedString, Place, ProtectedType, SearchableString
from .writing import MappedColumn, Writing, flushed

__all__ = ["EncryptedBytes", "EncryptedJSON", "EncryptedString", "SearchableString", "protect"]


def protect(base: type[DeclarativeBase], engine: Engine | AsyncEngine, kms: Encrypting | AsyncEncrypting) -> None:
    """Have the protected columns of all models of *base* read and written through *engine* follow their state.

    To be called once, when all models are there and before the engine is used. An AsyncEngine needs an AsyncClient; instead of
    a client it may be a Local of one.

    Raises:
        ConfigurationError: an engine of another driver, one that shows parameters in errors, or two columns with one type.
        NotSupported: a model with protected columns that inherits its table.
    """
    if isinstance(engine, AsyncEngine) is not is_async(kms):
        raise ConfigurationError("an AsyncEngine needs an AsyncClient, and an Engine a Client")
    base.registry.configure()
    mapped = {
        mapper: found
        for mapper in base.registry.mappers
        if (found := [column for column in mapper.columns if isinstance(column.type, ProtectedType)])
    }
    added: dict[Place, dict[str, str]] = {}
    models = [(mapper, [_add(mapper, column, added) for column in columns]) for mapper, columns in mapped.items()]
    protection = Protection(engine.sync_engine if isinstance(engine, AsyncEngine) else engine, kms, added)
    writings = {mapper.class_: Writing(protection, mapper, columns) for mapper, columns in models}
    for mapper in mapped:
        protection.on_change(mapper.base_mapper._compiled_cache.clear)  # noqa: SLF001  statements of flushes
        for moment in ("before_insert", "before_update"):
            event.listen(mapper, moment, _last_chance(writings[mapper.class_]), propagate=True)

    def before_flush(session: Session, *_: Any) -> None:
        for writing, objects in flushed(writings, session):
            writing.seal(session.connection(bind_arguments={"mapper": writing.mapper}), objects)

    def after_flush(session: Session, *_: Any) -> None:
        for writing, objects in flushed(writings, session):
            for one in objects:
                writing.require_sealed(one)

    event.listen(Session, "before_flush", before_flush)
    event.listen(Session, "after_flush", after_flush)


def _last_chance(writing: Writing) -> Any:
    """Return what encrypts an object that has got its identity, or another value, since the flush began."""

    def before_write(_mapper: Mapper[Any], connection: Any, target: Any) -> None:
        writing.seal_rest(connection, target)

    return before_write


def _add(mapper: Mapper[Any], column: Column[Any], added: dict[Place, dict[str, str]]) -> MappedColumn:
    """Map the columns that `kms columns` adds; none of them is loaded unless it is asked for."""
    table, kind = mapper.local_table, column.type
    if not isinstance(table, Table) or column.table is not table or mapper.inherits is not None:
        raise NotSupported(f"{mapper.class_.__name__}: protected columns of inherited tables")
    place = (full_name(table), column.name)
    if not isinstance(kind, ProtectedType) or kind.place not in (None, place):
        raise ConfigurationError(f"{'.'.join(place)} shares the object of its type with another column")
    default: Any = column.default
    if column.server_default is not None or column.onupdate is not None or not _is_plain(default):
        raise ConfigurationError(
            f"{'.'.join(place)}: a default must be a value or a function; nothing else is encrypted"
        )
    kind.place, column.default = place, None  # set before a flush, so that it is encrypted
    names = {
        "ciphertext": kind.ciphertext_column or f"{column.name}_ct",
        "version": kind.version_column or f"{column.name}_kv",
        "index": kind.index_column or f"{column.name}_bi",
    }
    added[place] = names
    for role, name in names.items():
        hidden: Column[Any] = Column(name, BigInteger if role == "version" else LargeBinary)
        table.append_column(hidden)
        mapper.add_property(f"_kms_{name}", deferred(hidden))
    attribute = mapper.get_property_by_column(column).key
    return MappedColumn(
        column.name, kind, attribute, **{role: f"_kms_{name}" for role, name in names.items()}, default=default
    )


def _is_plain(default: Any) -> bool:
    return default is None or default.is_scalar or default.is_callable
