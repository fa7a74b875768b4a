"""What in a table stands against the protection of one of its columns; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .catalogue import Attribute, Relation
from .cells import MAX_VALUE
from .findings import Finding, error, note, warning
from .leakage import Leakage, refusal
from .plan import Column, Level, Mode, Normaliser, Plaintext, Table

# What these print depends on the server's settings or on numbers that a dump does not keep.
UNSTABLE: Final = frozenset(
    {"money", "regclass", "regproc", "regprocedure", "regoper", "regoperator", "regtype", "regrole"}
)
_TEXTUAL: Final = frozenset({"text", "varchar", "bpchar", "citext"})
# A B-tree's entry has at most 2704 bytes; a deterministic ciphertext adds less than 200 to its value.
MAX_DETERMINISTIC: Final = 2_500  # bytes


def of_column(relation: Relation, table: Table, column: Column) -> Iterator[Finding]:
    """Say what stands against a column whose protection has not begun."""
    where = f"{relation.name}.{column.column}"
    attribute = relation.attribute(column.column)
    if attribute is None:
        yield error("no-column", where, "there is no such column", "correct its name, as the catalogue has it")
        return
    yield from _type(where, attribute, column)
    yield from _keys(where, relation, column)
    yield from _uniqueness(where, relation, column)
    yield from _dependents(where, relation, column)
    yield from _added(where, relation, column)
    yield from _filter(where, relation, table, column)
    if attribute.not_null and column.plaintext is not Plaintext.KEEP:
        yield note(
            "not-null",
            where,
            "it is NOT NULL",
            "`blank` drops that; the guard refuses rows without a ciphertext in its place",
        )
    if attribute.default and column.plaintext is not Plaintext.KEEP:
        yield note(
            "default",
            where,
            "it has a default, which is plaintext",
            "drop the default, and let programs write every value",
        )


def _type(where: str, attribute: Attribute, column: Column) -> Iterator[Finding]:
    if attribute.generated:
        yield error(
            "generated", where, "it is a generated column", "protect the columns that it is made of, and drop it"
        )
    if attribute.base in UNSTABLE:
        yield error(
            "unstable-type",
            where,
            f"what its type {attribute.sql_type} prints depends on the server",
            "change the column to text or numeric first",
        )
    if column.paths and (attribute.base != "jsonb" or attribute.array):
        yield error(
            "paths",
            where,
            f"paths are for jsonb, and it is {attribute.sql_type}",
            "leave paths away: the whole value is encrypted",
        )
    if column.index is not None:
        if column.index.normaliser is not Normaliser.NONE and (attribute.base not in _TEXTUAL or attribute.array):
            yield error(
                "normaliser",
                where,
                f"normaliser {column.index.normaliser.value} is for text, and it is {attribute.sql_type}",
                "write normaliser: none",
            )
        if attribute.base == "citext" and column.index.normaliser is Normaliser.NONE:
            yield warning(
                "citext", where, "citext finds any case, its index would not", "write normaliser: caseless, or email"
            )
    if column.classification is Level.SECRET and column.mode is Mode.DETERMINISTIC:
        yield error(
            "secret-deterministic", where, "class secret may not be deterministic", "use mode blind_index or randomized"
        )


def _keys(where: str, relation: Relation, column: Column) -> Iterator[Finding]:
    name = column.column
    if name in relation.primary_key:
        yield error(
            "primary-key", where, "it is part of the primary key", "leave it, or give the table another primary key"
        )
    if relation.of(name, "partition key"):
        yield error("partition-key", where, "the table is partitioned by it", "leave it as it is")
    keys = relation.of(name, "foreign key")
    if keys:
        yield error(
            "foreign-key",
            where,
            f"it refers to another table ({', '.join(keys)})",
            "leave it; protect what stands in the other table",
        )
    keys = relation.of(name, "referenced")
    if keys:
        yield error(
            "foreign-key",
            where,
            f"other rows refer to it ({', '.join(keys)})",
            "leave it, or let them refer to the primary key",
        )


def _uniqueness(where: str, relation: Relation, column: Column) -> Iterator[Finding]:
    name, gone = column.column, column.plaintext is not Plaintext.KEEP
    kept = (column.index is not None and column.index.unique) or column.mode is Mode.DETERMINISTIC
    for index in relation.indexes if gone else ():
        if name not in index.columns or index.primary:
            continue
        if index.unique and index.columns == (name,) and not kept:
            yield warning(
                "uniqueness",
                where,
                f"it is unique ({index.name}), which ends when the plaintext goes",
                "write index: {unique: true} with mode blind_index, if equal values must stay impossible",
            )
        elif index.unique and index.columns != (name,):
            yield warning(
                "uniqueness",
                where,
                f"it is unique together with others ({index.name}), which ends when the plaintext goes",
                "make a unique index of the others and of the added index column before `blank`",
            )
        elif not index.unique:
            found = column.index is not None or column.mode is Mode.DETERMINISTIC
            how = (
                "searches go through the added column"
                if found
                else "nothing is found by it any more: mode blind_index finds equal values"
            )
            yield (note if found and index.plain else warning)(
                "index", where, f"the index {index.name} is made of it, and goes with the plaintext", how
            )
    for name in relation.of(column.column, "exclusion") if gone else ():
        yield warning(
            "uniqueness",
            where,
            f"the exclusion constraint {name} ends when the plaintext goes",
            "let programs see to it",
        )


def _dependents(where: str, relation: Relation, column: Column) -> Iterator[Finding]:
    name = column.column
    gone = column.plaintext is not Plaintext.KEEP
    policies = relation.of(name, "policy")
    if policies and gone:
        yield error(
            "policy", where, f"{', '.join(policies)} reads it, and would see NULL", "let the policy read another column"
        )
    for view in relation.of(name, "view", "materialized view", "function") if gone else ():
        yield warning(
            "view",
            where,
            f"{view} reads it, shows NULL once it is blanked, and must be gone before it is dropped",
            "let it read the ciphertext column, or leave the column away; refresh what is materialized, which keeps plaintext",
        )
    for copy in relation.of(name, "generated column"):
        yield warning(
            "copy",
            where,
            f"the generated column {copy} is made of it, in the clear",
            "drop it, or protect what it shows otherwise",
        )
    for check in relation.of(name, "check") if gone else ():
        yield warning(
            "check",
            where,
            f"the check {check} reads it, holds for NULL, and goes with the column",
            "let programs check before they encrypt",
        )
    for trigger in relation.of(name, "trigger"):
        yield warning(
            "trigger",
            where,
            f"{trigger} fires for it or reads it",
            "change the trigger: it would see ciphertext or NULL, or copy plaintext",
        )
    for publication in relation.of(name, "publication"):
        yield warning(
            "publication",
            where,
            f"{publication} names it",
            "publish the ciphertext column, and mind what subscribers keep",
        )


def _added(where: str, relation: Relation, column: Column) -> Iterator[Finding]:
    fields = (
        ("ciphertext_column", column.ciphertext),
        ("version_column", column.version),
        ("index_column", column.blind_index),
    )
    for field, name in fields:
        if name is not None and relation.attribute(name) is not None:
            yield error(
                "name-taken", where, f"the table has a column {name} already", f"write {field}: with another name"
            )


def _filter(where: str, relation: Relation, table: Table, column: Column) -> Iterator[Finding]:
    if column.rows is None:
        return
    beside = relation.attribute(column.rows.column)
    if beside is None:
        yield error("rows", where, f"rows names {column.rows.column}, and there is no such column", "correct its name")
    elif column.rows.column in {one.column for one in table.columns}:
        yield error(
            "rows",
            where,
            f"rows reads {column.rows.column}, which is protected itself",
            "let rows read a column that stays as it is",
        )
    elif beside.base == "bool" and not set(column.rows.values) <= {"true", "false"}:
        yield error(
            "rows", where, f"{column.rows.column} is boolean, whose texts are true and false", "write values: ['true']"
        )


def of_values(where: str, column: Column, leak: Leakage, *, unique: bool) -> Iterator[Finding]:
    """Say what a column's values stand against, from their measured histogram.

    Args:
        where: for the findings.
        column: of the plan.
        leak: counted after normalisation, of all rows or a sample.
        unique: the table allows no two equal values now.
    """
    if leak.longest > MAX_VALUE:
        yield error(
            "too-long",
            where,
            f"a value has more than {MAX_VALUE} bytes",
            "keep such values elsewhere, under a data key",
        )
    if column.mode is Mode.DETERMINISTIC and leak.longest > MAX_DETERMINISTIC:
        yield error(
            "too-long",
            where,
            f"a value has more than {MAX_DETERMINISTIC} bytes, and cannot be in an index",
            "use mode blind_index",
        )
    if column.index is not None and column.index.unique and leak.top > 1:
        todo = "write normaliser: none, or mend the rows" if unique else "write unique: false, or mend the rows"
        yield error("not-unique", where, f"values are equal under normaliser {column.index.normaliser.value}", todo)
    if column.index is None and column.mode is not Mode.DETERMINISTIC:
        return
    refused = refusal(leak)
    if refused is None:
        yield note(
            "leakage",
            where,
            f"equality shows: {leak}",
            "shorter hashes show less, and find more rows that do not match",
        )
    elif column.accept_leakage:
        yield warning("leakage", where, f"{refused}; equality shows: {leak}", "the plan accepts it")
    else:
        yield error(
            "leakage",
            where,
            f"an index is refused: {refused}; equality shows: {leak}",
            "use mode randomized, or write accept_leakage: true where that is known and borne",
        )
