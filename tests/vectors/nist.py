"""Reads the text files of NIST's CAVP and those shaped like them, and refuses what it was not told about.

# comment
[Section = value]      one or several before the cases that they describe
Name = value           a case; it ends with an empty line, a mark such as FAIL, or its first name again
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cryptography_vectors

FOLDER = Path(cryptography_vectors.__file__).parent

_SECTION = re.compile(r"\[([A-Za-z ]+)\s*=\s*(\d+)\]")
_FIELD = re.compile(r"([A-Za-z0-9]+)\s*=\s*(\S*)")


class NotUnderstood(Exception):
    """The file holds something that its reader does not know, and so might read wrongly."""


@dataclass(frozen=True)
class Case:
    """One case under the sections that hold for it; *failed* where the file marks it so."""

    sections: dict[str, int]
    fields: dict[str, str]
    failed: bool

    def data(self, name: str) -> bytes:
        """Decode a field from hex."""
        return bytes.fromhex(self.fields[name])


def load(path: str, sections: frozenset[str], *shapes: frozenset[str]) -> list[Case]:
    """Read a file of cryptography-vectors; each case has exactly the names of one of *shapes*.

    Raises:
        NotUnderstood: a line, section, name or mark that is not listed.
    """
    return parse((FOLDER / path).read_text(encoding="ascii"), sections, *shapes)


def parse(text: str, sections: frozenset[str], *shapes: frozenset[str]) -> list[Case]:
    """Read the text of a file; see load()."""
    cases: list[Case] = []
    current: dict[str, int] = {}
    for lines in _blocks(text):
        heads = [match for line in lines if (match := _SECTION.fullmatch(line))]
        if heads:
            current = {match[1].strip(): int(match[2]) for match in heads}
        if set(current) != sections:
            raise NotUnderstood(f"sections {sorted(current)}")
        fields = _fields(lines[len(heads) :])
        if fields and set(fields) not in shapes:
            raise NotUnderstood(f"names {sorted(fields)}")
        if fields:
            cases.append(Case(current, fields, "FAIL" in fields))
    return cases


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield the lines between empty lines and comments."""
    block: list[str] = []
    for line in (*text.splitlines(), ""):
        if line.strip() and not line.startswith("#"):
            block.append(line.strip())
        elif block:
            yield block
            block = []


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        name, value = (match[1], match[2]) if match else (line, "")
        if name in fields or not (match or line == "FAIL"):
            raise NotUnderstood(line[:60])
        fields[name] = value
    return fields
