"""Columns of a PostgreSQL database that `kms columns` protects: their state, and the SQL to read, search and write them.

Until a column is blanked a row's ciphertext counts where it has one, else its plaintext; from then on the ciphertext alone,
so that nobody's plaintext is taken for it. The state decides (docs/columns.md), never how a value looks. Where a column has not been begun its table is locked against that (ACCESS SHARE, as any SELECT does)
until the transaction ends; so nobody reads an empty plaintext column for want of knowing of the ciphertexts.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final
from uuid import UUID

from .fields import INDEX_LENGTH, Field, FieldIndex
from .formats.columns import row_value
from .formats.errors import NotSupported, invalid

# A shorter index has false hits, which a query cannot take away again.
LEAST_INDEX: Final = INDEX_LENGTH  # bytes
IDENTITY_TYPES: Final = frozenset({"smallint", "integer", "bigint", "text", "character varying", "uuid"})
SQL_TYPES: Final = ("text", "character varying", "bytea", "jsonb")
MODES: Final = frozenset({"randomized", "blind_index", "deterministic"})

EXISTS: Final = "SELECT to_regclass('kms_columns.columns') IS NOT NULL"
_OID: Final = (
    "format('%I.%I', split_part(c.table_name, '.', 1), substr(c.table_name, strpos(c.table_name, '.') + 1))::regclass"
)
# Text, not numbers and documents: the same for every driver.
STATES: Final = f"""
SELECT c.table_name, c.column_name, c.state, c.mode, c.key_name, c.index_key_name, c.ciphertext_column, c.version_column,
       c.index_column, c.identity, c.sql_type, c.definition->'index'->>'normaliser', c.definition->'index'->>'length',
       c.definition->'index'->>'scope',
       coalesce(jsonb_array_length(nullif(c.definition->'paths', 'null')), 0) > 0 OR coalesce(c.definition->'rows', 'null') <> 'null',
       ARRAY(SELECT format_type(a.atttypid, NULL) FROM unnest(c.identity) WITH ORDINALITY i(name, place)
             JOIN pg_attribute a ON a.attrelid = {_OID} AND a.attname = i.name ORDER BY i.place)
FROM kms_columns.columns c
"""  # noqa: S608  no value in it


class Phase(Enum):
    """What a program reads and writes of a column in its state."""

    PLAIN = "the plaintext column alone"  # protection has not begun
    BOTH = "ciphertext where there is one, else plaintext; writes both"  # filling, protected, verified, undoing
    SEALED = "ciphertext alone; the plaintext column is there, and empty"  # blanked
    GONE = "ciphertext alone"  # dropped


_PHASES: Final = {
    "filling": Phase.BOTH,
    "protected": Phase.BOTH,
    "verified": Phase.BOTH,
    "undoing": Phase.BOTH,
    "blanked": Phase.SEALED,
    "dropped": Phase.GONE,
}

Named = Callable[[str], str]  # from a column's name to the SQL that names it in its table or alias
Packed = Sequence[bytes | None]  # ciphertext, plaintext, and the texts of the identity


@dataclass(frozen=True, slots=True)
class ProtectedColumn:
    """A column whose protection has begun, as kms_columns.columns has it."""

    field: Field
    phase: Phase
    sql_type: str
    ciphertext: str
    version: str
    index: str | None
    identity: tuple[str, ...]

    @property
    def clear(self) -> bool:
        """Whether values may stand in the clear in the database, and so be sent there in the clear."""
        return self.phase is Phase.BOTH

    @property
    def searched(self) -> str:
        """The column that a search looks into.

        Raises:
            NotSupported: there is none.
        """
        if self.field.deterministic:
            return self.ciphertext
        if self.index is None or self.field.index is None:
            raise NotSupported(f"{self.field} has no blind index: nothing finds its values")
        if self.field.index.length < LEAST_INDEX:
            raise NotSupported(f"{self.field}: an index of less than {LEAST_INDEX} bytes finds other values, too")
        return self.index

    def packed(self, named: Named) -> str:
        """Return SQL for all that is needed to read a value, an array of bytea."""
        plain = "NULL::bytea"
        if self.clear:
            column = named(self.field.column)
            plain = column if self.sql_type == "bytea" else f"convert_to({column}::text, 'UTF8')"
        parts = [named(self.ciphertext), plain, *(f"convert_to({named(name)}::text, 'UTF8')" for name in self.identity)]
        return f"ARRAY[{', '.join(parts)}]"

    def is_null(self, named: Named) -> str:
        """Return the SQL condition that there is no value."""
        absent = f"{named(self.ciphertext)} IS NULL"
        return f"({absent} AND {named(self.field.column)} IS NULL)" if self.clear else absent

    def matches(self, named: Named, other: tuple[str, Named], terms: str, plain: str) -> str:
        """Return the SQL condition that a value is one of those searched: NULL for NULL, as with any comparison.

        Args:
            named: how columns are named.
            other: SQL of the table under the alias `other`, and how its columns are named.
            terms: SQL of the array of search terms.
            plain: SQL of the array of the values themselves, for rows that are not encrypted yet; unused unless `clear`.
        """
        searched = named(self.searched)
        found = f"{searched} = ANY ({self._of_one_version(other, terms) if self.field.deterministic else terms})"
        if not self.clear:
            return f"({found})"
        # So that both indexes are used, and NOT of it is right, too.
        return (
            f"(({found} AND {searched} IS NOT NULL)"
            f" OR ({searched} IS NULL AND {named(self.field.column)} = ANY ({plain})))"
        )

    def _of_one_version(self, other: tuple[str, Named], terms: str) -> str:
        """Return the terms, or SQL that fails where rows of another key version could not be found by them.

        Deterministic ciphertexts of one value are equal under one version only (FORMATS section 2 has it in bytes 18 to 21).
        """
        table, named = other
        version = named(self.version)
        wanted = f"('x' || encode(substring(({terms})[1] FROM 19 FOR 4), 'hex'))::bit(32)::bigint"
        message = "'kms: rows of another key version cannot be searched; run kms columns reencrypt. Version '"
        outside = f"{version} < {wanted} OR {version} > {wanted}"
        failing = f"SELECT CAST({message} || {version} AS boolean) FROM {table} WHERE {outside} LIMIT 1"  # noqa: S608  names
        return f"CASE WHEN ({failing}) IS NULL THEN {terms} END"

    @property
    def written(self) -> tuple[str, ...]:
        """The columns that a write of a value sets: plaintext where it still counts, ciphertext, version, index."""
        plain = (self.field.column,) if self.phase is Phase.BOTH else ()
        return (*plain, self.ciphertext, self.version, *((self.index,) if self.index else ()))


def unpack(values: Iterable[Packed | None]) -> tuple[list[bytes | None], list[bytes | None], list[str]]:
    """Return ciphertexts, plaintexts where there is no ciphertext, and rows."""
    sealed: list[bytes | None] = []
    plain: list[bytes | None] = []
    rows: list[str] = []
    for value in values:
        ciphertext, clear, *identity = value if value is not None else (None, None)
        sealed.append(ciphertext)
        plain.append(clear if ciphertext is None else None)
        # A row of an outer join that is not there has neither identity nor value.
        rows.append("" if ciphertext is None else row_value([(part or b"").decode() for part in identity]))
    return sealed, plain, rows


def read_states(
    rows: Iterable[Sequence[Any]], wanted: Container[tuple[str, str]]
) -> dict[tuple[str, str], ProtectedColumn]:
    """Read those rows of STATES whose table and column are wanted.

    Raises:
        NotSupported: one is protected in a way that these classes do not follow; says which and why.
    """
    found = {}
    for row in rows:
        table, column, state, mode, key, index_key, ciphertext, version, index, identity, sql_type = row[:11]
        normaliser, length, scope, partial, identity_types = row[11:]
        if (table, column) not in wanted:
            continue
        _require(table, column, state, mode, partial, sql_type, dict(zip(identity, identity_types, strict=True)))
        searched = None
        if mode == "blind_index":
            searched = FieldIndex(index_key, scope or f"{table}.{column}", normaliser, int(length))
        found[table, column] = ProtectedColumn(
            Field(key, table, column, deterministic=mode == "deterministic", index=searched),
            _PHASES[state],
            sql_type,
            ciphertext,
            version,
            index if mode == "blind_index" else None,
            tuple(identity),
        )
    return found


def _require(
    table: str, column: str, state: str, mode: str, partial: bool, sql_type: str, identity: dict[str, str]
) -> None:
    name = f"{table}.{column}"
    if state not in _PHASES:
        raise NotSupported(f"{name}: its state {state} is not known to this release")
    if mode not in MODES:
        raise NotSupported(f"{name}: mode {mode} has no value that could be read")
    if partial:
        raise NotSupported(f"{name}: protected in some rows or at some paths only")
    if not any(sql_type == one or sql_type.startswith(f"{one}(") for one in SQL_TYPES):
        raise NotSupported(f"{name}: its type {sql_type} is none of {', '.join(SQL_TYPES)}")
    for part, kind in identity.items():
        if kind not in IDENTITY_TYPES:
            raise NotSupported(
                f"{name}: {part} of its rows' identity is of type {kind}, whose text depends on settings"
            )


def identity_text(value: object, name: str) -> str:
    """Return the text that PostgreSQL prints of a part of a row's identity.

    Raises:
        InvalidRequest: it is no int, str or UUID.
    """
    if isinstance(value, str | UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    raise invalid(name, f"identifies a row and must be known as int, str or UUID, not {type(value).__name__}")
