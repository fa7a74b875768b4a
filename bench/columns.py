"""bench/columns: protecting a column of a table that has rows, in PostgreSQL, beside COPY and pgcrypto on the same rows.

Values have 64 bytes. The runner, the daemon and the server share the machine; the server brings every commit to the disk.
Each round takes a fresh copy of the rows for each variant, and what is written is looked at afterwards. pgcrypto encrypts
inside the server, under a key that the server sees, with one statement in one transaction; the runner works in batches
beside which others may write, and binds each value to its row.
"""

# ruff: noqa: S608  the statements are made of names that stand here

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Final

from kms_client import Client
from kms_client.formats.suites import Purpose

from bench import report
from bench.databases import POSTGRESQL, durable_server
from bench.rounds import Figures, Sample, Sampler, WrongResult, alternate, repeated
from bench.service import TENANT, Service, running
from kms.columns.census import Count, count
from kms.columns.database import Connection, connect
from kms.columns.expand import expand
from kms.columns.fill import fill
from kms.columns.indexes import build, indexes_of
from kms.columns.plan import Column, Index, Level, Mode, Plan, Table
from kms.columns.reencrypt import reencrypt
from kms.columns.state import Known

LENGTH: Final = 64  # bytes of a value
DEFAULT: Final = 1_000_000  # rows
QUICK: Final = 2_000
ROUNDS: Final = 3
SLOW: Final = 20  # pgp_sym_encrypt derives a key for each value: one row in so many is enough to know its rate
CHECKED: Final = 500  # rows that are decrypted and compared after each round
LOOKUP_SECONDS: Final = 1.0
SOURCE: Final = "public.source"
SEARCH: Final = "search"  # the key of the blind index
PASSPHRASE: Final = "made-up"  # noqa: S105  as are the values

COPY, AES, PGP = "COPY of the same bytes", "pgcrypto encrypt, AES-CBC", "pgcrypto pgp_sym_encrypt"
FILL, FILL_INDEX = "backfill, randomized", "backfill, with a blind index"
REENCRYPT = "re-encryption to a new version"
SCAN, COUNTED, HEADERS = "bare scan of the table", "census by the version column", "census from headers"
CLEAR, HASHED, SEARCHED = "b-tree on the plaintext", "b-tree on the hash", "the same, hash and hit by the daemon"


def values(count: int) -> Iterator[str]:
    """Return so many values of LENGTH bytes, all different."""
    dice = Random(1)
    for number in range(count):
        yield f"{number:012d}{dice.getrandbits(4 * (LENGTH - 12)):0{LENGTH - 12}x}"


def column(mode: Mode) -> Column:
    """Return how the column `value` is protected."""
    index = Index(key=SEARCH) if mode is Mode.BLIND_INDEX else None
    return Column(
        column="value", classification=Level.CONFIDENTIAL, mode=mode, key=mode.value.replace("_", "-"), index=index
    )


def make_source(connection: Connection, rows: int) -> bytes:
    """Fill the table that every variant begins with; returns its rows as COPY has them."""
    connection.execute(f"CREATE TABLE {SOURCE} (id bigint PRIMARY KEY, value text NOT NULL)".encode())
    with connection.cursor() as cursor, cursor.copy(f"COPY {SOURCE} FROM STDIN".encode()) as copy:
        for number, value in enumerate(values(rows)):
            copy.write_row((number, value))
    connection.execute(f"VACUUM ANALYZE {SOURCE}".encode())
    with connection.cursor() as cursor, cursor.copy(f"COPY {SOURCE} TO STDOUT (FORMAT binary)".encode()) as copy:
        return b"".join(copy)


def fresh(connection: Connection, table: str) -> None:
    """Make a table that is as the source, with nothing left to do for the server."""
    for statement in (
        f"DROP TABLE IF EXISTS {table} CASCADE",
        f"CREATE TABLE {table} (LIKE {SOURCE} INCLUDING ALL)",
        f"INSERT INTO {table} SELECT * FROM {SOURCE}",
        f"VACUUM ANALYZE {table}",
        "CHECKPOINT",
    ):
        connection.execute(statement.encode())


@dataclass
class Bench:
    """One daemon, one server, and a source of rows."""

    service: Service
    connection: Connection
    count: int
    source: bytes = field(repr=False)
    _tables: int = 0

    @property
    def client(self) -> Client:
        """The client that the runner uses."""
        return self.service.tls

    def table(self) -> str:
        """Return the name of a fresh table."""
        self._tables += 1
        name = f"public.rows_{self._tables}"
        fresh(self.connection, name)
        return name

    def timed(self, work: Callable[[], object], items: int) -> Sample:
        """Take one sample; the seconds of the client's and the daemon's processors are taken, too."""
        cpu, daemon, began = time.process_time(), self.service.cpu(), time.perf_counter()
        work()
        return Sample(
            time.perf_counter() - began, time.process_time() - cpu, self.service.cpu() - daemon, max(items, 1)
        )

    def copy(self) -> Sample:
        """COPY the rows into an empty table with a primary key."""
        name = "public.copied"
        self.connection.execute(f"DROP TABLE IF EXISTS {name}".encode())
        self.connection.execute(f"CREATE TABLE {name} (LIKE {SOURCE} INCLUDING ALL)".encode())

        def work() -> None:
            statement = f"COPY {name} FROM STDIN (FORMAT binary)".encode()
            with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
                for begin in range(0, len(self.source), 1 << 16):
                    copy.write(self.source[begin : begin + (1 << 16)])

        sample = self.timed(work, self.count)
        if self.number(f"SELECT count(*) FROM {name}") != self.count:
            raise WrongResult("COPY did not copy all rows")
        return sample

    def pgcrypto(self, encrypt: str, decrypt: str, part: int = 1) -> Sample:
        """Encrypt a column beside the plaintext in one statement; of one row in *part*."""
        name = self.table()
        self.connection.execute(f"ALTER TABLE {name} ADD COLUMN value_ct bytea".encode())
        statement = f"UPDATE {name} SET value_ct = {encrypt} WHERE id % {part} = 0"
        sample = self.timed(lambda: self.connection.execute(statement.encode()), len(range(0, self.count, part)))
        wrong = f"SELECT count(*) FROM {name} WHERE {decrypt} IS DISTINCT FROM value AND id % {part * SLOW} = 0"
        if self.number(wrong):
            raise WrongResult(f"{encrypt}: values do not decrypt")
        self.connection.execute(f"DROP TABLE {name}".encode())
        return sample

    def backfill(self, mode: Mode) -> Sample:
        """Fill the columns beside the plaintext, and let them count from then on."""
        columns = self._expanded(mode)
        sample = self.timed(lambda: self._fill(columns), self.count)
        self.check(columns[0], 1)
        self.connection.execute(f"DROP TABLE {columns[0].table}".encode())
        return sample

    def reencryption(self, prepared: Callable[[], Known]) -> Sample:
        """Bring all rows to a version that the key has just got."""
        known = prepared()
        version = self.client.rotate_key(known.key_name).primary_version
        sample = self.timed(
            lambda: reencrypt(self.connection, self.client, known, tell=_quiet, wait=_at_once), self.count
        )
        self.check(known, version)
        return sample

    def filled(self, mode: Mode) -> Known:
        """Return a column that is filled."""
        columns = self._expanded(mode)
        self._fill(columns)
        self.connection.execute(f"VACUUM ANALYZE {columns[0].table}".encode())
        return columns[0]

    def check(self, known: Known, version: int) -> None:
        """Decrypt some rows and compare them, and all versions.

        Raises:
            WrongResult: a row is not what it should be.
        """
        name, key = known.column, f"{TENANT}/keys/{known.column.key}"
        part = max(self.count // CHECKED, 1)
        rows = self.connection.execute(
            f"SELECT id::text, value, {name.ciphertext} FROM {known.table} WHERE id % {part} = 0".encode()
        ).fetchall()
        made = self.client.decrypt_batch(
            key,
            [ciphertext or b"" for _, _, ciphertext in rows],
            context={"table": known.table, "column": name.column},
            varying=("row", [row for row, _, _ in rows]),
        )
        if made.values != [value.encode() for _, value, _ in rows]:
            raise WrongResult("values do not decrypt to what they were")
        of_version = self.number(f"SELECT count(*) FROM {known.table} WHERE {name.version} = {version}")
        if of_version != self.count:
            raise WrongResult(f"{of_version} of {self.count} rows are of version {version}")

    def _expanded(self, mode: Mode) -> list[Known]:
        table = Table(table=self.table(), columns=(column(mode),))
        plan = Plan(version=1, tenant=TENANT.rpartition("/")[2], tables=(table,))
        columns = expand(self.connection, plan, table)
        for index in indexes_of(columns[0]):  # before the rows are filled, as `kms columns apply` does
            build(self.connection, table.table, index)
        return columns

    def _fill(self, columns: list[Known]) -> None:
        fill(self.connection, self.client, columns, tell=_quiet, wait=_at_once)

    def number(self, query: str) -> int:
        """Return the one number that a query answers."""
        [(number,)] = self.connection.execute(query.encode()).fetchall()
        return int(number)


def _quiet(_: object) -> None:
    pass


_at_once = _quiet  # nobody else is there to be waited for


@contextmanager
def prepared(rows: int) -> Iterator[Bench]:
    """Start a daemon and a server, and fill the source."""
    with durable_server() as server, running() as service, connect(server.url("postgres")) as connection:
        connection.execute("CREATE EXTENSION pgcrypto SCHEMA public")
        connection.execute("SELECT set_config('statement_timeout', '0', false)")
        for mode in (Mode.RANDOMIZED, Mode.BLIND_INDEX):
            service.tls.create_key(TENANT, column(mode).key, Purpose.ENCRYPT)
        service.tls.create_key(TENANT, SEARCH, Purpose.INDEX)
        yield Bench(service, connection, rows, make_source(connection, rows))


def writing(bench: Bench, rounds: int) -> dict[str, Figures]:
    """Measure what writes every row."""
    again = bench.filled(Mode.RANDOMIZED)  # brought from version to version
    key = f"decode('{Random(2).randbytes(32).hex()}', 'hex')"
    samplers: dict[str, Sampler] = {
        COPY: bench.copy,
        AES: lambda: bench.pgcrypto(
            f"public.encrypt(convert_to(value, 'UTF8'), {key}, 'aes')",
            f"convert_from(public.decrypt(value_ct, {key}, 'aes'), 'UTF8')",
        ),
        PGP: lambda: bench.pgcrypto(
            f"public.pgp_sym_encrypt(value, '{PASSPHRASE}')", f"public.pgp_sym_decrypt(value_ct, '{PASSPHRASE}')", SLOW
        ),
        FILL: lambda: bench.backfill(Mode.RANDOMIZED),
        FILL_INDEX: lambda: bench.backfill(Mode.BLIND_INDEX),
        REENCRYPT: lambda: bench.reencryption(lambda: again),
    }
    return alternate(samplers, rounds)


def counting(bench: Bench, rounds: int) -> dict[str, Figures]:
    """Measure what counts all values by their key version."""
    known = bench.filled(Mode.RANDOMIZED)
    version = bench.client.get_key(known.key_name).primary_version

    def counted(*, from_headers: bool) -> list[Count]:
        return count(bench.connection, bench.client, [known], now=lambda: datetime.now(UTC), from_headers=from_headers)

    def check(found: list[Count]) -> None:
        if [one.versions for one in found] != [{version: bench.count}]:
            raise WrongResult("the census is not what was stored")

    scan = f"SELECT count(*) FILTER (WHERE {known.column.ciphertext} IS NOT NULL) FROM {known.table}"
    samplers = {
        SCAN: repeated(lambda: bench.number(scan), bench.count, 0),
        COUNTED: repeated(lambda: counted(from_headers=False), bench.count, 0, check=check),
        HEADERS: repeated(lambda: counted(from_headers=True), bench.count, 0, check=check),
    }
    return alternate(samplers, rounds)


def looking_up(bench: Bench, rounds: int, seconds: float) -> dict[str, Figures]:
    """Measure what finds one row by its value."""
    known = bench.filled(Mode.BLIND_INDEX)
    dice, every = Random(3), list(values(bench.count))
    bench.connection.execute(f"CREATE INDEX ON {known.table} (value)".encode())
    bench.connection.execute(f"VACUUM ANALYZE {known.table}".encode())
    wanted: list[tuple[int, str, list[bytes]]] = []
    chosen = [dice.randrange(bench.count) for _ in range(CHECKED)]
    hashes = _hashes(bench, known, [every[row] for row in chosen])
    wanted = [(row, every[row], found) for row, found in zip(chosen, hashes, strict=True)]
    turn = iter(lambda: dice.choice(wanted), None)

    def find(name: str, value: object) -> list[tuple[int, bytes]]:
        query = f"SELECT id, value_ct FROM {known.table} WHERE {name} = ANY (%s)"
        return bench.connection.execute(query.encode(), (value,), prepare=True).fetchall()  # type: ignore[return-value]

    for name, value in (("value", [every[0]]), ("value_bi", hashes[0])):
        explain = f"EXPLAIN SELECT id, value_ct FROM {known.table} WHERE {name} = ANY (%s)"
        plan = "\n".join(line for (line,) in bench.connection.execute(explain.encode(), (value,)))
        if "Seq Scan" in plan:
            raise WrongResult(f"{name} is not found by its index: {plan}")

    def clear() -> bool:
        row, value, _ = next(turn)
        return [found for found, _ in find("value", [value])] == [row]

    def by_hash() -> bool:
        row, _, found_by = next(turn)
        return [found for found, _ in find("value_bi", found_by)] == [row]

    def searched() -> bool:
        row, value, _ = next(turn)
        hits = find("value_bi", _hashes(bench, known, [value])[0])
        context = {"table": known.table, "column": "value", "row": str(hits[0][0])}
        plaintext = bench.client.decrypt(known.key_name, hits[0][1], context=context).plaintext
        return plaintext == value.encode() and hits[0][0] == row

    def found(right: bool) -> None:
        if not right:
            raise WrongResult("a lookup finds another row")

    works = {CLEAR: clear, HASHED: by_hash, SEARCHED: searched}
    return alternate(
        {name: repeated(work, 1, seconds, check=found, server=bench.service.cpu) for name, work in works.items()},
        rounds,
    )


def _hashes(bench: Bench, known: Known, wanted: Sequence[str]) -> list[list[bytes]]:
    made = bench.client.compute_index_batch(
        f"{TENANT}/keys/{SEARCH}", [value.encode() for value in wanted], scope=f"{known.table}.value", all_versions=True
    )
    return [one or [] for one in made.values]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/columns", description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=DEFAULT, help=f"how many (default {DEFAULT:,})")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="few rows: shows that it works, not how fast it is")
    options = parser.parse_args(arguments)
    count_of_rows, rounds = (QUICK, 1) if options.quick else (options.rows, options.rounds)
    if not POSTGRESQL.is_dir():
        print("PostgreSQL's server is not installed (Debian: apt-get install postgresql)", file=sys.stderr)
        return 2
    try:
        report.show("Environment", report.environment())
        with prepared(count_of_rows) as bench:
            report.show(f"Writing {count_of_rows:,} rows", report.lines(writing(bench, rounds), "row", COPY))
            report.show(f"Counting {count_of_rows:,} values", report.lines(counting(bench, rounds), "value", SCAN))
            figures = looking_up(bench, rounds, LOOKUP_SECONDS / 10 if options.quick else LOOKUP_SECONDS)
            report.show(f"Finding one of {count_of_rows:,} rows", report.lines(figures, "lookup", CLEAR))
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
