"""The five systems of examples/: loaded with markers planted in every protected column, and read back without the runner.

Nothing here asks kms.columns for more than the plan: names, contexts and search values are put together anew.
"""

from __future__ import annotations

import importlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from kms_client import Client, Header
from psycopg import sql

from examples.made_up import ODD, Array, Json, Row, statements
from kms.columns.plan import Column, Mode, Plan, Table, load
from tests.postgresql_server import PostgresqlServer

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
SEED: Final = 7
PLANTED: Final = 2  # rows of each protected column
FIRST_TWO: Final = ("Ana.Lima@Example.org", "ana.lima@example.org")  # both legal
_CHUNK: Final = 1 << 24  # bytes of a table's file that are searched at once
_SETTINGS: Final = "SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'"

Connection = psycopg.Connection[tuple[Any, ...]]
Place = tuple[str, str]  # table and column
Values = dict[Place, dict[tuple[str, ...], bytes]]  # by the row's identity


@dataclass(frozen=True)
class System:
    """One of the examples, and the column by which its rows are looked up."""

    name: str
    searched: Place
    appends_only: bool = False

    @property
    def plan_file(self) -> Path:
        return EXAMPLES / self.name / "plan.yaml"

    @property
    def plan(self) -> Plan:
        return load(self.plan_file)

    @property
    def table(self) -> Table:
        return self.plan.table(self.searched[0])

    @property
    def column(self) -> Column:
        return next(column for column in self.table.columns if column.column == self.searched[1])


SYSTEMS: Final = (
    System("neo", ("public.users", "email")),
    System("idp", ("public.users", "email")),
    System("aybiza", ("agent_manager.users", "email")),
    System("mem0_governance", ("public.audit_logs", "user_id"), appends_only=True),
    System("neo_service_layer", ("security_confidential.users", "email")),
)


def connect(url: str) -> Connection:
    connection = psycopg.connect(url, autocommit=True)
    connection.execute(_SETTINGS)
    return connection


def protected(plan: Plan) -> Iterator[tuple[Table, Column]]:
    for table in plan.tables:
        for column in table.columns:
            yield table, column


def identity_of(connection: Connection, table: Table) -> tuple[str, ...]:
    """The columns that ciphertexts are bound to: those of the plan, or the primary key's in its order."""
    if table.identity:
        return table.identity
    found = connection.execute(
        "SELECT a.attname FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k(n, place)"
        " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.n"
        " WHERE i.indrelid = %s::regclass AND i.indisprimary ORDER BY k.place",
        (table.table,),
    ).fetchall()
    return tuple(name for (name,) in found)


# ---- Loading ----


@dataclass
class Markers:
    """What is planted: a prefix that stands nowhere else, and a number for each row that got it."""

    text: bytes = field(default_factory=lambda: b"pl" + secrets.token_hex(5).encode())
    raw: bytes = field(default_factory=lambda: secrets.token_bytes(8))  # within an address, which is not stored as text
    places: dict[int, Place] = field(default_factory=dict)

    def plant(self, place: Place, sql_type: str) -> Any:
        number = len(self.places) + 1
        self.places[number] = place
        word = f"{self.text.decode()}{number:04d}"
        if sql_type == "inet":
            return "2001:db8:" + ":".join((self.raw + number.to_bytes(4)).hex()[at : at + 4] for at in range(0, 24, 4))
        if sql_type == "jsonb":
            return Json({"planted": [word]})
        if sql_type == "text[]":
            return Array([word, None])
        if sql_type == "bytea":
            return word.encode()
        if place[1].endswith("email"):
            return f"{word}@example.org"
        longest = re.search(r"\((\d+)\)", sql_type)
        return word.ljust(min(int(longest[1]) if longest else 64, 64), "x")

    def found(self, server: PostgresqlServer, connection: Connection) -> set[Place]:
        """Return the places whose markers stand in the files of the database; whoever writes them is waited for."""
        connection.execute("CHECKPOINT")
        [(oid,)] = connection.execute("SELECT oid::text FROM pg_database WHERE datname = current_database()").fetchall()
        numbers: set[int] = set()
        for directory in (server.directory / "data" / "base" / oid, server.directory / "data" / "base" / "pgsql_tmp"):
            for file in directory.rglob("*") if directory.is_dir() else ():
                with suppress(FileNotFoundError):  # one of the server's own that it has put aside meanwhile
                    numbers |= self._numbers(file)
        return {self.places[number] for number in numbers}

    def _numbers(self, file: Path) -> set[int]:
        found: set[int] = set()
        longest = max(len(self.text), len(self.raw)) + 4
        tail = b""
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                data = tail + chunk
                found |= {int(hit) for hit in re.findall(re.escape(self.text) + rb"(\d{4})", data)}
                raw = re.findall(re.escape(self.raw) + rb"(.{4})", data, re.DOTALL)
                found |= {int.from_bytes(hit) for hit in raw}
                tail = data[-longest:]
        return found


def load_system(connection: Connection, system: System, count: int, markers: Markers) -> None:
    """Make the schema and fill it, with PLANTED markers in every protected column."""
    directory = EXAMPLES / system.name
    connection.execute((directory / "schema.sql").read_bytes())
    connection.execute("RESET ALL")
    connection.execute(_SETTINGS)
    rows = importlib.import_module(f"examples.{system.name}.seed").rows(count, SEED)
    batch: list[str] = []
    for statement in statements(_planted(connection, system.plan, rows, markers)):
        batch.append(statement)
        if len(batch) == 200:
            connection.execute("".join(batch).encode())
            batch.clear()
    connection.execute("".join(batch).encode())
    application = directory / "application.sql"
    if application.exists():
        connection.execute(application.read_bytes())


def _planted(connection: Connection, plan: Plan, rows: Iterator[Row], markers: Markers) -> Iterator[Row]:
    left = {(table.table, column.column): PLANTED for table, column in protected(plan)}
    types = {
        place: connection.execute(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
            place,
        ).fetchall()[0][0]
        for place in left
    }
    columns = {(table.table, column.column): column for table, column in protected(plan)}
    for table, row in rows:
        for name, value in row.items():
            place = (table, name)
            if left.get(place) and _is_ordinary(value) and _is_protected(columns[place], row):
                row[name] = markers.plant(place, types[place])
                left[place] -= 1
        yield table, row


def _is_ordinary(value: Any) -> bool:
    """Whether a marker may take the value's place; the awkward ones stay."""
    match value:
        case str():
            return bool(value) and value not in (*ODD, *FIRST_TWO) and not value.startswith(("longest", "ḽ"))
        case Json():
            return isinstance(value.value, dict | list) and 0 < len(value.value) <= 6 and "in" not in value.value
        case Array():
            return 0 < len(value.items) <= 10 and None not in value.items
        case bytes():
            return 16 < len(value) <= 5_000
        case _:
            return False


def _is_protected(column: Column, row: Mapping[str, Any]) -> bool:
    if column.rows is None:
        return True
    value = row[column.rows.column]
    return (str(value).lower() if isinstance(value, bool) else str(value)) in column.rows.values


# ---- Reading ----


def plaintexts(connection: Connection, plan: Plan) -> Values:
    """Return every protected value, as PostgreSQL prints it; bytea as it is."""
    values: Values = {}
    for table, column in protected(plan):
        raw = _type_is_bytea(connection, table, column)
        text = sql.SQL("{}" if raw else "convert_to({}::text, 'UTF8')").format(sql.Identifier(column.column))
        values[table.table, column.column] = dict(_rows(connection, table, column, text, sql.Identifier(column.column)))
    return values


def _type_is_bytea(connection: Connection, table: Table, column: Column) -> bool:
    [(is_bytea,)] = connection.execute(
        "SELECT atttypid = 'bytea'::regtype FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
        (table.table, column.column),
    ).fetchall()
    return bool(is_bytea)


def _rows(
    connection: Connection,
    table: Table,
    column: Column,
    value: sql.Composable,
    there: sql.Composable,
) -> Iterator[tuple[tuple[str, ...], Any]]:
    identity = [sql.SQL("{}::text").format(sql.Identifier(name)) for name in identity_of(connection, table)]
    query = sql.SQL("SELECT ARRAY[{}], {} FROM {} WHERE {} IS NOT NULL").format(
        sql.SQL(", ").join(identity), value, sql.Identifier(*table.parts), there
    )
    if column.rows is not None:
        query += sql.SQL(" AND {}::text = ANY ({})").format(
            sql.Identifier(column.rows.column), sql.Literal(list(column.rows.values))
        )
    for row, *rest in connection.execute(query):
        yield tuple(row), rest[0]


class Reader:
    """An application that knows the plan, and reads through the SDK."""

    def __init__(self, kms: Client, connection: Connection, plan: Plan) -> None:
        self._kms, self._connection, self._plan = kms, connection, plan

    def differences(self, expected: Values) -> list[str]:
        """Return where what is stored is not what it should be; ciphertexts, hashes, versions and blind indexes."""
        wrong = []
        for table, column in protected(self._plan):
            looks = self._hashes if column.mode is Mode.HASH_ONLY else self._decrypted
            wrong += [
                f"{table.table}.{column.column}: {what}"
                for what in looks(table, column, expected[table.table, column.column])
            ]
        return wrong

    def _decrypted(self, table: Table, column: Column, expected: Mapping[tuple[str, ...], bytes]) -> Iterator[str]:
        stored = dict(self._stored(table, column, column.ciphertext))
        if stored.keys() != expected.keys():
            yield f"{len(stored)} ciphertexts of {len(expected)} values"
            return
        rows, ciphertexts = list(stored), list(stored.values())
        varying = None if column.mode is Mode.DETERMINISTIC else ("row", [row_of(row) for row in rows])
        made = self._kms.decrypt_batch(
            self._plan.key_name(column.key),
            ciphertexts,
            context={"table": table.table, "column": column.column},
            varying=varying,
            deadline=60,
        )
        wrong = sum(value != expected[row] for row, value in zip(rows, made.values, strict=True))
        if wrong:
            yield f"{wrong} values of {len(rows)} are not what they were"
        versions = dict(self._stored(table, column, column.version))
        if versions != {row: Header.read(value).version for row, value in stored.items()}:
            yield "versions are not those of the ciphertexts"
        if column.blind_index is None:
            return
        if dict(self._stored(table, column, column.blind_index)) != self._indexes(table, column, expected):
            yield "blind indexes are not those of the values"

    def _hashes(self, table: Table, column: Column, expected: Mapping[tuple[str, ...], bytes]) -> Iterator[str]:
        if dict(self._stored(table, column, column.ciphertext)) != self._indexes(table, column, expected):
            yield "hashes are not those of the values"

    def _indexes(
        self, table: Table, column: Column, values: Mapping[tuple[str, ...], bytes]
    ) -> dict[tuple[str, ...], bytes]:
        assert column.index is not None
        made = self._kms.compute_index_batch(
            self._plan.key_name(column.index.key),
            list(values.values()),
            scope=column.index.scope or f"{table.table}.{column.column}",
            normaliser=column.index.normaliser.value,
            length=column.index.length,
            deadline=60,
        )
        return dict(zip(values, made.complete(), strict=True))

    def _stored(self, table: Table, column: Column, name: str) -> Iterator[tuple[tuple[str, ...], Any]]:
        # Rows that are not protected must have nothing: they are counted, too.
        everywhere = column.model_copy(update={"rows": None})
        yield from _rows(self._connection, table, everywhere, sql.Identifier(name), sql.Identifier(name))


def row_of(identity: tuple[str, ...]) -> str:
    """The pair `row` of the context, as docs/columns.md has it."""
    return identity[0] if len(identity) == 1 else json.dumps(list(identity), ensure_ascii=False, separators=(",", ":"))


# ---- Searching and writing ----


def search_values(kms: Client, system: System, *values: bytes) -> list[bytes]:
    """What to look for, to find these values."""
    index = system.column.index
    assert index is not None
    made = kms.compute_index_batch(
        system.plan.key_name(index.key),
        list(values),
        scope=index.scope or ".".join(system.searched),
        normaliser=index.normaliser.value,
        length=index.length,
        all_versions=True,
    )
    assert not made.failures
    return [one for of_value in made.values for one in of_value or ()]


def application_write(
    connection: Connection,
    kms: Client,
    system: System,
    identity: tuple[str, ...],
    value: str,
    *,
    plaintext_too: bool,
) -> None:
    """Write one value as an application does that knows the plan: the ciphertext, its version and the index at once."""
    column = system.column
    made = kms.encrypt(
        system.plan.key_name(column.key),
        value.encode(),
        context={"table": system.searched[0], "column": system.searched[1], "row": row_of(identity)},
    )
    assert column.index is not None
    assert column.blind_index is not None
    index = kms.compute_index_batch(
        system.plan.key_name(column.index.key),
        [value.encode()],
        scope=column.index.scope or ".".join(system.searched),
        normaliser=column.index.normaliser.value,
        length=column.index.length,
    ).complete()[0]
    given: dict[str, Any] = {
        column.ciphertext: made.ciphertext,
        column.version: Header.read(made.ciphertext).version,
        column.blind_index: index,
    }
    if plaintext_too:
        given[column.column] = value
    table = sql.Identifier(*system.table.parts)
    if system.appends_only:
        given |= {"id": identity[0], "operation": "mem0_search", "action_result": "allowed"}
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            table, sql.SQL(", ").join(map(sql.Identifier, given)), sql.SQL(", ").join(sql.Placeholder() * len(given))
        )
        connection.execute(query, list(given.values()))
    else:
        sets = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in given)
        query = sql.SQL("UPDATE {} SET {} WHERE id::text = %s").format(table, sets)
        assert connection.execute(query, [*given.values(), identity[0]]).rowcount == 1
