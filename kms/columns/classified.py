"""What the documents' own tables say of columns: tables such as data_classification, read into catalog rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg import sql

from .catalogue import Catalogue, Relation
from .database import Connection, named
from .errors import ColumnsError
from .plan import CatalogRule, Level

MOST_RULES: Final = 10_000
LONGEST_KEEP: Final = 36_500  # days

_LEVELS: Final[Mapping[str, Level]] = {
    **{level.value: level for level in Level},
    "restricted": Level.SECRET,
    "top_secret": Level.SECRET,
    "sensitive": Level.CONFIDENTIAL,
}
_NEEDED: Final = ("table_name", "column_name", "classification")
_MORE: Final = ("contains_pii", "contains_phi", "encryption_required", "retention_days")
# What says how old a row is, the best first.
_AGES: Final = (
    "created_at",
    "occurred_at",
    "event_timestamp",
    "recorded_at",
    "logged_at",
    "timestamp",
    "inserted_at",
    "time",
)


@dataclass(frozen=True, slots=True)
class Classified:
    """The rules that were found, and what of the tables could not be read as one."""

    rules: tuple[CatalogRule, ...] = ()
    sources: tuple[str, ...] = ()
    unread: tuple[str, ...] = field(default=())

    def of(self, table: str, column: str) -> CatalogRule | None:
        """Return the rule for a column: its own, else that of its table's every column."""
        own = [rule for rule in self.rules if rule.table == table]
        return next((rule for name in (column, "*") for rule in own if rule.column == name), None)


def read(connection: Connection, catalogue: Catalogue) -> Classified:
    """Read every table that is made as a data_classification is: table_name, column_name, classification, and more.

    Raises:
        ColumnsError: there are more than MOST_RULES.
    """
    rules: dict[tuple[str, str], CatalogRule] = {}
    sources, unread = [], []
    for relation in catalogue.tables():
        if any(relation.attribute(name) is None for name in _NEEDED):
            continue
        sources.append(relation.name)
        for row in _rows(connection, relation):
            rule, why = _rule(catalogue, relation, row)
            if rule is None:
                unread.append(why)
            else:
                rules.setdefault((rule.table, rule.column), rule)
    return Classified(tuple(rules.values()), tuple(sources), tuple(unread))


def _rows(connection: Connection, relation: Relation) -> list[dict[str, Any]]:
    names = [*_NEEDED, *(name for name in _MORE if relation.attribute(name) is not None)]
    query = sql.SQL("SELECT {} FROM {} ORDER BY 1, 2, 3 LIMIT {}").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names),
        named(relation.name),
        MOST_RULES + 1,
    )
    rows = connection.execute(query).fetchall()
    if len(rows) > MOST_RULES:
        raise ColumnsError(f"{relation.name}: more than {MOST_RULES} rows")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _rule(catalogue: Catalogue, source: Relation, row: Mapping[str, str | None]) -> tuple[CatalogRule | None, str]:
    column = row["column_name"] or "*"
    table = _table(catalogue, source, row["table_name"] or "")
    if table is None:
        return None, f"{row['table_name']}.{column}: no such table"
    if column != "*" and table.attribute(column) is None:
        return None, f"{table.name}.{column}: no such column"
    level = _LEVELS.get((row["classification"] or "").lower())
    if level is None:
        return None, f"{table.name}.{column}: its level is none of {', '.join(Level)}"
    days = int(row.get("retention_days") or 0)
    keep = days if 1 <= days <= LONGEST_KEEP else None
    return CatalogRule(
        table=table.name,
        column=column,
        level=level,
        personal=row.get("contains_pii") == "true",
        health=row.get("contains_phi") == "true",
        encryption_required=row.get("encryption_required") == "true",
        keep_days=keep,
        age=_age(table) if keep else None,
    ), ""


def _table(catalogue: Catalogue, source: Relation, name: str) -> Relation | None:
    """A table by its whole name, else of the same schema, else the only one of that name."""
    tables = {one.name: one for one in catalogue.tables()}
    beside = f"{source.name.partition('.')[0]}.{name}"
    if name in tables or beside in tables:
        return tables.get(name) or tables[beside]
    same = [one for one in tables.values() if one.name.partition(".")[2] == name]
    return same[0] if len(same) == 1 else None


def _age(table: Relation) -> str | None:
    kinds = {one.name: one.base for one in table.attributes}
    return next((name for name in _AGES if kinds.get(name) in ("timestamptz", "timestamp", "date")), None)
