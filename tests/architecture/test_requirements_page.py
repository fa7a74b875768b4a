"""docs/requirements.md is whole, and every line called met or part names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"^\| (?P<number>\d+) \| (?P<text>.+?) \| (?P<state>\w+) \| (?P<how>.+?) \| (?P<tests>.*?) ?\|$", re.MULTILINE
)
ROWS = [match.groupdict() for match in ROW.finditer((ROOT / "docs" / "requirements.md").read_text())]
SHOWN = [row for row in ROWS if row["state"] != "later"]

# The requirements that the documents put to other systems, or to applications' tables, are not on the page.
ELSEWHERE = {12, *range(21, 38), 48, 49, 55, *range(58, 63), 65, 66, 67, 78, 79, 94, 95, 97, 105, 106}
ELSEWHERE |= {113, 114, 115, 120, 122, 129, 135, 136, 137}


def exists(test: str) -> bool:
    path, _, name = test.partition("::")
    file = ROOT / path
    return file.is_file() and (
        not name or re.search(rf"^\s*(async )?def {name}\(", file.read_text(), re.MULTILINE) is not None
    )


def test_all_requirements_of_the_daemon_are_there_once_and_in_order() -> None:
    numbers = [int(row["number"]) for row in ROWS]
    assert numbers == sorted(set(range(1, 138)) - ELSEWHERE)
    assert len(numbers) == 92


def test_every_row_has_one_of_the_states() -> None:
    assert {row["state"] for row in ROWS} <= {"met", "part", "later"}
    assert len(SHOWN) >= 13


@pytest.mark.parametrize("row", SHOWN, ids=lambda row: row["number"])
def test_what_is_called_met_names_a_test_that_exists(row: dict[str, str]) -> None:
    tests = re.findall(r"`([^`]+)`", row["tests"])
    assert tests
    assert [test for test in tests if not exists(test)] == []


def test_a_test_that_does_not_exist_is_noticed() -> None:
    here = "tests/architecture/test_requirements_page.py"
    assert exists(f"{here}::test_a_test_that_does_not_exist_is_noticed")
    assert not exists(f"{here}::test_absent")
    assert not exists("tests/absent.py")
