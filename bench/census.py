"""bench/census: counting ciphertexts by key version in a database, beside a bare scan of the same table.

The bare scan counts the values and adds up their lengths, which is the least that reading a table costs. What is beside
it: the SDK's query, the same query on an indexed column of headers, an indexed column of versions, and the SDK's Tally
over a streamed cursor. Every answer is compared with what was stored.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, LiteralString
from uuid import UUID, uuid4

import psycopg
from kms_client import Header, Suite, Tally, count_query, read_counts
from kms_client.formats.names import KeyUid

from bench import report
from bench.rounds import Figures, WrongResult, alternate, repeated
from tests.postgresql_server import own_server

DEFAULT: Final = 100_000  # values
LENGTH: Final = 200  # bytes of each
VERSIONS: Final = 5
ROUNDS: Final = 7
STREAMED: Final = 10_000  # rows that the cursor fetches at once
POSTGRESQL: Final = Path("/usr/lib/postgresql")

SCAN: Final = "bare scan"
QUERY: Final = "count_query"
HEADERS: Final = "count_query, indexed column of headers"
NUMBERS: Final = "indexed column of versions"
TALLY: Final = "Tally, streamed cursor"

# The second table has the same values, and beside them a column of their headers and one of their versions.
SCHEMA: Final[Mapping[str, tuple[LiteralString, ...]]] = {
    "postgresql": (
        "CREATE TABLE plain (id bigint PRIMARY KEY, iban bytea)",
        (
            "CREATE TABLE indexed (id bigint PRIMARY KEY, iban bytea, version bigint,"
            " header bytea GENERATED ALWAYS AS (substr(iban, 1, 22)) STORED)"
        ),
    ),
    "sqlite": (
        "CREATE TABLE plain (id INTEGER PRIMARY KEY, iban BLOB)",
        # A generated column would do, but SQLite reads the table for it, although an index has all.
        "CREATE TABLE indexed (id INTEGER PRIMARY KEY, iban BLOB, version INTEGER, header BLOB)",
    ),
}
COPIED: Final[Mapping[str, LiteralString]] = {
    "postgresql": (
        "INSERT INTO indexed (id, iban, version)"
        " SELECT id, iban, ('x' || encode(substr(iban, 19, 4), 'hex'))::bit(32)::bigint FROM plain"
    ),
    "sqlite": (
        "INSERT INTO indexed (id, iban, version, header)"
        " SELECT id, iban, version_of(iban), substr(iban, 1, 22) FROM plain"
    ),
}
INDEXES: Final[tuple[LiteralString, ...]] = (
    "CREATE INDEX by_version ON indexed (version)",
    "CREATE INDEX by_header ON indexed (header)",
)
BARE: Final = "SELECT count(*), sum(length(iban)) FROM plain"
BY_VERSION: Final = "SELECT version, count(*) FROM indexed GROUP BY version"
STREAM: Final = "SELECT iban FROM plain WHERE iban IS NOT NULL"

Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Column:
    """A filled column, how it is asked, and what is in it."""

    dialect: Literal["postgresql", "sqlite"]
    key: UUID
    counts: Mapping[int, int]
    rows: Callable[[str], Rows]  # of a query
    streamed: Callable[[], Iterator[bytes]]

    @property
    def total(self) -> int:
        """How many values there are."""
        return sum(self.counts.values())

    def check(self, found: object) -> None:
        """Compare an answer with what was stored.

        Raises:
            WrongResult: it is something else.
        """
        if found != self.counts:
            raise WrongResult(f"{self.dialect}: {found} instead of {self.counts}")

    def check_scan(self, found: Rows) -> None:
        """As check(), for the bare scan."""
        if [tuple(map(int, row)) for row in found] != [(self.total, self.total * LENGTH)]:
            raise WrongResult(f"{self.dialect}: the scan answers {found}")


def main(arguments: list[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/census", description=__doc__)
    parser.add_argument("values", nargs="?", type=int, default=DEFAULT, help="how many; 1000000 takes two minutes")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--database", choices=("both", "sqlite", "postgresql"), default="both")
    options = parser.parse_args(arguments)
    if options.database != "sqlite" and not POSTGRESQL.is_dir():
        print("PostgreSQL's server is not installed (Debian: apt-get install postgresql)", file=sys.stderr)
        return 2
    report.show("Environment", report.environment())
    try:
        if options.database != "postgresql":
            with _sqlite(options.values) as column:
                _show(f"SQLite {sqlite3.sqlite_version}", column, options.rounds)
        if options.database != "sqlite":
            with _postgresql(options.values) as (version, column):
                _show(f"PostgreSQL {version}", column, options.rounds)
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


def _show(name: str, column: Column, rounds: int) -> None:
    title = f"{name}: {column.total:,} values of {LENGTH} bytes, {len(column.counts)} versions"
    report.show(title, _lines(measure(column, rounds)))


def measure(column: Column, rounds: int) -> dict[str, Figures]:
    """Count in all ways, one after another, *rounds* times; every answer is checked.

    Raises:
        WrongResult: an answer is not what was stored.
    """

    def counted(query: str) -> dict[int, int]:
        return read_counts(column.rows(query), column.key)

    def tallied() -> dict[int, int]:
        tally = Tally(column.key)
        for value in column.streamed():
            tally.add(value)
        return tally.counts

    works: dict[str, Callable[[], Any]] = {
        QUERY: partial(counted, count_query(column.dialect, "plain", "iban")),
        HEADERS: partial(counted, count_query(column.dialect, "indexed", "header")),
        NUMBERS: lambda: dict(column.rows(BY_VERSION)),
        TALLY: tallied,
    }
    samplers = {SCAN: repeated(lambda: column.rows(BARE), column.total, 0, check=column.check_scan)}
    samplers |= {name: repeated(work, column.total, 0, check=column.check) for name, work in works.items()}
    for sampler in samplers.values():
        sampler()  # what is read for the first time comes from the disk
    return alternate(samplers, rounds)


def _lines(figures: Mapping[str, Figures]) -> list[str]:
    base = figures[SCAN]
    rows = (
        (
            name,
            f"{figure.rate:,.0f}",
            f"{figure.microseconds * figure.samples[0].items / 1e3:,.1f}",
            f"{figure.times(base):.2f}",
            f"{figure.times_quietest(base):.2f}",
        )
        for name, figure in figures.items()
    )
    header = ("", "values/s", "ms", "x bare scan", "quietest")
    return [*report.table(header, rows), "(median; quietest: by the fastest sample of each)"]


def values(key: UUID, count: int) -> Iterator[tuple[int, bytes]]:
    """Return version and ciphertext of each value; what follows the header is no ciphertext, nobody decrypts it."""
    random = Random(1)
    headers = {version: Header(Suite.AES_256_GCM, KeyUid(key), version).encode() for version in range(1, VERSIONS + 1)}
    for _ in range(count):
        # Most are of the primary version, as in the middle of a re-encryption.
        version = min(random.randrange(1, 2 * VERSIONS), VERSIONS)
        header = headers[version]
        yield version, header + random.randbytes(LENGTH - len(header))


@contextmanager
def _sqlite(count: int) -> Iterator[Column]:
    key, counts = uuid4(), Counter[int]()
    directory = Path(tempfile.mkdtemp(prefix="kms-bench-"))
    try:
        with closing(sqlite3.connect(directory / "census.db")) as connection:

            def rows() -> Iterator[tuple[bytes]]:
                for version, value in values(key, count):
                    counts[version] += 1
                    yield (value,)

            def streamed() -> Iterator[bytes]:
                return (row[0] for row in connection.execute(STREAM))

            for statement in SCHEMA["sqlite"]:
                connection.execute(statement)
            connection.executemany("INSERT INTO plain (iban) VALUES (?)", rows())
            connection.create_function("version_of", 1, lambda value: int.from_bytes(value[18:22], "big"))
            for statement in (COPIED["sqlite"], *INDEXES):
                connection.execute(statement)
            connection.commit()
            connection.execute("ANALYZE")
            column = Column("sqlite", key, dict(counts), lambda query: connection.execute(query).fetchall(), streamed)
            _check_plan(column, "EXPLAIN QUERY PLAN ", "COVERING INDEX")
            yield column
    finally:
        shutil.rmtree(directory)


@contextmanager
def _postgresql(count: int) -> Iterator[tuple[str, Column]]:
    key, counts = uuid4(), Counter[int]()
    with own_server() as server, psycopg.connect(server.url("postgres"), autocommit=True) as connection:

        def rows(query: str) -> Rows:
            return connection.execute(query.encode()).fetchall()

        def streamed() -> Iterator[bytes]:
            with connection.transaction(), connection.cursor("census") as cursor:
                cursor.itersize = STREAMED
                cursor.execute(STREAM, binary=True)
                for row in cursor:
                    yield row[0]

        for statement in SCHEMA["postgresql"]:
            connection.execute(statement)
        with connection.cursor() as cursor, cursor.copy("COPY plain FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "bytea"])
            for number, (version, value) in enumerate(values(key, count)):
                counts[version] += 1
                copy.write_row((number, value))
        for statement in (COPIED["postgresql"], *INDEXES, "VACUUM ANALYZE plain", "VACUUM ANALYZE indexed"):
            connection.execute(statement)
        column = Column("postgresql", key, dict(counts), rows, streamed)
        _check_plan(column, "EXPLAIN ", "Index Only Scan")
        yield connection.info.parameter_status("server_version") or "", column


def _check_plan(column: Column, explain: str, expected: str) -> None:
    """Make sure that the indexed columns are read from their indexes alone.

    Raises:
        WrongResult: the database would read the table.
    """
    for query in (BY_VERSION, count_query(column.dialect, "indexed", "header")):
        plan = "\n".join(str(row[-1]) for row in column.rows(explain + query))
        if expected not in plan:
            raise WrongResult(f"{column.dialect} does not read the index alone: {plan}")


if __name__ == "__main__":
    sys.exit(main())
