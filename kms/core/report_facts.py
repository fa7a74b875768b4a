"""What has been gathered for a report: counts, lists and sums by name, each bounded, and JSON between two batches.

A list keeps its first rows and counts the rest. Sums by name keep MOST_COUNTED names: when there are more, the smallest
give way to new ones and go to "others", so that what is shown of a name may be too little and never too much.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from .errors import CorruptRecord
from .receipts import json_text

Cell = None | bool | int | str

MOST_ROWS: Final = 200  # of one list
MOST_COUNTED: Final = 500  # names whose sums are kept
TOP: Final = 25  # names that a report shows
LONGEST_CELL: Final = 200  # characters


def cell(text: str) -> str:
    """Return a text as a report shows it: what is longer is cut."""
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 3] + "..."


@dataclass(slots=True)
class Listing:
    """The first rows of a list, and how many there are."""

    rows: list[list[Cell]] = field(default_factory=list)
    total: int = 0

    def add(self, *cells: Cell) -> None:
        """Add a row."""
        self.total += 1
        if len(self.rows) < MOST_ROWS:
            self.rows.append([cell(one) if isinstance(one, str) else one for one in cells])

    @property
    def others(self) -> int:
        """How many rows are only counted."""
        return self.total - len(self.rows)


@dataclass(slots=True)
class Tally:
    """Sums by name; *others* are those of names that are not kept."""

    sums: dict[str, list[int]] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)

    def add(self, name: str, *amounts: int) -> None:
        """Add to the sums of a name: always as many amounts, the first one decides who is large."""
        name = cell(name)
        known = self.sums.get(name)
        self.sums[name] = list(amounts) if known is None else [a + b for a, b in zip(known, amounts, strict=True)]
        if len(self.sums) > 2 * MOST_COUNTED:
            self.trim(MOST_COUNTED)

    def trim(self, most: int) -> None:
        """Keep the largest *most* names."""
        for name, sums in self._ordered()[most:]:
            self.others = [a + b for a, b in zip(self.others or [0] * len(sums), sums, strict=True)]
            del self.sums[name]

    def top(self) -> tuple[list[tuple[str, list[int]]], list[int]]:
        """Return the largest names with their sums, and the sums of all others."""
        ordered = self._ordered()
        rest = [sums for _, sums in ordered[TOP:]] + ([self.others] if self.others else [])
        return ordered[:TOP], [sum(column) for column in zip(*rest, strict=True)]

    def _ordered(self) -> list[tuple[str, list[int]]]:
        return sorted(self.sums.items(), key=lambda item: ([-number for number in item[1]], item[0]))


@dataclass(slots=True)
class Facts:
    """All that has been gathered, and where to go on."""

    stage: str = ""
    cursor: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    listings: dict[str, Listing] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + by

    def counted(self, name: str) -> int:
        """Return a count."""
        return self.counts.get(name, 0)

    def most(self, name: str, value: int) -> None:
        """Keep the largest of several values."""
        self.counts[name] = max(self.counts.get(name, value), value)

    def below(self, prefix: str) -> list[tuple[str, int]]:
        """Return all counts whose names begin with *prefix*, without it, ordered."""
        return sorted((n.removeprefix(prefix), count) for n, count in self.counts.items() if n.startswith(prefix))

    def listing(self, name: str) -> Listing:
        """Return a list, an empty one at first."""
        return self.listings.setdefault(name, Listing())

    def tally(self, name: str) -> Tally:
        """Return sums by name, empty ones at first."""
        return self.tallies.setdefault(name, Tally())

    def find(self, found: Iterable[tuple[str, str]], *subject: Cell) -> None:
        """Note findings, each a rule and what exactly was found."""
        for rule, detail in found:
            self.listing(f"finding.{rule}").add(*subject, detail)

    def encode(self) -> bytes:
        """Return all as JSON."""
        for tally in self.tallies.values():
            tally.trim(MOST_COUNTED)
        return json_text(
            {
                "stage": self.stage,
                "cursor": [*self.cursor],
                "counts": self.counts,
                "listings": {n: {"rows": _rows(one.rows), "total": one.total} for n, one in self.listings.items()},
                "tallies": {
                    n: {"sums": {name: [*sums] for name, sums in one.sums.items()}, "others": [*one.others]}
                    for n, one in self.tallies.items()
                },
            }
        ).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Undo encode().

        Raises:
            CorruptRecord: it is something else.
        """
        try:
            read: dict[str, Any] = json.loads(data)
            return cls(
                stage=read["stage"],
                cursor=read["cursor"],
                counts=read["counts"],
                listings={n: Listing(one["rows"], one["total"]) for n, one in read["listings"].items()},
                tallies={n: Tally(one["sums"], one["others"]) for n, one in read["tallies"].items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptRecord("what was gathered for a report makes no sense") from error


def _rows(rows: Sequence[Sequence[Cell]]) -> list[Any]:
    return [list(row) for row in rows]
