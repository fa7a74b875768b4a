"""docs/threat-model.md lists what a hostile database can do unnoticed: what the tamper suite permits, and no more."""

from __future__ import annotations

import re
from pathlib import Path

from storage.schemas import metadata
from tests.tampering.attacks import Kind
from tests.tampering.permitted import PERMITTED, RECORD

PAGE = (Path(__file__).parents[2] / "docs/threat-model.md").read_text()


def test_what_is_not_noticed_is_what_the_suite_permits():
    part = PAGE.partition("\n### What is not noticed\n")[2].partition("\n### ")[0]
    listed = re.findall(r"^\| `([\w ]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", part, re.MULTILINE)
    permitted = [
        (
            permit.table,
            ", ".join(permit.columns),
            "all" if set(permit.kinds) == set(Kind) else ", ".join(permit.kinds),
            permit.outcome.value,
            permit.reason,
        )
        for permit in PERMITTED
    ]
    assert listed == permitted
    assert part.count("\n| `") == len(PERMITTED)


def test_only_tables_that_there_are_are_permitted():
    tables = {table.name: table for table in metadata.tables.values()}
    for permit in PERMITTED:
        assert permit.table in {*tables, RECORD}
        assert set(permit.columns) <= {"rows", "any"} or set(permit.columns) <= set(tables[permit.table].columns.keys())
        assert permit.reason
