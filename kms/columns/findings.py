"""What stands against a plan, as one finding each: where, what, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """What becomes of it if nobody does anything."""

    ERROR = "error"  # it cannot be applied, values would be lost, or what the plan promises would not hold
    WARNING = "warning"  # it can be applied, and something that the database guaranteed or kept to itself ends
    NOTE = "note"  # good to know


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found; *rule* is a stable name for programs."""

    severity: Severity
    rule: str
    where: str  # schema.table, schema.table.column, a key, or the database
    what: str
    todo: str


def error(rule: str, where: str, what: str, todo: str) -> Finding:
    """Return a finding that has to be mended first."""
    return Finding(Severity.ERROR, rule, where, what, todo)


def warning(rule: str, where: str, what: str, todo: str) -> Finding:
    """Return a finding that somebody has to weigh."""
    return Finding(Severity.WARNING, rule, where, what, todo)


def note(rule: str, where: str, what: str, todo: str) -> Finding:
    """Return a finding that is good to know."""
    return Finding(Severity.NOTE, rule, where, what, todo)
