"""What cannot be destroyed yet is planned for later, and delays nothing else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.lifecycle import KeyState
from kms.core.policy import NEVER, Policy
from kms.core.rotation import Lineage, postponed
from tests.keyrings import NOW, new_key, new_tenant, new_version

HOUR = timedelta(hours=1)
LATER = NOW + HOUR
MINUTE = timedelta(minutes=1)


def version(key, number: int, state: KeyState, until):
    return replace(new_version(key, number), state=state, until=until)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], None),
        ([(KeyState.DESTRUCTION_SCHEDULED, NOW - MINUTE)], LATER),
        ([(KeyState.DESTRUCTION_SCHEDULED, NOW)], LATER),
        ([(KeyState.DESTRUCTION_SCHEDULED, NOW + MINUTE)], NOW + MINUTE),
        ([(KeyState.DESTRUCTION_SCHEDULED, NOW), (KeyState.DESTRUCTION_SCHEDULED, NOW + 2 * HOUR)], LATER),
        ([(KeyState.DESTRUCTION_SCHEDULED, NOW), (KeyState.ROTATING, NOW + MINUTE)], NOW + MINUTE),
        ([(KeyState.DESTRUCTION_SCHEDULED, NOW), (KeyState.ROTATING, NOW - MINUTE)], NOW - MINUTE),
    ],
)
def test_a_destruction_that_is_over_waits_and_everything_else_keeps_its_time(states, expected):
    key = new_key(new_tenant())
    timed = [version(key, number, *state) for number, state in enumerate(states, 1)]
    after = postponed(Lineage(key, Policy(rotation=NEVER), timed), NOW, LATER)
    assert after == replace(key, due_at=expected)


def test_a_key_whose_waiting_period_is_over_waits_and_keeps_the_time_at_which_it_was_over():
    key = replace(new_key(new_tenant()), state=KeyState.DESTRUCTION_SCHEDULED, destroy_at=NOW - MINUTE)
    after = postponed(Lineage(key, Policy()), NOW, LATER)
    assert (after.due_at, after.destroy_at) == (LATER, NOW - MINUTE)


def test_a_rotation_stays_due():
    key = replace(new_key(new_tenant()), scheduled_from=NOW - timedelta(days=2))
    timed = [version(key, 1, KeyState.DESTRUCTION_SCHEDULED, NOW)]
    assert postponed(Lineage(key, Policy(), timed), NOW, LATER).due_at == NOW - timedelta(days=1)
