"""Rates by example: units, windows, blocks, what is forgotten, and what a subject costs."""

from __future__ import annotations

import tracemalloc

import pytest

from kms.core.callers import TokenLimits
from kms.core.limits import DAY, HOUR, MINUTE, SECOND, Limiter, Rate, TokenBucket, rates_of, window
from kms.core.names import Principal


def test_a_bucket_is_full_at_first_and_fills_at_its_rate():
    bucket = TokenBucket(Rate(10, SECOND, 3))
    now = 1000 * SECOND
    assert [bucket.take(now) for _ in range(4)] == [0, 0, 0, SECOND // 10]
    assert bucket.take(now + SECOND // 10 - 1) == 1
    assert bucket.take(now + SECOND // 10) == 0
    assert [bucket.take(now + 3600 * SECOND) for _ in range(4)] == [0, 0, 0, SECOND // 10]  # never more than the burst


def test_several_at_once_are_taken_whole_or_not_at_all():
    bucket = TokenBucket(Rate(1, SECOND, 10))
    assert bucket.take(0, 8) == 0
    assert bucket.take(0, 3) == SECOND
    assert bucket.take(0, 2) == 0
    with pytest.raises(ValueError, match="more than the burst"):
        bucket.take(0, 11)


@pytest.mark.parametrize("broken", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1)])
def test_a_rate_of_nothing_is_none(broken: tuple[int, int, int]):
    with pytest.raises(ValueError, match="at least 1"):
        Rate(*broken)


def test_the_limits_of_a_token_are_windows_and_a_rate():
    assert rates_of(TokenLimits()) == ()
    assert rates_of(TokenLimits(per_minute=60, per_hour=600, per_day=1000, rate=5, burst=10)) == (
        Rate(60, MINUTE, 60),
        Rate(600, HOUR, 600),
        Rate(1000, DAY, 1000),
        Rate(5, SECOND, 10),
    )
    assert rates_of(TokenLimits(rate=5)) == (Rate(5, SECOND, 5),)
    with pytest.raises(ValueError, match="a burst is of a rate"):
        rates_of(TokenLimits(burst=5))


def test_a_day_of_calls_lasts_for_a_day():
    limiter = Limiter((window(10, DAY), Rate(2, SECOND, 2)))
    now, granted = 0, 0
    while now < DAY // 10:
        wait = limiter.take("a", now)
        granted += not wait
        now += wait or SECOND
    assert granted == 10
    assert limiter.take("a", DAY // 10 + SECOND) == 0


def test_none_is_spent_where_one_of_several_rates_refuses():
    limiter = Limiter((Rate(1, HOUR, 1), Rate(1, SECOND, 5)))
    assert limiter.take("a", 0) == 0
    for _ in range(20):
        assert limiter.take("a", 0) == HOUR
    assert limiter.take("a", HOUR) == 0


def test_who_exceeds_is_blocked_for_the_whole_time_and_no_longer():
    limiter = Limiter((Rate(10, SECOND, 1),), block=5 * SECOND)
    assert limiter.take("a", 0) == 0
    assert limiter.blocked("a", 0) == 0
    assert limiter.take("a", 1) == 5 * SECOND
    assert limiter.take("a", 2 * SECOND) == limiter.blocked("a", 2 * SECOND) == 3 * SECOND + 1
    assert limiter.take("b", 2 * SECOND) == 0
    assert limiter.take("a", 5 * SECOND) == 1
    assert limiter.take("a", 5 * SECOND + 1) == 0


def test_a_block_is_never_shorter_than_it_takes_until_there_is_some_again():
    limiter = Limiter((Rate(1, MINUTE, 1),), block=SECOND)
    assert limiter.take("a", 0) == 0
    assert limiter.take("a", 0) == MINUTE


def test_looking_whether_somebody_is_blocked_leaves_no_trace():
    limiter = Limiter((Rate(1, SECOND, 1),))
    assert [limiter.blocked(subject, 0) for subject in range(100)] == [0] * 100
    assert len(limiter) == 0


def test_changed_rates_of_a_subject_hold_at_once():
    limiter = Limiter()
    before, after = rates_of(TokenLimits(per_minute=1)), rates_of(TokenLimits(per_minute=3))
    assert [limiter.take("a", 0, before) for _ in range(2)] == [0, MINUTE]
    assert [limiter.take("a", 0, after) for _ in range(4)] == [0, 0, 0, MINUTE // 3]


def test_who_was_quiet_for_longest_is_forgotten_first():
    limiter = Limiter((Rate(1, HOUR, 1),), most=3)
    for subject in "abc":
        assert limiter.take(subject, 0) == 0
    assert limiter.take("a", 1) > 0  # also being refused is being there
    assert limiter.take("d", 1) == 0
    assert [limiter.take(subject, 1) > 0 for subject in "acd"] == [True, True, True]
    assert limiter.take("b", 1) == 0
    assert len(limiter) == 3


def test_a_full_limiter_takes_some_megabytes_and_no_more():
    rates = (Rate(1000, SECOND, 2000),)
    tracemalloc.start()
    try:
        limiter = Limiter(rates, most=1000)
        for number in range(3000):
            limiter.take(Principal("acme", f"app{number}"), 10**17 + number)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(limiter) == 1000
    assert taken < 1000 * 1000
