"""A proposal as the text of a plan: YAML with the reasons as comments, which is read back and validated before it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import yaml

from . import plan
from .plan import CatalogRule, Column, Index, Mode, Plaintext
from .propose import INDEX_KEY, KEY, SECRET_KEY, Proposal, TableProposal

_WIDTH: Final = 120  # characters of a comment's line

_KEYS: Final = (
    (KEY, "kms keys create columns --purpose encrypt --policy confidential"),
    (SECRET_KEY, "kms keys create columns-secret --purpose encrypt --policy confidential"),
    (INDEX_KEY, "kms keys create columns-index --purpose index --policy confidential"),
)


def write(proposal: Proposal, tenant: str) -> str:
    """Return the text of a plan with every reason beside what it is for.

    Raises:
        PlanError: the proposal makes no valid plan.
    """
    text = "".join(f"{line}\n" for line in _lines(proposal, tenant))
    plan.parse(text.encode(), "the proposed plan")
    return text


def _lines(proposal: Proposal, tenant: str) -> Iterator[str]:
    columns = [one.column for table in proposal.tables for one in table.proposed]
    yield from _comment(
        "", f"Proposed from the database {proposal.database}. Read every line: a rule proposes, a person decides."
    )
    yield from _comment("", "Then: kms columns check PLAN")
    used = {name for one in columns for name in (one.key, one.index.key if one.index else one.key)}
    if used:
        yield "#"
        yield from _comment("", "The keys that it names, to be made where they are missing:")
        yield from (f"#     {command}" for name, command in _KEYS if name in used)
    if SECRET_KEY in used:
        yield from _comment(
            "",
            f"{SECRET_KEY} is a key of class confidential; where the daemon has an enclave, make it with --policy secret.",
        )
    yield "version: 1"
    yield f"tenant: {_scalar(tenant)}"
    chosen = [table for table in proposal.tables if table.proposed]
    yield "tables:" if chosen else "tables: []"
    for table in proposal.tables:
        yield from _table(table)
    yield from _catalog(proposal)


def _table(table: TableProposal) -> Iterator[str]:
    yield ""
    if not table.proposed:
        yield from _comment("  ", f"{table.table}: nothing is proposed.")
        yield from _left(table, "  ")
        return
    yield f"  - table: {_scalar(table.table)}"
    yield f"    identity: [{', '.join(map(_scalar, table.identity))}]"
    yield "    columns:"
    for one in table.proposed:
        for reason in one.reasons:
            yield from _comment("      ", f"{reason}.")
        yield from _column(one.column)
    yield from _left(table, "    ")


def _left(table: TableProposal, indent: str) -> Iterator[str]:
    for left in table.left:
        yield from _comment(indent, f"Not proposed: {left.column}: {left.reason}.")


def _column(column: Column) -> Iterator[str]:
    yield f"      - column: {_scalar(column.column)}"
    yield f"        classification: {column.classification.value}"
    yield f"        mode: {column.mode.value}"
    yield f"        key: {_scalar(column.key)}"
    if column.index is not None:
        yield f"        index: {_index(column.index, column.mode)}"
    if column.rows is not None:
        values = ", ".join(map(_scalar, column.rows.values))
        yield f"        rows: {{column: {_scalar(column.rows.column)}, values: [{values}]}}"
    if column.plaintext is not Plaintext.DROP:
        yield f"        plaintext: {column.plaintext.value}"
    for field in ("ciphertext_column", "version_column", "index_column"):
        name = getattr(column, field)
        if name is not None:
            yield f"        {field}: {_scalar(name)}"


def _index(index: Index, mode: Mode) -> str:
    facts = [f"key: {_scalar(index.key)}", f"normaliser: {index.normaliser.value}"]
    facts += [f"length: {index.length}"] if mode is Mode.HASH_ONLY else []
    facts += ["unique: true"] if index.unique else []
    return f"{{{', '.join(facts)}}}"


def _catalog(proposal: Proposal) -> Iterator[str]:
    found = proposal.classified
    if not found.sources:
        return
    yield ""
    yield from _comment("", f"Kept from {', '.join(found.sources)}.")
    for unread in found.unread:
        yield from _comment("", f"Not kept: {unread}.")
    if any(rule.age for rule in found.rules):
        yield from _comment(
            "", "Nothing is deleted before a rule has on_expiry: delete, blank or pseudonymize; look at its age first."
        )
    yield "catalog:" if found.rules else "catalog: []"
    yield from (f"  - {_rule(rule)}" for rule in found.rules)


def _rule(rule: CatalogRule) -> str:
    given: dict[str, Any] = rule.model_dump(mode="json", exclude_defaults=True)
    facts = (
        f"{name}: {_scalar(value) if isinstance(value, str) else str(value).lower()}" for name, value in given.items()
    )
    return f"{{{', '.join(facts)}}}"


def _scalar(text: str) -> str:
    """A YAML scalar in double quotes where it would be read as something else without."""
    if text.isascii() and text.replace("_", "").replace(".", "").replace("-", "").isalnum() and text[:1].isalpha():
        bare = yaml.safe_load(text)
        if bare == text:
            return text
    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf")).strip()


def _comment(indent: str, text: str) -> Iterator[str]:
    """Lines of a comment; what could end it or steer a terminal becomes a space."""
    line = f"{indent}#"
    for word in "".join(one if one.isprintable() else " " for one in text).split():
        if len(line) + len(word) >= _WIDTH and not line.endswith("#"):
            yield line
            line = f"{indent}#"
        line += f" {word}"
    yield line
