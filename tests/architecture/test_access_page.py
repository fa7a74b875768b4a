"""docs/access.md shows the roles of the code, no permission more and none less."""

from __future__ import annotations

import re
from pathlib import Path

from kms.core.access import MOST_GRANTS, MOST_PERMISSIONS
from kms.core.patterns import Pattern
from kms.core.roles import OVER_TENANTS, PERMISSIONS, Role
from kms.services.access import MOST_PRINCIPALS

PAGE = (Path(__file__).parents[2] / "docs/access.md").read_text()


def permissions(text: str) -> set[str]:
    """Read "`keys` get, list; `places` list"."""
    found = set()
    for noun, verbs in re.findall(r"`([A-Za-z]+)` ([A-Za-z, ]+)", text):
        found |= {f"{noun}.{verb.strip()}" for verb in verbs.split(",")}
    return found


def sentence(begin: str) -> set[str]:
    found = re.search(rf"{begin}\s(.*?)[.;] *(?:\n|the rest)", PAGE, re.DOTALL)
    assert found, begin
    return permissions(found[1])


def test_the_roles_are_those_of_the_code():
    everybody = sentence("Every role also has")
    assert everybody == set.intersection(*(set(given) for given in PERMISSIONS.values()))
    rows = re.findall(r"^\| ([a-z-]+) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
    listed = {name: permissions(given) | everybody for name, given in rows if name in set(Role)}
    assert listed == {role.value: set(given) for role, given in PERMISSIONS.items()}


def test_what_operators_do_to_tenants_is_that_of_the_code():
    assert sentence("Towards tenants it gives") == OVER_TENANTS


def test_the_patterns_that_are_shown_match_as_is_said():
    shown = re.findall(r"^\| `(tenants/[^`]+)` \|", PAGE, re.MULTILINE)
    names = ["tenants/acme", "tenants/acme/keys/payroll", "tenants/acme/keys/payroll/versions/1"]
    matched = {text: [Pattern.parse(text).matches(name) for name in names] for text in shown}
    assert matched == {
        "tenants/acme/keys/payroll": [False, True, False],
        "tenants/acme/keys/payroll/**": [False, True, True],
        "tenants/acme/keys/*": [False, True, False],
        "tenants/acme/**": [True, True, True],
    }


def test_the_bounds_are_those_of_the_code():
    assert f"at most {MOST_GRANTS} grants" in PAGE
    assert f"1 to {MOST_PERMISSIONS} single" in PAGE
    assert f"at most {MOST_PRINCIPALS:,} principals" in PAGE
