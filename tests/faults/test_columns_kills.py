"""A runner that dies wherever it may: the next one goes on, and in the end every value is there, once."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import random
import signal
import sys
import threading
import time

import psycopg
import pytest

import kms.failpoints
from kms.cli.main import run
from tests.protected import checksum, shape, texts

APPLY = (
    "columns.expanded",
    "columns.index_built@2",
    "columns.batch_written",
    "columns.batch_written@2",
    "columns.batch_committed",
    "columns.before_switch",
    "columns.switched",
    "columns.batch_committed@2",  # of verifying
)
BLANK = ("columns.blank_begun", "columns.batch_written@2", "columns.batch_committed")
DROP = ("columns.before_drop", "columns.dropped")
UNDO = (
    "columns.undo_begun",
    "columns.batch_written@2",
    "columns.batch_committed",
    "columns.before_undo_removed",
    "columns.undo_removed",
    "columns.before_undone",
)
PASSES = frozenset(name.partition("@")[0] for name in (*APPLY, *BLANK, *DROP, *UNDO))

PLAN = """
version: 1
tenant: acme
tables:
- table: public.people
  columns:
  - {column: name, classification: confidential, mode: randomized, key: encrypt}
  - {column: email, classification: confidential, mode: blind_index, key: encrypt,
     index: {key: index, normaliser: email}}
  - {column: settings, classification: confidential, mode: randomized, key: encrypt, paths: [[pin]]}
"""
COLUMNS = "id, name, email, settings, note"
ROWS = """
CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, email text, settings jsonb, note text);
INSERT INTO people SELECT i, 'Name ' || i, CASE WHEN i % 7 > 0 THEN 'Person' || i || '@example.com' END,
       CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN '{"pin": null, "x": 1.10}' ELSE '{"pin": [1, 2.50]}' END::jsonb, 'note'
FROM generate_series(1, 2100) i
"""


# Each command is a process of its own, forked from one that has imported what they need and done nothing else.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["kms.cli.main", "kms.columns.apply"])


def _command(words, failpoint, output):
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ["KMS_FAILPOINT"] = failpoint
    importlib.reload(kms.failpoints)
    sys.exit(run(["columns", *words]))


class Kms:
    """Runs commands that die."""

    def __init__(self, url, profile, directory):
        plan, self.output = directory / "plan.yaml", directory / "output"
        plan.write_text(PLAN)
        self.words = [str(plan), "--database", url, "--profile", str(profile)]

    def start(self, command, failpoint=""):
        process = PROCESSES.Process(target=_command, args=([command, *self.words], failpoint, self.output))
        process.start()
        return process

    def end(self, process, patience=60):
        """Return how a process ended: the negative number of a signal, or its exit code."""
        process.join(patience)
        assert process.exitcode is not None
        return process.exitcode

    def dies(self, command, failpoint):
        code = self.end(self.start(command, failpoint))
        assert code == -signal.SIGKILL, (failpoint, self.output.read_text())

    def does(self, command):
        assert self.end(self.start(command)) == 0, self.output.read_text()
        return {line.split()[2] for line in self.output.read_text().splitlines() if line.startswith("public.people  ")}


@pytest.fixture
def database(empty_postgresql_url):
    with psycopg.connect(empty_postgresql_url) as connection:
        connection.execute(ROWS)
    return empty_postgresql_url


@pytest.fixture
def commands(database, service, tmp_path):
    return Kms(database, service.acme_profile, tmp_path)


def test_apply_blank_and_undo_killed_at_every_step_come_to_the_same_end(database, commands):
    before, shaped = checksum(database, "public.people", COLUMNS), shape(database, "public.people")
    for failpoint in APPLY:
        commands.dies("apply", failpoint)
        assert checksum(database, "public.people", COLUMNS) == before
    assert commands.does("apply") == {"verified"}
    assert checksum(database, "public.people", COLUMNS) == before
    for failpoint in BLANK:
        commands.dies("blank", failpoint)
    assert commands.does("blank") == {"blanked"}
    assert {row[:3] for row in texts(database, "public.people", COLUMNS).values()} == {(None, None, None)}
    assert commands.does("verify") == {"blanked"}
    for failpoint in UNDO:
        commands.dies("undo", failpoint)
    assert commands.does("undo") == {"none"}
    assert checksum(database, "public.people", COLUMNS) == before
    assert shape(database, "public.people") == shaped


def test_drop_killed_at_every_step_comes_to_the_same_end(database, commands):
    commands.does("apply")
    commands.does("blank")
    for failpoint in DROP:
        commands.dies("drop", failpoint)
    assert commands.does("drop") == {"dropped"}
    assert commands.does("verify") == {"dropped"}
    with psycopg.connect(database) as connection:
        columns = connection.execute(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'people'::regclass AND attname IN ('name', 'email', 'settings')"
        ).fetchone()
        assert columns == (0,)
        kept = connection.execute(
            "SELECT count(name_ct), count(DISTINCT name_ct), count(email_ct), count(email_bi), count(settings_ct) FROM people"
        ).fetchone()
        assert kept == (2100, 2100, 1800, 1800, 1400)


def _killed_at_random(commands, command, chance, rng):
    """Kill a command some time after its start; returns whether it died before it was done."""
    process = commands.start(command)
    timer = threading.Timer(rng.uniform(0.1, chance), process.kill)
    timer.start()
    code = commands.end(process, 120)
    timer.cancel()
    return code == -signal.SIGKILL


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_thirty_kills_at_random_moments_lose_and_double_nothing(database, commands):
    rng = random.Random()
    before, shaped = checksum(database, "public.people", COLUMNS), shape(database, "public.people")
    kills = 0
    end = time.monotonic() + 800
    while kills < 30 and time.monotonic() < end:
        for command in ("apply", "blank", "undo"):
            while _killed_at_random(commands, command, 2.0, rng):
                kills += 1
        assert checksum(database, "public.people", COLUMNS) == before
        assert shape(database, "public.people") == shaped
    assert kills >= 30
