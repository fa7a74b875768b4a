"""The demo tells the truth: it ends well, refuses every attack, and asks the token no more for more rows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def told(rows: int) -> str:
    done = subprocess.run(
        [sys.executable, str(DEMO), "--rows", str(rows)], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def token_operations(text: str) -> list[int]:
    return [int(count) for count in re.findall(r"(\d+) token operations", text)]


def check(text: str, rows: int) -> None:
    assert text.count(": refused (") == 5
    assert f"all {rows:,} rows decrypt to exactly what was loaded" in text
    assert len(token_operations(text)) == 2
    assert "finds 1 row" in text


def test_the_demo_runs_and_its_token_operations_do_not_grow_with_the_rows() -> None:
    few, more = told(60), told(6_000)
    check(few, 60)
    check(more, 6_000)
    assert token_operations(few) == token_operations(more)
    assert sum(token_operations(more)) < 10


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_hundred_thousand_rows_need_no_more_token_operations_than_a_few() -> None:
    text = told(100_000)
    check(text, 100_000)
    assert sum(token_operations(text)) < 10
