"""The query of kms_client.census on a real PostgreSQL."""

import uuid

import psycopg
import pytest
from kms_client import Header, InvalidRequest, Suite, Tally, count_query, read_counts, to_text

pytestmark = pytest.mark.postgresql

KEY, OTHER = uuid.uuid4(), uuid.uuid4()


def ciphertext(version, key=KEY, suite=Suite.AES_256_GCM, body=bytes(28)):
    return Header(suite, key, version).encode() + body


@pytest.fixture
def customers(empty_postgresql_url):
    with psycopg.connect(empty_postgresql_url) as connection:
        connection.execute('CREATE SCHEMA "c.r""m"')
        connection.execute('CREATE TABLE "c.r""m"."customers; --" ("the ""iban""" bytea, note text, version text)')
        yield connection


def fill(connection, values):
    with connection.cursor() as cursor:
        cursor.executemany('INSERT INTO "c.r""m"."customers; --" VALUES (%s)', [(value,) for value in values])


TABLE, COLUMN = ('c.r"m', "customers; --"), 'the "iban"'


def test_postgresql_counts_what_the_tally_counts(customers):
    values = [ciphertext(1)] * 3 + [ciphertext(300, suite=Suite.XAES_256_GCM, body=bytes(1 << 20))] * 2
    values += [ciphertext(2**32 - 1, suite=Suite.AES_SIV, body=bytes(16)), ciphertext(3, body=b"")]
    values += [ciphertext(5, OTHER), b"", b"\x01", b"plain text", bytes(60)]
    fill(customers, [*values, None])
    rows = customers.execute(count_query("postgresql", TABLE, COLUMN)).fetchall()
    tally = Tally(KEY)
    for value in values:
        tally.add(value)
    assert read_counts(rows, KEY) == tally.counts == {1: 3, 3: 1, 300: 2, 2**32 - 1: 1}
    assert read_counts(rows, OTHER) == {5: 1}
    assert sum(row[2] for row in rows) == len(values)


def test_a_column_of_headers_that_the_database_keeps_says_the_same(customers):
    customers.execute(
        'ALTER TABLE "c.r""m"."customers; --" '
        'ADD COLUMN header bytea GENERATED ALWAYS AS (substr("the ""iban""", 1, 22)) STORED'
    )
    fill(customers, [ciphertext(1), ciphertext(2), ciphertext(2, OTHER), b"plain text", None])
    whole, headers = (
        customers.execute(count_query("postgresql", TABLE, column)).fetchall() for column in (COLUMN, "header")
    )
    assert sorted(whole, key=repr) == sorted(headers, key=repr)
    assert read_counts(headers, KEY) == {1: 1, 2: 1}
    fill(customers, [to_text(ciphertext(1)).encode()])
    with pytest.raises(InvalidRequest, match="count them with Tally"):
        read_counts(customers.execute(count_query("postgresql", TABLE, "header")).fetchall(), KEY)


def test_the_text_form_is_noticed_or_refused_instead_of_counted_as_none(customers):
    fill(customers, [to_text(ciphertext(1)).encode()])
    rows = customers.execute(count_query("postgresql", TABLE, COLUMN)).fetchall()
    with pytest.raises(InvalidRequest, match="count them with Tally"):
        read_counts(rows, KEY)
    with pytest.raises(psycopg.errors.UndefinedFunction):
        customers.execute(count_query("postgresql", TABLE, "note"))


def test_no_setting_of_the_server_changes_what_the_query_counts(customers):
    fill(customers, [ciphertext(1), ciphertext(2)])
    customers.execute("SET standard_conforming_strings = off")
    query = count_query("postgresql", TABLE, COLUMN)
    assert read_counts(customers.execute(query).fetchall(), KEY) == {1: 1, 2: 1}
    fill(customers, [to_text(ciphertext(1)).encode()])
    with pytest.raises(InvalidRequest, match="count them with Tally"):
        read_counts(customers.execute(query).fetchall(), KEY)
