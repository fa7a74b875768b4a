"""bench/audit runs on both databases, and its checks can fail; how fast anything is is never tested."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import audit
from bench.databases import POSTGRESQL

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.softhsm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load (nghttp2-client) is not installed"),
]


@pytest.mark.postgresql
@pytest.mark.skipif(not POSTGRESQL.is_dir(), reason="PostgreSQL's server is not installed (Debian: postgresql)")
def test_calls_are_measured_with_the_trail_and_without_it_on_both_databases() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.audit", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in (audit.SILENT, audit.AUDITED):
        found = re.findall(rf"^  {name} +[\d,]+ +[\d,.]+ +([\d.]+) +[\d.]+ +[\d.]+ +[\d.]+$", done.stdout, re.MULTILINE)
        assert len(found) == 6, done.stdout
        assert all(float(ratio) > 0 for ratio in found)
    assert len(re.findall(rf"^  {audit.COMMIT}: [\d,]+ us$", done.stdout, re.MULTILINE)) == 2
    assert len(re.findall(r"^  (?:met   |missed)  .* aim at (?:most|least)", done.stdout, re.MULTILINE)) == 6
