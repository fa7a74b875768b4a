"""The benchmark of verifying an exported trail runs; how fast anything is is never tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_verifying_is_measured_beside_bare_hashes():
    done = subprocess.run(
        [sys.executable, "-m", "bench.audit_verify", "12000", "--streams", "2"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    row = re.search(r"2 streams +12,000 +([\d,]+) +([\d,]+) +([\d,]+) +([\d.]+)", done.stdout)
    assert row, done.stdout
    assert float(row[4]) > 0
    assert "verifying beside bare hashes" in done.stdout
