"""docs/lifecycle.md shows the tables of the code, no step more and none less."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

from kms.core import policy
from kms.core.lifecycle import (
    KEY_TRANSITIONS,
    VERSION_TRANSITIONS,
    KeyState,
    Transitions,
    Use,
    key_allows,
    spoken,
    version_allows,
)
from kms.failpoints import FAILPOINTS

PAGE = (Path(__file__).parents[2] / "docs/lifecycle.md").read_text()


def rows(section: str, first_column: str) -> list[list[str]]:
    """The cells of the table in *section* whose first column has this title."""
    _, found, rest = PAGE.partition(f"\n## {section}\n")
    assert found, f"no section {section}"
    table = re.search(rf"^\| {first_column} \|.*\n\|[ |-]+\|\n((?:\|.*\n)+)", rest.split("\n## ")[0], re.MULTILINE)
    assert table, f"no table of {first_column} in {section}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def steps(transitions: Transitions) -> set[tuple[str, ...]]:
    return {
        (spoken(state), event.value, spoken(after) if isinstance(after, KeyState) else "what it was before")
        for (state, event), after in transitions.items()
    }


def test_the_steps_of_keys_and_versions_are_those_of_the_code():
    for section, transitions in (("A key", KEY_TRANSITIONS), ("A version", VERSION_TRANSITIONS)):
        listed = [tuple(row) for row in rows(section, "from")]
        assert set(listed) == steps(transitions)
        assert len(listed) == len(transitions)


def test_what_a_state_allows_is_what_the_code_allows():
    listed = {state: cells for state, *cells in rows("What a key may be used for", "state of the key")}
    assert listed == {
        spoken(state): ["yes" if key_allows(state, use) else "no" for use in (Use.ENCRYPT, Use.DECRYPT, Use.RESCUE)]
        for state in KeyState
    }
    # A version's states allow the same, so that one table is enough.
    assert all(key_allows(state, use) == version_allows(state, use) for state in KeyState for use in Use)


def shown(period: timedelta) -> str:
    """A period as the page writes it, in its largest whole unit."""
    for unit, length in (("year", 365.25 * 86_400), ("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        number, rest = divmod(period.total_seconds(), length)
        if number and rest < length / 100:  # ten years are 3,653 days
            return f"{number:g} {unit}{'s' if number > 1 else ''}"
    raise AssertionError(period)


def test_the_rules_of_policies_have_the_bounds_and_defaults_of_the_code():
    listed = {rule: (default, bounds) for rule, default, bounds in rows("Policies", "rule")}
    built_in = policy.DEFAULT
    periods = {
        "rotation period": (built_in.rotation, policy.SHORTEST_ROTATION, policy.LONGEST_ROTATION),
        "cache lifetime": (built_in.cache_lifetime, policy.SHORTEST_CACHE, policy.LONGEST_CACHE),
        "quarantine": (built_in.quarantine, policy.SHORTEST_QUARANTINE, policy.LONGEST_QUARANTINE),
        "grace": (built_in.grace, policy.SHORTEST_GRACE, policy.LONGEST_GRACE),
    }
    for rule, (default, shortest, longest) in periods.items():
        assert listed[rule][0] == ("24 hours" if rule == "rotation period" else shown(default))
        assert f"{shown(shortest)} to {shown(longest)}" in listed[rule][1]
    assert built_in.rotation == timedelta(hours=24)
    assert (built_in.encryption_limit, built_in.automatic_retirement) == (0, False)
    assert f"{policy.SMALLEST_LIMIT:,} or more" in listed["limit of encryptions"][1]
    assert set(listed) == {*periods, "limit of encryptions", "automatic retirement"}


def test_the_steps_at_which_a_crash_is_tried_have_their_names():
    named = {name.strip() for group in re.findall(r"\[([a-z_.]+(?:, [a-z_.]+)*)\]", PAGE) for name in group.split(",")}
    assert named == {name for name in FAILPOINTS if name.startswith(("lifecycle.", "update_policy."))}
