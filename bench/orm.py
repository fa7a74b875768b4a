"""bench/orm: what the column types of kms_client.sqlalchemy cost a row, beside the same model with plain types.

Two tables of the same rows in one PostgreSQL, one of them with two protected columns (one searched by a blind index) of
which no plaintext is left. Objects are read, written and found by a Session; each flush and each result is one call of the
daemon for each column, however many rows it has. What is read is compared with what was written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import psycopg
from kms_client.formats.suites import Purpose
from kms_client.sqlalchemy import EncryptedString, SearchableString, protect
from sqlalchemy import BigInteger, Engine, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from bench import report
from bench.databases import POSTGRESQL, durable_server
from bench.rounds import Figures, Sampler, WrongResult, alternate, repeated
from bench.service import TENANT, Service, running
from kms.columns.apply import Runner
from kms.columns.database import connect
from kms.columns.plan import Column, Index, Level, Mode, Plan, Table

ROWS: Final = 10_000
WRITTEN: Final = 1_000
ROUNDS: Final = 7
SECONDS: Final = 1.0  # of a sample of lookups
QUICK: Final = 200

PLAIN, PROTECTED = "plain types", "protected types"
NAMES: Final = {PLAIN: "plain_people", PROTECTED: "people"}


@dataclass(frozen=True)
class Side:
    """One table, and the model of it."""

    model: Any
    engine: Engine
    ids: Iterator[int]

    def read(self) -> list[tuple[int, str, str]]:
        """Return all rows, each an object of the model."""
        with Session(self.engine) as session:
            return [(one.id, one.name, one.email) for one in session.scalars(select(self.model))]

    def write(self, rows: int) -> list[tuple[int, str, str]]:
        """Write so many new objects in one transaction; returns some of them, as they are read then."""
        made = [_person(next(self.ids)) for _ in range(rows)]
        with Session(self.engine) as session:
            session.add_all([self.model(id=number, name=name, email=email) for number, name, email in made])
            session.commit()
        with Session(self.engine) as session:
            last = session.get_one(self.model, made[-1][0])
            return [made[-1], (last.id, last.name, last.email)]

    def find(self, number: int) -> int:
        """Return which object has the address of this number."""
        with Session(self.engine) as session:
            found: int = session.scalars(select(self.model.id).where(self.model.email == _person(number)[2])).one()
            return found


def _person(number: int) -> tuple[int, str, str]:
    return number, f"Person of the number {number:012d}", f"person{number:012d}@example.org"


def _model(table: str, *, protected: bool) -> Any:
    class Base(DeclarativeBase):
        pass

    class Person(Base):
        __tablename__ = table
        id = mapped_column(BigInteger, primary_key=True, autoincrement=False)
        name = mapped_column(EncryptedString() if protected else String())
        email = mapped_column(SearchableString() if protected else String())

    return Person


def _plan() -> Plan:
    common = {"classification": Level.CONFIDENTIAL, "key": "personal"}
    columns = (
        Column(column="name", mode=Mode.RANDOMIZED, **common),
        Column(column="email", mode=Mode.BLIND_INDEX, index=Index(key="search"), **common),
    )
    table = Table(table=f"public.{NAMES[PROTECTED]}", columns=columns)
    return Plan(version=1, tenant=TENANT.rpartition("/")[2], tables=(table,))


@contextmanager
def prepared(rows: int) -> Iterator[tuple[Service, dict[str, Side]]]:
    """Start a daemon and a server, and fill and protect the tables."""
    with durable_server() as server, running() as service:
        url = server.url("postgres")
        service.tls.create_key(TENANT, "personal", Purpose.ENCRYPT)
        service.tls.create_key(TENANT, "search", Purpose.INDEX)
        with psycopg.connect(url, autocommit=True) as connection:
            for table in NAMES.values():
                made = f"CREATE TABLE {table} (id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL)"
                connection.execute(made.encode())
                with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
                    for number in range(rows):
                        copy.write_row(_person(number))
            connection.execute(f"CREATE INDEX ON {NAMES[PLAIN]} (email)".encode())
            with connect(url) as own:
                runner = Runner(own, service.tls, _plan(), lambda *_: None, lambda _: None)
                for step in (runner.apply, runner.blank, runner.drop):
                    step()
            connection.execute("VACUUM ANALYZE")
        sides = {}
        for side, name in NAMES.items():
            engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), hide_parameters=True)
            model = _model(name, protected=side == PROTECTED)
            if side == PROTECTED:
                protect(model.__base__, engine, service.tls)
            sides[side] = Side(model, engine, count(rows))
        yield service, sides
        for one in sides.values():
            one.engine.dispose()


def _each(sides: dict[str, Side], sampler: Callable[[Side], Sampler], rounds: int) -> dict[str, Figures]:
    return alternate({name: sampler(side) for name, side in sides.items()}, rounds)


def measured(
    service: Service, sides: dict[str, Side], rows: int, written: int, rounds: int, seconds: float
) -> Iterator[tuple[str, str, dict[str, Figures]]]:
    """Measure reading, finding and writing; yields a title, what an item is, and the figures."""

    def require(right: bool, what: str) -> None:
        if not right:
            raise WrongResult(what)

    def all_read(found: list[tuple[int, str, str]]) -> None:
        require(sorted(found) == [_person(number) for number in range(rows)], "rows are not read as they were written")

    def reading(side: Side) -> Sampler:
        return repeated(side.read, rows, 0, check=all_read, server=service.cpu)

    def finding(side: Side) -> Sampler:
        last = rows - 1
        return repeated(
            lambda: side.find(last),
            1,
            seconds,
            check=lambda found: require(found == last, "a lookup finds another row"),
            server=service.cpu,
        )

    def writing(side: Side) -> Sampler:
        return repeated(
            lambda: side.write(written),
            written,
            0,
            check=lambda pair: require(pair[0] == pair[1], "a row is not read as it was written"),
            server=service.cpu,
        )

    yield f"Reading {rows:,} objects of two protected columns", "row", _each(sides, reading, rounds)
    yield "Finding an object by its address", "lookup", _each(sides, finding, rounds)
    yield f"Writing {written:,} objects in a flush", "row", _each(sides, writing, rounds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/orm", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="few rows: shows that it works, not how fast it is")
    options = parser.parse_args(arguments)
    rows, written, rounds, seconds = ROWS, WRITTEN, options.rounds, SECONDS
    if options.quick:
        rows, written, rounds, seconds = QUICK, QUICK, 1, 0.05
    if not POSTGRESQL.is_dir():
        print("PostgreSQL's server is not installed (Debian: apt-get install postgresql)", file=sys.stderr)
        return 2
    try:
        report.show("Environment", report.environment())
        with prepared(rows) as (service, sides):
            for title, item, figures in measured(service, sides, rows, written, rounds, seconds):
                report.show(title, report.lines(figures, item, PLAIN))
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
