"""The way of the outbox to sinks over real databases and real sinks: in order, at least once, each at its own pace."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import pytest
import structlog

from kms.core.errors import StorageUnavailable
from kms.core.outbox import Topic
from kms.sinks import delivery
from kms.sinks.delivery import LEASE, Delivery
from kms.sinks.file import FileSink
from kms.sinks.sink import SinkUnavailable
from kms.sinks.webhook import WebhookSink
from tests.keyrings import new_item
from tests.node import until, with_tenants

SECRET = uuid4().bytes * 2


@pytest.fixture
async def tell(storage):
    [tenant] = await with_tenants(storage, "acme")

    async def tell(*numbers, topic=Topic.SECURITY_EVENTS):
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.outbox.add_all([new_item(tenant.uid, f'{{"n":{number}}}', topic) for number in numbers])

    return tell


@pytest.fixture
def make(storage, wall, webhook_server):
    def make(sink=None, *, name="soc", node=None, topics=tuple(Topic), outbox=None):
        sink = sink or WebhookSink(webhook_server.url, SECRET, wall, deadline=5)
        return Delivery(name, outbox or storage, sink, topics, node or uuid4(), wall, lambda: 1.0)

    return make


def numbers(server):
    return [taken.item["body"]["n"] for taken in server.taken]


async def drain(one):
    while await one.step():
        pass


async def running(one, condition):
    task = asyncio.create_task(one.run())
    try:
        await until(condition)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_items_arrive_in_order_signed_and_each_once_where_nothing_fails(tell, make, webhook_server):
    one = make()
    await one.step()
    await tell(*range(12))
    await tell(12, 13)
    await drain(one)
    assert numbers(webhook_server) == list(range(14))
    assert all(taken.verifies(SECRET) for taken in webhook_server.taken)
    assert one.delivered == 14


async def test_a_position_outlives_the_process(tell, make, webhook_server):
    one = make(node=uuid4())
    await one.step()
    await tell(1, 2, 3)
    await running(one, lambda: one.delivered == 3)
    await tell(4, 5)
    other = make()  # a new process is a new node; the first has let go of the sink
    await running(other, lambda: other.delivered == 2)
    assert numbers(webhook_server) == [1, 2, 3, 4, 5]


async def test_a_crash_between_delivery_and_position_delivers_again(tell, make, storage, webhook_server, wall):
    class Crashing:
        def __getattr__(self, name):
            return getattr(storage, name)

        async def advance_sink(self, *_):
            raise StorageUnavailable("crash")

    await make().step()
    wall.advance(LEASE)
    await tell(1, 2)
    with pytest.raises(StorageUnavailable):
        await make(outbox=Crashing()).step()
    wall.advance(LEASE)
    await drain(make())
    assert numbers(webhook_server) == [1, 2, 1, 2]


async def test_a_dead_sink_catches_up_when_it_is_back_and_delays_no_other(
    tell, make, webhook_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.01)
    dead, file = make(), make(FileSink(tmp_path / "f", 1 << 20, 3), name="file")
    await dead.step()
    await file.step()
    await webhook_server.stop()
    await tell(*range(8))
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(dead.run())
        await running(file, lambda: file.delivered == 8)
        await until(lambda: dead.failures >= 3)
        await webhook_server.start()
        await until(lambda: dead.delivered == 8)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert numbers(webhook_server) == list(range(8))
    assert [json.loads(line)["body"]["n"] for line in (tmp_path / "f").read_text().splitlines()] == list(range(8))
    told = [entry["event"] for entry in logs if entry.get("sink") == "soc"]
    assert told == ["sink.unavailable", "sink.available_again"]


async def test_a_refused_item_is_tried_again_before_the_next(tell, make, webhook_server):
    one = make()
    await one.step()
    await tell(1, 2)
    webhook_server.answer = b"HTTP/1.1 500 Broken\r\n\r\n"
    for _ in range(2):
        with pytest.raises(SinkUnavailable):
            await one.step()
    webhook_server.answer = b"HTTP/1.1 200 OK\r\n\r\n"
    await drain(one)
    assert numbers(webhook_server) == [1, 1, 1, 2]


async def test_pauses_double_up_to_a_bound_and_are_spread(make, monkeypatch):
    class Down:
        at_once = 1

        async def deliver(self, items):
            raise SinkUnavailable("down")

    one = make(Down())

    async def step():
        raise SinkUnavailable("down")

    monkeypatch.setattr(one, "step", step)
    pauses = [await one._turn() for _ in range(12)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    one._random = lambda: 0.0
    assert await one._turn() == 150
    one._failed = 10_000
    assert await one._turn() == 150


async def test_only_the_wanted_topics_are_told(tell, make, webhook_server):
    one = make(topics=[Topic.APPROVALS])
    await one.step()
    await tell(1)
    await tell(2, topic=Topic.APPROVALS)
    await tell(3)
    await drain(one)
    assert numbers(webhook_server) == [2]
    assert webhook_server.taken[0].headers["x-kms-topic"] == "approvals"


async def test_two_nodes_do_not_deliver_to_one_sink_at_a_time_and_one_takes_over_from_a_dead_one(
    tell, make, webhook_server, wall
):
    one, other = make(), make()
    await one.step()
    await other.step()
    await tell(1)
    assert await other.step() == 0
    assert await one.step() == 1
    await tell(2)
    wall.advance(LEASE + timedelta(seconds=1))  # nothing has been heard of the first
    assert await other.step() == 1
    await tell(3)
    assert await one.step() == 0
    assert await other.step() == 1
    assert numbers(webhook_server) == [1, 2, 3]


async def test_a_lease_is_renewed_while_there_is_nothing_to_tell(make, wall):
    one, other = make(), make()
    for _ in range(10):
        await one.step()
        assert await other.step() == 0
        wall.advance(LEASE * 0.45)
    await one.step()
    assert other._leased_until is None


async def test_what_is_new_is_told_at_once(tell, make, webhook_server, monkeypatch):
    monkeypatch.setattr(delivery, "INTERVAL", 60.0)
    one = make()
    await one.step()
    task = asyncio.create_task(one.run())
    await asyncio.sleep(0)
    await tell(1)
    one.wake()
    await until(lambda: webhook_server.taken)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
