"""bench/rotation runs, and rotates what it says; how fast it is is never tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def test_rotation_is_measured_beside_the_token_and_the_database_alone(database: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.rotation", "60", "--database", database],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for variant in ("database alone: commit", "rotation of due keys"):
        found = re.search(rf"^  {variant} +[\d,]+ +[\d,.]+ +([\d.]+) ", done.stdout, re.MULTILINE)
        assert found, done.stdout
        assert float(found[1]) > 0  # in memory a commit costs less than the token
    assert re.search(r"rotation by the time of a bare commit: [\d.]+\n", done.stdout)
    assert re.search(r"Encrypt, beside it: median [\d.]+ ms", done.stdout)
