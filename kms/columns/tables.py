"""What the catalogue says of a table that is to be protected, as far as protecting it safely depends on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .database import Connection
from .errors import PlanError
from .plan import Table


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of a table."""

    sql_type: str  # as format_type() prints it
    not_null: bool
    category: str  # pg_type.typcategory, of the base type for a domain
    builtin: bool  # whether type and operators are PostgreSQL's own, or it is an enum


@dataclass(frozen=True, slots=True)
class Catalogued:
    """A table."""

    partitioned: bool
    attributes: dict[str, Attribute]
    unique: tuple[frozenset[str], ...]  # columns of valid unique indexes over whole columns and all rows
    primary: tuple[str, ...]


# Their text depends on settings that are not fixed, or on names that may change.
UNFIT_TYPES: Final = frozenset(
    {"money", "oid", "regclass", "regproc", "regprocedure", "regtype", "regrole", "regnamespace", "regoper"}
    | {"regoperator", "regconfig", "regdictionary", "regcollation", "pg_lsn", "tid", "xid", "cid"}
)

# What PostgreSQL takes for the number of an element, and the one way of writing it that is taken here.
_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]")
_PLAIN_NUMBER: Final = re.compile(r"0|[1-9][0-9]*|.*[^0-9\s+-].*", re.DOTALL)

_TABLE: Final = "SELECT c.oid, c.relkind = 'p' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
_ATTRIBUTES: Final = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, t.typcategory,
       t.typnamespace = 'pg_catalog'::regnamespace OR t.typtype = 'e'
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
_UNIQUE: Final = """
SELECT i.indisprimary, array_agg(a.attname::text ORDER BY k.place)
FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place), pg_attribute a
WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND k.place <= i.indnkeyatts AND a.attrelid = i.indrelid AND a.attnum = k.attnum
GROUP BY i.indexrelid, i.indisprimary
"""


def attributes(connection: Connection, table: str) -> dict[str, Attribute]:
    """Return the columns of a table, `schema.table`, by name."""
    schema, _, name = table.partition(".")
    rows = connection.execute(_ATTRIBUTES, (schema, name)).fetchall()
    return {name: Attribute(*rest) for name, *rest in rows}


def look_up(connection: Connection, table: Table) -> Catalogued:
    """Return what the catalogue says.

    Raises:
        PlanError: there is no such table, or it is a partition.
    """
    found = connection.execute(_TABLE, table.parts).fetchone()
    if found is None:
        raise PlanError(f"{table.table}: there is no such table; a partition is protected with the table that it is of")
    oid, partitioned = found
    indexes = connection.execute(_UNIQUE, (oid,)).fetchall()
    primary = next((tuple(columns) for is_primary, columns in indexes if is_primary), ())
    return Catalogued(
        partitioned, attributes(connection, table.table), tuple(frozenset(columns) for _, columns in indexes), primary
    )


def identity_of(table: Table, catalogued: Catalogued) -> tuple[str, ...]:
    """Return the columns that tell the rows of a table apart.

    Raises:
        PlanError: they may be NULL, are not unique, or are of types whose order is not PostgreSQL's own.
    """
    identity = table.identity or catalogued.primary
    if not identity:
        raise PlanError(f"{table.table}: has no primary key; name an identity that is unique")
    for column in identity:
        attribute = catalogued.attributes.get(column)
        if attribute is None:
            raise PlanError(f"{table.table}: has no column {column}, which the identity names")
        if not attribute.not_null:
            raise PlanError(f"{table.table}.{column}: must be NOT NULL, for the identity names it")
        if not attribute.builtin:
            raise PlanError(f"{table.table}.{column}: type {attribute.sql_type} cannot be part of an identity")
    if not any(unique <= set(identity) for unique in catalogued.unique):
        raise PlanError(
            f"{table.table}: no unique index is on ({', '.join(identity)}); make one, or name another identity"
        )
    return identity


def require_fit(table: Table, catalogued: Catalogued, identity: tuple[str, ...]) -> None:
    """Check that columns can be protected as the plan says.

    Raises:
        PlanError: one cannot; says why.
    """
    for column in table.columns:
        name = f"{table.table}.{column.column}"
        attribute = catalogued.attributes.get(column.column)
        if attribute is None:
            raise PlanError(f"{name}: there is no such column")
        if column.column in identity:
            raise PlanError(f"{name}: is part of the identity, which ciphertexts are bound to")
        if attribute.sql_type.removesuffix("[]") in UNFIT_TYPES:
            raise PlanError(f"{name}: values of type {attribute.sql_type} have no text that is always the same")
        if column.paths and attribute.sql_type != "jsonb":
            raise PlanError(f"{name}: paths are for jsonb, and this is {attribute.sql_type}")
        if any(_NUMBER.match(key) and not _PLAIN_NUMBER.fullmatch(key) for path in column.paths for key in path):
            raise PlanError(f"{name}: a number in a path must be plain, such as 0 or 12: two paths could be one place")
        if column.rows is not None and column.rows.column not in catalogued.attributes:
            raise PlanError(f"{name}: rows names {column.rows.column}, which is no column")
        if column.index is not None and column.index.unique and catalogued.partitioned:
            raise PlanError(f"{name}: a partitioned table can have no unique index on {column.blind_index}")
