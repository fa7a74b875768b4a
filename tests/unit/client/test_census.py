"""Counting without decrypting: the tally, and the query on a real SQLite database."""

import sqlite3
import uuid

import pytest
from kms_client import Header, InvalidRequest, Suite, Tally, count_query, read_counts, to_text
from kms_client.census import MOST_VERSIONS

from kms.services.census import MOST_COUNTS

KEY = uuid.UUID("11111111-2222-4333-8444-555555555555")
OTHER = uuid.UUID("99999999-2222-4333-8444-555555555555")


def ciphertext(version, key=KEY, suite=Suite.AES_256_GCM, body=bytes(28)):
    return Header(suite, key, version).encode() + body


def tally(*values):
    made = Tally(str(KEY))
    for value in values:
        made.add(value)
    return made


def test_ciphertexts_are_counted_by_version_whatever_form_they_have():
    one = ciphertext(1)
    made = tally(
        one,
        bytearray(one),
        memoryview(one),
        to_text(one),
        to_text(one).encode(),
        ciphertext(300),
        ciphertext(2**32 - 1),
    )
    assert made.counts == {1: 5, 300: 1, 2**32 - 1: 1}
    assert (made.foreign, made.unreadable) == (0, 0)


def test_other_keys_and_what_is_no_ciphertext_count_apart():
    others = [ciphertext(1, OTHER), to_text(ciphertext(7, OTHER))]
    junk = [b"", "", b"\x01", "kms:1:", "kms:1:AQ", "kms:1:" + "?" * 40, "kms:2:" + to_text(ciphertext(1))[6:]]
    junk += ["Löhne", b"plain text that is long enough for a header", ciphertext(1)[:21], b"\x02" + ciphertext(1)[1:]]
    zero = bytearray(ciphertext(1))
    zero[18:22] = bytes(4)
    made = tally(*others, *junk, zero)
    assert (made.counts, made.foreign, made.unreadable) == ({}, len(others), len(junk) + 1)


def test_what_a_later_release_wrote_or_what_is_cut_short_still_keeps_its_version():
    strange = bytearray(ciphertext(3))
    strange[1] = 0x77
    assert tally(strange, ciphertext(3, body=b""), to_text(ciphertext(3))[:-5]).counts == {3: 3}


@pytest.mark.parametrize("value", [None, 3, ["x"]])
def test_null_is_for_the_caller_to_leave_out(value):
    with pytest.raises(TypeError, match="a ciphertext must be bytes"):
        tally(value)


def test_a_column_of_forged_versions_fills_no_memory():
    made = tally(*(ciphertext(version) for version in range(1, MOST_VERSIONS + 1)))
    made.add(ciphertext(MOST_VERSIONS))
    with pytest.raises(InvalidRequest, match=f"at most {MOST_VERSIONS} versions"):
        made.add(ciphertext(MOST_VERSIONS + 1))
    assert len(made.counts) == MOST_VERSIONS == MOST_COUNTS  # what a tally holds can be reported


@pytest.mark.parametrize("uid", ["", "payroll", "tenants/acme/keys/payroll"])
def test_a_key_is_named_by_its_uid(uid):
    with pytest.raises(InvalidRequest, match="key_uid"):
        Tally(uid)
    with pytest.raises(InvalidRequest, match="key_uid"):
        read_counts([], uid)


@pytest.fixture
def database():
    with sqlite3.connect(":memory:") as connection:
        connection.execute('CREATE TABLE "cust""omers; --" (id INTEGER, "the ""iban""" BLOB, note TEXT)')
        yield connection
    connection.close()


TABLE, COLUMN = 'cust"omers; --', 'the "iban"'


def fill(database, values):
    database.executemany('INSERT INTO "cust""omers; --" ("the ""iban""") VALUES (?)', [(value,) for value in values])


def test_sqlite_counts_what_the_tally_counts(database):
    values = [ciphertext(1)] * 3 + [ciphertext(300, suite=Suite.XAES_256_GCM, body=bytes(40))] * 2
    values += [ciphertext(2**32 - 1, suite=Suite.AES_SIV, body=bytes(16)), ciphertext(3, body=b"")]
    values += [ciphertext(5, OTHER), b"", b"\x01", b"plain text", "plain text", 17, bytes(60)]
    zero = bytearray(ciphertext(1))
    zero[18:22] = bytes(4)
    fill(database, [*values, bytes(zero), None, None])
    rows = database.execute(count_query("sqlite", ("main", TABLE), COLUMN)).fetchall()
    expected = tally(*(value for value in values if isinstance(value, (bytes, str))))
    assert read_counts(rows, str(KEY)) == expected.counts == {1: 3, 3: 1, 300: 2, 2**32 - 1: 1}
    assert read_counts(rows, OTHER) == {5: 1}
    assert sum(row[2] for row in rows) == len(values) + 1  # NULL protects nothing
    assert read_counts(database.execute(count_query("sqlite", TABLE, COLUMN)), uuid.uuid4()) == {}


@pytest.mark.parametrize("form", [str, str.encode])
def test_the_query_notices_the_text_form_instead_of_counting_none(database, form):
    fill(database, [ciphertext(1), form(to_text(ciphertext(1)))])
    rows = database.execute(count_query("sqlite", TABLE, COLUMN)).fetchall()
    with pytest.raises(InvalidRequest, match="1 values are ciphertexts in text form: count them with Tally"):
        read_counts(rows, KEY)


@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_the_query_notices_the_text_form_in_a_database_of_another_encoding(encoding):
    with sqlite3.connect(":memory:") as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute("CREATE TABLE customers (iban)")
        connection.executemany("INSERT INTO customers VALUES (?)", [(ciphertext(1),), (to_text(ciphertext(1)),)])
        rows = connection.execute(count_query("sqlite", "customers", "iban")).fetchall()
    connection.close()
    with pytest.raises(InvalidRequest, match="1 values are ciphertexts in text form"):
        read_counts(rows, KEY)


def test_a_column_that_does_not_exist_is_an_error_and_not_a_count_of_none(database):
    fill(database, [ciphertext(1)])
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        database.execute(count_query("sqlite", TABLE, "iban"))


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_name_that_cannot_be_quoted_is_refused(name):
    with pytest.raises(InvalidRequest, match="identifier"):
        count_query("sqlite", name, "iban")
    with pytest.raises(InvalidRequest, match="identifier"):
        count_query("postgresql", ("crm", "customers"), name)


def test_a_name_that_postgresql_would_cut_is_refused():
    assert '"' + "a" * 63 + '"' in count_query("postgresql", "customers", "a" * 63)
    with pytest.raises(InvalidRequest, match="63 bytes"):
        count_query("postgresql", "customers", "ä" * 32)


def test_another_dialect_is_refused():
    with pytest.raises(ValueError, match="mysql"):
        count_query("mysql", "customers", "iban")
