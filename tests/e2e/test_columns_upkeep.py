"""`kms columns reencrypt`, `reindex` and `census` as commands; and that no plaintext stands in a log of the server."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from urllib.parse import quote

import psycopg
import pytest

from tests.cli_fixtures import COMMAND
from tests.protected_tables import protect

MARK = "Person17@example.org"


@pytest.fixture
def people(service, empty_postgresql_url, tmp_path):
    return protect(service, empty_postgresql_url, tmp_path)


def run(people, command, *words, code=0, database=None):
    environment = {**os.environ, "KMS_PROFILE": str(people.profile), "KMS_COLUMNS_DATABASE": database or people.url}
    environment.pop("KMS_TENANT", None)
    done = subprocess.run(
        [*COMMAND, "columns", command, str(people.plan_file), "--output", "json", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


def test_the_commands_bring_every_column_and_report_what_is_left_of_the_old_version(people):
    for key in (people.key, people.deterministic, people.index):
        people.client.rotate_key(key)
    assert run(people, "reencrypt") == [
        {"column": "public.people.code", "changed": 40, "version": 2},
        {"column": "public.people.email", "changed": 40, "version": 2},
        {"column": "public.people.note", "changed": 32, "version": 2},
        {"column": "public.people.settings", "changed": 16, "version": 2},
    ]
    assert run(people, "reindex") == [
        {"column": "public.people.email", "changed": 40, "version": 2},
        {"column": "public.people.token", "changed": 40, "version": 2},
    ]
    counts = run(people, "census", "--no-report")
    assert people.client.list_places(people.key).places == ()
    assert {tuple(one["versions"]) for one in counts} == {("2",)}
    run(people, "census")
    assert len(people.client.list_places(people.key).places) == 3
    assert [version.census.count for version in people.client.list_key_versions(people.index)] == [0, 80]


def test_what_the_commands_cannot_do_is_one_plain_line(people, postgresql_databases):
    other = postgresql_databases.create()
    try:
        nothing = run(people, "reencrypt", code=1, database=postgresql_databases.url(other))
    finally:
        postgresql_databases.drop(other)
    assert nothing == "kms: nothing of this plan is protected in this database yet: kms columns apply\n"
    assert "is a plan of tenant acme, not of globex" in run(people, "census", "--tenant", "globex", code=3)
    assert "table public.nobody is not in the plan" in run(people, "reindex", "--table", "public.nobody", code=3)
    people.execute(
        "ALTER TABLE people DISABLE TRIGGER zzz_kms_columns; UPDATE people SET note_ct = email_ct, note_kv = 0"
    )
    bad = run(people, "reencrypt", code=1)
    assert bad.startswith("kms: public.people.note: 40 rows cannot be re-encrypted (")
    assert bad.count("\n") == 1


def test_a_role_that_may_write_the_table_is_enough_and_is_told_what_fires(people):
    role = f"keeper_{uuid.uuid4().hex[:12]}"
    people.execute(
        f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA kms_columns TO {role};"
        f" GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, kms_columns TO {role}"
    )
    try:
        people.client.rotate_key(people.key)
        url = people.url.replace("postgres@", f"{role}@")
        environment = {**os.environ, "KMS_PROFILE": str(people.profile), "KMS_COLUMNS_DATABASE": url}
        done = subprocess.run(
            [*COMMAND, "columns", "reencrypt", str(people.plan_file)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == (
            "kms: the role may not set session_replication_role: triggers of the application fire for each row\n"
        )
        assert people.execute("SELECT DISTINCT note_kv FROM people WHERE note_ct IS NOT NULL") == [(2,)]
        assert run(people, "census", "--no-report", database=url)
    finally:
        people.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_no_value_stands_in_the_logs_of_the_server(people, own_postgresql_server):
    log = own_postgresql_server.directory / "log"
    logged = (
        people.url
        + "&options="
        + quote("-c log_statement=all -c log_min_duration_statement=0 -c log_parameter_max_length=-1")
    )
    begin = log.stat().st_size
    for key in (people.key, people.index):
        people.client.rotate_key(key)
    for command in ("reencrypt", "reindex"):
        run(people, command, database=logged)
    for words in ((), ("--from-headers",)):
        run(people, "census", "--no-report", *words, database=logged)
    written = log.read_bytes()[begin:]
    # The log is that of these commands, and would show what they say.
    assert b"UPDATE" in written
    assert b"COPY" in written
    assert b"email_ct" in written
    for secret in (MARK, "token 17", "oauth secret", "plain note"):
        assert secret.encode() not in written
    with psycopg.connect(logged) as connection:
        connection.execute(f"SELECT '{MARK}'")
    assert MARK.encode() in log.read_bytes()[begin:]
