"""The tables of SP 800-57 part 1, section 7, in this project's words: every state meets every event."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.errors import WrongKeyState
from kms.core.keyring import ERASED, REVOKED_GRACE, Key, KeyVersion
from kms.core.lifecycle import (
    BEFORE,
    ENCRYPTING,
    KEY_TRANSITIONS,
    VERSION_TRANSITIONS,
    KeyEvent,
    KeyState,
    Use,
    advance,
    key_allows,
    version_allows,
)
from tests.keyrings import NOW, active_version, new_key, new_tenant

S, E = KeyState, KeyEvent
LATER = NOW + timedelta(days=3)

# One row a state; what is not named is refused. BEFORE: the state in which destruction was scheduled.
KEY_TABLE = {
    S.PENDING: {E.ACTIVATE: S.ACTIVE, E.REVOKE: S.REVOKED, E.SCHEDULE_DESTRUCTION: S.DESTRUCTION_SCHEDULED},
    S.ACTIVE: {
        E.ROTATE: S.ROTATING,
        E.FINISH_ROTATION: S.ACTIVE,
        E.SUSPEND: S.SUSPENDED,
        E.ARCHIVE: S.ARCHIVED,
        E.REVOKE: S.REVOKED,
        E.SCHEDULE_DESTRUCTION: S.DESTRUCTION_SCHEDULED,
    },
    S.ROTATING: {
        E.ROTATE: S.ROTATING,
        E.FINISH_ROTATION: S.ACTIVE,
        E.SUSPEND: S.SUSPENDED,
        E.ARCHIVE: S.ARCHIVED,
        E.REVOKE: S.REVOKED,
        E.SCHEDULE_DESTRUCTION: S.DESTRUCTION_SCHEDULED,
    },
    S.SUSPENDED: {
        E.FINISH_ROTATION: S.SUSPENDED,
        E.RESUME: S.ACTIVE,
        E.ARCHIVE: S.ARCHIVED,
        E.REVOKE: S.REVOKED,
        E.SCHEDULE_DESTRUCTION: S.DESTRUCTION_SCHEDULED,
    },
    S.ARCHIVED: {
        E.FINISH_ROTATION: S.ARCHIVED,
        E.REVOKE: S.REVOKED,
        E.SCHEDULE_DESTRUCTION: S.DESTRUCTION_SCHEDULED,
    },
    S.REVOKED: {E.FINISH_ROTATION: S.REVOKED, E.SCHEDULE_DESTRUCTION: S.DESTRUCTION_SCHEDULED},
    S.DESTRUCTION_SCHEDULED: {
        E.FINISH_ROTATION: S.DESTRUCTION_SCHEDULED,
        E.REVOKE: S.REVOKED,
        E.CANCEL_DESTRUCTION: BEFORE,
        E.DESTROY: S.DESTROYED,
    },
    S.DESTROYED: {},
}
VERSION_TABLE = {
    S.PENDING: {E.ACTIVATE: S.ACTIVE, E.REVOKE: S.REVOKED, E.DESTROY_WITH_KEY: S.DESTROYED},
    S.ACTIVE: {E.ROTATE: S.ROTATING, E.REVOKE: S.REVOKED, E.DESTROY_WITH_KEY: S.DESTROYED},
    S.ROTATING: {E.FINISH_ROTATION: S.ARCHIVED, E.REVOKE: S.REVOKED, E.DESTROY_WITH_KEY: S.DESTROYED},
    S.SUSPENDED: {},  # never the state of a version
    S.ARCHIVED: {
        E.REVOKE: S.REVOKED,
        E.SCHEDULE_DESTRUCTION: S.DESTRUCTION_SCHEDULED,
        E.DESTROY_WITH_KEY: S.DESTROYED,
    },
    S.REVOKED: {E.SCHEDULE_DESTRUCTION: S.DESTRUCTION_SCHEDULED, E.DESTROY_WITH_KEY: S.DESTROYED},
    S.DESTRUCTION_SCHEDULED: {
        E.REVOKE: S.REVOKED,
        E.CANCEL_DESTRUCTION: BEFORE,
        E.DESTROY: S.DESTROYED,
        E.DESTROY_WITH_KEY: S.DESTROYED,
    },
    S.DESTROYED: {},
}
PRODUCT = list(itertools.product(KeyState, KeyEvent))
STEPS = {"key": 29, "version": 18}
ALL = {Use.ENCRYPT, Use.DECRYPT, Use.RESCUE}
ALLOWED = {
    S.PENDING: set(),
    S.ACTIVE: ALL,
    S.ROTATING: ALL,
    S.SUSPENDED: set(),
    S.ARCHIVED: {Use.DECRYPT, Use.RESCUE},
    S.REVOKED: {Use.RESCUE},
    S.DESTRUCTION_SCHEDULED: set(),
    S.DESTROYED: set(),
}

KEY = new_key(new_tenant("acme"), "payroll")
VERSION = active_version(KEY, 3)


def key_in(state: KeyState, before: KeyState = S.ARCHIVED) -> Key:
    scheduled = state is S.DESTRUCTION_SCHEDULED
    return replace(
        KEY, state=state, state_before=before if scheduled else None, destroy_at=LATER if scheduled else None
    )


def version_in(state: KeyState, before: KeyState = S.ARCHIVED) -> KeyVersion:
    timed = state in (S.ROTATING, S.DESTRUCTION_SCHEDULED)
    return replace(
        VERSION,
        state=state,
        state_before=before if state is S.DESTRUCTION_SCHEDULED else None,
        until=LATER if timed else None,
    )


def test_the_product_is_whole():
    assert len(PRODUCT) == 8 * 11
    assert set(KEY_TABLE) == set(VERSION_TABLE) == set(ALLOWED) == set(KeyState)
    assert sum(len(row) for row in KEY_TABLE.values()) == len(KEY_TRANSITIONS) == STEPS["key"]
    assert sum(len(row) for row in VERSION_TABLE.values()) == len(VERSION_TRANSITIONS) == STEPS["version"]


@pytest.mark.parametrize(("state", "event"), PRODUCT)
def test_a_key_takes_the_tables_step_or_refuses_naming_state_and_event(state: KeyState, event: KeyEvent):
    key = key_in(state)
    untouched = replace(key)
    expected = KEY_TABLE[state].get(event)
    if expected is None:
        with pytest.raises(WrongKeyState) as caught:
            key.after(event, LATER, "a reason")
        assert str(caught.value) == f"key payroll is {state.value.replace('_', ' ')}: it cannot {event.value}"
    else:
        assert key.after(event, LATER, "a reason").state is (S.ARCHIVED if expected is BEFORE else expected)
    assert key == untouched


@pytest.mark.parametrize(("state", "event"), PRODUCT)
def test_a_version_takes_the_tables_step_or_refuses_naming_state_and_event(state: KeyState, event: KeyEvent):
    version = version_in(state)
    untouched = replace(version)
    expected = VERSION_TABLE[state].get(event)
    if expected is None:
        with pytest.raises(WrongKeyState) as caught:
            version.after(event, LATER, reason="a reason")
        assert str(caught.value) == f"version 3 is {state.value.replace('_', ' ')}: it cannot {event.value}"
    else:
        assert version.after(event, LATER, reason="a reason").state is (S.ARCHIVED if expected is BEFORE else expected)
    assert version == untouched


@pytest.mark.parametrize("table", [KEY_TRANSITIONS, VERSION_TRANSITIONS])
def test_nothing_is_cancelled_where_nobody_knows_what_was_before(table):
    with pytest.raises(WrongKeyState, match=r"^it is destruction scheduled: it cannot cancel destruction$"):
        advance(table, "it", S.DESTRUCTION_SCHEDULED, E.CANCEL_DESTRUCTION)


@pytest.mark.parametrize(("state", "use"), list(itertools.product(KeyState, Use)))
def test_a_state_allows_what_the_documents_say_of_it(state: KeyState, use: Use):
    assert len(list(Use)) == 3
    assert key_allows(state, use) is (use in ALLOWED[state])
    assert version_allows(state, use) is (use in ALLOWED[state])
    assert (state in ENCRYPTING) is (Use.ENCRYPT in ALLOWED[state])


# --- what else changes with a step


@pytest.mark.parametrize("before", [S.PENDING, S.ACTIVE, S.ROTATING, S.SUSPENDED, S.ARCHIVED, S.REVOKED])
def test_a_key_whose_destruction_is_cancelled_is_what_it_was_before(before: KeyState):
    scheduled = key_in(before).after(E.SCHEDULE_DESTRUCTION, NOW, "leaving")
    assert (scheduled.state, scheduled.state_before) == (S.DESTRUCTION_SCHEDULED, before)
    assert (scheduled.state_at, scheduled.state_reason) == (NOW, "leaving")
    cancelled = replace(scheduled, destroy_at=LATER).after(E.CANCEL_DESTRUCTION, LATER)
    assert (cancelled.state, cancelled.state_before, cancelled.destroy_at) == (before, None, None)
    assert (cancelled.state_at, cancelled.state_reason) == (LATER, "")


@pytest.mark.parametrize("before", [S.ARCHIVED, S.REVOKED])
def test_a_version_whose_retirement_is_cancelled_is_what_it_was_before(before: KeyState):
    stopped = replace(version_in(before), stopped_at=NOW)
    scheduled = stopped.after(E.SCHEDULE_DESTRUCTION, NOW, until=LATER)
    assert (scheduled.state, scheduled.state_before, scheduled.until) == (S.DESTRUCTION_SCHEDULED, before, LATER)
    assert scheduled.stopped_at == NOW
    cancelled = scheduled.after(E.CANCEL_DESTRUCTION, LATER)
    assert (cancelled.state, cancelled.state_before, cancelled.until) == (before, None, None)
    assert cancelled.stopped_at == NOW
    assert cancelled.wrapped == VERSION.wrapped


def test_a_key_that_is_revoked_or_destroyed_waits_for_nothing():
    for event in (E.REVOKE, E.DESTROY):
        key = key_in(S.DESTRUCTION_SCHEDULED).after(event, LATER, "a reason")
        assert (key.state_before, key.destroy_at, key.state_reason) == (None, None, "a reason")
    assert key_in(S.ARCHIVED).after(E.SCHEDULE_DESTRUCTION, NOW).destroy_at is None


def test_a_schedule_may_be_set_before_the_step():
    assert replace(KEY, destroy_at=LATER).after(E.SCHEDULE_DESTRUCTION, NOW).destroy_at == LATER


def test_a_version_revoked_in_quarantine_leaves_it_and_stays_stopped():
    quarantined = replace(version_in(S.DESTRUCTION_SCHEDULED), stopped_at=NOW)
    revoked = quarantined.after(E.REVOKE, LATER, reason="leaked")
    assert (revoked.state, revoked.state_before, revoked.until) == (S.REVOKED, None, None)
    assert (revoked.stopped_at, revoked.state_reason) == (NOW, "leaked")
    again = revoked.after(E.SCHEDULE_DESTRUCTION, LATER, until=LATER + timedelta(days=7))
    assert again.after(E.CANCEL_DESTRUCTION, LATER).state is S.REVOKED


def test_a_replaced_version_stops_at_the_end_of_its_grace():
    replaced = VERSION.after(E.ROTATE, NOW, until=LATER)
    assert (replaced.stopped_at, replaced.until, replaced.state_at) == (LATER, LATER, NOW)
    archived = replaced.after(E.FINISH_ROTATION, LATER + timedelta(minutes=1))
    assert (archived.stopped_at, archived.until) == (LATER, None)


@pytest.mark.parametrize(
    ("stopped", "expected"),
    [
        (None, NOW + REVOKED_GRACE),
        (LATER, NOW + REVOKED_GRACE),
        (NOW + REVOKED_GRACE, NOW + REVOKED_GRACE),
        (NOW, NOW),
    ],
)
def test_a_revoked_version_stops_when_all_nodes_have_heard_or_earlier(stopped, expected):
    revoked = replace(version_in(S.ROTATING), stopped_at=stopped).after(E.REVOKE, NOW)
    assert (revoked.stopped_at, revoked.until) == (expected, None)


@pytest.mark.parametrize("event", [E.DESTROY, E.DESTROY_WITH_KEY])
def test_destroying_a_version_erases_its_wrapped_dek_and_keeps_the_record(event: KeyEvent):
    version = replace(version_in(S.DESTRUCTION_SCHEDULED), stopped_at=NOW, state_reason="old")
    destroyed = version.after(event, LATER, reason="its census was zero")
    assert destroyed == replace(
        version,
        state=S.DESTROYED,
        state_at=LATER,
        state_before=None,
        state_reason="its census was zero",
        until=None,
        wrapped=ERASED,
    )
    assert destroyed.wrapped not in (b"", VERSION.wrapped)


@pytest.mark.parametrize("state", [S.PENDING, S.ACTIVE, S.ROTATING, S.ARCHIVED, S.REVOKED])
def test_only_destroying_erases(state: KeyState):
    for event in VERSION_TABLE[state]:
        after = version_in(state).after(event, LATER)
        assert (after.wrapped == ERASED) is (after.state is S.DESTROYED)


# --- since when a key has stopped


def test_a_key_that_no_longer_encrypts_says_since_when_and_keeps_saying_so():
    for event in (E.SUSPEND, E.ARCHIVE, E.REVOKE, E.SCHEDULE_DESTRUCTION):
        assert KEY.after(event, NOW).stopped_at == NOW + REVOKED_GRACE
    archived = KEY.after(E.SUSPEND, NOW).after(E.ARCHIVE, LATER).after(E.REVOKE, LATER)
    scheduled = archived.after(E.SCHEDULE_DESTRUCTION, LATER)
    for key in (archived, scheduled, scheduled.after(E.CANCEL_DESTRUCTION, LATER), scheduled.after(E.DESTROY, LATER)):
        assert key.stopped_at == NOW + REVOKED_GRACE


def test_a_key_that_encrypts_again_has_not_stopped():
    assert KEY.after(E.SUSPEND, NOW).after(E.RESUME, LATER).stopped_at is None
    assert KEY.after(E.SCHEDULE_DESTRUCTION, NOW).after(E.CANCEL_DESTRUCTION, LATER).stopped_at is None
    assert replace(key_in(S.PENDING), stopped_at=NOW).after(E.ACTIVATE, LATER).stopped_at is None


# --- steps that change nothing, or little


def test_a_grace_that_ends_while_its_key_is_something_else_changes_nothing_of_it():
    for state in (S.ACTIVE, S.SUSPENDED, S.ARCHIVED, S.REVOKED, S.DESTRUCTION_SCHEDULED):
        key = replace(key_in(state), state_reason="why")
        assert key.after(E.FINISH_ROTATION, LATER) == key


def test_a_key_whose_grace_ends_while_it_waits_for_destruction_is_active_after_a_cancellation():
    scheduled = key_in(S.ROTATING).after(E.SCHEDULE_DESTRUCTION, NOW)
    assert scheduled.after(E.FINISH_ROTATION, LATER).after(E.CANCEL_DESTRUCTION, LATER).state is S.ACTIVE


def test_a_key_may_be_rotated_again_while_it_rotates():
    once = KEY.rotated(NOW, NOW)
    twice = once.rotated(LATER, LATER)
    assert (once.state, once.state_at, once.primary_version) == (S.ROTATING, NOW, 2)
    assert (twice.state, twice.state_at, twice.primary_version) == (S.ROTATING, NOW, 3)
    assert (twice.rotated_at, twice.scheduled_from) == (LATER, LATER)


@pytest.mark.parametrize("state", [S.PENDING, S.SUSPENDED, S.ARCHIVED, S.REVOKED, S.DESTRUCTION_SCHEDULED, S.DESTROYED])
def test_a_key_that_does_not_encrypt_is_not_rotated(state: KeyState):
    with pytest.raises(WrongKeyState, match="cannot rotate"):
        key_in(state).rotated(NOW, NOW)
