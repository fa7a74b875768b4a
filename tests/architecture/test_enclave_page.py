"""docs/enclave.md tells what there is: errors, functions, measures, policies and the bytes of a blob."""

from __future__ import annotations

import re
from pathlib import Path

from enclave.errors import BY_CODE
from enclave.functions import FUNCTIONS
from enclave.interface import Policy
from enclave.sealing import HEADER_LENGTH
from tests.enclaves import MEASURES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/enclave.md").read_text()


def first_column(heading: str) -> set[str]:
    table = PAGE.partition(f"\n{heading}\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_every_code_is_on_the_page_and_no_other():
    assert first_column("| code | meaning |") == set(BY_CODE)


def test_the_tree_of_errors_is_what_there_is():
    text = (ROOT / "enclave/errors.py").read_text()
    drawn = re.findall(r"[|`]-- (\w+)", text.partition('"""\n\n')[0])
    assert drawn == [error.__name__ for error in BY_CODE.values()]


def test_every_function_measure_and_policy_is_on_the_page_and_no_other():
    assert first_column("| function | inputs | does |") == set(FUNCTIONS)
    assert first_column("| measure | what it keeps out | where it is not to be had |") == MEASURES
    assert first_column("| policy | opens | does not open |") == set(Policy)


def test_the_layout_of_a_blob_has_no_gap():
    part = PAGE.partition("## A sealed blob")[2].partition("\n\nAES")[0]
    rows = [(int(at), int(length or 0)) for at, length in re.findall(r"^\| (\d+) \| (\d*) ?\|", part, re.MULTILINE)]
    assert [at for at, _ in rows] == [sum(length for _, length in rows[:index]) for index in range(len(rows))]
    assert rows[-1][0] == HEADER_LENGTH


def test_the_number_of_rows_is_that_of_the_table():
    rows = re.search(r"whole table, (\d+) rows", PAGE)
    assert rows is not None
    table = (ROOT / "tests/unit/enclave/test_sealing.py").read_text()
    assert len(re.findall(r"^    \(\d+, (?:CODE|SIGNER)", table, re.MULTILINE)) == int(rows.group(1))
