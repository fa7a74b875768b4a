"""bench/orm runs, and its checks can fail; how fast anything is is never tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from bench import orm
from bench.rounds import WrongResult

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.softhsm, pytest.mark.postgresql, pytest.mark.timeout(120)]


def test_plain_and_protected_types_are_measured_side_by_side() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.orm", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for title in ("Reading 200 objects", "Finding an object", "Writing 200 objects"):
        part = done.stdout.partition(title)[2].partition("\n\n")[0]
        for variant in (orm.PLAIN, orm.PROTECTED):
            assert re.search(rf"^  {variant} +[\d,]+ +[\d,.]+ +[\d.]+ ", part, re.MULTILINE), done.stdout


def test_a_row_that_is_not_what_was_written_is_noticed() -> None:
    with orm.prepared(20) as (service, sides):
        url = sides[orm.PLAIN].engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            connection.execute("UPDATE plain_people SET name = 'another' WHERE id = 7")
        with pytest.raises(WrongResult, match="rows are not read as they were written"):
            next(orm.measured(service, sides, 20, 5, 1, 0.01))
