"""What the detectors promise of every history: bounded, in order, nothing below a threshold, one event a window."""

from __future__ import annotations

import itertools
from collections import Counter
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.detection import LEARNING, MINUTE, Detections, Occurrences, Thresholds, Volumes
from kms.core.events import EventType

WINDOW = 60.0

# Steps of a history: seconds since the one before, who, and how often.
steps = st.lists(
    st.tuples(
        st.floats(0, 40, allow_nan=False) | st.just(0.0) | st.just(WINDOW),
        st.sampled_from("abc"),
        st.integers(1, 4),
    ),
    max_size=120,
)


def uids():
    numbers = itertools.count(1)
    return lambda: UUID(int=next(numbers))


def replayed(detector, history, act="add"):
    now, raised = 0.0, []
    for pause, subject, weight in history:
        now += pause
        if (event := getattr(detector, act)(subject, weight, now)) is not None:
            raised.append((subject, event))
    return now, raised


@given(history=steps, threshold=st.integers(1, 12), most=st.integers(1, 4))
def test_no_more_is_remembered_than_the_bound(history, threshold, most):
    detector = Occurrences(threshold, WINDOW, WINDOW, uids(), most)
    now = 0.0
    for pause, subject, weight in history:
        now += pause
        detector.add(subject, weight, now)
        assert len(detector) <= most


@given(history=steps, threshold=st.integers(1, 12))
def test_a_subject_gets_at_most_one_event_in_a_window_and_each_tells_no_less_than_the_threshold(history, threshold):
    _, raised = replayed(Occurrences(threshold, WINDOW, WINDOW, uids()), history)
    last = {}
    for subject, event in raised:
        assert event.count >= threshold
        assert event.at - event.began < WINDOW
        assert subject not in last or event.at >= last[subject] + WINDOW
        last[subject] = event.at
    assert [event.at for _, event in raised] == sorted(event.at for _, event in raised)
    assert len({event.uid for _, event in raised}) == len(raised)


@given(history=steps, threshold=st.integers(1, 12))
def test_nothing_is_raised_where_no_window_reaches_the_threshold(history, threshold):
    now, seen, reaches = 0.0, [], False
    for pause, subject, weight in history:
        now += pause
        seen.append((now, subject, weight))
        within = sum(w for at, who, w in seen if who == subject and at > now - WINDOW)
        reaches |= within >= threshold
    _, raised = replayed(Occurrences(threshold, WINDOW, WINDOW, uids()), history)
    assert reaches or not raised


@given(pauses=st.lists(st.floats(0, 5, allow_nan=False), min_size=9, max_size=9), more=st.integers(0, 30))
def test_ten_within_a_window_raise_exactly_one_event(pauses, more):
    detector = Occurrences(10, WINDOW, WINDOW, uids())
    history = [(pause, "a", 1) for pause in (0.0, *pauses)] + [(0.5, "a", 1)] * more
    now, [(_, event)] = replayed(detector, history)
    assert event.count == 10
    assert detector.grown(now) == []
    grown = detector.grown(now + WINDOW)
    assert [(one.uid, one.count) for one in grown] == ([(event.uid, 10 + more)] if more else [])
    assert detector.grown(now + WINDOW) == []


@given(history=steps, threshold=st.integers(1, 12))
def test_what_an_event_has_grown_to_is_told_once_and_whole(history, threshold):
    detector = Occurrences(threshold, WINDOW, WINDOW, uids())
    now, at_first, counts, told, open_since = 0.0, {}, Counter(), [], {}
    for pause, subject, weight in history:
        now += pause
        told += detector.grown(now)
        open_since = {who: (at, uid) for who, (at, uid) in open_since.items() if now < at + WINDOW}
        event = detector.add(subject, weight, now)
        if event is not None:
            at_first[event.uid] = counts[event.uid] = event.count
            open_since[subject] = (now, event.uid)
        elif subject in open_since:
            counts[open_since[subject][1]] += weight
    told += detector.grown(now + WINDOW)
    assert sorted((one.uid, one.count) for one in told) == sorted(
        (uid, count) for uid, count in counts.items() if count > at_first[uid]
    )


def test_a_forgotten_subject_leaves_the_count_of_its_event():
    detector = Occurrences(2, WINDOW, WINDOW, uids(), most=1)
    event = [detector.add("a", 1, float(at)) for at in range(5)][1]
    detector.add("b", 1, 6.0)
    assert [(one.uid, one.count, one.at) for one in detector.grown(6.0)] == [(event.uid, 5, 4.0)]


@given(successes=st.lists(st.integers(0, 19), max_size=20))
def test_failures_in_a_row_count_only_until_a_success_however_long_they_take(successes):
    detections = Detections(Thresholds(counts={EventType.DECRYPT_FAILURES: 20}), uids())
    now = 0.0
    for failures in successes:
        for _ in range(failures):
            now += 1000
            assert detections.seen(EventType.DECRYPT_FAILURES, ("app", "k"), now) is None
        detections.decrypted("app", "k", 1, now)
    raised = [detections.seen(EventType.DECRYPT_FAILURES, ("app", "k"), now + 1000.0 * at) for at in range(20)]
    assert [event is not None for event in raised] == [False] * 19 + [True]


def test_a_success_in_between_makes_no_second_event_in_the_window():
    detections = Detections(Thresholds(counts={EventType.DECRYPT_FAILURES: 2}), uids())
    raised = []
    for at in range(20):
        raised.append(detections.seen(EventType.DECRYPT_FAILURES, ("app", "k"), float(at)))
        if at % 5 == 4:
            detections.decrypted("app", "k", 1, float(at))
    assert sum(event is not None for event in raised) == 1


@given(
    usual=st.integers(1, 100_000),
    shares=st.lists(st.floats(1, 2, allow_nan=False), min_size=1, max_size=200),
    pieces=st.integers(1, 5),
)
def test_a_steady_caller_raises_nothing_however_much_it_decrypts(usual, shares, pieces):
    detector = Volumes(10.0, 100, uids())
    for minute, share in enumerate(shares):
        for piece in range(pieces):
            now = minute * MINUTE + piece * MINUTE / pieces
            assert detector.add("app", int(usual * share) // pieces + 1, now) is None


@given(usual=st.integers(0, 1_000), minutes=st.integers(LEARNING, 60), factor=st.integers(2, 20))
def test_a_burst_beyond_the_factor_raises_one_event_a_minute(usual, minutes, factor):
    detector = Volumes(float(factor), 10_000, uids())
    for minute in range(minutes):
        assert detector.add("app", usual, minute * MINUTE) is None
    burst = max(10_000, factor * usual + 2)
    at = minutes * MINUTE
    events = [detector.add("app", burst // 10 + 1, at + second) for second in range(20)]
    [event] = [event for event in events if event is not None]
    assert event.count >= event.threshold >= 10_000
    [grown] = detector.grown(at + MINUTE)
    assert (grown.uid, grown.count) == (event.uid, 20 * (burst // 10 + 1))


@pytest.mark.parametrize("quiet", [0, 1, 5])
def test_a_callers_first_minutes_are_only_learnt(quiet):
    detector = Volumes(10.0, 1_000, uids())
    for minute in range(quiet, LEARNING + quiet):
        assert detector.add("app", 10**6, minute * MINUTE) is None
    assert detector.add("app", 10**6, (LEARNING + quiet) * MINUTE) is None
    assert detector.add("app", 10**8, (LEARNING + quiet + 1) * MINUTE) is not None


def test_a_caller_that_was_quiet_for_long_is_measured_by_that():
    detector = Volumes(10.0, 1_000, uids())
    for minute in range(20):
        detector.add("app", 500_000, minute * MINUTE)
    assert detector.add("app", 500_000, 10_000 * MINUTE) is not None


@given(callers=st.lists(st.integers(0, 50), max_size=200), most=st.integers(1, 5))
def test_volumes_are_remembered_of_no_more_callers_than_the_bound(callers, most):
    detector = Volumes(2.0, 1, uids(), most)
    for index, caller in enumerate(callers):
        detector.add(caller, 1 + index, index * 30.0)
        assert len(detector) <= most
    assert all(grown.count > 0 for grown in detector.grown(10**9))
