"""What equality gives away, against a count of the same rows by other means."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.columns.leakage import LEAST_ROWS, LOW_CARDINALITY, estimate, refusal


def of(values):
    """The estimate of a list of values."""
    return estimate(Counter(Counter(values).values()))


def spread(values, each):
    return [value for value in range(values) for _ in range(each)]


@given(st.lists(st.integers(0, 30), max_size=300))
def test_the_estimate_is_that_of_the_rows(values):
    leak, counts = of(values), Counter(values)
    assert (leak.rows, leak.distinct) == (len(values), len(counts))
    most = [count for _, count in counts.most_common(10)]
    assert leak.top == (most[0] if most else 0)
    assert leak.ten == sum(most)
    if values:
        assert leak.min_entropy == pytest.approx(math.log2(len(values) / most[0]))
        # The attacker takes one of the values that occur as often, at random.
        alike = Counter(counts.values())
        read = sum(count / alike[count] for count in counts.values())
        assert leak.counted == pytest.approx(read / len(values))


def test_values_that_are_all_different_leak_one_row():
    leak = of(range(1000))
    assert (leak.guess, leak.counted) == (0.001, 0.001)
    assert leak.min_entropy == pytest.approx(9.97, abs=0.01)
    assert refusal(leak) is None


def test_few_values_are_refused_an_index():
    assert "only 5 different values" in refusal(of(spread(5, 40)))
    assert "only 99 different values" in refusal(of(spread(LOW_CARDINALITY - 1, 3)))
    assert refusal(of(spread(LOW_CARDINALITY, 3))) is None


def test_one_frequent_value_is_refused_an_index():
    common = [0] * 300 + list(range(1, 1001))
    assert "in 23% of the rows" in refusal(of(common))
    assert refusal(of([0] * 100 + list(range(1, 1001)))) is None


def test_values_that_are_told_apart_by_counting_are_refused_an_index():
    telling = [value for value in range(1, 151) for _ in range(value)]  # each occurs as often as no other
    leak = of(telling)
    assert leak.guess < 0.1
    assert leak.counted == 1
    assert "100% of the rows by counting" in refusal(leak)


def test_a_few_rows_tell_nothing():
    assert refusal(of([])) is None
    assert refusal(of(range(LOW_CARDINALITY - 1))) is None  # few, but each of them once
    assert refusal(of(["a"] * (LEAST_ROWS - 1))) is None
    assert refusal(of(["a"] * LEAST_ROWS)) is not None


def test_an_estimate_is_told_in_numbers():
    assert str(of(spread(4, 25))) == (
        "4 different values in 100 rows, min-entropy 2.0 bits; guessing success 25% with one guess, 100% with ten,"
        " 25% by counting"
    )
    assert str(of([])) == "no value is there to measure"
