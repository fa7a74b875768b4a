"""An application with SQL of its own, over a table that is protected in any state."""

from __future__ import annotations

import psycopg
import pytest
from kms_client import CannotDecrypt, InvalidRequest, NotSupported
from kms_client.psycopg import ProtectedTable
from psycopg import sql

from tests.protected import runner

pytestmark = [pytest.mark.softhsm, pytest.mark.postgresql]

SCHEMA = """
CREATE TABLE "My people" ("the id" bigint PRIMARY KEY, "na{m}e" text NOT NULL, email varchar(60), photo bytea, code text);
INSERT INTO "My people" SELECT i, 'Name ' || i, 'p' || i || '@example.org', '\\xff00', 'code ' || i % 3
FROM generate_series(1, 20) i
"""
PLAN = """
version: 1
tenant: acme
tables:
- table: public.My people
  columns:
  - {column: "na{m}e", classification: confidential, mode: randomized, key: encrypt}
  - {column: email, classification: confidential, mode: blind_index, key: encrypt, index: {key: index, normaliser: email}}
  - {column: photo, classification: confidential, mode: randomized, key: encrypt}
  - {column: code, classification: internal, mode: deterministic, key: deterministic, accept_leakage: true}
"""
NAME = "na{m}e"


@pytest.fixture
def url(empty_postgresql_url):
    with psycopg.connect(empty_postgresql_url) as connection:
        connection.execute(SCHEMA)
        connection.execute("""INSERT INTO "My people" VALUES (50, 'odd', '100%s%@example.org')""")
    return empty_postgresql_url


def read(connection, people, email):
    query = sql.SQL('SELECT p."the id", {}, {}, {}, p."the id" FROM "My people" p WHERE {} OR {} ORDER BY 1').format(
        people.reads(NAME, "p"),
        people.reads("photo", "p"),
        people.reads("code", "p"),
        people.matches("email", [email], "p"),
        people.matches("code", ["code 2", "none"], "p"),
    )
    return list(people.opened(connection.execute(query), {1: NAME, 2: "photo", 3: "code"}))


def insert(connection, people, rows):
    for row in people.writes(rows):
        query = sql.SQL('INSERT INTO "My people" ({}) VALUES ({})').format(
            sql.SQL(", ").join(map(sql.Identifier, row)), sql.SQL(", ").join(sql.Placeholder() * len(row))
        )
        connection.execute(query, list(row.values()))


def test_rows_are_written_found_and_read_in_every_state(url, service):
    def look(number):
        with psycopg.connect(url) as connection:
            people = ProtectedTable.of(connection, service.acme, "public.My people")
            row = {
                "the id": 100 + number,
                NAME: f"new {number}",
                "email": f"n{number}@example.org",
                "photo": b"\0",
                "code": None,
            }
            insert(connection, people, [row])
            found = read(connection, people, f"n{number}@example.org")
            assert found[-1] == (100 + number, f"new {number}", b"\0", None, 100 + number)
            odd = people.matches("email", ["100%s%@example.org"])
            query = sql.SQL('SELECT "the id" FROM "My people" WHERE {} AND "the id" > %s').format(odd)
            assert connection.execute(query, [number]).fetchall() == [(50,)]
            assert found[:-1] == [(i, f"Name {i}", b"\xff\0", "code 2", i) for i in range(2, 21, 3)]

    look(1)
    with runner(url, service.acme, PLAN) as run:
        run.apply()
        look(2)
        run.verify()
        run.blank()
        look(3)
        run.verify()
        run.drop()
        look(4)
        run.verify()


@pytest.fixture
def protected(url, service):
    with runner(url, service.acme, PLAN) as run:
        run.apply()
    with psycopg.connect(url) as connection:
        yield connection, ProtectedTable.of(connection, service.acme, "public.My people")


def test_a_ciphertext_of_another_row_is_never_shown(protected):
    connection, people = protected
    connection.execute(
        'UPDATE "My people" SET (photo_ct, photo_kv) = (SELECT photo_ct, photo_kv FROM "My people" WHERE "the id" = 3)'
        ' WHERE "the id" = 2'
    )
    with pytest.raises(CannotDecrypt):
        read(connection, people, "nobody")


def test_what_nothing_finds_is_not_searched(protected):
    with pytest.raises(NotSupported, match="has no blind index"):
        protected[1].matches(NAME, ["Name 1"])


def test_a_row_without_its_identity_is_refused(protected):
    with pytest.raises(InvalidRequest, match="the id: identifies a row"):
        protected[1].writes([{NAME: "x"}])


def test_a_connection_that_commits_by_itself_is_refused(url, service):
    with psycopg.connect(url, autocommit=True) as connection:
        with pytest.raises(NotSupported, match="within a transaction"):
            ProtectedTable.of(connection, service.acme, "public.My people")
        with connection.transaction():
            ProtectedTable.of(connection, service.acme, "public.My people")
