"""Promise 6: no version is used past its limit, whoever takes at once, and a crash loses counts but never uses."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from kms.core.errors import StorageUnavailable, VersionExhausted
from kms.core.names import KeyUid
from kms.core.ports import Counter
from kms.core.usage import BLOCK_SECONDS, SMALLEST_BLOCK
from kms.services.counting import UsageCounter, UsageCounters
from storage.sqlite import SqliteDatabase
from tests.node import Clock, RecordingStorage, stored_tenant, until


@pytest.fixture
async def counter(database: SqliteDatabase) -> Counter:
    tenant = await stored_tenant(database)
    return Counter(tenant.uid, KeyUid(uuid4()), 1)


@pytest.fixture
def storage(database: SqliteDatabase) -> RecordingStorage:
    return RecordingStorage(database)


async def exhaust(usage: UsageCounter) -> int:
    """Take one by one until the limit; returns how many there were."""
    taken = 0
    while True:
        try:
            await usage.take(1)
        except VersionExhausted:
            return taken
        taken += 1


async def test_every_use_up_to_the_limit_is_given_and_none_beyond(database, counter):
    limit = SMALLEST_BLOCK + 900  # the last block is a partial one
    usage = UsageCounter(database, counter, limit, Clock())
    assert await exhaust(usage) == limit
    assert await database.reserved([counter]) == [limit]
    assert not usage.take_reserved(1)
    with pytest.raises(VersionExhausted):
        await usage.take(1)


async def test_a_limit_below_the_smallest_block_is_kept(database, counter):
    assert await exhaust(UsageCounter(database, counter, 3, Clock())) == 3


async def test_what_is_left_of_the_block_counts_when_a_batch_takes_the_last(database, counter):
    usage = UsageCounter(database, counter, 160, Clock())
    await usage.take(1)  # of a block of 10
    await usage.take(159)
    with pytest.raises(VersionExhausted):
        await usage.take(1)


async def test_a_batch_larger_than_what_is_left_is_refused_whole_and_takes_nothing(database, counter):
    usage = UsageCounter(database, counter, 160, Clock())
    await usage.take(153)
    with pytest.raises(VersionExhausted):
        await usage.take(8)
    assert await exhaust(usage) == 7


async def test_small_limits_are_not_lost_in_the_blocks_of_nodes(database, counter):
    nodes = [UsageCounter(database, counter, 1000, Clock()) for _ in range(3)]
    for usage in nodes:
        await usage.take(1)
    assert await database.reserved([counter]) == [3 * 62]
    crashed = nodes[:2]  # with 61 each
    assert await exhaust(nodes[2]) == 1000 - 1 - 61 * len(crashed) - 2


async def test_takers_at_once_share_one_reservation(storage, counter):
    usage = UsageCounter(storage, counter, None, Clock())
    await asyncio.gather(*(usage.take(1) for _ in range(100)))
    assert storage.amounts == [SMALLEST_BLOCK]


async def test_takers_at_once_never_pass_the_limit_together(database, counter):
    limit = SMALLEST_BLOCK + 1000
    usage = UsageCounter(database, counter, limit, Clock())
    sizes = [1 + index * 37 % 97 for index in range(200)]
    outcomes = await asyncio.gather(*(usage.take(size) for size in sizes), return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, VersionExhausted) for outcome in outcomes)
    given = sum(size for size, outcome in zip(sizes, outcomes, strict=True) if outcome is None)
    assert sum(sizes) > limit
    assert given + await exhaust(usage) == limit


async def test_a_take_that_others_outrun_while_it_reserves_reserves_again(storage, counter):
    usage = UsageCounter(storage, counter, 1600, Clock())
    await usage.take(50)  # of a block of 100
    await storage.reserve(counter, 1440, None)  # by another node
    block, missing = asyncio.Event(), asyncio.Event()
    storage.held = block
    batch = asyncio.create_task(usage.take(55))
    await until(lambda: len(storage.amounts) == 3)
    storage.held = missing
    block.set()
    await until(lambda: len(storage.amounts) == 4)
    assert usage.take_reserved(50)
    missing.set()
    await batch
    assert storage.amounts == [100, 1440, 93, 5, 55]
    assert await exhaust(usage) == 5


async def test_nodes_that_share_a_database_use_exactly_the_limit_together(database, counter):
    limit = 3 * SMALLEST_BLOCK + 500
    nodes = [UsageCounter(database, counter, limit, Clock()) for _ in range(4)]
    assert sum(await asyncio.gather(*(exhaust(usage) for usage in nodes))) == limit
    assert await database.reserved([counter]) == [limit]


async def test_a_node_that_starts_again_loses_its_block_and_uses_none_twice(database, counter):
    await UsageCounter(database, counter, 160, Clock()).take(5)
    assert await exhaust(UsageCounter(database, counter, 160, Clock())) == 160 - 10


async def test_blocks_grow_while_they_last_too_short_and_shrink_again(storage, counter):
    clock = Clock()
    usage = UsageCounter(storage, counter, None, clock)
    for seconds in (1.0, 1.0, BLOCK_SECONDS, BLOCK_SECONDS, BLOCK_SECONDS):
        await usage.take(1)
        assert usage.take_reserved(storage.amounts[-1] - 1)
        clock.now += seconds
    await usage.take(1)
    assert [amount // SMALLEST_BLOCK for amount in storage.amounts] == [1, 2, 4, 2, 1, 1]


async def test_nothing_is_used_where_nothing_can_be_reserved(database, counter):
    usage = UsageCounter(database, counter, None, Clock())
    await database.close()
    with pytest.raises(StorageUnavailable):
        await usage.take(1)
    assert not usage.take_reserved(1)


async def test_a_taker_that_goes_away_while_it_reserves_holds_up_nobody(storage, counter):
    usage = UsageCounter(storage, counter, 10, Clock())
    storage.held = asyncio.Event()
    gone = asyncio.create_task(usage.take(3))
    waiting = asyncio.create_task(usage.take(3))
    await until(lambda: storage.amounts)
    gone.cancel()
    storage.held.set()
    await waiting
    assert gone.cancelled()
    assert await exhaust(usage) == 7


async def test_every_reservation_beyond_the_soft_limit_asks_for_a_rotation(storage, counter):
    asked = []
    usage = UsageCounter(storage, counter, 160, Clock(), 80, asked.append)
    taken = 0
    while not asked:
        await usage.take(1)
        taken += 1
    [so_far] = await storage.reserved([counter])
    assert 80 <= so_far <= 80 + 10
    assert so_far - storage.amounts[-1] < 80
    reservations = len(storage.amounts)
    await exhaust(usage)
    refused = 1 + 1  # by a block and by one alone
    assert len(asked) - 1 == len(storage.amounts) - reservations - refused + 1
    assert set(asked) == {counter}


async def test_a_version_beyond_its_limit_asks_for_a_rotation_although_it_encrypts_no_more(database, counter):
    asked = []
    await database.reserve(counter, 100, None)
    with pytest.raises(VersionExhausted):
        await UsageCounter(database, counter, 100, Clock(), 50, asked.append).take(1)
    assert asked == [counter]


async def test_new_limits_hold_for_a_counter_that_is_remembered(database, counter):
    asked = []
    counters = UsageCounters(database, Clock())
    counters.watch(asked.append)
    usage = counters.of(counter, 1600, 800)
    await usage.take(1)
    assert counters.of(counter, 200, 100) is usage
    assert await exhaust(usage) == 199
    assert asked[0] == counter


async def test_counters_are_remembered_up_to_a_bound_the_least_used_leaving_first(database, counter):
    counters = UsageCounters(database, Clock(), most=2)
    others = [Counter(counter.tenant, counter.subject, version) for version in (2, 3)]
    first = counters.of(counter, None)
    second = counters.of(others[0], None)
    assert counters.of(counter, None) is first
    counters.of(others[1], None)
    assert counters.of(counter, None) is first
    assert counters.of(others[0], None) is not second


async def test_a_counter_that_is_forgotten_while_it_is_used_still_keeps_the_limit(database, counter):
    counters = UsageCounters(database, Clock(), most=1)
    limit = SMALLEST_BLOCK + 10
    old = counters.of(counter, limit)
    await old.take(10)
    counters.of(Counter(counter.tenant, counter.subject, 2), None)
    new = counters.of(counter, limit)
    assert new is not old
    assert await exhaust(new) + await exhaust(old) + 10 == limit
