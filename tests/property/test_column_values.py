"""Values of all kinds become ciphertexts and come back byte for byte, as PostgreSQL prints them."""

from __future__ import annotations

import json

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kms_client import to_text
from psycopg import sql

from tests.protected import runner, texts

KINDS = {
    "text": "text",
    "words": "text[]",
    "doc": "jsonb",
    "paths": "jsonb",
    "raw": "bytea",
    "number": "numeric",
    "real": "double precision",
    "moment": "timestamp with time zone",
    "day": "date",
    "span": "interval",
    "address": "inet",
    "flag": "boolean",
    "code": "character(4)",
    "short": "character varying(6)",
    "old": "json",
    "kind": "public.kind",
    "days": "daterange",
    "nets": "cidr[]",
}
PATHS = ', paths: [[a], [b, c], [d, "1"]]'
COLUMNS = "".join(
    f"  - {{column: {name}, classification: confidential, mode: randomized, key: encrypt{PATHS * (name == 'paths')}}}\n"
    for name in KINDS
)
PLAN = f"version: 1\ntenant: acme\ntables:\n- table: public.values\n  columns:\n{COLUMNS}"
TABLE = f"CREATE TYPE kind AS ENUM ('a b', 'ü'); CREATE TABLE values (id int PRIMARY KEY, {', '.join(f'{name} {kind}' for name, kind in KINDS.items())})"
CIPHERTEXT = to_text(b"\x01\x01" + bytes(16) + b"\0\0\0\1" + bytes(40))
LITERALS = {
    "text": ["", " ", "NULL", "\\N", CIPHERTEXT, "é", "e\u0301", "\U0001f600\u202e", "a\r\n\tb'\"\\;--%s{}", "x" * 1_048_576],
    "words": ["{}", "{NULL}", '{"",NULL,"NULL"}', '{{"a","b"},{"c","d"}}', "[2:3]={x,y}", '{"a,b\\"c\\\\"}'],
    "doc": ["null", "{}", "[]", '""', '"x"', "0", "-0.0", "1.10", "1e400", '{"b":1,"a":{"c":[null,{"d":""}]}}', '"' + CIPHERTEXT + '"'],
    "paths": ["null", "{}", "[1]", '{"a":null}', '{"a":"","b":{"c":1.50}}', '{"d":[0,{"x":[]},2],"rest":1.0}', '{"b":"c"}',
              '{"a":"' + CIPHERTEXT + '","kept":"' + CIPHERTEXT + '"}'],
    "raw": ["\\x", "\\x00ff", "\\x" + "0101" + "00" * 60],
    "number": ["0", "-0.00", "1.10", "NaN", "Infinity", "-Infinity", "1" + "0" * 1000, "0." + "0" * 1000 + "1"],
    "real": ["0", "-0", "NaN", "Infinity", "5e-324", "1.7976931348623157e308", "0.1", "0.30000000000000004"],
    "moment": ["infinity", "-infinity", "4713-01-01 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00",
               "2024-10-27 02:30:00+02", "2024-10-27 02:30:00+01", "1890-01-01 00:00:00+00:53:28"],
    "day": ["infinity", "4713-01-01 BC", "2024-02-29"],
    "span": ["0", "1 mon -1 day 00:00:00.000001", "-178000000 years"],
    "address": ["10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32"],
    "flag": ["true", "false"],
    "code": ["", "a", "abcd", " b"],
    "short": ["", "ab    ", "üüüüüü"],
    "old": ['{"a":1, "a":2,\n "b" : 1.0}', "null"],
    "kind": ["a b", "ü"],
    "days": ["empty", "[2024-01-01,)", "(,)"],
    "nets": ["{10.0.0.0/8,NULL}"],
}  # fmt: skip

CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=("Cs",))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(CHARACTERS, max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdx"), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
ROWS = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(CHARACTERS, max_size=30),
        "words": st.none() | st.lists(st.none() | st.text(CHARACTERS, max_size=6), max_size=4),
        "doc": st.none() | JSON.map(json.dumps),
        "paths": st.none() | JSON.map(json.dumps),
        "raw": st.none() | st.binary(max_size=40),
        "number": st.none() | st.decimals(allow_infinity=False, allow_nan=False),
        "real": st.none() | st.floats(),
        "moment": st.none() | st.datetimes(timezones=st.timezones()),
        "short": st.none() | st.text(CHARACTERS, max_size=6),
    }
)


def go_round(url, client):
    """Protect everything, take the plaintext away, and bring it back."""
    before = texts(url, "public.values", f"id, {', '.join(KINDS)}")
    with runner(url, client, PLAN) as run:
        run.apply()
        run.blank()
        gone = texts(url, "public.values", f"id, {', '.join(KINDS)}")
        assert {value for row in gone.values() for value in row} <= {None}
        run.verify()
        run.undo()
    assert texts(url, "public.values", f"id, {', '.join(KINDS)}") == before


@pytest.fixture
def database(empty_postgresql_url):
    with psycopg.connect(empty_postgresql_url) as connection:
        connection.execute(TABLE)
        # The runner's settings decide, and not these.
        name = sql.Identifier(connection.info.dbname)
        for setting in (
            "timezone = 'Europe/Zurich'",
            "datestyle = 'SQL, DMY'",
            "bytea_output = 'escape'",
            "extra_float_digits = -10",
        ):
            connection.execute(sql.SQL("ALTER DATABASE {} SET {}").format(name, sql.SQL(setting)))
    return empty_postgresql_url


def test_values_at_the_edges_come_back_byte_for_byte(database, service):
    with psycopg.connect(database) as connection:
        number = 0
        for column, values in LITERALS.items():
            for value in [*values, None]:
                number += 1
                connection.execute(
                    sql.SQL("INSERT INTO values (id, {}) VALUES ({}, {})").format(
                        sql.Identifier(column), sql.Literal(number), sql.Literal(value)
                    )
                )
    go_round(database, service.acme)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=12))
def test_any_values_come_back_byte_for_byte(database, service, rows):
    with psycopg.connect(database) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS kms_columns CASCADE; DROP TABLE values; DROP TYPE kind; {TABLE}")
        for number, row in enumerate(rows):
            names = sql.SQL(", ").join(map(sql.Identifier, row))
            places = sql.SQL(", ").join(sql.SQL("%s") for _ in row)
            connection.execute(
                sql.SQL("INSERT INTO values (id, {}) VALUES ({}, {})").format(names, sql.Literal(number), places),
                list(row.values()),
            )
    go_round(database, service.acme)
