from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from kms.crypto.cache import DekCache


class Clock:
    """Shows the seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Load:
    """A load that counts its calls and ends when the test says so."""

    def __init__(self) -> None:
        self.calls = 0
        self.outcomes: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        self.calls += 1
        outcome = asyncio.get_running_loop().create_future()
        self.outcomes.append(outcome)
        return await outcome


def give(value: str) -> Callable[[], Awaitable[str]]:
    async def load() -> str:
        return value

    return load


async def pass_the_loop() -> None:
    """Let everything that is ready run, callbacks of callbacks included."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> DekCache[str, str]:
    return DekCache(capacity=3, lifetime=60.0, clock=clock)


def counts(cache: DekCache[str, str]) -> tuple[int, int, int, int]:
    return cache.hits, cache.misses, cache.evictions, cache.expirations


async def test_what_is_loaded_once_is_found_from_then_on(cache: DekCache[str, str]):
    assert cache.peek("a") is None
    assert await cache.get("a", give("first")) == "first"
    assert cache.peek("a") == "first"
    assert await cache.get("a", give("second")) == "first"
    assert counts(cache) == (2, 1, 0, 0)
    assert len(cache) == 1


@pytest.mark.parametrize(("age", "found"), [(0.0, True), (59.999, True), (60.0, False), (1e9, False)])
async def test_an_entry_lives_exactly_its_lifetime(cache: DekCache[str, str], clock: Clock, age: float, found: bool):
    await cache.get("a", give("old"))
    clock.now += age
    assert (cache.peek("a") == "old") is found
    assert await cache.get("a", give("new")) == ("old" if found else "new")
    assert cache.expirations == (0 if found else 1)


async def test_use_does_not_prolong_a_life(cache: DekCache[str, str], clock: Clock):
    await cache.get("a", give("old"))
    for _ in range(59):
        clock.now += 1.0
        assert await cache.get("a", give("new")) == "old"
    clock.now += 1.0
    assert await cache.get("a", give("new")) == "new"


async def test_a_life_begins_before_the_load(cache: DekCache[str, str], clock: Clock):
    load = Load()
    waiter = asyncio.create_task(cache.get("a", load))
    await pass_the_loop()
    clock.now += 59.0
    load.outcomes[0].set_result("slow")
    assert await waiter == "slow"
    assert cache.peek("a") == "slow"
    clock.now += 1.0
    assert cache.peek("a") is None


async def test_the_least_recently_used_leaves_first(cache: DekCache[str, str]):
    for key in "abc":
        await cache.get(key, give(key))
    cache.peek("a")
    await cache.get("b", give("never"))
    await cache.get("d", give("d"))
    assert [cache.peek(key) for key in "abcd"] == ["a", "b", None, "d"]
    assert len(cache) == 3
    assert cache.evictions == 1


async def test_all_who_wait_share_one_load(cache: DekCache[str, str]):
    load = Load()
    waiters = [asyncio.create_task(cache.get("a", load)) for _ in range(50)]
    await pass_the_loop()
    load.outcomes[0].set_result("shared")
    assert await asyncio.gather(*waiters) == ["shared"] * 50
    assert load.calls == 1
    assert counts(cache) == (0, 50, 0, 0)


async def test_different_keys_load_at_the_same_time(cache: DekCache[str, str]):
    one, two = Load(), Load()
    waiters = [asyncio.create_task(cache.get("a", one)), asyncio.create_task(cache.get("b", two))]
    await pass_the_loop()
    two.outcomes[0].set_result("B")
    one.outcomes[0].set_result("A")
    assert await asyncio.gather(*waiters) == ["A", "B"]


async def test_a_failure_reaches_all_who_wait_and_is_not_kept(cache: DekCache[str, str]):
    load = Load()
    waiters = [asyncio.create_task(cache.get("a", load)) for _ in range(3)]
    await pass_the_loop()
    load.outcomes[0].set_exception(KeyError("gone"))
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(result) for result in results] == [KeyError] * 3
    assert await cache.get("a", give("back")) == "back"


async def test_a_failure_that_nobody_waits_for_any_more_is_quiet(cache: DekCache[str, str]):
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    load = Load()
    waiter = asyncio.create_task(cache.get("a", load))
    await pass_the_loop()
    waiter.cancel()
    cache.drop("a")
    load.outcomes.pop().set_exception(KeyError("gone"))
    await pass_the_loop()
    del waiter, load
    gc.collect()
    assert complaints == []
    assert len(cache) == 0


async def test_none_is_returned_but_not_kept(clock: Clock):
    cache: DekCache[str, str | None] = DekCache(3, 60.0, clock)

    async def nothing() -> str | None:
        return None

    assert await cache.get("a", nothing) is None
    assert len(cache) == 0
    assert await cache.get("a", give("now")) == "now"


async def test_a_cancelled_waiter_does_not_cancel_the_load(cache: DekCache[str, str]):
    load = Load()
    first, second = (asyncio.create_task(cache.get("a", load)) for _ in range(2))
    await pass_the_loop()
    first.cancel()
    await pass_the_loop()
    assert first.cancelled()
    load.outcomes[0].set_result("kept")
    assert await second == "kept"
    assert load.calls == 1


async def test_a_load_whose_waiters_are_all_gone_still_fills_the_cache(cache: DekCache[str, str]):
    load = Load()
    waiter = asyncio.create_task(cache.get("a", load))
    await pass_the_loop()
    waiter.cancel()
    await pass_the_loop()
    load.outcomes[0].set_result("kept")
    await pass_the_loop()
    assert cache.peek("a") == "kept"


async def test_a_load_that_is_cancelled_from_within_leaves_nothing(cache: DekCache[str, str]):
    load = Load()
    waiter = asyncio.create_task(cache.get("a", load))
    await pass_the_loop()
    load.outcomes[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert await cache.get("a", give("back")) == "back"


DROPS: dict[str, Callable[[DekCache[str, str]], None]] = {
    "drop": lambda cache: cache.drop("a"),
    "drop_where": lambda cache: cache.drop_where(lambda key: key == "a"),
    "clear": lambda cache: cache.clear(),
}


@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
async def test_a_dropped_entry_is_loaded_again(cache: DekCache[str, str], drop: Callable[[DekCache[str, str]], None]):
    await cache.get("a", give("old"))
    drop(cache)
    assert cache.peek("a") is None
    assert await cache.get("a", give("new")) == "new"
    assert (cache.evictions, cache.expirations) == (0, 0)


@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
async def test_what_is_dropped_while_it_loads_is_not_stored(
    cache: DekCache[str, str], drop: Callable[[DekCache[str, str]], None]
):
    load = Load()
    waiter = asyncio.create_task(cache.get("a", load))
    await pass_the_loop()
    drop(cache)
    load.outcomes[0].set_result("stale")
    assert await waiter == "stale"
    assert cache.peek("a") is None


@pytest.mark.parametrize("first_to_end", [0, 1])
async def test_who_comes_after_a_drop_gets_a_load_of_its_own(cache: DekCache[str, str], first_to_end: int):
    load = Load()
    before = asyncio.create_task(cache.get("a", load))
    await pass_the_loop()
    cache.drop("a")
    after = asyncio.create_task(cache.get("a", load))
    await pass_the_loop()
    assert load.calls == 2
    results = ["stale", "fresh"]
    for index in (first_to_end, 1 - first_to_end):
        load.outcomes[index].set_result(results[index])
        await pass_the_loop()
    assert (await before, await after) == ("stale", "fresh")
    assert cache.peek("a") == "fresh"


async def test_a_drop_after_the_load_ended_but_before_it_is_stored_counts(cache: DekCache[str, str]):
    load = Load()
    waiter = asyncio.create_task(cache.get("a", load))
    await pass_the_loop()
    load.outcomes[0].set_result("stale")
    await asyncio.sleep(0)  # the load has its result; its callbacks have not run
    cache.drop("a")
    assert await waiter == "stale"
    assert cache.peek("a") is None


async def test_drop_where_leaves_the_others(cache: DekCache[str, str]):
    for key in ("a1", "a2", "b1"):
        await cache.get(key, give(key))
    cache.drop_where(lambda key: key.startswith("a"))
    assert [cache.peek(key) for key in ("a1", "a2", "b1")] == [None, None, "b1"]


async def test_dropping_what_is_not_there_does_nothing(cache: DekCache[str, str]):
    cache.drop("a")
    cache.drop_where(lambda _: True)
    cache.clear()
    assert len(cache) == 0


async def test_a_sweep_forgets_what_nobody_asks_for(cache: DekCache[str, str], clock: Clock):
    await cache.get("a", give("a"))
    clock.now += 30.0
    await cache.get("b", give("b"))
    cache.sweep()
    assert len(cache) == 2
    clock.now += 30.0
    cache.sweep()
    assert len(cache) == 1
    assert cache.expirations == 1
    assert cache.peek("b") == "b"


@pytest.mark.parametrize(("capacity", "lifetime"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, -1.0)])
def test_a_cache_without_room_or_time_is_refused(clock: Clock, capacity: int, lifetime: float):
    with pytest.raises(ValueError, match="must be positive"):
        DekCache(capacity, lifetime, clock)


@pytest.mark.parametrize(("lifetime", "lives"), [(10.0, 10.0), (60.0, 60.0), (1e9, 60.0)])
async def test_an_entry_may_live_shorter_than_the_others_and_never_longer(
    cache: DekCache[str, str], clock: Clock, lifetime: float, lives: float
):
    await cache.get("a", give("a"), lifetime)
    await cache.get("b", give("b"))
    clock.now += lives - 0.001
    assert cache.peek("a") == "a"
    clock.now += 0.001
    assert cache.peek("a") is None
    assert (cache.peek("b") == "b") is (lives < 60.0)


async def test_a_sweep_forgets_what_lives_shorter(cache: DekCache[str, str], clock: Clock):
    await cache.get("a", give("a"), 10.0)
    await cache.get("b", give("b"))
    clock.now += 10.0
    cache.sweep()
    assert len(cache) == 1
