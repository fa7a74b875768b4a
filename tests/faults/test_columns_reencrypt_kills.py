"""kill -9 of re-encryption, re-indexing and expiry at every step, while an application writes: nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
from contextlib import contextmanager

import psycopg
import pytest

from tests.cli_fixtures import COMMAND
from tests.protected_tables import decrypted, protect

# ruff: noqa: S608  no input

STEPS = ("columns.batch_written", "columns.batch_committed")
PASSES = frozenset((*STEPS, "columns.expired"))
ROWS = 2_500  # three batches of the command


def start(people, *words, failpoint=""):
    environment = {
        **os.environ,
        "KMS_PROFILE": str(people.profile),
        "KMS_COLUMNS_DATABASE": people.url,
        "KMS_FAILPOINT": failpoint,
    }
    environment.pop("KMS_TENANT", None)
    return subprocess.Popen(
        [*COMMAND, "columns", *words, str(people.plan_file)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed(people, *words, failpoint):
    process = start(people, *words, failpoint=failpoint)
    out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, (out, err)


def carried_through(people, *words):
    process = start(people, *words)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)


@contextmanager
def writing(people):
    """An application that goes on writing values with their ciphertexts; yields what it has written, by row."""
    written, over = {}, threading.Event()

    def write():
        number = 0
        with psycopg.connect(people.url, autocommit=True) as connection:
            while not over.is_set():
                row, value = str(number % 50), f"written {number}"
                context = {"table": "public.people", "column": "note", "row": row}
                made = people.client.encrypt(people.key, value.encode(), context=context)
                connection.execute(
                    "UPDATE public.people SET note = %s, note_ct = %s, note_kv = %s WHERE id = %s",
                    (value, made.ciphertext, made.version, row),
                )
                written[row] = [value.encode()]
                number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        over.set()
        thread.join(30)
        assert not thread.is_alive()


def oldest(people, column):
    [(version,)] = people.execute(f"SELECT min({column}_kv) FROM people")
    return version


def through_kills(people, failpoints):
    """Rotate, and re-encrypt with a run for each failpoint, and a last one that nobody kills; returns how many were killed.

    A number stands for a kill so many seconds after the start.
    """
    before = decrypted(people, "note")
    people.client.rotate_key(people.key)
    target = people.client.get_key(people.key).primary_version
    kills = 0
    with writing(people) as written:
        for failpoint in failpoints:
            process = start(people, "reencrypt", failpoint=failpoint if isinstance(failpoint, str) else "")
            try:
                out, err = process.communicate(timeout=60 if isinstance(failpoint, str) else failpoint)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
            assert process.returncode in (0, -signal.SIGKILL), (out, err)
            kills += process.returncode != 0
        carried_through(people, "reencrypt")
    assert written
    assert decrypted(people, "note") == before | written
    assert oldest(people, "note") == target
    return kills


@pytest.fixture
def people(service, empty_postgresql_url, tmp_path):
    return protect(service, empty_postgresql_url, tmp_path, ROWS, ("note",))


def test_a_re_encryption_that_is_killed_goes_on_and_loses_nothing(people):
    assert through_kills(people, STEPS) == len(STEPS)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_thirty_kills_of_re_encryption_lose_nothing(people):
    choice = random.Random(int(os.environ.get("KMS_TEST_SEED", "1")))
    kills = 0
    while kills < 30:
        steps = [f"{step}@{choice.randrange(1, 3)}" for step in choice.sample(STEPS, 2)]
        kills += through_kills(people, [choice.uniform(1.0, 2.5), *steps])


def test_a_re_indexing_that_is_killed_goes_on(service, empty_postgresql_url, tmp_path):
    people = protect(service, empty_postgresql_url, tmp_path, ROWS, ("email",))
    before = decrypted(people, "email")
    people.client.rotate_key(people.index)
    for failpoint in STEPS:
        killed(people, "reindex", failpoint=failpoint)
        [(left,)] = people.execute("SELECT count(*) FROM people WHERE email_bi < '\\x00000002'")
        assert 0 < left <= ROWS
    carried_through(people, "reindex")
    assert people.execute("SELECT count(*) FROM people WHERE substr(email_bi, 1, 4) = '\\x00000002'") == [(ROWS,)]
    assert people.execute("SELECT count(DISTINCT email_bi) FROM people") == [(ROWS,)]
    assert decrypted(people, "email") == before


def test_an_expiry_that_is_killed_goes_on(service, empty_postgresql_url, tmp_path):
    rule = "[{table: public.people, column: '*', level: confidential, keep_days: 30, age: seen, on_expiry: delete}]"
    people = protect(service, empty_postgresql_url, tmp_path, ROWS, ("note",), catalog=rule)
    people.execute("UPDATE people SET seen = now() - interval '31 days' WHERE id >= 100")
    killed(people, "expire", failpoint="columns.expired")
    assert people.execute("SELECT count(*) FROM people") == [(ROWS - 1_000,)]
    carried_through(people, "expire")
    assert people.execute("SELECT min(id), max(id), count(*) FROM people") == [(0, 99, 100)]
