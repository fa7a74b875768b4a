"""Turns at the event loop: how much works at once, in which order others follow, and that nothing is left over."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.rpc.fairness import (
    LONGEST_ROUND,
    LONGEST_WORK,
    QUANTUM,
    QUIET,
    SHARE,
    SHORTEST_RETRY,
    SPARSE,
    QueueFull,
    Turns,
)
from tests.node import until

ROOM = 4 * QUANTUM
LARGE = ROOM  # fills the room alone
SMALL = ROOM // 64


class Calls:
    """Calls that work until they are told to end; remembers in which order they began."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.begun: list[str] = []
        self.working: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.most = 0

    async def call(self, name: str, cost: int) -> asyncio.Task[None]:
        """Let *name* (tenant, slash, anything) ask for its turn; returns when it works or waits."""

        async def work() -> None:
            async with self.turns.turn(name.partition("/")[0], cost):
                self.begun.append(name)
                self.most = max(self.most, self.turns.at_work)
                self.working[name] = asyncio.Event()
                try:
                    await self.working[name].wait()
                finally:
                    del self.working[name]

        task = self.tasks[name] = asyncio.create_task(work())
        await settle()
        return task

    async def flood(self, tenant: str, costs: Iterable[int]) -> None:
        for number, cost in enumerate(costs):
            await self.call(f"{tenant}/{number}", cost)

    async def block(self) -> None:
        """Let two tenants take all that may be at work, so that every other one waits."""
        for name in ("y/blocks", "z/blocks"):
            await self.call(name, LARGE)
        assert self.begun == ["y/blocks", "z/blocks"]
        assert self.turns.at_work == 2 * ROOM

    async def end(self, name: str) -> None:
        self.working[name].set()
        await settle()

    async def finish(self, until: Callable[[], bool] = lambda: False) -> None:
        """End whichever call has worked for longest, one after another."""
        while self.working and not until():
            await self.end(next(iter(self.working)))


async def settle() -> None:
    for _ in range(2 * QUIET):
        await asyncio.sleep(0)


@pytest.fixture
def now() -> list[int]:
    return [0]


@pytest.fixture
def calls(now: list[int]) -> Calls:
    return Calls(Turns(ROOM, 100, lambda: now[0]))


def check_empty(turns: Turns) -> None:
    assert (len(turns), turns.at_work, turns.waiting) == (0, 0, 0)


async def test_calls_begin_at_once_while_there_is_room(calls: Calls):
    await calls.flood("a", [SMALL] * 64)
    assert (len(calls.begun), calls.turns.waiting) == (64, 0)
    await calls.call("a/one-more", SMALL)
    assert (len(calls.begun), calls.turns.waiting) == (64, 1)
    await calls.end("a/7")
    assert calls.begun[-1] == "a/one-more"
    await calls.finish()
    check_empty(calls.turns)


async def test_a_call_larger_than_the_room_works_too_and_alone(calls: Calls):
    await calls.call("a/giant", 10 * ROOM)
    await calls.call("a/next", SMALL)
    assert calls.begun == ["a/giant"]
    await calls.end("a/giant")
    assert calls.begun == ["a/giant", "a/next"]
    await calls.finish()
    check_empty(calls.turns)


async def test_a_tenant_with_nothing_at_work_passes_a_flood(calls: Calls):
    await calls.flood("flood", [LARGE] * 20)
    assert calls.begun == ["flood/0"]
    for number in range(10):
        await calls.call(f"quiet/{number}", SMALL)
        assert calls.begun[-1] == f"quiet/{number}"
        await calls.end(f"quiet/{number}")
    assert [name for name in calls.begun if name.startswith("flood")] == ["flood/0"]
    await calls.finish()
    check_empty(calls.turns)


async def test_many_calls_of_one_tenant_follow_after_one_large_call_of_another(calls: Calls):
    await calls.flood("flood", [LARGE] * 20)
    await calls.flood("busy", [SMALL] * 64)
    at_once = [name for name in calls.begun if name.startswith("busy")]
    assert len(at_once) == 64 // SHARE  # its own share
    await calls.end("flood/0")
    # In the first round after that both may spend a quantum, which is not enough for the large call.
    after = calls.begun[1 + len(at_once) :]
    assert after[:16] == [f"busy/{number}" for number in range(8, 24)]
    await calls.finish(lambda: "busy/63" in calls.begun)
    large = sum(name.startswith("flood") for name in calls.begun)
    assert large <= 4
    await calls.finish()
    check_empty(calls.turns)


async def test_tenants_that_wait_are_served_in_turn(calls: Calls):
    await calls.block()
    await calls.flood("a", [QUANTUM] * 9)
    await calls.flood("b", [QUANTUM] * 9)
    await calls.flood("c", [QUANTUM] * 3)
    await calls.finish()
    tenants = "".join(name[0] for name in calls.begun[2:])
    assert tenants[:9] == "abcabcabc"
    assert tenants[9:] == "ababababab" + "ab"
    check_empty(calls.turns)


async def test_calls_of_one_tenant_keep_their_order(calls: Calls):
    await calls.flood("a", [LARGE] * 10)
    await calls.finish()
    assert calls.begun == [f"a/{number}" for number in range(10)]


async def test_hung_calls_of_one_tenant_do_not_hold_up_others(calls: Calls):
    await calls.flood("hung", [SMALL] * 100)  # the token does not answer, say
    for number in range(20):
        await calls.call(f"quiet{number}/0", SMALL)
        assert calls.begun[-1] == f"quiet{number}/0"
    await calls.finish()
    check_empty(calls.turns)


async def test_what_works_at_once_is_bounded_however_many_tenants_there_are(calls: Calls):
    for number in range(50):
        await calls.flood(f"t{number}", [LARGE] * 2)
    assert calls.turns.at_work == 2 * ROOM
    await calls.finish()
    assert calls.most <= 3 * ROOM  # twice the room, and the call that passed that
    assert len(calls.begun) == 100
    check_empty(calls.turns)


async def test_a_full_queue_refuses_and_says_how_long_its_oldest_has_waited(calls: Calls, now: list[int]):
    await calls.call("a/works", LARGE)
    await calls.flood("a", [SMALL] * 100)
    with pytest.raises(QueueFull) as refused:
        await calls.turns.begin("a", SMALL)
    assert refused.value.wait == SHORTEST_RETRY
    now[0] = 3 * 10**9
    with pytest.raises(QueueFull) as refused:
        await calls.turns.begin("a", SMALL)
    assert refused.value.wait == 3 * 10**9
    now[0] = 0  # before anybody else looks at it: what works has not hung
    assert calls.turns.waiting == 100
    await calls.call("b/0", SMALL)  # another's queue is its own
    assert calls.begun[-1] == "b/0"
    await calls.finish()
    assert len(calls.begun) == 102
    check_empty(calls.turns)


async def test_a_call_that_is_cancelled_while_it_waits_leaves_no_trace(calls: Calls):
    await calls.block()
    waiting = [await calls.call(f"{tenant}/{n}", SMALL) for tenant in "abc" for n in range(5)]
    assert calls.turns.waiting == 15
    for task in waiting:
        task.cancel()
    await settle()
    assert (calls.turns.waiting, len(calls.turns)) == (0, 2)
    await calls.finish()
    assert calls.begun == ["y/blocks", "z/blocks"]
    check_empty(calls.turns)


@pytest.mark.parametrize("passes", range(2 * QUIET))
async def test_a_call_that_is_cancelled_as_its_turn_comes_gives_it_on(calls: Calls, passes: int):
    await calls.call("a/works", LARGE)
    first = await calls.call("a/first", LARGE)
    await calls.call("a/second", LARGE)
    calls.working["a/works"].set()
    for _ in range(passes):  # before its turn comes, in the very pass, and after it
        await asyncio.sleep(0)
    first.cancel()
    await settle()
    assert [name for name in calls.begun if name != "a/first"] == ["a/works", "a/second"]
    assert (calls.turns.at_work, calls.turns.waiting) == (LARGE, 0)
    await calls.finish()
    await settle()
    check_empty(calls.turns)


async def test_room_is_given_back_only_when_no_call_arrives_any_more(calls: Calls):
    await calls.call("a/works", LARGE)
    await calls.call("a/waits", LARGE)
    calls.working["a/works"].set()
    for number in range(3 * QUIET):
        task = asyncio.create_task(calls.turns.begin(f"new{number}", 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        calls.turns.end(await task)
    assert calls.begun == ["a/works"]
    await settle()
    assert calls.begun == ["a/works", "a/waits"]
    await calls.finish()
    check_empty(calls.turns)


async def test_calls_that_end_far_apart_give_their_room_back_at_once(calls: Calls, now: list[int]):
    for _ in range(3):
        now[0] += SPARSE + 1
        work = await calls.turns.begin("a", SMALL)
        assert calls.turns.at_work == SMALL
        calls.turns.end(work)
        check_empty(calls.turns)
    now[0] += SPARSE
    calls.turns.end(await calls.turns.begin("a", SMALL))
    assert calls.turns.at_work == SMALL
    await settle()
    check_empty(calls.turns)


async def test_room_is_given_back_in_the_end_though_calls_arrive_without_a_pause(calls: Calls):
    await calls.call("a/works", LARGE)
    await calls.call("a/waits", LARGE)
    calls.working["a/works"].set()
    for number in range(2 * LONGEST_ROUND):
        calls.turns.end(await calls.turns.begin(f"new{number}", 1))
        await asyncio.sleep(0)
    assert calls.begun == ["a/works", "a/waits"]
    await calls.finish()
    check_empty(calls.turns)


async def test_calls_that_work_for_too_long_give_their_room_back(calls: Calls, now: list[int]):
    await calls.flood("hung", [SMALL] * 64)  # the token does not answer, say
    await calls.flood("hung", [SMALL] * 5)
    assert calls.turns.waiting == 5
    now[0] = LONGEST_WORK
    await until(lambda: len(calls.begun) == 69)
    await calls.finish()
    await settle()
    check_empty(calls.turns)
    assert calls.turns._timer is None


COSTS = st.integers(1, ROOM * 2)


@given(st.lists(COSTS, min_size=5, max_size=40), st.lists(COSTS, min_size=5, max_size=40))
async def test_while_two_wait_neither_gets_more_than_a_round_and_a_call_more(first: list[int], second: list[int]):
    calls = Calls(Turns(ROOM, 100, lambda: 0))
    await calls.block()
    costs = {"a": first, "b": second}
    for tenant, own in costs.items():
        await calls.flood(tenant, own)
    assert calls.turns.waiting == len(first) + len(second)
    await calls.finish()
    served: Counter[str] = Counter()
    left = {tenant: len(own) for tenant, own in costs.items()}
    for name in calls.begun[2:]:
        tenant, number = name.split("/")
        served[tenant] += costs[tenant][int(number)]
        left[tenant] -= 1
        if not all(left.values()):
            break
        # A call may wait for its cost to be saved up, and a tenant may begin within its share without any.
        assert abs(served["a"] - served["b"]) <= QUANTUM + 2 * ROOM + ROOM // SHARE + 2 * ROOM
    check_empty(calls.turns)


@given(st.integers(0, 2**32))
async def test_whatever_happens_nothing_is_left_over(seed: int):
    choose = random.Random(seed)
    calls = Calls(Turns(ROOM, 5, lambda: 0))
    for number in range(60):
        happens = choose.random()
        if happens < 0.6:
            await calls.call(f"{choose.choice('abcdef')}/{number}", choose.choice([1, SMALL, QUANTUM, LARGE]))
        elif happens < 0.8 and calls.working:
            calls.working[choose.choice(list(calls.working))].set()
        elif calls.tasks:
            calls.tasks[choose.choice(list(calls.tasks))].cancel()
        if choose.random() < 0.5:
            await asyncio.sleep(0)
        assert calls.turns.at_work <= 3 * ROOM
    for task in calls.tasks.values():
        if choose.random() < 0.5:
            task.cancel()
    await settle()
    await calls.finish()
    for task in calls.tasks.values():
        with suppress(asyncio.CancelledError, QueueFull):
            await task
    check_empty(calls.turns)
