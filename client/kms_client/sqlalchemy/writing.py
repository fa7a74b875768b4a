"""Objects are encrypted before a flush writes them: for each column one batch of everything that the flush has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy import inspect as inspected
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapper, Session

from ..fields import key_version
from ..formats.columns import row_value
from ..formats.errors import NotSupported, invalid
from ..protected_columns import ProtectedColumn, identity_text
from ..tls import ConfigurationError
from .compiler import full_name
from .engine import Protection, waited
from .types import ProtectedType

# Objects of one statement that asks the database for their identities.
_CHUNK: Final = 1_000

# Where an object keeps which values were encrypted for the flush, and for which row.
_SEALED: Final = "kms_sealed"

# The expression by which the database makes a part of a new row's identity; '' where it makes none.
_DEFAULT: Final = (
    "SELECT CASE a.attidentity"
    " WHEN 'd' THEN format('nextval(pg_get_serial_sequence(%%L, %%L))', a.attrelid::regclass::text, a.attname)"
    " WHEN '' THEN coalesce(pg_get_expr(d.adbin, d.adrelid), '') ELSE '' END"
    " FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"
    " WHERE a.attrelid = to_regclass(format('%%I.%%I', %s::text, %s::text)) AND a.attname = %s"
)
_PRINTED: Final = "SELECT v::jsonb::text FROM unnest(CAST(%s AS text[])) WITH ORDINALITY AS t(v, place) ORDER BY place"


@dataclass(frozen=True, slots=True)
class MappedColumn:
    """A protected column as an attribute, and the attributes of the columns that are added for it."""

    column: str
    kind: ProtectedType
    attribute: str
    ciphertext: str
    version: str
    index: str
    default: Any  # of the class, where it has one


class Writing:
    """What is done with one mapped class."""

    def __init__(self, protection: Protection, mapper: Mapper[Any], columns: Sequence[MappedColumn]) -> None:
        self._protection, self.mapper, self._columns = protection, mapper, columns
        self._table = mapper.local_table
        if not isinstance(self._table, Table):
            raise NotSupported(f"{mapper.class_.__name__} is not mapped to a table")
        self._name = full_name(self._table)
        self._defaults: dict[str, str] = {}

    def seal(self, connection: Connection, objects: Sequence[Any]) -> None:
        """Encrypt what is new or changed of these objects, and set the attributes beside it.

        Objects whose identity is another's, which is not written yet, are left for `seal_rest`.

        Raises:
            InvalidRequest: a value, or an identity, of a type that is none of the column's.
        """
        self._require_engine(connection)
        for mapped in self._columns:
            state = self._protection.column((self._name, mapped.column))
            if state is None:
                continue
            for one in objects:
                _fill(one, mapped.attribute, mapped.default)
            changed = [one for one in objects if self._is_changed(one, mapped, state)]
            if not state.field.deterministic:
                self._identify(connection, changed, state)
                changed = [one for one in changed if self._identity(one, state) is not None]
            if changed:
                self._write(connection, changed, mapped, state)

    def seal_rest(self, connection: Connection, one: Any) -> None:
        """Encrypt what is not as it was sealed: within the flush it has got its identity, or another value; as seal."""
        self._require_engine(connection)
        for mapped, state in self._unsealed(one):
            self._write(connection, [one], mapped, state)

    def require_sealed(self, one: Any) -> None:
        """Check that what was written is what was encrypted.

        Raises:
            InvalidRequest: a listener has changed it in between.
        """
        for _, state in self._unsealed(one):
            raise invalid(str(state.field), "was changed by a listener after it was encrypted: add it before protect()")

    def _unsealed(self, one: Any) -> Iterator[tuple[MappedColumn, ProtectedColumn]]:
        sealed = inspected(one).info.get(_SEALED, {})
        for mapped in self._columns:
            state = self._protection.column((self._name, mapped.column))
            if state is None or not self._is_changed(one, mapped, state):
                continue
            value, row = sealed.get(mapped.column, (_SEALED, None))
            same_row = state.field.deterministic or row == self._row(one, state)
            if value is not getattr(one, mapped.attribute) or not same_row:
                yield mapped, state

    def _require_engine(self, connection: Connection) -> None:
        if connection.dialect is not self._protection.dialect:
            raise ConfigurationError(f"{self._name}: written through an engine that is not the protected one")

    def _is_changed(self, one: Any, mapped: MappedColumn, state: ProtectedColumn) -> bool:
        instance = inspected(one)
        if instance.attrs[mapped.attribute].history.has_changes():
            return True
        if instance.key is None or state.field.deterministic:
            return False
        return any(instance.attrs[self._attribute(part)].history.deleted for part in state.identity)

    def _write(
        self, connection: Connection, objects: Sequence[Any], mapped: MappedColumn, state: ProtectedColumn
    ) -> None:
        values = [getattr(one, mapped.attribute) for one in objects]
        plain = [None if value is None else mapped.kind.to_plaintext(value) for value in values]
        if state.sql_type == "jsonb" and state.clear:  # where it stands in the clear as well, both have to be the same
            plain = _printed(connection, plain)
        rows = None
        if not state.field.deterministic:
            rows = [self._row(one, state) for one in objects]
        cipher = self._protection.cipher(state)
        sealed = waited(cipher.encrypt_batch(plain, rows))
        found = waited(cipher.index_batch(plain)) if state.index else [None] * len(plain)
        for at, (one, ciphertext, index) in enumerate(zip(objects, sealed, found, strict=True)):
            seen = inspected(one).info.setdefault(_SEALED, {})
            seen[mapped.column] = (values[at], rows[at] if rows else None)
            setattr(one, mapped.ciphertext, ciphertext)
            setattr(one, mapped.version, None if ciphertext is None else key_version(ciphertext))
            setattr(one, mapped.index, index)

    def _attribute(self, column: str) -> str:
        return self.mapper.get_property_by_column(self._table.c[column]).key

    def _identity(self, one: Any, state: ProtectedColumn) -> list[Any] | None:
        parts = [getattr(one, self._attribute(part)) for part in state.identity]
        return None if None in parts else parts

    def _row(self, one: Any, state: ProtectedColumn) -> str:
        parts = self._identity(one, state)
        if parts is None:
            raise invalid(f"{self._name}.{'.'.join(state.identity)}", "must be known before the row is encrypted")
        return row_value(
            [identity_text(part, f"{self._name}.{name}") for part, name in zip(parts, state.identity, strict=True)]
        )

    def _identify(self, connection: Connection, objects: Sequence[Any], state: ProtectedColumn) -> None:
        """Give new objects the identity that the class, or the database, would give them on INSERT."""
        for part in state.identity:
            attribute = self._attribute(part)
            missing = [one for one in objects if inspected(one).key is None and getattr(one, attribute) is None]
            default: Any = self._table.c[part].default
            if default is not None and (default.is_callable or default.is_scalar):
                for one in missing:
                    _fill(one, attribute, default)
            elif missing and not self._table.c[part].foreign_keys:
                for one, value in zip(missing, self._made(connection, part, len(missing)), strict=False):
                    setattr(one, attribute, value)

    def _made(self, connection: Connection, part: str, count: int) -> Iterable[Any]:
        """Return values that the database makes; none where it makes none."""
        if part not in self._defaults:
            schema, _, table = self._name.partition(".")
            self._defaults[part] = (
                connection.exec_driver_sql(_DEFAULT, (schema, table, part)).scalar_one_or_none() or ""
            )
        expression = self._defaults[part].replace("%", "%%")
        for start in range(0, count if expression else 0, _CHUNK):
            wanted = min(_CHUNK, count - start)
            query = f"SELECT {expression} FROM generate_series(1, {wanted})"  # noqa: S608  the column's own default
            yield from connection.exec_driver_sql(query).scalars()


def _fill(one: Any, attribute: str, default: Any) -> None:
    """Give a new object the value that its class has for an attribute that nobody has set."""
    if default is not None and inspected(one).key is None and inspected(one).dict.get(attribute) is None:
        setattr(one, attribute, default.arg(None) if default.is_callable else default.arg)


def _printed(connection: Connection, texts: Sequence[bytes | None]) -> list[bytes | None]:
    """Return documents as PostgreSQL prints them: what `kms columns` encrypts, and compares."""
    rows = connection.exec_driver_sql(_PRINTED, ([None if text is None else text.decode() for text in texts],))
    return [None if text is None else text.encode() for text in rows.scalars()]


def flushed(writings: dict[type, Writing], session: Session) -> Iterator[tuple[Writing, list[Any]]]:
    """Yield the objects of protected classes that a flush writes, class by class; a subclass is as its class."""
    found: dict[type, list[Any]] = {}
    for one in [*session.new, *session.dirty]:
        kind = next((kind for kind in type(one).__mro__ if kind in writings), None)
        if kind is not None:
            found.setdefault(kind, []).append(one)
    for kind, objects in found.items():
        yield writings[kind], objects
