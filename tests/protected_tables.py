"""A table whose columns are protected in every mode, in a real PostgreSQL, under keys of a real daemon."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kms_client import Client, Purpose
from psycopg import sql

from kms.columns import database, state
from kms.columns.cells import cells_of, decrypt
from kms.columns.database import Connection
from kms.columns.expand import expand
from kms.columns.fill import fill
from kms.columns.indexes import build, indexes_of
from kms.columns.plan import Plan, parse
from kms.columns.state import Known
from tests.daemon import Service

TENANT = "tenants/acme"
TABLE = "public.people"
_numbers = itertools.count(1)

SCHEMA = """
CREATE TABLE people (
    id bigint PRIMARY KEY, email text, note text, code text, token text,
    settings jsonb, seen timestamptz NOT NULL DEFAULT now(), touched int NOT NULL DEFAULT 0
);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.touched := NEW.touched + 1; RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
"""
# What is hard: NULL, empty, not ASCII, what looks like ciphertext, documents without the paths or with an array there.
NOTES = ("plain note {}", "", None, "žluťoučký 🔑 {}", "kms:1:AQEAAAAAAAAAAAAAAAAAAAAAAAAAAQ{}")
SETTINGS = (
    '{{"oauth": {{"token": "oauth secret {0}", "n": 1.50}}, "pin": {0}}}',
    '{{"oauth": ["kept", "as", "it is"], "pin": null}}',
    '{{"other": true}}',
    "5",
    None,
)
COLUMNS = ("email", "note", "code", "token", "settings")


@dataclass(frozen=True)
class Protected:
    """A database with the table, and the keys of its columns."""

    url: str
    client: Client
    profile: Path
    plan: Plan
    plan_file: Path
    key: str  # resource names
    deterministic: str
    index: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        connection = database.connect(self.url)
        try:
            yield connection
        finally:
            connection.close()

    def known(self, column: str) -> Known:
        with self.connect() as connection:
            return next(one for one in state.known(connection) if one.column.column == column)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        with self.connect() as connection:
            connection.execute("SET search_path = public")
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


def protect(
    service: Service,
    url: str,
    directory: Path,
    rows: int = 40,
    columns: Sequence[str] = COLUMNS,
    *,
    unique: bool = False,
    catalog: str = "[]",
) -> Protected:
    """Make the table, with keys of its own, and bring these columns to the state `protected`."""
    number = next(_numbers)
    names = {kind: f"{kind}-{number}" for kind in ("rand", "det", "idx")}
    purposes = {"rand": Purpose.ENCRYPT, "det": Purpose.DETERMINISTIC, "idx": Purpose.INDEX}
    for kind, name in names.items():
        service.acme.create_key(TENANT, name, purpose=purposes[kind])
    text = plan_text(names, columns, unique=unique, catalog=catalog)
    file = directory / f"plan-{number}.yaml"
    file.write_text(text)
    plan = parse(text.encode(), "plan")
    made = Protected(
        url,
        service.acme,
        service.acme_profile,
        plan,
        file,
        *(f"{TENANT}/keys/{names[kind]}" for kind in ("rand", "det", "idx")),
    )
    with made.connect() as connection:
        connection.execute("SET search_path = public")
        connection.execute(SCHEMA)
        _insert(connection, rows)
        connection.execute("SET search_path = pg_catalog")
        begun = expand(connection, plan, plan.tables[0])
        for known in begun:
            for index in indexes_of(known):
                build(connection, TABLE, index)
        fill(connection, service.acme, begun, tell=lambda _: None, wait=lambda _: None)
        connection.execute("ANALYZE public.people")
    return made


def _insert(connection: Connection, rows: int) -> None:
    lines = [
        (
            number,
            f"Person{number}@example.org",
            _formed(NOTES, number),
            f"code {number % 3}",
            f"token {number}",
            _formed(SETTINGS, number),
        )
        for number in range(rows)
    ]
    with (
        connection.cursor() as cursor,
        cursor.copy("COPY people (id, email, note, code, token, settings) FROM STDIN") as copy,
    ):
        for line in lines:
            copy.write_row(line)


def _formed(forms: Sequence[str | None], number: int) -> str | None:
    form = forms[number % len(forms)]
    return None if form is None else form.format(number)


def plan_text(names: dict[str, str], columns: Sequence[str], *, unique: bool, catalog: str) -> str:
    rand, det, idx = names["rand"], names["det"], names["idx"]
    given = {
        "email": f"mode: blind_index, key: {rand}, index: {{key: {idx}, normaliser: email, unique: {str(unique).lower()}}}",
        "note": f"mode: randomized, key: {rand}",
        "code": f"mode: deterministic, key: {det}",
        "token": f"mode: hash_only, key: {idx}, index: {{key: {idx}}}",
        "settings": f"mode: randomized, key: {rand}, paths: [[oauth, token], [pin]]",
    }
    lines = "".join(f"      - {{column: {name}, classification: confidential, {given[name]}}}\n" for name in columns)
    return f"version: 1\ntenant: acme\ntables:\n  - table: {TABLE}\n    columns:\n{lines}catalog: {catalog}\n"


def decrypted(made: Protected, column: str) -> dict[str, list[bytes | None]]:
    """Return what the ciphertexts of a column say, by row and cell; fails where one does not decrypt."""
    known = made.known(column)
    found: dict[str, list[bytes | None]] = {}
    with made.connect() as connection:
        for cell in cells_of(known):
            rows = _stored(connection, cell)
            there = [(identity, stored) for identity, stored in rows if stored is not None]
            plain = decrypt(made.client, cell, [identity for identity, _ in there], [stored for _, stored in there])
            assert None not in plain
            values = dict(zip([identity for identity, _ in there], plain, strict=True))
            for identity, _ in rows:
                found.setdefault(identity[0], []).append(values.get(identity))
    return found


def _stored(connection, cell):
    query = sql.SQL("SELECT t.id::text, {} FROM public.people AS t ORDER BY id").format(cell.stored)
    return [((identity,), stored) for identity, stored in connection.execute(query).fetchall()]
