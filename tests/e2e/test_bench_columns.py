"""bench/columns runs, and its checks can fail; how fast anything is is never tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import columns
from bench.databases import POSTGRESQL
from bench.rounds import WrongResult
from kms.columns.plan import Mode

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.softhsm,
    pytest.mark.postgresql,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not POSTGRESQL.is_dir(), reason="PostgreSQL's server is not installed (Debian: postgresql)"),
]


def test_protecting_rows_is_measured_beside_copy_and_pgcrypto() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.columns", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for variant in (columns.AES, columns.PGP, columns.FILL, columns.FILL_INDEX, columns.REENCRYPT):
        assert ratio(done.stdout, variant) > 1
    assert ratio(done.stdout, columns.COPY) == 1
    for variant in (columns.SCAN, columns.COUNTED, columns.HEADERS, columns.HASHED):
        assert ratio(done.stdout, variant) > 0
    assert ratio(done.stdout, columns.SEARCHED) > 1


def ratio(output: str, variant: str) -> float:
    found = re.search(rf"^  {re.escape(variant)} +[\d,]+ +[\d,.]+ +([\d.]+) ", output, re.MULTILINE)
    assert found, f"no line of {variant} in {output}"
    return float(found[1])


def test_rows_that_are_not_what_they_were_are_noticed() -> None:
    with columns.prepared(20) as bench:
        known = bench.filled(Mode.RANDOMIZED)
        bench.check(known, 1)
        with pytest.raises(WrongResult, match="0 of 20 rows are of version 2"):
            bench.check(known, 2)
        bench.connection.execute(f"ALTER TABLE {known.table} DISABLE TRIGGER USER".encode())
        bench.connection.execute(f"UPDATE {known.table} SET value = 'another' WHERE id = 7".encode())  # noqa: S608  ours
        with pytest.raises(WrongResult, match="do not decrypt"):
            bench.check(known, 1)
