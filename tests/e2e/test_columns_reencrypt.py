"""Re-encryption of protected columns: a real daemon, a real PostgreSQL, and applications that write meanwhile."""

from __future__ import annotations

import psycopg
import pytest

from kms.columns import reencrypt
from kms.columns.errors import NotVerified, WrongState
from kms.columns.renewal import bring
from kms.columns.state import SCHEMA
from tests.protected_tables import decrypted, protect

# ruff: noqa: S608  no input

ENCRYPTED = ("email", "note", "code", "settings")
QUIET = {"tell": lambda _: None, "wait": lambda _: None}


@pytest.fixture
def people(service, empty_postgresql_url, tmp_path):
    return protect(service, empty_postgresql_url, tmp_path)


def key_of(people, column):
    return people.deterministic if column == "code" else people.key


def run(people, column, **options):
    with people.connect() as connection:
        return reencrypt.reencrypt(connection, people.client, people.known(column), **{**QUIET, **options})


def versions(people, column):
    """What the version column says, and what the headers say."""
    told = people.execute(f"SELECT DISTINCT {column}_kv FROM people WHERE {column}_kv IS NOT NULL")
    if column == "settings":
        return {version for (version,) in told}
    read = people.execute(f"SELECT DISTINCT substr({column}_ct, 19, 4) FROM people WHERE {column}_ct IS NOT NULL")
    assert {version for (version,) in told} == {int.from_bytes(version, "big") for (version,) in read}
    return {version for (version,) in told}


def untouched(people):
    return people.execute("SELECT id, email, note, code, token, settings::text, seen, touched FROM people ORDER BY id")


def test_every_ciphertext_comes_to_the_primary_version_and_says_the_same(people):
    before = {column: decrypted(people, column) for column in ENCRYPTED}
    rest = untouched(people)
    for column in ENCRYPTED:
        assert versions(people, column) == {1}
    for key in (people.key, people.deterministic):
        people.client.rotate_key(key)
    for column in ENCRYPTED:
        brought = run(people, column, batch=7)
        assert brought.version == 2
        assert brought.changed == people.execute(f"SELECT count({column}_kv) FROM people")[0][0] > 0
        assert versions(people, column) == {2}
        assert decrypted(people, column) == before[column]
    # Nothing else of a row is touched, also not by the application's triggers.
    assert untouched(people) == rest
    assert people.execute(f"SELECT count(*) FROM {SCHEMA}.progress WHERE task LIKE 'reencrypt%'") == [(0,)]
    # What is current is left alone.
    places = people.execute("SELECT id, xmin::text FROM people ORDER BY id")
    assert [run(people, column).changed for column in ENCRYPTED] == [0, 0, 0, 0]
    assert people.execute("SELECT id, xmin::text FROM people ORDER BY id") == places


def test_documents_keep_all_that_stands_elsewhere_as_it_was_printed(people):
    people.client.rotate_key(people.key)
    run(people, "settings")
    strip = "jsonb_set(jsonb_set({0}, '{{oauth,token}}', 'null', false), '{{pin}}', 'null', false)::text"
    differing = people.execute(
        "SELECT id FROM people WHERE jsonb_typeof(settings) = 'object' AND NOT jsonb_typeof(settings->'oauth') = 'array'"
        f" AND {strip.format('settings')} <> {strip.format('settings_ct')}"
    )
    assert differing == []
    # Both paths of one row are of the new version, and not only the one that the version column names.
    both = decrypted(people, "settings")["0"]
    assert both == [b'"oauth secret 0"', b"0"]
    assert people.execute("SELECT settings::text FROM people WHERE id = 3") == people.execute(
        "SELECT settings_ct::text FROM people WHERE id = 3"
    )


class Meddling:
    """The real client; an application acts after each batch has been asked for, before anything is written."""

    def __init__(self, client, act):
        self._client = client
        self._act = act

    def __getattr__(self, name):
        return getattr(self._client, name)

    def reencrypt_batch(self, *given, **named):
        batch = self._client.reencrypt_batch(*given, **named)
        self._act()
        return batch


def test_a_row_that_an_application_writes_meanwhile_keeps_what_it_wrote(people):
    known = people.known("note")
    fresh = people.client.encrypt(
        people.key, b"newer", context={"table": "public.people", "column": "note", "row": "0"}
    )
    people.client.rotate_key(people.key)
    acted = []

    def act():
        if not acted:
            acted.append(True)
            people.execute(
                f"UPDATE people SET note = 'newer', note_ct = '\\x{fresh.ciphertext.hex()}', note_kv = 1 WHERE id = 0"
            )
            people.execute("DELETE FROM people WHERE id = 5")

    with people.connect() as connection:
        client = Meddling(people.client, act)
        reencrypt.reencrypt(connection, client, known, **QUIET)
    found = decrypted(people, "note")
    assert found["0"] == [b"newer"]
    assert "5" not in found
    assert versions(people, "note") == {2}


def test_a_row_that_is_held_is_left_and_comes_again(people):
    people.client.rotate_key(people.key)
    with psycopg.connect(people.url) as holder:
        holder.execute("SELECT FROM public.people WHERE id = 0 FOR UPDATE")
        rested = []

        def rest(seconds):
            rested.append(people.execute("SELECT count(*) FROM people WHERE note_kv = 1"))
            holder.rollback()

        with people.connect() as connection:
            task = reencrypt.ReEncryption(people.client, people.known("note"), 2)
            bring(connection, task, rest=rest, **QUIET)
    assert rested == [[(1,)]]
    assert versions(people, "note") == {2}


def test_a_ciphertext_of_another_row_is_named_and_holds_up_no_other(people):
    people.client.rotate_key(people.key)
    people.execute(
        "SET session_replication_role = replica; ALTER TABLE people DISABLE TRIGGER zzz_kms_columns;"
        "UPDATE people SET note_ct = (SELECT note_ct FROM people WHERE id = 3) WHERE id = 8"
    )
    with pytest.raises(NotVerified, match=r"public\.people\.note: 1 rows .* such as: 8$"):
        run(people, "note", batch=5)
    assert people.execute("SELECT id FROM people WHERE note_kv = 1") == [(8,)]


def test_a_document_with_one_bad_ciphertext_is_left_whole(people):
    people.client.rotate_key(people.key)
    people.execute(
        "ALTER TABLE people DISABLE TRIGGER zzz_kms_columns; UPDATE people SET settings_ct ="
        " jsonb_set(settings_ct, '{oauth,token}', (SELECT settings_ct #> '{oauth,token}' FROM people WHERE id = 5))"
        " WHERE id = 0"
    )
    before = people.execute("SELECT settings_ct::text, settings_kv FROM people WHERE id = 0")
    with pytest.raises(NotVerified, match=r"settings: 1 rows .* such as: 0$"):
        run(people, "settings")
    assert people.execute("SELECT settings_ct::text, settings_kv FROM people WHERE id = 0") == before
    assert people.execute("SELECT min(settings_kv) FROM people WHERE id > 0") == [(2,)]


def test_a_version_column_that_lies_is_found_by_the_headers(people):
    people.client.rotate_key(people.key)
    people.execute("UPDATE people SET note_kv = 2 WHERE id = 3")
    run(people, "note")
    assert people.execute("SELECT count(*) FROM people WHERE substr(note_ct, 19, 4) < '\\x00000002'") == [(1,)]
    assert run(people, "note", from_headers=True).changed == 1
    assert versions(people, "note") == {2}
    people.execute("ALTER TABLE people DISABLE TRIGGER zzz_kms_columns; UPDATE people SET note_kv = NULL WHERE id = 8")
    assert run(people, "note").changed == 1
    assert versions(people, "note") == {2}
    assert run(people, "settings", from_headers=True).changed == run(people, "settings").changed + 16
    assert versions(people, "settings") == {2}


def test_after_a_revocation_the_rotation_identity_alone_brings_them(people, service):
    before = decrypted(people, "note")
    people.client.revoke_key_version(f"{people.key}/versions/1", reason="leaked", wait=True)
    with pytest.raises(NotVerified, match=r"32 rows cannot be re-encrypted \(.*revoked.*\), such as: 0, 1, 3, 4, 5$"):
        run(people, "note")
    assert versions(people, "note") == {1}
    with service.installation.client("tenants/acme/principals/rotation") as rescuer, people.connect() as connection:
        brought = reencrypt.reencrypt(connection, rescuer, people.known("note"), **QUIET)
    assert (brought.changed, brought.version) == (32, 2)
    assert versions(people, "note") == {2}
    assert decrypted(people, "note") == before


def test_a_column_without_ciphertexts_is_refused(people):
    with pytest.raises(WrongState, match="mode hash_only has no ciphertexts"):
        run(people, "token")


def test_the_pass_goes_on_behind_the_last_batch_that_was_written(people):
    people.client.rotate_key(people.key)

    class Enough(Exception):
        pass

    def stop(progress):
        if progress.seen >= 14:
            raise Enough

    with pytest.raises(Enough):
        run(people, "email", batch=7, tell=stop)
    [(cursor,)] = people.execute(f"SELECT cursor FROM {SCHEMA}.progress WHERE task = 'reencrypt email'")
    assert cursor == ["13"]
    assert run(people, "email", batch=7).changed == 40 - 14
