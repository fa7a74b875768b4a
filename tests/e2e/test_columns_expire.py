"""Days to keep, in a real PostgreSQL: what has passed them goes, and nothing else."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from kms.columns import database, expire
from kms.columns.expire import Expired
from kms.columns.plan import CatalogRule, Plan
from tests.cli_fixtures import COMMAND
from tests.daemon import wait_until
from tests.protected_tables import decrypted, protect

# ruff: noqa: S608  no input

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TABLE = """
CREATE TABLE visits (
    id int PRIMARY KEY, name text NOT NULL DEFAULT 'x', address text DEFAULT 'street', at timestamptz, day date
);
"""


def rule(column="*", on_expiry="delete", age="at", table="public.visits", days=30):
    return CatalogRule(table=table, column=column, level="confidential", keep_days=days, age=age, on_expiry=on_expiry)


def plan_of(*rules):
    return Plan(version=1, tenant="acme", catalog=rules)


class Database:
    def __init__(self, url):
        self.url = url
        self.execute(TABLE)

    def execute(self, statement, parameters=None):
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def visit(self, *moments):
        for number, moment in zip(itertools.count(), moments, strict=False):
            self.execute("INSERT INTO visits (id, at, day) VALUES (%s, %s, %s)", (number, moment, moment))

    def expire(self, plan, **options):
        return run(self.url, plan, **options)


def run(url, plan, **options):
    connection = database.connect(url)
    try:
        return expire.expire(
            connection, plan, options.pop("now", NOW), **{"tell": lambda _: None, "wait": lambda _: None, **options}
        )
    finally:
        connection.close()


def looked_at(url, plan):
    connection = database.connect(url)
    try:
        return expire.due(connection, plan, NOW)
    finally:
        connection.close()


@pytest.fixture
def visits(empty_postgresql_url):
    return Database(empty_postgresql_url)


def summary(results: list[Expired]):
    return [(one.changed, one.left, one.reason) for one in results]


def test_a_row_goes_once_its_days_are_over_and_not_a_microsecond_before(visits):
    edge = NOW - timedelta(days=30)
    visits.visit(edge - timedelta(microseconds=1), edge, edge + timedelta(microseconds=1), None)
    assert summary(looked_at(visits.url, plan_of(rule()))) == [(0, 1, "")]
    assert len(visits.execute("SELECT id FROM visits")) == 4
    assert summary(visits.expire(plan_of(rule()))) == [(1, 0, "")]
    assert visits.execute("SELECT id FROM visits ORDER BY id") == [(1,), (2,), (3,)]
    assert summary(visits.expire(plan_of(rule()))) == [(0, 0, "")]


def test_a_date_is_the_beginning_of_its_day_in_utc(visits):
    visits.execute("INSERT INTO visits (id, day) VALUES (1, '2026-01-30'), (2, '2026-01-31')")
    assert summary(visits.expire(plan_of(rule(age="day")), now=datetime(2026, 3, 2, tzinfo=UTC))) == [(1, 0, "")]
    assert visits.execute("SELECT id FROM visits") == [(2,)]


def test_many_rows_go_in_batches_and_a_stop_ends_after_one(visits):
    visits.execute("INSERT INTO visits (id, at) SELECT n, '2020-01-01' FROM generate_series(1, 25) AS n")
    told, stops = [], iter([False, False, False, True, True])
    options = {"tell": lambda one: told.append(one.changed), "batch": 10}
    assert summary(visits.expire(plan_of(rule()), stopped=lambda: next(stops), **options)) == [(20, 5, "")]
    assert told == [10, 20]
    assert summary(visits.expire(plan_of(rule()), **options)) == [(5, 0, "")]


def test_a_value_is_blanked_and_its_row_stays(visits):
    visits.visit(NOW - timedelta(days=31), NOW)
    assert summary(visits.expire(plan_of(rule("address", "blank")))) == [(1, 0, "")]
    assert visits.execute("SELECT id, name, address FROM visits ORDER BY id") == [(0, "x", None), (1, "x", "street")]


def test_a_rule_that_cannot_be_carried_out_says_why_and_holds_up_no_other(visits):
    visits.visit(NOW - timedelta(days=31))
    visits.execute("CREATE TABLE notes (visit int REFERENCES visits)")
    visits.execute("INSERT INTO notes VALUES (0)")
    rules = (
        rule(),
        rule("name", "blank"),
        rule("address", "pseudonymize"),
        rule("gone", "blank"),
        rule(table="public.nothing"),
        rule("day", "blank", age="at"),
    )
    results = {(one.rule.table, one.rule.column): one for one in visits.expire(plan_of(*rules))}
    reasons = {key: one.reason for key, one in results.items()}
    assert 'violates foreign key constraint "notes_visit_fkey"' in reasons["public.visits", "*"]
    assert 'null value in column "name"' in reasons["public.visits", "name"]
    assert "only the hash of a column of mode blind_index" in reasons["public.visits", "address"]
    assert "gone does not exist" in reasons["public.visits", "gone"]
    assert 'relation "public.nothing" does not exist' in reasons["public.nothing", "*"]
    assert results["public.visits", "day"] == Expired(rule("day", "blank"), changed=1)
    assert not any("street" in reason for reason in reasons.values())


def test_names_may_hold_what_means_something_in_sql(visits):
    visits.execute('CREATE TABLE "a ""%s"" b" ("at %(x)s" timestamptz, "100%" text DEFAULT 5)')
    visits.execute('INSERT INTO "a ""%s"" b" VALUES (\'2020-01-01\')')
    odd = rule("100%", "blank", "at %(x)s", 'public.a "%s" b')
    assert summary(visits.expire(plan_of(odd))) == [(1, 0, "")]
    assert visits.execute('SELECT "100%" FROM "a ""%s"" b"') == [(None,)]


def test_a_row_that_somebody_holds_is_left_for_the_next_time(visits):
    visits.visit(NOW - timedelta(days=31), NOW - timedelta(days=32))
    with psycopg.connect(visits.url) as holder:
        holder.execute("SELECT FROM visits WHERE id = 1 FOR UPDATE")
        assert summary(visits.expire(plan_of(rule()))) == [(1, 1, "")]
    assert summary(visits.expire(plan_of(rule()))) == [(1, 0, "")]


def test_rows_of_one_place_in_two_partitions_are_told_apart(visits):
    visits.execute("CREATE TABLE log (at timestamptz) PARTITION BY RANGE (at)")
    for year in (2024, 2026):
        visits.execute(
            f"CREATE TABLE log_{year} PARTITION OF log FOR VALUES FROM ('{year}-01-01') TO ('{year + 1}-01-01')"
        )
        visits.execute(f"INSERT INTO log VALUES ('{year}-02-20')")
    assert summary(visits.expire(plan_of(rule(table="public.log")))) == [(1, 0, "")]
    assert visits.execute("SELECT at::date::text FROM log") == [("2026-02-20",)]


def test_a_protected_value_goes_with_all_that_is_made_of_it_or_leaves_its_index_as_pseudonym(
    service, empty_postgresql_url, tmp_path
):
    people = protect(service, empty_postgresql_url, tmp_path, 10)
    people.execute(f"UPDATE people SET seen = '{NOW - timedelta(days=31)}' WHERE id < 4")
    people.execute(f"UPDATE people SET seen = '{NOW}' WHERE id >= 4")
    before = {column: decrypted(people, column) for column in ("email", "note", "settings")}
    indexes = people.execute("SELECT id, email_bi FROM people ORDER BY id")
    rules = [
        rule("email", "pseudonymize", "seen", "public.people"),
        *(rule(column, "blank", "seen", "public.people") for column in ("note", "token", "settings")),
    ]
    results = run(people.url, plan_of(*rules))
    assert [(one.rule.column, one.changed, one.left, one.reason) for one in results] == [
        ("email", 4, 0, ""),
        ("note", 3, 0, ""),  # one of the four is NULL
        ("settings", 4, 0, ""),
        ("token", 4, 0, ""),
    ]
    kept = "email, email_ct, email_kv, note, note_ct, note_kv, token, token_hash, token_kv, settings, settings_ct, settings_kv"
    assert people.execute(f"SELECT DISTINCT {kept} FROM people WHERE id < 4") == [(None,) * 12]
    assert people.execute("SELECT id, email_bi FROM people ORDER BY id") == indexes
    for column, values in before.items():
        found = decrypted(people, column)
        assert {row: found[row] for row in values if int(row) >= 4} == {
            row: value for row, value in values.items() if int(row) >= 4
        }
    assert people.execute("SELECT count(*) FROM people WHERE code_ct IS NULL") == [(0,)]


def test_a_value_without_an_index_yet_keeps_its_ciphertext_instead_of_being_lost(
    service, empty_postgresql_url, tmp_path
):
    people = protect(service, empty_postgresql_url, tmp_path, 5, ("email",))
    people.execute(
        f"ALTER TABLE people DISABLE TRIGGER zzz_kms_columns; UPDATE people SET seen = '{NOW - timedelta(days=31)}'"
    )
    people.execute("UPDATE people SET email_bi = NULL WHERE id = 2")
    assert summary(run(people.url, plan_of(rule("email", "pseudonymize", "seen", "public.people")))) == [(4, 1, "")]
    assert people.execute("SELECT id FROM people WHERE email_ct IS NOT NULL") == [(2,)]


def command(url, directory, *words):
    file = directory / "plan.yaml"
    file.write_text(
        "version: 1\ntenant: acme\ncatalog:\n"
        "  - {table: public.visits, column: '*', level: internal, keep_days: 30, age: at, on_expiry: delete}\n"
    )
    environment = {**os.environ, "KMS_COLUMNS_DATABASE": url}
    return subprocess.Popen(
        [*COMMAND, "columns", "expire", str(file), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_goes_on_until_it_is_told_to_end(visits, tmp_path):
    visits.execute("INSERT INTO visits (id, at) VALUES (1, '2020-01-01')")
    dry = command(visits.url, tmp_path, "--dry-run", "--output", "json")
    out, err = dry.communicate(timeout=60)
    assert (dry.returncode, err) == (0, "")
    assert '"left": 1' in out
    assert len(visits.execute("SELECT id FROM visits")) == 1
    process = command(visits.url, tmp_path, "--every", "1s")
    try:
        wait_until(lambda: not visits.execute("SELECT id FROM visits"), "the first round")
        visits.execute("INSERT INTO visits (id, at) VALUES (2, '2020-01-01')")
        wait_until(lambda: not visits.execute("SELECT id FROM visits"), "the next round")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")


def test_the_command_says_what_could_not_be_done(visits, tmp_path):
    visits.execute("DROP TABLE visits")
    process = command(visits.url, tmp_path)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert 'relation "public.visits" does not exist' in out
