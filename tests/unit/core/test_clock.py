"""Destruction is held while the wall clock contradicts another clock, or what was stored before."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.clock import LARGEST_LEAD, LARGEST_STEP, LONGEST_SILENCE, SILENCE_HOLD, ClockWatch
from tests.keyrings import NOW

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BOOT = 5_000.0  # seconds


def after(watch: ClockWatch, passed: timedelta, step: timedelta = timedelta(0)) -> ClockWatch:
    """Look again when *passed* has gone by on the boot-time clock, the wall clock having stepped by *step*."""
    return watch.observed(watch.now + passed + step, watch.boot + passed.total_seconds())


def test_the_limits_are_those_of_the_rules():
    assert (LARGEST_STEP, LONGEST_SILENCE, SILENCE_HOLD, LARGEST_LEAD) == (5 * MINUTE, 7 * DAY, 24 * HOUR, HOUR)


@pytest.mark.parametrize("last_seen", [None, NOW, NOW - SECOND, NOW - 7 * DAY, NOW + HOUR])
def test_an_ordinary_start_holds_nothing(last_seen):
    watch = ClockWatch.started(NOW, BOOT, last_seen)
    assert watch.held(BOOT) is None
    assert after(watch, 30 * DAY).held(BOOT + 30 * DAY.total_seconds()) is None


@pytest.mark.parametrize("step", [5 * MINUTE + SECOND, HOUR, 365 * DAY])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_step_of_the_wall_clock_holds_for_the_life_of_the_process(step, sign):
    before = after(ClockWatch.started(NOW, BOOT, NOW), MINUTE)
    watch = after(before, MINUTE, sign * step)
    assert before.held(before.boot) is None
    reason = watch.held(watch.boot)
    assert reason == (
        f"the clock has jumped {'forward' if sign > 0 else 'back'} by {step}: check it, then restart the node"
    )
    later = after(after(watch, DAY), 400 * DAY, -sign * step)  # not even where it jumps back again
    assert later.held(later.boot) == reason


@pytest.mark.parametrize("step", [timedelta(0), SECOND, -SECOND, 5 * MINUTE, -5 * MINUTE])
def test_what_ntp_may_do_holds_nothing(step):
    watch = after(ClockWatch.started(NOW, BOOT, NOW), MINUTE, step)
    assert watch.held(watch.boot) is None


def test_days_of_slewing_hold_nothing():
    """A clock that NTP makes run 500 parts in a million fast gains 5.2 minutes in a week, by 15 ms at a time."""
    watch = ClockWatch.started(NOW, BOOT, NOW)
    for _ in range(7 * 24 * 2):
        watch = after(watch, 30 * MINUTE, 30 * MINUTE * 500e-6)
        assert watch.held(watch.boot) is None
    assert watch.now - NOW - timedelta(seconds=watch.boot - BOOT) > LARGEST_STEP


def test_a_sleeping_machine_is_no_jump():
    watch = after(ClockWatch.started(NOW, BOOT, NOW), 30 * DAY)
    assert watch.held(watch.boot) is None


@pytest.mark.parametrize("silence", [7 * DAY + SECOND, 30 * DAY, 3653 * DAY])
def test_a_long_silence_before_the_start_holds_for_a_day_of_running(silence):
    watch = ClockWatch.started(NOW, BOOT, NOW - silence)
    assert watch.held(BOOT) == (
        f"no node was seen for {silence} before the start: the clock may be ahead; for 1 day, 0:00:00 more"
    )
    watch = after(watch, 24 * HOUR - SECOND)
    assert watch.held(watch.boot) == (
        f"no node was seen for {silence} before the start: the clock may be ahead; for 0:00:01 more"
    )
    watch = after(watch, SECOND)
    assert watch.held(watch.boot) is None


def test_the_day_is_one_of_running_and_not_of_the_wall_clock():
    watch = ClockWatch.started(NOW, BOOT, NOW - 8 * DAY)
    stepped = watch.observed(NOW + 2 * DAY, BOOT + 60)
    assert "jumped forward" in (stepped.held(BOOT + 60) or "")
    slewed = watch.observed(NOW + MINUTE + 4 * MINUTE, BOOT + 60)
    assert slewed.held(BOOT + 24 * 3600 - 1) is not None
    assert slewed.held(BOOT + 24 * 3600) is None


@pytest.mark.parametrize("lead", [HOUR + SECOND, DAY, 365 * DAY])
def test_a_node_seen_in_the_future_holds_until_that_time_has_passed(lead):
    watch = ClockWatch.started(NOW, BOOT, NOW + lead)
    assert watch.held(BOOT) == f"a node was seen {lead} ahead of this clock: one of the two is wrong"
    watch = after(watch, lead)
    assert watch.held(watch.boot) is not None
    assert watch.held(watch.boot + 1) is None
    assert after(watch, SECOND).held(watch.boot + 1) is None


def test_an_observation_changes_no_watch():
    watch = ClockWatch.started(NOW, BOOT, NOW)
    kept = ClockWatch.started(NOW, BOOT, NOW)
    after(watch, MINUTE, DAY)
    assert watch == kept


lengths = st.timedeltas(timedelta(0), 20 * DAY)


@given(
    last_seen=st.none() | st.timedeltas(-30 * DAY, 30 * DAY),
    looks=st.lists(st.tuples(lengths, st.just(timedelta(0)) | st.timedeltas(-10 * MINUTE, 10 * MINUTE)), max_size=8),
)
def test_destruction_is_held_exactly_where_a_rule_says_so(last_seen, looks):
    watch = ClockWatch.started(NOW, BOOT, None if last_seen is None else NOW + last_seen)
    now, running, stepped = NOW, timedelta(0), False
    for passed, step in [(timedelta(0), timedelta(0)), *looks]:
        watch = after(watch, passed, step)
        now, running = now + passed + step, running + passed
        # Seconds of the boot-time clock are floats: to the microsecond.
        stepped = stepped or abs(step) > LARGEST_STEP + timedelta(microseconds=1)
        silent = last_seen is not None and -last_seen > 7 * DAY and running < 24 * HOUR
        ahead = last_seen is not None and last_seen > HOUR and now <= NOW + last_seen
        if abs(abs(step) - LARGEST_STEP) > timedelta(milliseconds=1):
            assert (watch.held(watch.boot) is not None) is (stepped or silent or ahead)


@pytest.mark.parametrize("first", [6 * MINUTE, -6 * MINUTE])
def test_the_first_jump_is_the_reason(first):
    watch = after(ClockWatch.started(NOW, BOOT, NOW), MINUTE, first)
    reason = watch.held(watch.boot)
    assert after(watch, MINUTE, -2 * first).held(watch.boot) == reason
