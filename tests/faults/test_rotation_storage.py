"""The scheduler on PostgreSQL: nodes race for the same keys, and the server goes away in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog

from kms.core.errors import StorageUnavailable
from storage.database import Database
from storage.session import BOUND
from tests.node import Node
from tests.postgresql_server import PostgresqlServer
from tests.schedule import CLAIM_OVER, DAY, Wall, carry_out, rotation_of, stored
from tests.sealing import open_postgresql
from tests.softhsm_token import eventually

pytestmark = [pytest.mark.postgresql, pytest.mark.softhsm]


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def storages(unsteady_url: str) -> AsyncIterator[list[Database]]:
    """One for each of three nodes."""
    opened = [await open_postgresql(unsteady_url, pool_size=4, bound=BOUND) for _ in range(3)]
    yield [*opened]
    for each in opened:
        await each.close()


async def test_nodes_that_work_at_once_make_one_version_for_each_slot(storages, open_vault, wall):
    nodes = [Node(storage, open_vault, wall=wall) for storage in storages]
    rotations = [rotation_of(node, wall) for node in nodes]
    acme = await nodes[0].tenant("acme")
    names = [await nodes[0].key(acme, f"k{index}") for index in range(20)]
    for _ in range(2):
        wall.wait(DAY)
        await asyncio.gather(*(carry_out(rotation) for rotation in rotations))
    assert [await nodes[0].key_versions(acme, name) for name in names] == [[1, 2, 3]] * len(names)
    assert sum(rotation.counts.rotations["schedule"] for rotation in rotations) == 2 * len(names)
    assert all(rotation.counts.failures == 0 for rotation in rotations)


async def test_nodes_that_rotate_the_same_key_in_spite_of_claims_make_one_version(storages, open_vault, wall):
    nodes = [Node(storage, open_vault, wall=wall) for storage in storages]
    rotations = [rotation_of(node, wall) for node in nodes]
    acme = await nodes[0].tenant("acme")
    name = await nodes[0].key(acme, "payroll")
    wall.wait(DAY)
    tenant, key, _ = await stored(storages[0], name)
    await asyncio.gather(*(each._keys.carry_out(tenant, key, may_destroy=False) for each in rotations))
    assert await nodes[0].key_versions(acme, name) == [1, 2]
    assert sum(rotation.counts.rotations["schedule"] for rotation in rotations) == 1


async def test_a_server_that_stops_and_starts_again_loses_nothing(
    postgresql_server: PostgresqlServer, storages, open_vault, wall
):
    node = Node(storages[0], open_vault, wall=wall)
    rotation = rotation_of(node, wall)
    acme = await node.tenant("acme")
    names = [await node.key(acme, f"k{index}") for index in range(12)]
    wall.wait(DAY)
    with structlog.testing.capture_logs() as log:
        loop = asyncio.create_task(rotation.run())
        await eventually(lambda: rotation.counts.rotations["schedule"] >= 1)
        await asyncio.to_thread(postgresql_server.stop)
        await eventually(lambda: rotation.counts.failures >= 1)
        await asyncio.to_thread(postgresql_server.start)
        wall.wait(CLAIM_OVER)
        async with asyncio.timeout(30):
            while await listed(node, acme, names) != [[1, 2]] * len(names):
                rotation.wake()
                await asyncio.sleep(0.05)
        assert not loop.done()
        loop.cancel()
        await asyncio.wait([loop])
    assert {entry["error"] for entry in log if entry["event"] == "schedule.failed"} == {"STORAGE_UNAVAILABLE"}


async def listed(node, acme, names) -> list[list[int]]:
    try:
        return [await node.key_versions(acme, name) for name in names]
    except StorageUnavailable:
        return []
