"""The rules that make findings: each finds what it is about, at its bound, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.access import Conditions, Effect
from kms.core.census import VersionCensus
from kms.core.events import Severity
from kms.core.lifecycle import KeyState
from kms.core.patterns import Pattern
from kms.core.policy import NEVER, Policy
from kms.core.report_body import judge_whole
from kms.core.report_facts import Facts
from kms.core.report_rules import (
    LATE_AFTER,
    LONG_LIVED,
    LONG_OPEN,
    RULES,
    UNUSED,
    Rule,
    judge_event,
    judge_exposed,
    judge_failures,
    judge_grant,
    judge_key,
    judge_quorum,
    judge_rotation,
    judge_token,
    spoken,
    used_percent,
)
from kms.core.roles import Role
from kms.core.suites import GCM_STOP, Purpose, Suite
from kms.core.tokens import TokenState, TokenUse
from tests import keyrings
from tests.keyrings import NOW
from tests.tokens import new_token

TENANT = keyrings.new_tenant("acme")
KEY = replace(keyrings.new_key(TENANT), rotated_at=NOW, state=KeyState.ACTIVE, suite=Suite.AES_256_GCM)
MONTHLY = Policy(rotation=timedelta(days=30))
SECOND = timedelta(seconds=1)


def rules(found):
    return [rule for rule, _ in found]


def test_every_rule_has_a_text():
    assert set(RULES) == set(Rule)
    assert all(text.meaning and text.recommendation for text in RULES.values())


def test_a_key_is_overdue_when_its_primary_version_outlives_its_period_and_what_a_scheduler_may_take():
    bound = MONTHLY.rotation + LATE_AFTER
    assert rules(judge_key(KEY, MONTHLY, 0, NOW + bound)) == []
    assert rules(judge_key(KEY, MONTHLY, 0, NOW + bound + SECOND)) == [Rule.KEY_OVERDUE]
    for state in set(KeyState) - {KeyState.ACTIVE, KeyState.ROTATING}:
        found = rules(judge_key(replace(KEY, state=state), MONTHLY, 0, NOW + bound * 2))
        assert Rule.KEY_OVERDUE not in found


def test_a_key_that_is_never_rotated_by_time_is_found_but_for_deterministic_ones():
    never = replace(MONTHLY, rotation=NEVER)
    assert rules(judge_key(KEY, never, 0, NOW)) == [Rule.KEY_NOT_ROTATED]
    for purpose in (Purpose.DETERMINISTIC, Purpose.INDEX):
        assert rules(judge_key(replace(KEY, purpose=purpose), never, 0, NOW)) == []


def test_a_version_near_its_limit_is_found_at_three_quarters():
    assert rules(judge_key(KEY, MONTHLY, GCM_STOP * 3 // 4 - 1, NOW)) == []
    assert rules(judge_key(KEY, MONTHLY, GCM_STOP * 3 // 4, NOW)) == [Rule.NEAR_LIMIT]
    assert used_percent(replace(MONTHLY, encryption_limit=1_000), KEY, 500) == 50
    assert used_percent(MONTHLY, replace(KEY, suite=Suite.AES_SIV), 10**9) is None


def test_a_revoked_key_is_found_until_it_is_destroyed():
    assert rules(judge_key(replace(KEY, state=KeyState.REVOKED), MONTHLY, 0, NOW)) == [Rule.COMPROMISED]
    assert rules(judge_key(replace(KEY, state=KeyState.DESTROYED), MONTHLY, 0, NOW)) == []


def test_a_revoked_version_that_was_lent_is_found_while_it_may_protect_something():
    version = replace(keyrings.new_version(KEY, 2), state=KeyState.REVOKED, exposed_at=NOW)
    unknown, some, none = VersionCensus(0, (), unknown=("x",)), VersionCensus(7, (("crm", 7),)), VersionCensus(0, ())
    assert list(judge_exposed(version, unknown)) == [(Rule.EXPOSED, "version 2: what it protects is not known")]
    assert list(judge_exposed(version, some)) == [(Rule.EXPOSED, "version 2: it protects 7 values")]
    assert list(judge_exposed(version, none)) == []
    assert list(judge_exposed(replace(version, exposed_at=None), some)) == []
    assert list(judge_exposed(replace(version, state=KeyState.ARCHIVED), some)) == []


def test_a_rotation_is_late_by_the_age_of_what_it_replaced():
    previous = replace(keyrings.new_version(KEY), created_at=NOW)
    bound = MONTHLY.rotation + LATE_AFTER
    for late, expected in ((timedelta(0), []), (SECOND, [Rule.ROTATION_LATE])):
        following = replace(keyrings.new_version(KEY, 2), created_at=NOW + bound + late)
        assert rules(judge_rotation(previous, following, MONTHLY)) == expected
    later = replace(following, created_at=NOW + timedelta(days=40))
    assert list(judge_rotation(previous, later, MONTHLY)) == [
        (Rule.ROTATION_LATE, "version 1 was replaced 10 days late")
    ]
    assert rules(judge_rotation(previous, later, replace(MONTHLY, rotation=NEVER))) == []


@pytest.mark.parametrize(
    ("pattern", "all_keys"),
    [
        ("tenants/acme/keys/*", True),
        ("tenants/acme/keys/**", True),
        ("tenants/acme/**", True),
        ("**", True),
        ("tenants/acme/keys/payroll", False),
        ("tenants/acme/keys/payroll/**", False),
        ("tenants/acme/policies/*", False),
    ],
)
def test_a_grant_of_every_key_is_found(pattern, all_keys):
    grant = replace(keyrings.new_grant(keyrings.new_principal(TENANT)), resource=Pattern(pattern))
    assert rules(judge_grant(grant, NOW, seen=True)) == [Rule.GRANT_ALL_KEYS] * all_keys
    for narrower in (
        {"expires_at": NOW + SECOND},
        {"effect": Effect.DENY},
        {"role": Role.AUDITOR},
        {"conditions": Conditions(classes=frozenset({"internal"}))},
    ):
        assert rules(judge_grant(replace(grant, **narrower), NOW, seen=True)) == []


def test_a_grant_of_a_principal_that_has_not_called_is_found():
    grant = replace(keyrings.new_grant(keyrings.new_principal(TENANT)), resource=Pattern("tenants/acme/keys/payroll"))
    assert rules(judge_grant(grant, NOW, seen=False)) == [Rule.GRANT_UNUSED]
    assert rules(judge_grant(replace(grant, expires_at=NOW), NOW, seen=False)) == []


def test_tokens_that_live_long_or_are_not_used_are_found():
    token = replace(new_token(TENANT), created_at=NOW, expires_at=NOW + LONG_LIVED)
    assert rules(judge_token(token, None, NOW)) == []
    longer = replace(token, expires_at=NOW + LONG_LIVED + SECOND)
    assert rules(judge_token(longer, None, NOW)) == [Rule.TOKEN_LONG_LIVED]
    later = NOW + UNUSED + SECOND
    assert rules(judge_token(token, None, later)) == [Rule.TOKEN_UNUSED]
    assert rules(judge_token(token, TokenUse(1, NOW + SECOND), later)) == []
    assert rules(judge_token(replace(longer, state=TokenState.REVOKED), None, later)) == []


def test_a_grave_event_that_is_open_for_a_day_is_found():
    event = keyrings.new_event(TENANT.uid, severity=Severity.HIGH, created_at=NOW)
    assert rules(judge_event(event, NOW + LONG_OPEN)) == []
    assert rules(judge_event(event, NOW + LONG_OPEN + SECOND)) == [Rule.EVENT_OPEN]
    assert rules(judge_event(replace(event, severity=Severity.MEDIUM), NOW + LONG_OPEN * 9)) == []
    assert rules(judge_event(replace(event, resolved_at=NOW), NOW + LONG_OPEN * 9)) == []


def test_a_permission_without_a_quorum_is_found():
    assert (rules(judge_quorum(0)), rules(judge_quorum(1))) == ([Rule.WITHOUT_QUORUM], [])


def test_more_than_one_failure_of_ten_is_found_from_ten_on():
    assert rules(judge_failures(100, 10)) == []
    assert rules(judge_failures(99, 10)) == [Rule.FAILURES]
    assert rules(judge_failures(9, 9)) == []


def test_the_whole_is_judged_too():
    facts = Facts()
    facts.tally("calls").add("tenants/acme/principals/app", 20, 15)
    judge_whole(facts, open_tenants=True)
    assert {name for name in facts.listings if name.startswith("finding.")} == {
        "finding.tenants-open",
        "finding.trail-empty",
        "finding.many-failures",
    }
    calm = Facts(counts={"trail.events": 1})
    judge_whole(calm, open_tenants=False)
    assert calm.listings == {}


def test_periods_are_spoken_in_days_and_below_two_days_in_hours():
    assert [spoken(timedelta(hours=hours)) for hours in (1, 47, 48, 80)] == ["1 hours", "47 hours", "2 days", "3 days"]
