"""What of a live database should be protected, and how: proposals to a person, each with its reasons.

Reasons are the documents' classification, names and types, sampled values, and for search the measured histogram. No
sampled value is in any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from . import classified, detect, leakage, naming
from .catalogue import Attribute, Catalogue, Relation
from .database import Connection
from .leakage import Leakage
from .naming import Form, Treatment
from .plan import CatalogRule, Column, Index, Level, Mode, Normaliser, Plaintext, Rows, Table, shortened
from .sample import Samples, sample

KEY: Final = "columns"
SECRET_KEY: Final = "columns-secret"  # noqa: S105  a key's name
INDEX_KEY: Final = "columns-index"
HASH_LENGTH: Final = 32  # bytes, for tokens: nothing is gained by false hits

Measure = Callable[[Relation, str, Normaliser], Leakage]

_OF_KIND: Final[Mapping[detect.Kind, tuple[Level, Treatment, Normaliser]]] = {
    detect.Kind.EMAIL: (Level.CONFIDENTIAL, Treatment.ENCRYPT, Normaliser.EMAIL),
    detect.Kind.PHONE: (Level.CONFIDENTIAL, Treatment.ENCRYPT, Normaliser.PHONE),
    detect.Kind.CARD: (Level.SECRET, Treatment.ENCRYPT, Normaliser.NONE),
    detect.Kind.IBAN: (Level.CONFIDENTIAL, Treatment.ENCRYPT, Normaliser.NONE),
    detect.Kind.TOTP: (Level.SECRET, Treatment.CONCEAL, Normaliser.NONE),
    detect.Kind.VERIFIER: (Level.SECRET, Treatment.CONCEAL, Normaliser.NONE),
    detect.Kind.PRIVATE_KEY: (Level.SECRET, Treatment.CONCEAL, Normaliser.NONE),
    detect.Kind.API_KEY: (Level.SECRET, Treatment.HASH, Normaliser.NONE),
    detect.Kind.ADDRESS: (Level.CONFIDENTIAL, Treatment.ENCRYPT, Normaliser.NONE),
}
_CONTENT: Final = (Form.TEXT, Form.JSON, Form.BYTES, Form.ADDRESS)


@dataclass(frozen=True, slots=True)
class Proposed:
    """A column that should be protected, with the reasons."""

    column: Column
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """A column for which something speaks, but something else against it."""

    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class TableProposal:
    """What is proposed for one table; no columns: only what is left as it is."""

    table: str
    identity: tuple[str, ...]
    proposed: tuple[Proposed, ...]
    left: tuple[Left, ...]

    def as_table(self) -> Table:
        """Return the plan's table."""
        return Table(table=self.table, identity=self.identity, columns=tuple(one.column for one in self.proposed))


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed for a database."""

    database: str
    tables: tuple[TableProposal, ...]
    classified: classified.Classified


@dataclass(frozen=True, slots=True)
class _Wish:
    level: Level
    treatment: Treatment
    normaliser: Normaliser
    reasons: tuple[str, ...]
    # It comes from a rule for every column of the table: search counts for more.
    sweeping: bool = False
    flag: str | None = None


def propose(connection: Connection, catalogue: Catalogue) -> Proposal:
    """Propose a plan for a database.

    Raises:
        ColumnsError: it has more tables, columns or rules than are looked at.
    """
    rules = classified.read(connection, catalogue)

    def measured(relation: Relation, column: str, normaliser: Normaliser) -> Leakage:
        return leakage.measure(connection, relation.name, column, guessed_rows=relation.rows, normaliser=normaliser)

    tables = []
    for relation in catalogue.tables():
        if relation.name not in rules.sources:
            found = of_table(relation, rules, sample(connection, relation), measured)
            if found.proposed or found.left:
                tables.append(found)
    return Proposal(catalogue.role.database, tuple(tables), rules)


def of_table(relation: Relation, rules: classified.Classified, samples: Samples, measured: Measure) -> TableProposal:
    """Propose what to do with the columns of one table.

    Args:
        relation: the table.
        rules: what the documents say.
        samples: of its columns.
        measured: measures a column.
    """
    identity = _identity(relation)
    proposed: list[Proposed] = []
    left: list[Left] = []
    for attribute, wish in _wishes(relation, rules, samples):
        against = _against(relation, attribute, identity)
        if wish.treatment is Treatment.LEAVE:
            left.append(Left(attribute.name, "; ".join(wish.reasons)))
        elif against is not None:
            left.append(Left(attribute.name, f"{'; '.join(wish.reasons)}; but {against}"))
        else:
            done = _decide(relation, attribute, wish, measured)
            if isinstance(done, Proposed):
                proposed.append(done)
            else:
                left.append(done)
    return TableProposal(relation.name, identity, tuple(proposed), tuple(left))


def _identity(relation: Relation) -> tuple[str, ...]:
    """The primary key, else the shortest columns that no two rows have equal; empty if there are none."""
    if relation.primary_key:
        return relation.primary_key
    found = [index.columns for index in relation.indexes if index.unique and relation.identifies(index.columns)]
    return min(found, key=lambda columns: (len(columns), columns), default=())


def _wishes(relation: Relation, rules: classified.Classified, samples: Samples) -> Iterator[tuple[Attribute, _Wish]]:
    for attribute in relation.attributes:
        wish = _wish(relation, attribute, rules.of(relation.name, attribute.name), samples)
        if wish is not None:
            yield attribute, wish


def _wish(relation: Relation, attribute: Attribute, rule: CatalogRule | None, samples: Samples) -> _Wish | None:
    if rule is not None and rule.column != "*" and not rule.encryption_required:
        return _Wish(rule.level, Treatment.LEAVE, Normaliser.NONE, (_said(rule),))
    inner = _by_look(relation, attribute, samples)
    if (
        rule is None
        or not rule.encryption_required
        or (rule.column == "*" and inner is None and not _content(attribute))
    ):
        return inner
    if inner is None or inner.treatment is Treatment.LEAVE:
        return _Wish(rule.level, Treatment.ENCRYPT, Normaliser.NONE, (_said(rule),), sweeping=rule.column == "*")
    return _Wish(
        max(rule.level, inner.level, key=list(Level).index),
        inner.treatment,
        inner.normaliser,
        (_said(rule), *inner.reasons),
        flag=inner.flag,
    )


def _by_look(relation: Relation, attribute: Attribute, samples: Samples) -> _Wish | None:
    by_name = naming.rule_of(relation, attribute)
    seen = samples.said(attribute.name)
    if by_name is not None:
        reasons = (f"name and type: {by_name.why}", *seen.reasons)
        return _Wish(by_name.level, by_name.treatment, by_name.normaliser, reasons)
    flag = naming.flag_of(relation, attribute)
    if flag is not None:
        why = f"rows say by {flag.name} whether their value is sensitive: only those are protected"
        return _Wish(Level.SECRET, Treatment.CONCEAL, Normaliser.NONE, (why, *seen.reasons), flag=flag.name)
    if seen.kind is not None and not (seen.kind is detect.Kind.API_KEY and _describes(attribute)):
        return _Wish(*_OF_KIND[seen.kind], seen.reasons)
    if seen.members:
        return _Wish(Level.CONFIDENTIAL, Treatment.CONCEAL, Normaliser.NONE, seen.reasons)
    level = naming.level_of_schema(relation, attribute)
    if level is not None:
        return _Wish(level, Treatment.ENCRYPT, Normaliser.NONE, (f"its schema is named for what is {level.value}",))
    return None


def _content(attribute: Attribute) -> bool:
    return naming.form(attribute) in _CONTENT


def _describes(attribute: Attribute) -> bool:
    return bool(naming.DESCRIBES.search(naming.words(attribute.name)))


def _said(rule: CatalogRule) -> str:
    facts = [rule.level.value]
    facts += ["personal data"] if rule.personal else []
    facts += ["health data"] if rule.health else []
    facts.append("encryption required" if rule.encryption_required else "no encryption required")
    where = "every column of the table" if rule.column == "*" else "it"
    return f"documents: {where} is {', '.join(facts)}"


def _against(relation: Relation, attribute: Attribute, identity: Sequence[str]) -> str | None:
    """Why a column cannot be protected, whatever speaks for it."""
    name = attribute.name
    keys, policies = relation.of(name, "foreign key", "referenced"), relation.of(name, "policy")
    reasons = (
        (not identity, "the table has no key: no columns that are NOT NULL and unique tell its rows apart"),
        (name in identity, "it is of the row's identity, which ciphertexts are bound to"),
        (relation.of(name, "partition key"), "the table is partitioned by it"),
        (keys, f"it is part of the foreign key {', '.join(keys)}"),
        (attribute.generated, "it is generated from others: protect those"),
        (policies, f"{', '.join(policies)} reads it"),
    )
    return next((why for holds, why in reasons if holds), None)


def _decide(relation: Relation, attribute: Attribute, wish: _Wish, measured: Measure) -> Proposed | Left:
    searched = relation.searched_by(attribute.name)
    equal = not attribute.array and naming.form(attribute) is not Form.JSON
    reasons = list(wish.reasons)
    if wish.treatment is Treatment.CONCEAL or not equal or (not searched and wish.treatment is Treatment.ENCRYPT):
        return _column(relation, attribute, wish, Mode.RANDOMIZED, None, reasons)
    hashed = wish.treatment is Treatment.HASH_ALWAYS or (
        wish.treatment is Treatment.HASH and (bool(searched) or "_hash_" in naming.words(attribute.name))
    )
    if not searched and not hashed:
        return _column(relation, attribute, wish, Mode.RANDOMIZED, None, reasons)
    if searched:
        reasons.append(f"rows are found by it ({', '.join(index.name for index in searched)})")
    unique = relation.unique_alone(attribute.name)
    normaliser = wish.normaliser
    found = measured(relation, attribute.name, normaliser)
    if unique and found.top > 1 and normaliser is not Normaliser.NONE:
        reasons.append(
            f"values that differ are equal under normaliser {normaliser.value}, so that it could not be unique"
        )
        normaliser = Normaliser.NONE
        found = measured(relation, attribute.name, normaliser)
    refused = leakage.refusal(found)
    if refused is not None and wish.sweeping:
        return Left(attribute.name, f"{'; '.join(reasons)}; but an index is refused: {refused} ({found})")
    if refused is not None:
        reasons.append(f"an index is refused: {refused} ({found}): it cannot be searched by")
        return _column(relation, attribute, wish, Mode.RANDOMIZED, None, reasons)
    reasons.append(f"leakage: {found}")
    index = Index(key=INDEX_KEY, normaliser=normaliser, length=HASH_LENGTH if hashed else 16, unique=unique)
    mode = Mode.HASH_ONLY if hashed else Mode.BLIND_INDEX
    return _column(relation, attribute, wish, mode, index, reasons)


def _column(
    relation: Relation, attribute: Attribute, wish: _Wish, mode: Mode, index: Index | None, reasons: Sequence[str]
) -> Proposed:
    key = INDEX_KEY if mode is Mode.HASH_ONLY else SECRET_KEY if wish.level is Level.SECRET else KEY
    column = Column(
        column=attribute.name,
        classification=wish.level,
        mode=mode,
        key=key,
        index=index,
        rows=None if wish.flag is None else Rows(column=wish.flag, values=("true",)),
        plaintext=Plaintext.DROP if wish.flag is None else Plaintext.BLANK,
    )
    taken = {one.name for one in relation.attributes}
    renamed = {
        field: shortened(attribute.name, f"_kms{suffix}")
        for field, name, suffix in (
            ("ciphertext_column", column.ciphertext, "_hash" if mode is Mode.HASH_ONLY else "_ct"),
            ("version_column", column.version, "_kv"),
            ("index_column", column.blind_index, "_bi"),
        )
        if name in taken
    }
    return Proposed(column.model_copy(update=renamed), tuple(reasons))
