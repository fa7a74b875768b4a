"""Classes: what each demands rises, each rule broken alone is named, and a policy may demand more but never less."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.classification import (
    CLASSES,
    WITH_ENCLAVE,
    WITHOUT_ENCLAVE,
    Classification,
    available,
    choose,
    require_available,
)
from kms.core.errors import NotSupported
from kms.core.policy import (
    BUILT_IN,
    DEFAULT,
    LONGEST_CACHE,
    LONGEST_ROTATION,
    NEVER,
    SHORTEST_CACHE,
    Overrides,
    Policy,
    effective,
    least_quorum,
    level_violations,
    logs_data_access,
    lowered,
    policy_violations,
    required_context,
    violations,
)
from kms.core.suites import ALLOWED, ProtectionLevel, Purpose, Suite
from tests.keyrings import policy_rules

CONFIDENTIAL, SECRET = BUILT_IN["confidential"], BUILT_IN["secret"]
classes = st.sampled_from(Classification)


def named(found):
    return [(violation.field, violation.rule.rpartition("(")[2].rstrip(")")) for violation in found]


# The rules, class by class: what breaks one of them alone, and what is just within it.
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
GCM = (Purpose.ENCRYPT, Suite.AES_256_GCM, ProtectionLevel.SOFTWARE)
SEALED = (Purpose.ENCRYPT, Suite.XAES_256_GCM, ProtectionLevel.ENCLAVE)
ROW = replace(DEFAULT, required_context=("row",))
SIV = (Purpose.DETERMINISTIC, Suite.AES_SIV, ProtectionLevel.SOFTWARE)
BROKEN = [
    ("public.required_context", replace(ROW, classification=Classification.PUBLIC), SIV, "policy"),
    ("internal.required_context", ROW, SIV, "policy"),
    ("confidential.required_context", replace(CONFIDENTIAL, required_context=("row",)), SIV, "policy"),
    ("confidential.rotation_period", replace(CONFIDENTIAL, rotation=timedelta(days=90) + HOUR), GCM, ""),
    ("confidential.rotation_period", replace(CONFIDENTIAL, rotation=NEVER), GCM, ""),
    ("confidential.cache_lifetime", replace(CONFIDENTIAL, cache_lifetime=timedelta(minutes=5) + SECOND), GCM, ""),
    ("secret.rotation_period", replace(SECRET, rotation=timedelta(days=30) + HOUR), SEALED, ""),
    ("secret.rotation_period", replace(SECRET, rotation=NEVER), SEALED, ""),
    ("secret.cache_lifetime", replace(SECRET, cache_lifetime=timedelta(minutes=1) + SECOND), SEALED, ""),
    ("secret.purpose", SECRET, (Purpose.DATA_KEY, *SEALED[1:]), ""),
    ("secret.suite", SECRET, (Purpose.ENCRYPT, Suite.AES_256_GCM, ProtectionLevel.ENCLAVE), ""),
    ("secret.protection_level", SECRET, (*SEALED[:2], ProtectionLevel.SOFTWARE), ""),
    ("secret.protection_level", SECRET, (*SEALED[:2], ProtectionLevel.HSM), ""),
]
WITHIN = [
    (replace(CONFIDENTIAL, rotation=timedelta(days=90), cache_lifetime=timedelta(minutes=5)), GCM),
    (replace(SECRET, rotation=timedelta(days=30), cache_lifetime=timedelta(minutes=1)), SEALED),
    (replace(DEFAULT, rotation=LONGEST_ROTATION, cache_lifetime=LONGEST_CACHE), GCM),
    (replace(DEFAULT, rotation=NEVER, required_context=("table",)), SIV),
    (CONFIDENTIAL, SIV),
]


@pytest.mark.parametrize(("rule", "policy", "key", "field"), BROKEN)
def test_each_rule_broken_alone_is_named(rule, policy, key, field):
    assert named(violations(policy, *key, leasable=False)) == [(field or rule.partition(".")[2], f"rule {rule}")]


@pytest.mark.parametrize(("policy", "key"), WITHIN)
def test_what_is_just_within_the_rules_breaks_none(policy, key):
    assert violations(policy, *key, leasable=False) == ()


def test_the_cases_cover_every_rule_that_a_class_has():
    bounded = {
        f"{classification.slug}.{field}"
        for classification, rules in CLASSES.items()
        for field, narrow in (
            ("rotation_period", rules.longest_rotation is not None),
            ("cache_lifetime", rules.longest_cache < LONGEST_CACHE),
            ("purpose", set(rules.purposes) < set(Purpose)),
            ("suite", set(rules.suites) < set(Suite)),
            ("protection_level", set(rules.levels) < set(ProtectionLevel)),
        )
        if narrow
    }
    assert bounded == {rule for rule, *_ in BROKEN if not rule.endswith("required_context")}


@pytest.mark.parametrize("classification", Classification)
def test_the_full_product_of_a_class_and_its_keys_is_what_the_table_says(classification):
    rules, policy = CLASSES[classification], BUILT_IN[classification.slug]
    for purpose in Purpose:
        for suite in ALLOWED[purpose]:
            for level in ProtectionLevel:
                found = {field for field, _ in named(violations(policy, purpose, suite, level, leasable=False))}
                expected = {
                    field
                    for field, choice, allowed in (
                        ("purpose", purpose, rules.purposes),
                        ("suite", suite, rules.suites),
                        ("protection_level", level, rules.levels),
                    )
                    if choice not in allowed
                }
                if purpose is Purpose.DETERMINISTIC and "row" in rules.required_context:
                    expected.add("policy")
                assert found == expected


def test_each_class_demands_at_least_what_the_one_below_does():
    for lower, higher in pairwise(CLASSES[classification] for classification in sorted(Classification)):
        for field in ("levels", "purposes", "suites"):
            assert set(getattr(higher, field)) <= set(getattr(lower, field))
        assert set(higher.required_context) >= set(lower.required_context)
        assert (higher.longest_rotation or LONGEST_ROTATION) <= (lower.longest_rotation or LONGEST_ROTATION)
        assert higher.longest_cache <= lower.longest_cache
        for field in ("encryption_required", "log_data_access", "least_approvals"):
            assert getattr(higher, field) >= getattr(lower, field)


def test_only_secret_needs_an_enclave():
    assert [available(one, WITHOUT_ENCLAVE) for one in Classification] == [True, True, True, False]
    assert all(available(one, WITH_ENCLAVE) for one in Classification)
    for classification in Classification:
        require_available(classification, WITH_ENCLAVE)
    for classification in (Classification.PUBLIC, Classification.INTERNAL, Classification.CONFIDENTIAL):
        require_available(classification, WITHOUT_ENCLAVE)
    with pytest.raises(
        NotSupported, match=r"class SECRET needs protection level ENCLAVE.*rule secret\.protection_level"
    ):
        require_available(Classification.SECRET, WITHOUT_ENCLAVE)


@pytest.mark.parametrize("classification", Classification)
def test_what_a_new_key_is_left_to_be_is_the_first_that_its_class_allows(classification):
    rules = CLASSES[classification]
    secret = classification is Classification.SECRET
    suite, level = choose(classification, Purpose.ENCRYPT, None, None)
    assert suite is (Suite.XAES_256_GCM if secret else Suite.AES_256_GCM)
    assert level is (ProtectionLevel.ENCLAVE if secret else ProtectionLevel.SOFTWARE)
    assert suite in rules.suites
    assert level in rules.levels
    for purpose, suites in ALLOWED.items():
        assert choose(classification, purpose, None, None)[0] in suites  # also where the class allows none of them
    asked = (Suite.AES_256_GCM, ProtectionLevel.HSM)
    assert choose(classification, Purpose.ENCRYPT, *asked) == asked  # whether the class allows it is looked at later


def test_a_key_of_level_enclave_encrypts_and_is_not_leased():
    for purpose in Purpose:
        for leasable in (False, True):
            found = {one.field for one in level_violations(ProtectionLevel.ENCLAVE, purpose, leasable=leasable)}
            wanted = {"purpose"} if purpose is not Purpose.ENCRYPT else set()
            assert found == wanted | ({"leasable"} if leasable else set())
            assert level_violations(ProtectionLevel.SOFTWARE, purpose, leasable=leasable) == ()


# Policies.


def test_there_is_a_built_in_policy_for_each_class_and_the_default_is_the_internal_one():
    assert [policy.classification for policy in BUILT_IN.values()] == list(Classification)
    assert list(BUILT_IN) == ["public", "internal", "confidential", "secret"]
    assert BUILT_IN["internal"] == DEFAULT
    assert all(policy_violations(policy) == () for policy in BUILT_IN.values())


@given(policy_rules)
def test_a_policy_demands_at_least_what_its_class_does_whatever_it_says(policy: Policy):
    rules = CLASSES[policy.classification]
    assert required_context(policy) == {*rules.required_context, *policy.required_context}
    assert logs_data_access(policy) >= rules.log_data_access
    assert logs_data_access(policy) >= policy.log_data_access
    assert least_quorum(policy) == max(rules.least_approvals, policy.approvals)


def within(policy: Policy) -> Policy:
    """The nearest policy within its class."""
    rules = CLASSES[policy.classification]
    if rules.longest_rotation is not None and not NEVER < policy.rotation <= rules.longest_rotation:
        policy = replace(policy, rotation=rules.longest_rotation)
    return replace(policy, cache_lifetime=min(policy.cache_lifetime, rules.longest_cache))


@given(policy_rules, st.data())
def test_tightening_is_accepted_and_loosening_beyond_the_class_refused_for_every_period(policy: Policy, data):
    policy = within(policy)
    rules = CLASSES[policy.classification]
    assert policy_violations(policy) == ()
    if policy.rotation > HOUR:
        shorter = data.draw(st.integers(1, policy.rotation // HOUR)) * HOUR
        assert policy_violations(replace(policy, rotation=shorter)) == ()
    shorter = data.draw(st.integers(SHORTEST_CACHE // SECOND, policy.cache_lifetime // SECOND)) * SECOND
    assert policy_violations(replace(policy, cache_lifetime=shorter)) == ()
    longer = rules.longest_cache + data.draw(st.integers(1, 10**6)) * SECOND
    assert [field for field, _ in named(policy_violations(replace(policy, cache_lifetime=longer)))] == [
        "cache_lifetime"
    ]
    if rules.longest_rotation is not None:
        longer = rules.longest_rotation + data.draw(st.integers(1, 10**5)) * HOUR
        for rotation in (longer, NEVER):
            found = named(policy_violations(replace(policy, rotation=rotation)))
            assert [field for field, _ in found] == ["rotation_period"]


@given(policy_rules, policy_rules)
def test_a_key_loses_none_of_its_protection_by_another_policy(old: Policy, new: Policy):
    loses = (
        (new.classification < old.classification)
        + bool(required_context(old) - required_context(new))
        + (logs_data_access(old) > logs_data_access(new))
        + (least_quorum(old) > least_quorum(new))
    )
    found = lowered(old, new)
    assert len(found) == loses
    assert {violation.field for violation in found} <= {"policy"}
    assert all("(rule no_lowering)" in violation.rule for violation in found)


@given(policy_rules, st.data())
def test_a_policy_that_demands_more_takes_nothing_away(old: Policy, data):
    new = replace(
        old,
        classification=data.draw(classes.filter(lambda one: one >= old.classification)),
        required_context=(*old.required_context, "z.more"),
        log_data_access=old.log_data_access or data.draw(st.booleans()),
        approvals=old.approvals + data.draw(st.integers(0, 3)),
    )
    assert lowered(old, new) == lowered(old, old) == ()


# Keys.


def test_what_a_key_has_otherwise_is_bounded_by_its_class():
    for own, field in (
        (Overrides(rotation=timedelta(days=91)), "rotation_period"),
        (Overrides(cache_lifetime=timedelta(minutes=6)), "cache_lifetime"),
    ):
        found = violations(effective(CONFIDENTIAL, own, Purpose.ENCRYPT), *GCM, leasable=False)
        assert named(found) == [(field, f"rule confidential.{field}")]
        assert violations(effective(DEFAULT, own, Purpose.ENCRYPT), *GCM, leasable=False) == ()


def test_a_deterministic_key_is_rotated_by_hand_in_every_class():
    assert effective(CONFIDENTIAL, Overrides(), Purpose.DETERMINISTIC).rotation == NEVER
    assert violations(effective(CONFIDENTIAL, Overrides(), Purpose.DETERMINISTIC), *SIV, leasable=False) == ()
