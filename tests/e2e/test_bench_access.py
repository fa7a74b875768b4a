"""bench/access runs, and its checks can fail; how fast anything is is never tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_gates_are_measured_beside_whole_calls_and_a_quiet_tenant_beside_floods() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.access", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for gate in ("authentication", "limits and turn", "authorization", "watch", "all gates"):
        ratios = re.findall(rf"^  {gate} +[\d,.]+ +([\d.]+)$", done.stdout, re.MULTILINE)
        assert len(ratios) == 2, done.stdout
        assert all(0 <= float(ratio) < 1 for ratio in ratios)
    beside = re.findall(
        r"^  beside [a-z0-9, ]+ in flight +([\d.]+) +([\d.]+) +[\d.]+ +[\d.]+ +([\d,]+)$", done.stdout, re.MULTILINE
    )
    assert len(beside) == 3
    for p50, p99, flood in beside:
        assert 0 < float(p50) <= float(p99)
        assert int(flood.replace(",", "")) > 0
    assert len(re.findall(r"^  (?:met   |missed)  .* aim at most", done.stdout, re.MULTILINE)) == 5
