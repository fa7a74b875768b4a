"""bench.blobs runs; how fast anything is is never tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.softhsm, pytest.mark.soak, pytest.mark.timeout(120)]


def test_large_and_small_blobs_are_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.blobs", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for title, ways in (("In", "SealBlob"), ("Out", "UnsealBlob")):
        part = done.stdout.partition(f"\n{title}, Unix socket\n")[2].partition("\n\n")[0]
        for way in ("plain gRPC", "bare AES-256-GCM", ways):
            assert re.search(rf"^  {way} +[\d,]+ +[\d,.]+ +[\d.]+ ", part, re.MULTILINE), done.stdout
    for store in ("local", "small", "bucket"):
        part = done.stdout.partition(f"store {store}\n")[2]
        assert re.match(r" +sealed: [\d,]+ blobs/s .*\n +unsealed: [\d,]+ blobs/s", part), done.stdout
