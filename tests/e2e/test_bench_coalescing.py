"""bench/coalescing runs, and its checks can fail; how fast anything is is never tested."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import coalescing
from bench.rounds import WrongResult
from bench.service import running
from bench.workload import Workload

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.softhsm, pytest.mark.timeout(120)]


def test_single_calls_and_coalesced_ones_are_measured_side_by_side() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.coalescing", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for callers in ("1 tasks", "64 tasks", "1,000 tasks", "64 threads"):
        part = done.stdout.partition(f"\n{callers}\n")[2].partition("\n\n")[0]
        for variant in (coalescing.UNARY, coalescing.COALESCED):
            assert re.search(rf"^  {variant} +[\d,]+ +[\d,.]+ +[\d.]+ ", part, re.MULTILINE), done.stdout
    assert len(re.findall(r"^  (?:met|missed) ", done.stdout, re.MULTILINE)) == 4


def test_a_ciphertext_of_another_row_is_noticed() -> None:
    work = Workload.of(2)
    with running() as service, asyncio.Runner() as runner:

        async def encrypt(value: bytes, row: str):
            await asyncio.sleep(0)
            return service.tls.encrypt(coalescing.KEY, value, context={**coalescing.SHARED, "row": work.rows[0]})

        with pytest.raises(WrongResult, match="1 ciphertexts do not decrypt"):
            coalescing.sampler(service, runner, encrypt, work, 0.01)()
