"""Some values of a table, looked at and forgotten: what goes on is what they look like, and in what share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from psycopg import sql

from . import detect, naming
from .catalogue import Attribute, Relation
from .database import Connection, named
from .naming import Form

ROWS: Final = 200
LONGEST: Final = 4_096  # characters of a value that are read
LARGE: Final = 100_000  # rows; of larger tables pages are sampled, not the first ones
SHARE: Final = 0.2  # of the documents, before members are said to be named like secrets

_MEMBER: Final = re.compile(r'"([^"\\]{1,64})": ?"')
_SECRET: Final = re.compile(
    r"_(password|passwd|pwd|secret|token|api_key|apikey|private_key|client_secret|access_key|ssn|iban|card_number)_"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is to be said of a column's sampled values."""

    kind: detect.Kind | None = None
    members: bool = False  # JSON documents have members that are named like secrets
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Samples:
    """What is to be said of a table's columns."""

    columns: Mapping[str, Seen] = field(default_factory=dict)

    def said(self, column: str) -> Seen:
        """Return what is to be said of a column."""
        return self.columns.get(column, Seen())


def sample(connection: Connection, relation: Relation) -> Samples:
    """Look at up to ROWS rows of a table: at its texts, and at its JSON documents."""
    chosen = [one for one in relation.attributes if naming.form(one) in (Form.TEXT, Form.JSON)]
    if not chosen:
        return Samples()
    large = relation.rows > LARGE
    query = sql.SQL("SELECT {} FROM {}{} LIMIT {}").format(
        sql.SQL(", ").join(sql.SQL("left({}::text, {})").format(sql.Identifier(one.name), LONGEST) for one in chosen),
        named(relation.name),
        sql.SQL(" TABLESAMPLE SYSTEM ({}) REPEATABLE (1)").format(max(0.01, 100 * 20 * ROWS / relation.rows))
        if large
        else sql.SQL(""),
        ROWS,
    )
    rows = connection.execute(query).fetchall()
    return Samples(
        {
            one.name: look(one, [row[place] for row in rows if row[place] is not None])
            for place, one in enumerate(chosen)
        }
    )


def look(attribute: Attribute, values: list[str]) -> Seen:
    """Say what values look like."""
    if naming.form(attribute) is Form.JSON:
        named_like = sum(any(_SECRET.search(naming.words(name)) for name in _MEMBER.findall(value)) for value in values)
        if len(values) < detect.LEAST or named_like < SHARE * len(values):
            return Seen()
        share = 100 * named_like // len(values)
        return Seen(
            members=True,
            reasons=(f"values: {share}% of {len(values)} sampled documents have members that are named like secrets",),
        )
    found = detect.likely(values)
    if found is None:
        return Seen()
    kind, part = found
    number = sum(1 for value in values if value.strip())
    return Seen(kind, reasons=(f"values: {100 * part:.0f}% of {number} sampled are {kind.value}",))
