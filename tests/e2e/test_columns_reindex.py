"""Blind indexes and hashes after the rotation of their key: a real daemon and a real PostgreSQL."""

from __future__ import annotations

import pytest

from kms.columns import reindex, state
from kms.columns.errors import NotVerified, WrongState
from kms.columns.state import State
from tests.protected_tables import decrypted, protect

# ruff: noqa: S608  no input

QUIET = {"tell": lambda _: None, "wait": lambda _: None}
SCOPES = {"email": ("public.people.email", "email"), "token": ("public.people.token", "none")}


@pytest.fixture
def people(service, empty_postgresql_url, tmp_path):
    return protect(service, empty_postgresql_url, tmp_path, columns=("email", "token"), unique=True)


def run(people, column, **options):
    with people.connect() as connection:
        return reindex.reindex(connection, people.client, people.known(column), **{**QUIET, **options})


def found(people, column, value):
    """The rows that a search finds, as an application searches: under each version that may be read."""
    scope, normaliser = SCOPES[column]
    batch = people.client.compute_index_batch(
        people.index, [value.encode()], scope=scope, normaliser=normaliser, all_versions=True
    )
    stored = people.known(column).column.blind_index or people.known(column).column.ciphertext
    hexes = ", ".join(f"'\\x{index.hex()}'" for index in batch.values[0])
    return [row for (row,) in people.execute(f"SELECT id FROM people WHERE {stored} IN ({hexes}) ORDER BY id")]


def heads(people, column):
    return people.execute(
        f"SELECT DISTINCT encode(substr({column}, 1, 4), 'hex') FROM people WHERE {column} IS NOT NULL"
    )


def test_indexes_come_to_the_primary_version_and_searches_find_the_same_meanwhile(people):
    before = decrypted(people, "email")
    ciphertexts = people.execute("SELECT id, email_ct, email_kv, touched FROM people ORDER BY id")
    people.client.rotate_key(people.index)
    seen = []
    brought = run(people, "email", batch=15, tell=lambda _: seen.append(found(people, "email", " PERSON7@Example.org")))
    assert seen == [[7], [7], [7]]
    assert (brought.changed, brought.version) == (40, 2)
    assert heads(people, "email_bi") == [("00000002",)]
    assert found(people, "email", "person7@example.org") == [7]
    assert found(people, "email", "nobody@example.org") == []
    assert people.execute("SELECT id, email_ct, email_kv, touched FROM people ORDER BY id") == ciphertexts
    assert decrypted(people, "email") == before
    assert run(people, "email").changed == 0


def test_a_value_that_two_rows_have_is_named_where_indexes_must_be_unique(people):
    people.client.rotate_key(people.index)
    # An application writes, under the new version, a value that another row still has under the old one.
    scope, normaliser = SCOPES["email"]
    context = {"table": "public.people", "column": "email", "row": "30"}
    made = people.client.encrypt(people.key, b"person5@example.org", context=context)
    index = people.client.compute_index_batch(
        people.index, [b"person5@example.org"], scope=scope, normaliser=normaliser
    )
    people.execute(
        f"UPDATE people SET email = 'person5@example.org', email_ct = '\\x{made.ciphertext.hex()}', email_kv = 1,"
        f" email_bi = '\\x{index.complete()[0].hex()}' WHERE id = 30"
    )
    with pytest.raises(NotVerified, match=r"1 rows cannot be indexed anew.* such as: 5$"):
        run(people, "email", batch=10)
    assert people.execute("SELECT id FROM people WHERE email_bi < '\\x00000002'") == [(5,)]


def test_hashes_are_made_anew_as_long_as_there_is_plaintext(people):
    people.client.rotate_key(people.index)
    assert run(people, "token", batch=15).changed == 40
    assert heads(people, "token_hash") == [("00000002",)]
    assert people.execute("SELECT DISTINCT token_kv FROM people") == [(2,)]
    assert found(people, "token", "token 7") == [7]
    people.client.rotate_key(people.index)
    with people.connect() as connection:
        state.move(connection, "public.people", ["token"], State.PROTECTED, State.VERIFIED)
        state.move(connection, "public.people", ["token"], State.VERIFIED, State.BLANKED)
    with pytest.raises(WrongState, match="nothing is left but the hashes"):
        run(people, "token")


def test_an_index_that_is_missing_is_made(people):
    people.execute("ALTER TABLE people DISABLE TRIGGER zzz_kms_columns; UPDATE people SET email_bi = NULL WHERE id = 4")
    assert found(people, "email", "person4@example.org") == []
    assert run(people, "email").changed == 1
    assert found(people, "email", "person4@example.org") == [4]
