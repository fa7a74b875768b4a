import pytest

from kms.core.errors import StorageUnavailable
from storage.breaker import PAUSE, TRY, Breaker


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return Breaker(clock)


def refused(call):
    with pytest.raises(StorageUnavailable, match="did not answer lately"):
        call()


def test_everybody_enters_while_the_database_answers(breaker):
    for _ in range(3):
        breaker.look()
        breaker.enter()
        breaker.answered()
    assert breaker.closed


def test_after_a_silence_nobody_enters_for_the_pause(breaker, clock):
    breaker.silent()
    assert not breaker.closed
    clock.now += PAUSE - 0.01
    refused(breaker.look)
    refused(breaker.enter)


def test_after_the_pause_one_caller_tries_and_the_others_do_not_wait_for_it(breaker, clock):
    breaker.silent()
    clock.now += PAUSE
    breaker.look()
    breaker.enter()
    refused(breaker.enter)
    refused(breaker.look)


def test_an_answer_lets_everybody_in_again(breaker, clock):
    breaker.silent()
    clock.now += PAUSE
    breaker.enter()
    breaker.answered()
    breaker.enter()
    breaker.enter()
    assert breaker.closed


def test_another_silence_begins_another_pause(breaker, clock):
    breaker.silent()
    clock.now += PAUSE
    breaker.enter()
    breaker.silent()
    refused(breaker.enter)
    clock.now += PAUSE
    breaker.enter()
    assert not breaker.closed


def test_a_try_whose_caller_went_away_does_not_keep_the_others_out_for_ever(breaker, clock):
    breaker.silent()
    clock.now += PAUSE
    breaker.enter()
    clock.now += TRY
    breaker.enter()
    refused(breaker.enter)
