"""What a check of the configuration finds, and what every check is given to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from kms.settings import Settings


class Level(StrEnum):
    """Whether the daemon can do without a remedy."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: where, what, and how to mend it."""

    level: Level
    subject: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.level}: {self.subject}: {self.problem}; {self.remedy}"


def error(subject: str, problem: str, remedy: str) -> Finding:
    """Make a finding with which the daemon does not start, or not as it should."""
    return Finding(Level.ERROR, subject, problem, remedy)


def warning(subject: str, problem: str, remedy: str) -> Finding:
    """Make a finding that somebody should know of."""
    return Finding(Level.WARNING, subject, problem, remedy)


@dataclass(frozen=True, slots=True)
class Subject:
    """What the checks look at."""

    config: Path
    settings: Settings
    now: datetime
    login: bool = False  # a try of the PIN counts, so it is made only when asked for


Check: TypeAlias = Callable[[Subject], Iterator[Finding]]
