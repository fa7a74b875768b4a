"""Patterns over resource names: `*` stands for one segment, `**` at the end for any number of them, also none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from .errors import invalid

LONGEST: Final = 256  # characters, of a pattern and of a name

PATTERN_RULE: Final = (
    "must be segments separated by /, each of them letters, digits, '.', '_' and '-', or *; the last may be **;"
    f" {LONGEST} characters at most"
)
NAME_RULE: Final = (
    f"must be segments separated by /, each of them letters, digits, '.', '_' and '-'; {LONGEST} characters at most"
)
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that is well formed; its text is unique for it."""

    text: str

    @classmethod
    def parse(cls, text: str, field: str = "resource") -> Self:
        """Read a pattern.

        Raises:
            InvalidRequest: *field* has another form.
        """
        segments = text.split("/") if len(text) <= LONGEST else []
        if segments and segments[-1] == "**":
            segments.pop()
        elif not segments:
            raise invalid(field, PATTERN_RULE)
        if not all(segment == "*" or _SEGMENT.fullmatch(segment) for segment in segments):
            raise invalid(field, PATTERN_RULE)
        return cls(text)

    def within(self, prefix: str) -> bool:
        """Whether it matches nothing but *prefix* and what lies below it."""
        return self.text == prefix or self.text.startswith(f"{prefix}/")

    def matcher(self) -> Callable[[str], bool]:
        """Return what says whether it matches a name; prepared once, for many names."""
        head, _, last = self.text.rpartition("/")
        if self.text == "**":
            return lambda _: True
        if "*" not in self.text:
            return self.text.__eq__
        if last == "**" and "*" not in head:
            below = f"{head}/"
            return lambda name: name == head or name.startswith(below)
        stem = head if last == "**" else self.text
        one = "/".join("[^/]+" if segment == "*" else re.escape(segment) for segment in stem.split("/"))
        whole = re.compile(f"{one}(?:/.*)?" if last == "**" else one, re.DOTALL)
        return lambda name: whole.fullmatch(name) is not None

    def matches(self, name: str) -> bool:
        """Whether it matches a name."""
        return self.matcher()(name)

    def __str__(self) -> str:
        return self.text


def parse_resource(text: str, field: str = "resource") -> str:
    """Read the name of any resource, of which nothing more need be known.

    Raises:
        InvalidRequest: *field* has another form.
    """
    if len(text) > LONGEST or not all(_SEGMENT.fullmatch(segment) for segment in text.split("/")):
        raise invalid(field, NAME_RULE)
    return text
