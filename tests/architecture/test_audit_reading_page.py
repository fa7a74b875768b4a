"""docs/audit.md, section "Reading": the named queries, the bounds and the permissions are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from kms.cli import audit
from kms.core.audit_queries import DAYS_BACK, LONGEST_OUT_OF_HOURS, MONTHS_BACK, QUERIES
from kms.core.roles import PERMISSIONS
from kms.services.audit_reader import MOST_GROUPS, MOST_SLICES, MOST_SUMMED, SLICE

PAGE = (Path(__file__).parents[2] / "docs/audit.md").read_text()


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def shown(query):
    return ", ".join(
        f"`{one.name}`" if one.default is None else f"`{one.name}` ({one.default or 'any'})" for one in query.parameters
    )


def test_the_catalogue_is_that_of_the_code():
    table = re.search(r"^\| query \|.*\n\|[ |-]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)[1]
    listed = [tuple(cells(line)) for line in table.splitlines()]
    assert listed == [(f"`{query.name}`", shown(query) or "-", query.line) for query in QUERIES.values()]


def test_the_roles_of_each_permission_are_those_of_the_code():
    listed = {}
    for line in re.findall(r"^\| `audit\.[a-z]+` \|.*$", PAGE, re.MULTILINE):
        permission, _, roles = cells(line)
        listed[permission.strip("`")] = set(roles.split(", "))
    every = {name for names in PERMISSIONS.values() for name in names if name.startswith("audit.")}
    assert set(listed) == every
    for permission, roles in listed.items():
        assert roles == {role.value for role, names in PERMISSIONS.items() if permission in names}


def test_the_bounds_are_those_of_the_code():
    assert f"looks at {SLICE:,} events at most and a page at {MOST_SLICES} times as many" in PAGE
    assert f"look at {MOST_SUMMED:,} events and {MOST_GROUPS:,} groups at most" in PAGE
    assert f"the last {DAYS_BACK.days} days are looked at, by month {MONTHS_BACK.days}" in PAGE
    assert f"takes {LONGEST_OUT_OF_HOURS.days} days" in PAGE
    assert audit._OVERLAP.total_seconds() == 60  # "looks back a minute"
