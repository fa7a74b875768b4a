"""Counts of protected columns by key version, and what the daemon then knows: a real daemon and a real PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from kms_client import FailedPrecondition, to_text

from kms.columns import census, reencrypt, reindex, state
from kms.columns.errors import ColumnsError, NotVerified
from tests.protected_tables import protect

# ruff: noqa: S608  no input

QUIET = {"tell": lambda _: None, "wait": lambda _: None}


@pytest.fixture
def people(service, empty_postgresql_url, tmp_path):
    return protect(service, empty_postgresql_url, tmp_path)


def now():
    return datetime.now(UTC)


def counted(people, **options):
    with people.connect() as connection:
        return census.count(connection, people.client, state.known(connection), **{"now": now, **options})


def by_column(counts):
    return {one.column: one.versions for one in counts}


# Of 40 rows: notes are NULL in 8, and 8 documents have two paths, 8 one of them.
FIRST = {
    "code_ct": {1: 40},
    "email_ct": {1: 40},
    "email_bi": {1: 40},
    "note_ct": {1: 32},
    "settings_ct": {1: 24},
    "token_hash": {1: 40},
}


def test_counts_follow_what_is_stored_by_column_and_by_header(people):
    assert by_column(counted(people)) == by_column(counted(people, from_headers=True)) == FIRST
    people.client.rotate_key(people.key)
    people.client.rotate_key(people.index)
    with people.connect() as connection:
        columns = {one.column.column: one for one in state.known(connection)}

        class Enough(Exception):
            pass

        def stop(progress):
            raise Enough

        with pytest.raises(Enough):
            reencrypt.reencrypt(connection, people.client, columns["note"], tell=stop, wait=lambda _: None, batch=10)
        reencrypt.reencrypt(connection, people.client, columns["settings"], **QUIET)
        reindex.reindex(connection, people.client, columns["email"], **QUIET)
    expected = FIRST | {"note_ct": {1: 22, 2: 10}, "settings_ct": {2: 24}, "email_bi": {2: 40}}
    assert by_column(counted(people)) == by_column(counted(people, from_headers=True)) == expected


def test_a_document_with_two_versions_counts_for_both(people):
    people.client.rotate_key(people.key)
    context = {"table": "public.people", "column": "settings", "path": '["pin"]', "row": "0"}
    made = people.client.encrypt(people.key, b"1", context=context).ciphertext
    people.execute(
        f"UPDATE people SET settings_ct = jsonb_set(settings_ct, '{{pin}}', '\"{to_text(made)}\"') WHERE id = 0"
    )
    assert by_column(counted(people))["settings_ct"] == {1: 23, 2: 1}


def test_the_daemon_knows_from_the_report_what_each_version_protects(people):
    census.report(people.client, counted(people))
    places = people.client.list_places(people.key)
    assert places.complete_time is None
    assert {place.name.split("/")[-1][:-9]: dict(place.counts) for place in places.places} == {
        "c-public-people-email-ct": {1: 40},
        "c-public-people-note-ct": {1: 32},
        "c-public-people-settings-ct": {1: 24},
    }
    assert {tuple(place.counts.items()) for place in people.client.list_places(people.index).places} == {((1, 40),)}
    people.client.declare_places(people.key, complete=True)
    people.client.rotate_key(people.key)
    with people.connect() as connection:
        for known in state.known(connection):
            if known.column.column in ("email", "note", "settings"):
                reencrypt.reencrypt(connection, people.client, known, **QUIET)
    counts = counted(people)
    census.report(people.client, counts)
    first, second = people.client.list_key_versions(people.key)
    assert (first.census.count, second.census.count) == (0, 96)
    assert first.census.unknown_reasons[0] == "the version may still encrypt"  # until its grace is over
    began = {place.count_time for place in people.client.list_places(people.key).places}
    assert began == {counts[0].began}


def test_a_transaction_that_was_open_before_holds_up_the_count(people):
    moments = []

    def clock():
        moments.append(now())
        return moments[-1]

    with psycopg.connect(people.url) as other:
        other.execute("UPDATE public.people SET touched = 0 WHERE id = 0")
        with pytest.raises(ColumnsError, match="transactions that were open when the count began are still open"):
            counted(people, patience=0.0)
        other.execute(
            "INSERT INTO public.people (id, note, note_ct, note_kv) SELECT 1000, note, note_ct, note_kv"
            " FROM public.people WHERE id = 0"
        )
        # It is waited for; what it has written meanwhile is in the count.
        ended = []

        def sleep(_seconds):
            ended.append(now())
            other.commit()

        counts = counted(people, now=clock, sleep=sleep)
    assert by_column(counts)["note_ct"] == {1: 33}
    assert [one.began for one in counts] == [moments[0]] * len(counts)
    assert moments[0] < ended[0]


def test_a_value_that_is_no_ciphertext_of_the_key_lets_no_count_be_made(people):
    foreign = people.client.encrypt("tenants/acme/keys/encrypt", b"x").ciphertext
    people.execute("ALTER TABLE people DISABLE TRIGGER zzz_kms_columns")
    for bad, what in ((foreign, "ciphertexts of another key"), (b"no ciphertext", "no ciphertexts")):
        people.execute(f"UPDATE people SET note_ct = '\\x{bad.hex()}' WHERE id = 0")
        with pytest.raises(NotVerified, match=rf"people\.note: 1 values are {what}"):
            counted(people, from_headers=True)
    people.execute("UPDATE people SET note_kv = NULL WHERE id = 0")
    with pytest.raises(NotVerified, match="1 ciphertexts have no version beside them"):
        counted(people)
    people.execute('UPDATE people SET note_kv = 1, settings_ct = \'{"pin": "1234"}\' WHERE id = 0')
    with pytest.raises(NotVerified, match="settings at pin: 1 values are no ciphertexts"):
        counted(people)


def test_the_count_by_version_reads_the_index_alone(people):
    people.execute("INSERT INTO people (id) SELECT 1000 + n FROM generate_series(1, 20000) AS n")
    with people.connect() as connection:
        connection.execute("VACUUM ANALYZE public.people")
        plan = "\n".join(
            line
            for (line,) in connection.execute(
                "EXPLAIN SELECT email_kv, count(*) FROM public.people AS t WHERE email_kv IS NOT NULL GROUP BY email_kv"
            )
        )
    assert "Index Only Scan using people_email_kv_kms" in plan


@pytest.mark.parametrize(
    ("table", "column", "slug"),
    [
        ("public.users", "email_ct", "c-public-users-email-ct-"),
        ("Schöne.Täbelle", "E-Mail", "c-sch-ne-t-belle-e-mail-"),
        ("s." + "t" * 63, "c" * 63, "c-s-" + "t" * 50 + "-"),
    ],
)
def test_a_place_has_a_slug_that_differs_for_each_database_table_and_column(table, column, slug):
    place = census.place_id("one", table, column)
    assert place.startswith(slug)
    assert len(place) == len(slug) + 8 <= 63
    assert len({place, census.place_id("two", table, column), census.place_id("one", table, column + "x")}) == 3


def test_reports_are_refused_that_began_before_the_last_one(people):
    counts = counted(people)
    census.report(people.client, counts)
    early = [replace(one, began=one.began - timedelta(seconds=1)) for one in counts]
    with pytest.raises(FailedPrecondition, match="has a newer count"):
        census.report(people.client, early)
