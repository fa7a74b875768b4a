from __future__ import annotations

import pytest

from kms.core.suites import GCM_ROTATE, GCM_STOP
from kms.core.usage import BLOCK_SECONDS, LARGEST_BLOCK, PART_OF_REST, SMALLEST_BLOCK, Allowance, next_block


@pytest.mark.parametrize(
    ("previous", "lasted", "expected"),
    [
        (0, 0.0, 4096),
        (4096, 0.0, 8192),
        (4096, 9.99, 8192),
        (8192, 10.0, 4096),
        (4096, 10.0, 4096),
        (LARGEST_BLOCK, 0.1, LARGEST_BLOCK),
        (LARGEST_BLOCK, 3600.0, LARGEST_BLOCK // 2),
    ],
)
def test_blocks_double_while_they_last_too_short(previous: int, lasted: float, expected: int):
    assert BLOCK_SECONDS == 10.0
    assert next_block(previous, lasted) == expected


@pytest.mark.parametrize(
    ("left", "expected"),
    [(None, 4096), (2**32, 4096), (4096 * 16, 4096), (1000, 62), (32, 2), (16, 1), (15, 1), (1, 1), (0, 1), (-5, 1)],
)
def test_a_block_is_a_small_part_of_what_is_left(left: int | None, expected: int):
    assert PART_OF_REST == 16
    assert next_block(0, 0.0, left) == expected


def test_blocks_that_grow_stay_a_small_part_of_what_is_left():
    assert next_block(4096, 0.0, 16 * 5000) == 5000
    assert next_block(4096, 10.0, 16 * 5000) == 4096


def test_sixteen_nodes_may_hold_their_largest_block_within_the_margin():
    margin = 2**32 - GCM_STOP
    assert margin // LARGEST_BLOCK == 16
    assert SMALLEST_BLOCK < LARGEST_BLOCK
    assert GCM_ROTATE < GCM_STOP


def test_an_empty_allowance_gives_nothing():
    assert not Allowance().take(1)


def test_an_allowance_gives_exactly_what_it_holds():
    allowance = Allowance()
    allowance.refill(10, 5.0, 70)
    assert (allowance.left, allowance.block, allowance.since, allowance.reserved) == (10, 10, 5.0, 70)
    assert allowance.take(4)
    assert not allowance.take(7)
    assert allowance.left == 6
    assert allowance.take(6)
    assert not allowance.take(1)


def test_a_refill_adds_to_what_is_left():
    allowance = Allowance(left=3, block=8, since=1.0)
    allowance.refill(16, 2.0)
    assert (allowance.left, allowance.block, allowance.since) == (19, 16, 2.0)
