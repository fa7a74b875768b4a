"""What is due and when: one rotation for all missed periods, nothing from a clock that is wrong, nothing early."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.errors import WrongKeyState
from kms.core.keyring import Kek, KekState, Key, KeyVersion
from kms.core.lifecycle import ENCRYPTING, KeyEvent, KeyState
from kms.core.policy import DEFAULT, NEVER, Policy
from kms.core.rotation import (
    CLOCK_SLACK,
    DestroyKek,
    DestroyKey,
    DestroyVersion,
    FinishRotation,
    KekLineage,
    KekPolicy,
    Lineage,
    Reanchor,
    RestoreKek,
    RetireKek,
    Rewrap,
    Rotate,
    RotateKek,
    due,
    due_keks,
    finished,
    next_due,
    next_due_kek,
    planned,
    reanchored,
    rotated,
    slot,
)
from tests.keyrings import NOW, activated, active_version, new_kek, new_key, new_tenant

DAY, HOUR, TICK = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)
YEAR = 365 * DAY
TENANT = new_tenant("acme", primary_kek=3)
KEY = new_key(TENANT, "payroll")


def lineage(key: Key = KEY, *timed: KeyVersion, policy: Policy = DEFAULT) -> Lineage:
    return Lineage(key, policy, timed)


def rotating(number: int, until=NOW) -> KeyVersion:
    return active_version(KEY, number).after(KeyEvent.ROTATE, NOW - DAY, until=until)


def quarantined(number: int, until=NOW) -> KeyVersion:
    archived = rotating(number).after(KeyEvent.FINISH_ROTATION, NOW)
    return archived.after(KeyEvent.SCHEDULE_DESTRUCTION, NOW, until=until)


def leaving(at=NOW) -> Key:
    return replace(KEY.after(KeyEvent.SCHEDULE_DESTRUCTION, NOW), destroy_at=at)


# --- rotation by time


def test_a_key_is_due_one_period_after_its_last_slot_and_not_before():
    assert due(NOW + DAY - TICK, [lineage()]) == []
    assert due(NOW + DAY, [lineage()]) == [Rotate(KEY, NOW + DAY)]
    assert next_due(lineage()) == NOW + DAY


@pytest.mark.parametrize(
    ("late", "expected"),
    [
        (DAY, DAY),
        (2 * DAY - TICK, DAY),
        (2 * DAY, 2 * DAY),
        (9.5 * DAY, 9 * DAY),
        (YEAR + HOUR, YEAR),
    ],
)
def test_missed_periods_are_one_rotation_whose_slot_is_the_last_of_them(late, expected):
    assert due(NOW + late, [lineage()]) == [Rotate(KEY, NOW + expected)]


def test_after_a_late_rotation_the_schedule_goes_on_as_before():
    late = NOW + 9.5 * DAY
    [rotate] = due(late, [lineage()])
    key, _ = rotated(lineage(), active_version(KEY), late, rotate.slot)
    assert (key.rotated_at, key.scheduled_from) == (late, NOW + 9 * DAY)
    assert due(late + TICK, [lineage(key)]) == []
    assert due(NOW + 10 * DAY, [lineage(key)]) == [Rotate(key, NOW + 10 * DAY)]


moments = st.datetimes(timezones=st.just(NOW.tzinfo)).filter(lambda time: 1900 < time.year < 9000)
periods = st.integers(1, 87_672).map(HOUR.__mul__)


@given(moments, periods, st.timedeltas(timedelta(0), 100 * YEAR))
def test_a_slot_is_the_previous_one_and_whole_periods_and_the_last_that_has_come(previous, period, passed):
    now = previous + passed
    found = slot(previous, period, now)
    assert (found - previous) % period == timedelta(0)
    assert found <= now < found + period


@pytest.mark.parametrize("state", [s for s in KeyState if s not in ENCRYPTING])
def test_a_key_that_does_not_encrypt_is_not_due(state):
    assert due(NOW + YEAR, [lineage(replace(KEY, state=state))]) == []
    assert next_due(lineage(replace(KEY, state=state))) is None


def test_a_key_without_a_period_is_never_due():
    never = lineage(policy=replace(DEFAULT, rotation=NEVER))
    assert due(NOW + 100 * YEAR, [never]) == []
    assert next_due(never) is None


def test_every_key_is_asked():
    other = new_key(TENANT, "other")
    assert due(NOW + DAY, [lineage(), lineage(other)]) == [Rotate(KEY, NOW + DAY), Rotate(other, NOW + DAY)]


# --- clocks


def test_a_clock_a_year_ahead_rotates_a_key_once_and_destroys_nothing_where_that_is_held():
    versions = [rotating(1, NOW + HOUR), quarantined(2, NOW + 7 * DAY)]
    ahead = NOW + YEAR
    held = due(ahead, [lineage(KEY, *versions)], may_destroy=False)
    assert held == [Rotate(KEY, NOW + YEAR), FinishRotation(KEY, (versions[0],))]
    key, _ = rotated(lineage(KEY, *versions), active_version(KEY, 3), ahead, NOW + YEAR)
    assert due(ahead + HOUR, [lineage(key, versions[1])], may_destroy=False) == []
    assert due(ahead, [lineage(leaving(NOW + DAY))], may_destroy=False) == []


def test_a_clock_that_goes_back_begins_the_schedule_anew_once():
    key, _ = rotated(lineage(), active_version(KEY), NOW + YEAR, NOW + YEAR)
    assert due(NOW, [lineage(key)]) == [Reanchor(key)]
    again = reanchored(lineage(key), NOW)
    assert (again.scheduled_from, again.due_at) == (NOW, NOW + DAY)
    assert again == replace(key, scheduled_from=NOW, due_at=NOW + DAY)
    assert due(NOW, [lineage(again)]) == []
    assert due(NOW + DAY, [lineage(again)]) == [Rotate(again, NOW + DAY)]


def test_a_schedule_a_little_ahead_is_another_nodes_clock():
    assert due(NOW, [lineage(replace(KEY, scheduled_from=NOW + CLOCK_SLACK))]) == []
    ahead = replace(KEY, scheduled_from=NOW + CLOCK_SLACK + TICK)
    assert due(NOW, [lineage(ahead)]) == [Reanchor(ahead)]


@pytest.mark.parametrize("state", KeyState)
def test_every_schedule_from_a_clock_ahead_begins_anew_whatever_the_key_is(state):
    key = replace(KEY, state=state, scheduled_from=NOW + YEAR)
    assert due(NOW, [lineage(key)]) == [Reanchor(key)]
    assert due(NOW, [lineage(reanchored(lineage(key), NOW))]) == []


# --- graces, quarantines, waiting periods


def test_the_graces_that_are_over_end_together():
    over, later = (rotating(1), rotating(2)), rotating(3, NOW + TICK)
    assert due(NOW, [lineage(KEY, *over, later)]) == [FinishRotation(KEY, over)]


def test_a_version_is_destroyed_at_the_end_of_its_quarantine_and_not_before():
    version = quarantined(1)
    assert due(NOW - TICK, [lineage(KEY, version)]) == []
    assert due(NOW, [lineage(KEY, version)]) == [DestroyVersion(KEY, version)]


def test_a_key_is_destroyed_at_the_end_of_its_waiting_period_and_not_before():
    assert due(NOW - TICK, [lineage(leaving())]) == []
    assert due(NOW, [lineage(leaving())]) == [DestroyKey(leaving())]


@pytest.mark.parametrize("state", [s for s in KeyState if s is not KeyState.DESTRUCTION_SCHEDULED])
def test_a_time_of_destruction_counts_only_while_destruction_is_scheduled(state):
    assert due(NOW, [lineage(replace(leaving(), state=state))]) == []


def test_what_is_due_at_once_comes_in_the_order_in_which_to_do_it():
    versions = (rotating(1), quarantined(2))
    actions = due(NOW + DAY, [lineage(KEY, *versions)])
    assert actions == [
        Rotate(KEY, NOW + DAY),
        FinishRotation(KEY, versions[:1]),
        DestroyVersion(KEY, versions[1]),
    ]


def test_the_versions_of_a_destroyed_key_are_left_to_its_destruction():
    destroyed = leaving().after(KeyEvent.DESTROY, NOW)
    assert due(NOW + YEAR, [lineage(destroyed, rotating(1), quarantined(2))]) == []
    assert next_due(lineage(destroyed, rotating(1), quarantined(2))) is None


states = st.sampled_from(KeyState)
offsets = st.timedeltas(-10 * DAY, 10 * DAY)


@st.composite
def lineages(draw) -> Lineage:
    state = draw(states)
    key = replace(
        KEY,
        state=state,
        scheduled_from=NOW + draw(offsets),
        destroy_at=NOW + draw(offsets) if state is KeyState.DESTRUCTION_SCHEDULED else None,
    )
    timed = [
        draw(st.sampled_from([rotating, quarantined]))(number, NOW + draw(offsets))
        for number in range(draw(st.integers(0, 4)))
    ]
    return Lineage(key, replace(DEFAULT, rotation=draw(st.just(NEVER) | st.integers(1, 500).map(HOUR.__mul__))), timed)


@given(lineages(), st.timedeltas(timedelta(0), 30 * DAY))
def test_something_is_due_at_the_next_due_time_and_nothing_before(found: Lineage, earlier):
    at = next_due(found)
    if at is None:
        assert due(NOW + 50 * YEAR, [found]) == []
    else:
        assert any(not isinstance(action, Reanchor) for action in due(at, [found]))
        assert all(isinstance(action, Reanchor) for action in due(at - TICK - earlier, [found]))


@given(lineages())
def test_what_is_done_is_done_and_the_next_look_is_later(found: Lineage):
    """Carry out everything that is due once: nothing is due then but a destruction whose census has not decided."""
    now = NOW + 20 * DAY
    again = found
    for action in due(now, [found], may_destroy=False):
        if isinstance(action, Rotate):
            key, replaced = rotated(again, active_version(KEY, 9), now, action.slot)
            again = replace(again, key=key, timed=[*again.timed, replaced])
        elif isinstance(action, FinishRotation):
            key, archived = finished(again, action.versions, now)
            gone = {version.version for version in archived}
            again = replace(again, key=key, timed=[v for v in again.timed if v.version not in gone])
        else:
            again = replace(again, key=reanchored(again, now))
    assert due(now, [again], may_destroy=False) == []
    assert planned(again).due_at == next_due(again)
    if again.key.due_at is not None and again.key.due_at <= now:
        assert any(isinstance(action, DestroyVersion | DestroyKey) for action in due(now, [again]))


# --- values that follow


def test_rotating_makes_the_next_version_primary_and_gives_the_old_one_its_grace():
    now = NOW + DAY + HOUR
    key, replaced = rotated(lineage(), active_version(KEY), now, NOW + DAY)
    assert (key.state, key.primary_version, key.rotated_at) == (KeyState.ROTATING, 2, now)
    assert (key.scheduled_from, key.due_at) == (NOW + DAY, now + DEFAULT.grace)
    assert (replaced.state, replaced.until, replaced.stopped_at) == (
        KeyState.ROTATING,
        now + DEFAULT.grace,
        now + DEFAULT.grace,
    )


def test_a_revoked_primary_version_stays_revoked_and_nothing_is_in_grace_then():
    revoked = active_version(KEY).after(KeyEvent.REVOKE, NOW, reason="leaked")
    key, replaced = rotated(lineage(), revoked, NOW + HOUR, NOW + HOUR)
    assert replaced is revoked
    assert (key.state, key.state_at, key.primary_version) == (KeyState.ACTIVE, NOW + HOUR, 2)
    with_another = lineage(KEY, rotating(5, NOW + DAY))
    assert rotated(with_another, revoked, NOW + HOUR, NOW + HOUR)[0].state is KeyState.ROTATING


def test_a_key_that_may_not_is_not_rotated():
    suspended = KEY.after(KeyEvent.SUSPEND, NOW)
    with pytest.raises(WrongKeyState, match="payroll is suspended: it cannot rotate"):
        rotated(lineage(suspended), active_version(KEY), NOW, NOW)


def test_a_key_is_active_again_when_its_last_grace_is_over():
    key = KEY.after(KeyEvent.ROTATE, NOW)
    first, second = rotating(1), rotating(2, NOW + HOUR)
    still, archived = finished(lineage(key, first, second), [first], NOW)
    assert (still.state, still.due_at) == (KeyState.ROTATING, NOW + HOUR)
    assert [(v.version, v.state, v.until) for v in archived] == [(1, KeyState.ARCHIVED, None)]
    done, _ = finished(lineage(still, second), [second], NOW + HOUR)
    assert (done.state, done.state_at, done.due_at) == (KeyState.ACTIVE, NOW + HOUR, NOW + DAY)


@pytest.mark.parametrize("state", [KeyState.SUSPENDED, KeyState.ARCHIVED, KeyState.REVOKED])
def test_a_grace_ends_whatever_its_key_has_become(state):
    key = replace(KEY, state=state)
    done, [archived] = finished(lineage(key, rotating(1)), [rotating(1)], NOW)
    assert (done, archived.state) == (key, KeyState.ARCHIVED)


def test_revoking_the_last_version_in_grace_ends_the_keys_rotation():
    key, version = KEY.after(KeyEvent.ROTATE, NOW - DAY), rotating(1)
    revoked = version.after(KeyEvent.REVOKE, NOW)
    assert planned(lineage(key, version), revoked).state is KeyState.ACTIVE
    assert planned(lineage(key, version, rotating(2)), revoked).state is KeyState.ROTATING
    assert planned(lineage(key, version)).state is KeyState.ROTATING


def test_a_grace_that_ends_while_the_key_waits_for_destruction_is_over_after_a_cancellation():
    key = KEY.after(KeyEvent.ROTATE, NOW).after(KeyEvent.SCHEDULE_DESTRUCTION, NOW)
    done, _ = finished(lineage(key, rotating(1)), [rotating(1)], NOW)
    assert done.state is KeyState.DESTRUCTION_SCHEDULED
    assert done.after(KeyEvent.CANCEL_DESTRUCTION, NOW).state is KeyState.ACTIVE


def test_planning_takes_the_changed_values_of_versions():
    version = quarantined(1, NOW + 3 * HOUR)
    assert planned(lineage(KEY, version)).due_at == NOW + 3 * HOUR
    cancelled = version.after(KeyEvent.CANCEL_DESTRUCTION, NOW)
    assert planned(lineage(KEY, version), cancelled).due_at == NOW + DAY
    assert planned(lineage(KEY), version).due_at == NOW + 3 * HOUR


# --- KEKs

RULES = KekPolicy()
OLD, OTHER, PRIMARY = (activated(new_kek(TENANT, number)) for number in (1, 2, 3))


def kek_lineage(*keks: Kek, **wrapped: int) -> KekLineage:
    return KekLineage(TENANT, keks, {int(name.removeprefix("v")): count for name, count in wrapped.items()})


def in_quarantine(kek: Kek, at=NOW) -> Kek:
    return replace(kek, state=KekState.DESTRUCTION_SCHEDULED, destroy_at=at)


def test_a_kek_is_rotated_after_its_period_and_not_before():
    keks = kek_lineage(PRIMARY, v3=5)
    assert due_keks(NOW + 90 * DAY - TICK, keks, RULES) == []
    assert due_keks(NOW + 90 * DAY, keks, RULES) == [RotateKek(TENANT, 3)]
    assert next_due_kek(keks, RULES) == NOW + 90 * DAY


def test_a_kek_without_a_period_is_never_due():
    rules = replace(RULES, rotation=NEVER)
    assert due_keks(NOW + 100 * YEAR, kek_lineage(PRIMARY), rules) == []
    assert next_due_kek(kek_lineage(PRIMARY), rules) is None


def test_the_age_of_older_versions_does_not_rotate():
    old = replace(OLD, created_at=NOW - YEAR)
    assert due_keks(NOW, kek_lineage(old, PRIMARY, v1=1), RULES) == [Rewrap(TENANT, 1)]


def test_what_older_versions_wrap_is_rewrapped_and_those_that_wrap_nothing_retire():
    assert due_keks(NOW, kek_lineage(OLD, OTHER, PRIMARY, v1=7, v3=100), RULES) == [
        Rewrap(TENANT, 7),
        RetireKek(TENANT, OTHER),
    ]
    assert due_keks(NOW, kek_lineage(OLD, OTHER, PRIMARY, v1=7, v2=4), RULES) == [Rewrap(TENANT, 11)]


@pytest.mark.parametrize("may_destroy", [True, False])
def test_a_retired_version_that_wraps_something_comes_back_and_is_not_destroyed(may_destroy):
    for kek in (in_quarantine(OLD), replace(in_quarantine(OLD), state=KekState.DESTROYING)):
        found = due_keks(NOW + YEAR, kek_lineage(kek, v1=1), RULES, may_destroy=may_destroy)
        assert found == [RestoreKek(TENANT, kek)]


def test_a_retired_version_is_destroyed_at_the_end_of_its_quarantine_and_not_before():
    kek = in_quarantine(OLD)
    assert due_keks(NOW - TICK, kek_lineage(kek), RULES) == []
    assert due_keks(NOW, kek_lineage(kek), RULES) == [DestroyKek(TENANT, kek)]
    assert due_keks(NOW, kek_lineage(kek), RULES, may_destroy=False) == []
    assert next_due_kek(kek_lineage(kek), RULES) == NOW


def test_a_begun_destruction_is_carried_through():
    begun = replace(in_quarantine(OLD, NOW + DAY), state=KekState.DESTROYING)
    for may_destroy in (True, False):
        assert due_keks(NOW, kek_lineage(begun), RULES, may_destroy=may_destroy) == [DestroyKek(TENANT, begun)]


@pytest.mark.parametrize("state", [KekState.PENDING, KekState.DESTROYED])
def test_nothing_is_due_for_what_is_not_there_yet_or_no_longer(state):
    assert due_keks(NOW + DAY, kek_lineage(replace(in_quarantine(OLD), state=state)), RULES) == []


def test_a_version_newer_than_the_primary_one_that_was_read_is_left_alone():
    newer = activated(new_kek(TENANT, 4))
    assert due_keks(NOW, kek_lineage(PRIMARY, newer, v4=3), RULES) == []
    assert due_keks(NOW, kek_lineage(PRIMARY, newer), RULES) == []


def test_a_tenant_without_a_kek_has_nothing_due():
    unready = KekLineage(new_tenant(primary_kek=0), [new_kek(TENANT)], {})
    assert due_keks(NOW + YEAR, unready, RULES) == []
    assert next_due_kek(unready, RULES) is None


@given(
    st.lists(st.tuples(st.sampled_from(KekState), offsets, st.integers(0, 2)), min_size=3, max_size=3),
    st.timedeltas(-100 * DAY, 100 * DAY),
)
def test_no_kek_that_wraps_a_dek_or_is_primary_ever_leaves(drawn, passed):
    keks = [
        replace(activated(new_kek(TENANT, number)), state=state, destroy_at=NOW + at)
        for number, (state, at, _) in enumerate(drawn, 1)
    ]
    wrapped = {number: count for number, (_, _, count) in enumerate(drawn, 1)}
    for action in due_keks(NOW + passed, KekLineage(TENANT, keks, wrapped), RULES):
        if isinstance(action, DestroyKek | RetireKek):
            assert action.kek.version != TENANT.primary_kek
            assert wrapped[action.kek.version] == 0
        if isinstance(action, DestroyKek) and action.kek.state is not KekState.DESTROYING:
            assert action.kek.destroy_at is not None
            assert action.kek.destroy_at <= NOW + passed


def test_a_kek_due_time_is_consistent_with_what_is_due():
    keks = kek_lineage(in_quarantine(OLD, NOW + 30 * DAY), PRIMARY, v3=1)
    at = next_due_kek(keks, RULES)
    assert at == NOW + 30 * DAY
    assert due_keks(at - TICK, keks, RULES) == []
    assert due_keks(at, keks, RULES) == [DestroyKek(TENANT, keks.keks[0])]
