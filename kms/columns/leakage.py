"""What equality gives away: a blind index, a deterministic ciphertext and a keyed hash all show which rows are equal.

Measured by the database as a histogram of counts: how many values occur once, twice, ... No value leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import sql

from .database import Connection, named
from .plan import Normaliser, Rows

MOST_ROWS: Final = 1_000_000  # that are measured; of larger tables a sample of pages

LEAST_ROWS: Final = 20  # with a value; fewer tell nothing
# Fewer different values than this tell little apart, and each of them is soon guessed.
LOW_CARDINALITY: Final = 100
# One value in more than a tenth of the rows: below 3.3 bits of min-entropy.
MOST_FREQUENT: Final = 0.1
# More than a quarter of the rows are read by who knows how often each value occurs.
MOST_COUNTED: Final = 0.25

# Near enough to kms/core/normalisation.py to count with; the daemon's own normalisers decide what is equal.
_FOLDED: Final[Mapping[Normaliser, LiteralString]] = {
    Normaliser.NONE: "v",
    Normaliser.TEXT: "btrim(normalize(v, NFKC))",
    Normaliser.CASELESS: "lower(btrim(normalize(v, NFKC)))",
    Normaliser.EMAIL: "lower(btrim(normalize(v, NFKC)))",
    Normaliser.PHONE: "regexp_replace(normalize(v, NFKC), '[^0-9+]', '', 'g')",
}


@dataclass(frozen=True, slots=True)
class Leakage:
    """What equality of a column's values tells those who see only the index, from a measured histogram."""

    rows: int  # with a value
    distinct: int
    top: int  # rows that hold the most frequent value
    ten: int  # rows that hold one of the ten most frequent
    counted: float  # expected share of rows read by matching known frequencies
    longest: int  # bytes of the longest value, as text
    whole: bool  # every row was measured

    @property
    def guess(self) -> float:
        """The chance that the best single guess at a row's value is right; 0 without rows."""
        return self.top / self.rows if self.rows else 0.0

    @property
    def guess_ten(self) -> float:
        """The chance that one of the ten best guesses is right."""
        return self.ten / self.rows if self.rows else 0.0

    @property
    def min_entropy(self) -> float:
        """Bits: -log2 of the best single guess (NIST SP 800-90B, section 2.1)."""
        return -math.log2(self.guess) if self.rows else 0.0

    def __str__(self) -> str:
        if not self.rows:
            return "no value is there to measure"
        return (
            f"{self.distinct} different values in {self.rows} {'rows' if self.whole else 'sampled rows'}, min-entropy"
            f" {self.min_entropy:.1f} bits; guessing success {_percent(self.guess)} with one guess,"
            f" {_percent(self.guess_ten)} with ten, {_percent(self.counted)} by counting"
        )


def estimate(frequencies: Mapping[int, int], *, longest: int = 0, whole: bool = True) -> Leakage:
    """Return what equality tells, from how many values occur how often.

    Who knows how often each value occurs in the world, and counts equal rows, takes each value for one of those that
    occur as often: of `k` values that occur `n` times each, `n` of the `n * k` rows are expected to be read.

    Args:
        frequencies: how many different values, by the number of rows that hold each of them.
        longest: bytes of the longest value.
        whole: every row was measured.
    """
    rows = sum(often * values for often, values in frequencies.items())
    ten, left = 0, 10
    for often in sorted(frequencies, reverse=True):
        taken = min(left, frequencies[often])
        ten, left = ten + often * taken, left - taken
    counted = sum(often for often, values in frequencies.items() if values) / rows if rows else 0.0
    top = max((often for often, values in frequencies.items() if values), default=0)
    return Leakage(rows, sum(frequencies.values()), top, ten, counted, longest, whole)


def refusal(leakage: Leakage) -> str | None:
    """Return why equality of such values should not be shown, or None.

    Too few rows tell nothing: values of which most occur once are not refused for being few.
    """
    if leakage.rows < LEAST_ROWS:
        return None
    if leakage.rows >= 2 * leakage.distinct and leakage.distinct < LOW_CARDINALITY:
        return f"there are only {leakage.distinct} different values"
    if leakage.rows >= LOW_CARDINALITY:
        if leakage.guess > MOST_FREQUENT:
            return f"one value is in {_percent(leakage.guess)} of the rows"
        if leakage.counted > MOST_COUNTED:
            return f"who knows how often each value occurs reads {_percent(leakage.counted)} of the rows by counting"
    return None


def measure(
    connection: Connection,
    table: str,
    column: str,
    *,
    guessed_rows: int,
    normaliser: Normaliser = Normaliser.NONE,
    rows: Rows | None = None,
) -> Leakage:
    """Measure how often a column's values occur: one pass over the table, or over a sample of its pages.

    Args:
        connection: its settings are those of kms/columns/database.py.
        table: `schema.table`.
        column: its name.
        guessed_rows: of the table, as the server guesses; below 0: unknown.
        normaliser: what is made equal before values are counted.
        rows: only these.
    """
    whole = guessed_rows <= MOST_ROWS
    query = sql.SQL(
        "SELECT n, count(*), max(longest) FROM (SELECT count(*) AS n, max(octet_length(v)) AS longest FROM ("
        " SELECT {column}::text AS v FROM {table}{sample} WHERE {column} IS NOT NULL{rows} LIMIT {most}"
        ') s GROUP BY ({folded}) COLLATE "C") g GROUP BY n'
    ).format(
        column=sql.Identifier(column),
        table=named(table),
        sample=sql.SQL("")
        if whole
        else sql.SQL(" TABLESAMPLE SYSTEM ({}) REPEATABLE (1)").format(100 * MOST_ROWS / guessed_rows),
        rows=sql.SQL("")
        if rows is None
        else sql.SQL(" AND {}::text = ANY({})").format(sql.Identifier(rows.column), list(rows.values)),
        most=MOST_ROWS,
        folded=sql.SQL(_FOLDED[normaliser]),
    )
    found = connection.execute(query).fetchall()
    frequencies = {often: values for often, values, _ in found}
    longest = max((longest for _, _, longest in found), default=0)
    measured = estimate(frequencies, longest=longest, whole=whole)
    if measured.rows < MOST_ROWS:
        return measured
    return estimate(frequencies, longest=longest, whole=False)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.01 or not share else f"{100 * share:.2g}%"
