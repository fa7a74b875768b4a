"""Rates, over histories of calls: never more than burst + rate * t, and what is told to wait is granted afterwards."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from kms.core.limits import HOUR, MINUTE, SECOND, Limiter, Rate, TokenBucket

RATES = st.builds(
    Rate,
    st.integers(1, 1000),
    st.sampled_from([1, 7, 1000, SECOND, MINUTE, HOUR]),
    st.integers(1, 50),
)
# Times of a machine that has been running for a while; steps around what one call of a rate takes, and back, too.
START = st.integers(0, 10**17)
STEPS = st.lists(st.integers(-(10**10), 10**10) | st.integers(-10, 10), min_size=1, max_size=60)


def moments(start: int, steps: list[int]) -> list[int]:
    found = [start]
    for step in steps:
        found.append(max(found[-1] + step, 0))
    return found


def check_bound(rate: Rate, grants: list[tuple[int, int]]) -> None:
    """In any window between two grants, at most burst + rate * t; exactly, in fractions."""
    for first in range(len(grants)):
        total = 0
        for moment, amount in grants[first:]:
            total += amount
            length = moment - grants[first][0]
            assert total <= rate.burst + Fraction(rate.amount * length, rate.period)


@given(RATES, START, st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 50)), max_size=40))
def test_a_bucket_never_grants_more_than_its_burst_and_its_rate(rate: Rate, start: int, asked: list[tuple[int, int]]):
    bucket, now, grants = TokenBucket(rate), start, []
    for step, amount in asked:
        now += step
        wanted = min(amount, rate.burst)
        if not bucket.take(now, wanted):
            grants.append((now, wanted))
    check_bound(rate, grants)
    assert grants or not asked


@given(RATES, START, st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 50)), max_size=20), st.integers(1, 50))
def test_what_a_bucket_tells_to_wait_is_enough_and_no_more(rate: Rate, start: int, before, amount: int):
    bucket, now, amount = TokenBucket(rate), start, min(amount, rate.burst)
    for step, taken in before:
        now += step
        bucket.take(now, min(taken, rate.burst))
    wait = bucket.wait(now, amount)
    if wait:
        assert bucket.wait(now + wait - 1, amount) == 1
    assert bucket.take(now + wait, amount) == 0


@given(RATES, START, STEPS)
def test_a_clock_that_goes_back_grants_nothing_more(rate: Rate, start: int, steps: list[int]):
    bucket, seen, grants = TokenBucket(rate), 0, []
    for now in moments(start, steps):
        seen = max(seen, now)
        if not bucket.take(now):
            grants.append((seen, 1))
    check_bound(rate, grants)


@given(st.lists(RATES, min_size=1, max_size=4), st.integers(0, 10**11), START, STEPS)
def test_a_subject_stays_within_each_of_its_rates_and_is_granted_after_the_wait_that_it_was_told(
    rates: list[Rate], block: int, start: int, steps: list[int]
):
    limiter, seen, grants = Limiter(tuple(rates), block=block), 0, []
    told = 0
    for now in moments(start, steps):
        seen = max(seen, now)
        wait = limiter.take("a", now)
        if wait:
            assert told in (0, seen + wait)  # asking again prolongs nothing
            told = seen + wait
        else:
            assert seen >= told
            told = 0
            grants.append((seen, 1))
    if told:
        assert limiter.take("a", told) == 0
        grants.append((told, 1))
    for rate in rates:
        check_bound(rate, grants)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 10**9)), max_size=80),
    st.integers(1, 5),
)
def test_subjects_do_not_touch_each_other_and_are_never_more_than_there_is_room_for(asked, most: int):
    rate = Rate(1, SECOND, 3)
    together, now = Limiter((rate,), most=most), 0
    alone = {subject: Limiter((rate,)) for subject in range(10)}
    for subject, step in asked:
        now += step
        got, wanted = together.take(subject, now), alone[subject].take(subject, now)
        assert len(together) <= most
        if len({other for other, _ in asked}) <= most:
            assert got == wanted  # otherwise some are forgotten, and begin anew
