"""bench/enclave runs; how fast anything is is never tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.softhsm, pytest.mark.soak, pytest.mark.timeout(120)]


def test_both_levels_are_measured_side_by_side_in_every_kind_of_call() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.enclave", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for kind in ("Encrypt", "Decrypt", "EncryptBatch", "DecryptBatch"):
        part = done.stdout.partition(f"\n{kind}, mutual TLS\n")[2].partition("\n\n")[0]
        for level in ("SOFTWARE", "ENCLAVE"):
            assert re.search(rf"^  {level} +[\d,]+ +[\d,.]+ +[\d.]+ ", part, re.MULTILINE), done.stdout
