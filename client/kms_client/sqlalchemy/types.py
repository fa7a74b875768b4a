"""Column types, and what of SQL they can do: a value is read, written, tested for NULL, and found if it is searchable."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import ARRAY, BindParameter, Boolean, ClauseElement, LargeBinary, String, bindparam, null
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnElement, Label
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from ..formats.errors import NotSupported, invalid

# Values of one search; the daemon takes 500 in a message, and more in several.
MAX_SEARCHED: Final = 10_000

Place = tuple[str, str]  # table as schema.table, and column


class Matches(FunctionElement[bool]):
    """A protected column is one of some values: compiled for the column's state (compiler.py)."""

    inherit_cache = True
    type = Boolean()
    name = "kms_matches"


class IsNull(FunctionElement[bool]):
    """A protected column has no value."""

    inherit_cache = True
    type = Boolean()
    name = "kms_is_null"


class Packed(ColumnElement[Any]):
    """What is selected instead of a protected column, or of one that an inner SELECT has packed already."""

    __visit_name__ = "kms_packed"
    inherit_cache = False

    def __init__(self, column: ColumnElement[Any]) -> None:
        self.column = column
        self.type = column.type


class Wanted:
    """Values that are searched, until they are exchanged for search terms just before the statement is sent."""

    def __init__(self, place: Place, values: list[str]) -> None:
        self.place, self.values = place, values

    def __repr__(self) -> str:
        return f"<{len(self.values)} searched in {'.'.join(self.place)}>"


class Terms(TypeDecorator[Any]):
    """The type of the parameter for which search terms are sent."""

    impl = ARRAY(LargeBinary)
    cache_ok = True

    def __init__(self, table: str, column: str) -> None:
        super().__init__()
        self.table, self.column = table, column

    def bind_processor(self, dialect: Dialect) -> Any:  # noqa: ARG002  SQLAlchemy's
        """Leave the values for the listener that asks the daemon (engine.py)."""
        place = (self.table, self.column)
        return lambda value: Wanted(place, value)


class ProtectedType(TypeDecorator[Any]):
    """A column that `kms columns` protects, or will: the type of a column alone, no two columns share one."""

    impl: Any = String
    cache_ok = True
    searchable = False

    place: Place | None = None  # set by protect()

    def __init__(
        self,
        *args: Any,
        ciphertext_column: str | None = None,
        version_column: str | None = None,
        index_column: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Name the columns that are added, where the plan gives them other names than `email_ct`, `email_kv`, `email_bi`."""
        super().__init__(*args, **kwargs)
        self.ciphertext_column = ciphertext_column
        self.version_column = version_column
        self.index_column = index_column

    @property
    def comparator_factory(self) -> Any:  # type: ignore[override]
        """What operators do: no operator of the plaintext's type works on a ciphertext."""
        return SearchableComparator if self.searchable else ProtectedComparator

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Select all that is needed to read the value."""
        return Packed(column.element if isinstance(column, Label) else column)

    def to_plaintext(self, value: Any) -> bytes:
        """Return the bytes that are encrypted."""
        raise NotImplementedError

    def from_plaintext(self, plaintext: bytes) -> Any:
        """Return the value that the driver would have returned for the plaintext column."""
        raise NotImplementedError


class EncryptedString(ProtectedType):
    """Text, in a column of type text or varchar: read and written, and found by nothing."""

    cache_ok = True

    def __init__(self, length: int | None = None, **names: str | None) -> None:
        super().__init__(length, **names)

    def to_plaintext(self, value: Any) -> bytes:
        """Return the UTF-8."""
        if not isinstance(value, str):
            raise invalid(_named(self), f"must be str, not {type(value).__name__}")
        if "\0" in value:
            raise invalid(_named(self), "must be text without NUL, which PostgreSQL could not take back")
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise invalid(_named(self), "must be text that UTF-8 can express") from None

    def from_plaintext(self, plaintext: bytes) -> Any:
        """Read UTF-8."""
        return plaintext.decode()


class SearchableString(EncryptedString):
    """Text that `==`, `!=`, `in_` and `not_in` find: by the blind index, or by deterministic ciphertexts."""

    cache_ok = True
    searchable = True


class EncryptedBytes(ProtectedType):
    """Bytes, in a column of type bytea."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, **names: str | None) -> None:
        super().__init__(**names)

    def to_plaintext(self, value: Any) -> bytes:
        """Return the bytes."""
        if not isinstance(value, bytes | bytearray | memoryview):
            raise invalid(_named(self), f"must be bytes, not {type(value).__name__}")
        return bytes(value)

    def from_plaintext(self, plaintext: bytes) -> Any:
        """Return the bytes."""
        return plaintext


_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # as JSON escapes it, behind no backslash that is itself escaped


class EncryptedJSON(ProtectedType):
    """A document, in a column of type jsonb; None is NULL."""

    impl = JSONB
    cache_ok = True

    def __init__(self, **names: str | None) -> None:
        super().__init__(none_as_null=True, **names)

    def to_plaintext(self, value: Any) -> bytes:
        """Return JSON text; PostgreSQL prints it anew where it stands there in the clear, too (writing.py)."""
        try:
            made = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError):
            raise invalid(_named(self), "must be a document of JSON") from None
        if _NUL.search(made):
            raise invalid(_named(self), "must be a document without NUL, which PostgreSQL could not take back")
        return made

    def from_plaintext(self, plaintext: bytes) -> Any:
        """Read JSON text."""
        return json.loads(plaintext)


class ProtectedComparator(TypeEngine.Comparator[Any]):
    """IS NULL alone; everything else is refused when the query is written, before and after the migration."""

    __slots__ = ()

    def operate(self, op: operators.OperatorType, *other: Any, **_: Any) -> ColumnElement[Any]:
        """Make IS NULL or IS NOT NULL, or refuse."""
        is_null = len(other) == 1 and (other[0] is None or isinstance(other[0], type(null())))
        if is_null and op in (operators.is_, operators.eq):
            return IsNull(self.expr)
        if is_null and op in (operators.is_not, operators.ne):
            return ~IsNull(self.expr)
        raise cannot(self.expr, op.__name__.rstrip("_"))

    def reverse_operate(self, op: operators.OperatorType, other: Any, **_: Any) -> ColumnElement[Any]:  # noqa: ARG002
        """Refuse."""
        raise cannot(self.expr, op.__name__.rstrip("_"))


class SearchableComparator(ProtectedComparator):
    """Also `==`, `!=`, `in_` and `not_in` with values."""

    __slots__ = ()

    def operate(self, op: operators.OperatorType, *other: Any, **kwargs: Any) -> ColumnElement[Any]:
        """Make a search, or as ProtectedComparator."""
        if op in (operators.eq, operators.ne) and isinstance(other[0], str):
            found = self._matches([other[0]])
            return found if op is operators.eq else ~found
        if op in (operators.in_op, operators.not_in_op):
            found = self._matches(self._values(other[0], op))
            return found if op is operators.in_op else ~found
        return super().operate(op, *other, **kwargs)

    def _values(self, given: Any, op: operators.OperatorType) -> list[str]:
        if isinstance(given, ClauseElement | str) or not isinstance(given, Collection):
            raise cannot(self.expr, f"{op.__name__} with anything else than a collection of str")
        values = list(given)
        if not all(isinstance(value, str) for value in values):
            raise cannot(self.expr, f"{op.__name__} with anything else than str")
        if len(values) > MAX_SEARCHED:
            raise invalid(_column_name(self.expr), f"at most {MAX_SEARCHED} values can be searched at once")
        return values

    def _matches(self, values: list[str]) -> Matches:
        place: Place | None = getattr(self.expr.type, "place", None)
        if place is None:
            raise NotSupported(f"{_column_name(self.expr)}: protect() must be called before it is searched")
        plain: BindParameter[Any] = bindparam(None, values, type_=ARRAY(String), unique=True)
        return Matches(self.expr, plain, bindparam(None, values, type_=Terms(*place), unique=True))


def cannot(column: ColumnElement[Any], what: str) -> NotSupported:
    """Make the error for what cannot be done with ciphertexts."""
    return NotSupported(
        f"{_column_name(column)} is encrypted: the database cannot do {what} with it;"
        " it can be selected, tested for NULL, and compared by ==, !=, in_ and not_in with str where it is searchable"
    )


def _column_name(column: ColumnElement[Any]) -> str:
    place = getattr(column.type, "place", None)
    return ".".join(place) if place else str(getattr(column, "key", "column"))


def _named(kind: ProtectedType) -> str:
    return ".".join(kind.place) if kind.place else type(kind).__name__
