"""The deadline of a call, whether it waits for something or not."""

from __future__ import annotations

import asyncio

import pytest

from kms.rpc.calls import in_time


def forever() -> float:
    return 3600.0


def never_asked() -> float:
    raise AssertionError("a call that does not wait needs no deadline")


async def test_what_does_not_wait_needs_no_timer():
    async def work() -> int:
        return 7

    assert await in_time(work(), never_asked) == 7


async def test_an_error_before_the_first_wait_comes_through():
    async def work() -> int:
        raise LookupError("x")

    with pytest.raises(LookupError, match="x"):
        await in_time(work(), never_asked)


async def test_what_waits_several_times_gets_each_answer():
    async def work() -> list[int]:
        found = [await asyncio.sleep(0, number) for number in range(3)]
        return [*found, await asyncio.to_thread(lambda: 3)]

    assert await in_time(work(), forever) == [0, 1, 2, 3]


async def test_an_error_after_waiting_comes_through_and_one_inside_can_be_handled():
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("inner")

    async def work() -> str:
        try:
            await asyncio.gather(fails())
        except KeyError:
            return "handled"
        return "not seen"

    assert await in_time(work(), forever) == "handled"
    with pytest.raises(KeyError, match="inner"):
        await in_time(fails(), forever)


async def test_a_call_that_waits_too_long_is_cancelled_and_cleans_up():
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cleaned.append(True)

    with pytest.raises(TimeoutError):
        await in_time(work(), lambda: 0.0)
    assert cleaned == [True]


async def test_a_caller_who_goes_away_cancels_the_work():
    begun, seen = asyncio.Event(), []

    async def work() -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    task = asyncio.create_task(in_time(work(), forever))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_work_that_is_thrown_away_is_closed():
    closed = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            closed.append(True)

    waiting = in_time(work(), forever)
    waiting.send(None)
    waiting.close()
    assert closed == [True]
