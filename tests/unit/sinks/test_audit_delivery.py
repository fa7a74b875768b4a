"""The way of the audit trail to sinks: stream by stream, in order, at least once, and what dead nodes have left."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import pytest

from kms.core.audit_lines import StoredEvent, item_of
from kms.core.names import INSTALLATION_UID
from kms.sinks import delivery
from kms.sinks.audit import KNOWN, AuditDelivery
from kms.sinks.delivery import LEASE
from kms.sinks.file import FileSink
from kms.sinks.sink import SinkUnavailable
from kms.sinks.webhook import WebhookSink
from tests.keyrings import NOW
from tests.node import until

SECRET = uuid4().bytes * 2
SECOND = timedelta(seconds=1)


@pytest.fixture
def make(storage, wall, webhook_server):
    def make(stream, sink=None, *, name="soc", node=None):
        def webhook():
            return WebhookSink(webhook_server.url, SECRET, wall, deadline=5)

        live, left = (sink, sink) if sink else (webhook(), webhook())
        return AuditDelivery(name, storage, live, left, stream.uid, node or uuid4(), wall, lambda: 1.0)

    return make


def told(server):
    return [(item.item["body"]["stream"], item.item["body"]["sequence"]) for item in server.taken]


def numbers(stream, last, first=1):
    return [(str(stream.uid), number) for number in range(first, last + 1)]


def some(trail, stream, count):
    for _ in range(count):
        stream.add(NOW + SECOND * stream.sequence)
    trail.write()


async def drain(one):
    while await one._live.step():
        pass


async def stopped(task):
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_nodes_own_stream_arrives_in_order_signed_and_each_event_once(make, trail, webhook_server):
    own = trail.stream()
    some(trail, own, 12)
    one = make(own)
    await drain(one)
    some(trail, own, 3)
    await drain(one)
    assert told(webhook_server) == numbers(own, 15)
    assert all(taken.verifies(SECRET) for taken in webhook_server.taken)
    assert {taken.headers["x-kms-topic"] for taken in webhook_server.taken} == {"audit"}
    assert (one.delivered, one.position) == (15, 15)


async def test_a_line_has_the_events_fields_and_the_hash_that_the_chain_has(make, trail, tmp_path):
    own = trail.stream()
    tenant = uuid4()
    own.add(NOW, tenant, principal="tenants/acme/principals/app", key=tenant, key_version=3, context_digest=b"\x01\x02")
    trail.write()
    await drain(make(own, FileSink(tmp_path / "f", 1 << 20, 1)))
    [line] = map(json.loads, (tmp_path / "f").read_text().splitlines())
    assert (line["topic"], line["tenant_uid"], line["time"]) == (
        "audit",
        str(tenant),
        "2024-02-29T23:59:59.999999Z",
    )
    body = line["body"]
    assert bytes.fromhex(body["hash"]) == own.hash
    assert (body["stream"], body["sequence"], line["position"]) == (str(own.uid), 1, 1)
    assert body["event"] == {
        "action": "/kms.v1.KeyService/GetKey",
        "category": "data_access",
        "phase": "act",
        "severity": "info",
        "principal": "tenants/acme/principals/app",
        "request_id": "r1",
        "node": "a:00000000",
        "key": str(tenant),
        "key_version": 3,
        "context_digest": "0102",
        "sensitivity": "normal",
        "retention": "standard",
    }


async def test_a_position_outlives_the_process_and_what_is_left_is_taken_over(make, trail, webhook_server):
    dead, own = trail.stream(), trail.stream()
    some(trail, dead, 7)
    first = make(dead)
    assert await first._live.step() == 5
    await first._live.release()
    some(trail, dead, 3)
    some(trail, own, 2)
    other = make(own)  # the next process: another stream, another node
    assert await other.look() == 5
    await drain(other)
    assert told(webhook_server) == numbers(dead, 10) + numbers(own, 2)
    assert other.delivered == 7


async def test_a_stream_that_a_living_node_delivers_is_not_taken_over_and_a_dead_ones_is(
    make, trail, webhook_server, wall
):
    dead, own = trail.stream(), trail.stream()
    some(trail, dead, 7)
    first, other = make(dead), make(own)
    await first._live.step()
    assert await other.look() == 0
    wall.advance(LEASE + SECOND)
    assert await other.look() == 2
    assert told(webhook_server) == numbers(dead, 7)


async def test_of_two_nodes_one_takes_over(make, trail, storage, webhook_server, wall):
    dead = trail.stream()
    some(trail, dead, 40)
    await make(dead)._live.step()
    wall.advance(LEASE + SECOND)
    looks = await asyncio.gather(*(make(trail.stream()).look() for _ in range(3)))
    assert sum(looks) == 35
    assert told(webhook_server) == numbers(dead, 40)


async def test_what_was_before_a_sink_is_not_told(make, trail, webhook_server, wall):
    old, own = trail.stream(), trail.stream()
    some(trail, old, 3)
    some(trail, own, 2)
    one = make(own)
    await drain(one)
    wall.advance(LEASE + SECOND)
    assert await one.look() == 0
    assert told(webhook_server) == numbers(own, 2)


async def test_a_crash_between_delivery_and_position_delivers_again(make, trail, storage, webhook_server, wall):
    own = trail.stream()
    some(trail, own, 2)
    one = make(own)

    async def crash(*_):
        raise RuntimeError("crash")

    one._live._source.advance_sink = crash
    with pytest.raises(RuntimeError):
        await one._live.step()
    wall.advance(LEASE + SECOND)
    await make(trail.stream()).look()
    assert told(webhook_server) == numbers(own, 2) * 2


async def test_streams_told_to_the_end_are_forgotten_after_a_day_and_no_others(make, trail, storage, wall):
    async def known():
        async with storage.transaction() as work:
            return {uid for uid, _ in await work.audit_feed._entered("soc", wall() + KNOWN * 9, 1_000)}

    over, unfinished, own = trail.stream(), trail.stream(), trail.stream()
    some(trail, over, 2)
    some(trail, unfinished, 2)
    for stream in (over, unfinished):
        one = make(stream)
        await drain(one)
        await one._live.release()
    one = make(own)
    await drain(one)
    await one.look()
    assert await known() == {over.uid, unfinished.uid, own.uid}
    wall.advance(KNOWN + SECOND)
    some(trail, unfinished, 1)

    async def refuse(*_):
        raise SinkUnavailable("down")

    one._left.deliver = refuse
    await drain(one)
    with pytest.raises(SinkUnavailable):
        await one.look()
    assert await known() == {over.uid, unfinished.uid, own.uid}
    del one._left.deliver
    await one.look()
    assert await known() == {unfinished.uid, own.uid}


async def test_sinks_that_are_dead_or_slow_neither_block_each_other_nor_hold_more_than_a_batch(
    make, trail, webhook_server, tmp_path, monkeypatch
):
    monkeypatch.setattr(delivery, "FIRST_PAUSE", 0.01)
    own = trail.stream()
    some(trail, own, 1_200)
    webhook_server.held = asyncio.Event()
    slow, file = make(own), make(own, FileSink(tmp_path / "f", 1 << 30, 1), name="file")
    handed = []
    deliver = file._live._sink.deliver

    async def seen(items):
        handed.append(len(items))
        return await deliver(items)

    file._live._sink.deliver = seen
    tasks = [asyncio.create_task(one.run()) for one in (slow, file)]
    try:
        await until(lambda: file.delivered == 1_200)
        assert slow.delivered == 0
        await webhook_server.stop()
        await until(lambda: slow.failures >= 2)
    finally:
        for task in tasks:
            await stopped(task)
    assert [json.loads(line)["position"] for line in (tmp_path / "f").read_text().splitlines()] == [*range(1, 1_201)]
    assert max(handed) == 500


def test_a_row_that_is_no_event_is_told_as_damaged():
    stream = uuid4()
    item = item_of(StoredEvent(stream, 4, b"no event", bytes(32)))
    body = json.loads(item.body)
    assert (body["damaged"], body["sequence"], item.tenant, item.position) == (True, 4, INSTALLATION_UID, 4)
    assert "event" not in body


def test_an_event_in_another_row_is_told_as_damaged(trail):
    own = trail.stream()
    own.add(NOW)
    row = trail.rows[0]
    moved = StoredEvent(own.uid, 2, row["canonical"], row["hash"])
    assert json.loads(item_of(moved).body)["damaged"]


def test_an_item_has_the_same_id_every_time():
    row = StoredEvent(uuid4(), 4, b"", bytes(32))
    assert item_of(row).uid == item_of(row).uid != item_of(StoredEvent(row.stream, 5, b"", bytes(32))).uid
