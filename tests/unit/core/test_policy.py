"""What holds for a key: its policy, narrowed by its own wishes, within what its suite allows."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.policy import DEFAULT, NEVER, SMALLEST_LIMIT, Overrides, Policy, effective, rotate_at, stop_at
from kms.core.suites import GCM_ROTATE, GCM_STOP, RULES, XAES_STOP, Purpose, Suite
from tests.keyrings import overrides, policy_rules

RANDOMIZED = [Suite.AES_256_GCM, Suite.XAES_256_GCM]


def test_the_default_is_what_the_documents_ask_for():
    assert (
        Policy(
            rotation=timedelta(hours=24),
            encryption_limit=0,
            cache_lifetime=timedelta(minutes=5),
            quarantine=timedelta(days=7),
            grace=timedelta(minutes=10),
            automatic_retirement=False,
        )
        == DEFAULT
    )


def test_every_rule_of_a_policy_may_be_overridden_by_one_of_the_same_name():
    names = [field.name for field in fields(Policy)]
    own = [field.name for field in fields(Overrides)]
    assert own == names[: len(own)]
    # What protects data is its policy's alone.
    assert names[len(own) :] == [
        "classification",
        "required_context",
        "log_data_access",
        "approvals",
        "audit_context",
    ]


@given(policy_rules, overrides, st.sampled_from([Purpose.ENCRYPT, Purpose.DATA_KEY]))
def test_what_a_key_has_otherwise_holds_and_the_rest_is_its_policys(policy: Policy, own: Overrides, purpose: Purpose):
    found = effective(policy, own, purpose)
    for field in fields(Policy):
        wish = getattr(own, field.name, None)
        assert getattr(found, field.name) == (getattr(policy, field.name) if wish is None else wish)


@given(policy_rules)
def test_a_key_without_wishes_has_its_policy(policy: Policy):
    assert effective(policy, Overrides(), Purpose.ENCRYPT) == policy


def test_wishes_that_look_like_nothing_are_wishes():
    policy = Policy(encryption_limit=5000, automatic_retirement=True)
    own = Overrides(rotation=NEVER, encryption_limit=0, automatic_retirement=False)
    assert effective(policy, own, Purpose.ENCRYPT) == replace(
        policy, rotation=NEVER, encryption_limit=0, automatic_retirement=False
    )


@pytest.mark.parametrize(
    ("purpose", "suite"),
    [
        (Purpose.DETERMINISTIC, Suite.AES_SIV),
        (Purpose.INDEX, Suite.HMAC_SHA_256),
        (Purpose.PSEUDONYM, Suite.HMAC_SHA_256),
        (Purpose.FORMAT_PRESERVING, Suite.AES_256_FF1),
    ],
)
@given(policy_rules, overrides)
def test_a_deterministic_or_index_key_is_rotated_neither_by_time_nor_by_count(purpose, suite, policy, own):
    found = effective(policy, own, purpose)
    assert found.rotation == NEVER
    assert (rotate_at(found, suite), stop_at(found, suite)) == (None, None)
    other = effective(policy, own, Purpose.ENCRYPT)
    assert found == replace(other, rotation=NEVER, encryption_limit=0)


@pytest.mark.parametrize(
    ("limit", "suite", "rotate", "stop"),
    [
        (0, Suite.AES_256_GCM, GCM_ROTATE, GCM_STOP),
        (0, Suite.XAES_256_GCM, XAES_STOP // 2, XAES_STOP),
        (0, Suite.AES_SIV, None, None),
        (1000, Suite.AES_256_GCM, 500, 1000),
        (1001, Suite.XAES_256_GCM, 500, 1001),
        (1000, Suite.AES_SIV, 500, 1000),
        (GCM_STOP, Suite.AES_256_GCM, GCM_ROTATE - 2**23, GCM_STOP),
        (2**32, Suite.AES_256_GCM, GCM_ROTATE, GCM_STOP),
        (2**63, Suite.AES_256_GCM, GCM_ROTATE, GCM_STOP),
        (2**63, Suite.XAES_256_GCM, XAES_STOP // 2, XAES_STOP),
    ],
)
def test_limits_are_the_policys_and_never_beyond_the_suites(limit, suite, rotate, stop):
    policy = Policy(encryption_limit=limit)
    assert (rotate_at(policy, suite), stop_at(policy, suite)) == (rotate, stop)


@given(st.integers(SMALLEST_LIMIT, 2**63), st.sampled_from(Suite))
def test_a_version_is_replaced_before_it_is_stopped_and_stopped_within_its_suite(limit: int, suite: Suite):
    policy = Policy(encryption_limit=limit)
    rotate, stop = rotate_at(policy, suite), stop_at(policy, suite)
    assert rotate is not None
    assert stop is not None
    assert 0 < rotate < stop <= limit
    assert stop <= (RULES[suite].stop_at or stop)


@pytest.mark.parametrize("suite", RANDOMIZED)
def test_a_suite_with_random_nonces_always_has_a_limit(suite: Suite):
    assert stop_at(DEFAULT, suite) == RULES[suite].stop_at is not None


def test_policies_are_frozen():
    with pytest.raises(FrozenInstanceError):
        DEFAULT.rotation = NEVER  # type: ignore[misc]
