"""What every Storage promises of security events, the outbox, and the positions of sinks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.errors import Conflict
from kms.core.events import EventType, Severity
from kms.core.names import INSTALLATION_UID
from kms.core.outbox import Topic
from kms.core.repositories import EventFilter
from tests import keyrings
from tests.contract.storage import EVERY_FIELD
from tests.keyrings import NOW, new_event, new_item, new_tenant

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
ALL = EventFilter()
TOPICS = tuple(Topic)


async def a_tenant(storage):
    new = new_tenant()
    async with storage.transaction(new.uid, write=True) as work:
        return (await work.tenants.add(new)).uid


async def kept(storage, *events):
    async with storage.transaction(events[0].tenant, write=True) as work:
        await work.security_events.add_all(events)


async def told(storage, *items):
    async with storage.transaction(items[0].tenant, write=True) as work:
        await work.outbox.add_all(items)


async def bodies(storage, after=0, topics=TOPICS, limit=1_000):
    return [item.body for item in await storage.outbox_items(after, topics, limit)]


class EventsContract:
    """Subclasses give `storage`."""

    @EVERY_FIELD
    @given(data=st.data())
    async def test_an_event_is_read_again_exactly_and_so_is_its_change(self, storage, data):
        tenant = await a_tenant(storage)
        event, other = data.draw(keyrings.events(tenant)), data.draw(keyrings.events(tenant))
        await kept(storage, event)
        async with storage.transaction(tenant, write=True) as work:
            found = await work.security_events.get(tenant, event.uid)
            changed = await work.security_events.replace(replace(other, uid=event.uid, revision=found.revision))
        async with storage.transaction(tenant) as work:
            again = await work.security_events.get(tenant, event.uid)
        assert found == replace(event, revision=1)
        assert again == changed == replace(other, uid=event.uid, revision=2)

    async def test_an_event_is_found_under_its_own_tenant_only(self, storage):
        tenant, other = await a_tenant(storage), await a_tenant(storage)
        event = new_event(tenant)
        await kept(storage, event)
        for asked in (other, INSTALLATION_UID):
            async with storage.transaction(asked) as work:
                assert await work.security_events.get(asked, event.uid) is None
                assert await work.security_events.list_newest(asked, ALL, None, 10) == []
                assert await work.security_events.sum_by_day(asked, NOW.date(), NOW.date()) == []
        async with storage.transaction(tenant) as work:
            assert await work.security_events.get(tenant, event.uid) == replace(event, revision=1)

    async def test_the_installation_has_events_of_its_own(self, storage):
        event = new_event(INSTALLATION_UID)
        await kept(storage, event)
        async with storage.transaction(INSTALLATION_UID) as work:
            assert await work.security_events.get(INSTALLATION_UID, event.uid) == replace(event, revision=1)

    async def test_an_event_is_stored_once_and_a_refusal_stores_nothing(self, storage):
        tenant = await a_tenant(storage)
        event, other = new_event(tenant), new_event(tenant)
        await kept(storage, event)
        with pytest.raises(Conflict):
            await kept(storage, other, event)
        async with storage.transaction(tenant) as work:
            assert await work.security_events.get(tenant, other.uid) is None

    async def test_a_change_is_made_over_the_revision_that_it_came_from(self, storage):
        tenant = await a_tenant(storage)
        await kept(storage, event := new_event(tenant))
        stored = replace(event, revision=1)
        async with storage.transaction(tenant, write=True) as work:
            await work.security_events.replace(replace(stored, notes="first"))
        with pytest.raises(Conflict):
            async with storage.transaction(tenant, write=True) as work:
                await work.security_events.replace(replace(stored, notes="second"))

    async def test_pages_hold_every_event_once_the_newest_first(self, storage):
        tenant = await a_tenant(storage)
        events = [new_event(tenant, created_at=NOW + SECOND * (index // 3)) for index in range(10)]
        await kept(storage, *events)
        found, before = [], None
        while True:
            async with storage.transaction(tenant) as work:
                page = await work.security_events.list_newest(tenant, ALL, before, 3)
            if not page:
                break
            found += page
            before = (page[-1].created_at, page[-1].uid)
        assert [event.uid for event in found] == [
            event.uid for event in sorted(events, key=lambda e: (e.created_at, e.uid), reverse=True)
        ]

    @pytest.mark.parametrize(
        ("wanted", "indexes"),
        [
            (ALL, {0, 1, 2, 3}),
            (EventFilter(since=NOW + SECOND), {1, 2, 3}),
            (EventFilter(since=NOW + SECOND * 2), {2, 3}),
            (EventFilter(severity=Severity.HIGH), {1, 3}),
            (EventFilter(severity=Severity.CRITICAL), {3}),
            (EventFilter(type=EventType.RATE_EXCEEDED), {2}),
            (EventFilter(unresolved=True), {0, 1, 3}),
            (EventFilter(since=NOW + SECOND, severity=Severity.LOW, unresolved=True), {1, 3}),
        ],
    )
    async def test_a_filter_finds_what_it_says(self, storage, wanted, indexes):
        tenant = await a_tenant(storage)
        events = [
            new_event(tenant, EventType.REPEATED_DENIALS, created_at=NOW),
            new_event(tenant, EventType.DECRYPT_VOLUME, created_at=NOW + SECOND),
            new_event(tenant, EventType.RATE_EXCEEDED, created_at=NOW + SECOND * 2, resolved_at=NOW),
            new_event(tenant, EventType.CANARY_TOUCHED, created_at=NOW + SECOND * 3),
        ]
        await kept(storage, *events)
        async with storage.transaction(tenant) as work:
            found = await work.security_events.list_newest(tenant, wanted, None, 10)
        assert {event.uid for event in found} == {events[index].uid for index in indexes}

    async def test_events_are_summed_up_by_the_day_in_utc_type_and_severity(self, storage):
        tenant = await a_tenant(storage)
        denials, canary = EventType.REPEATED_DENIALS, EventType.CANARY_TOUCHED
        await kept(
            storage,
            new_event(tenant, denials, count=10),  # a microsecond before midnight
            new_event(tenant, denials, count=5, resolved_at=NOW),
            new_event(tenant, denials, count=7, first_at=NOW + timedelta(microseconds=1)),
            new_event(tenant, canary, count=1),
            new_event(tenant, canary, count=1, first_at=NOW - DAY * 2),
        )
        today = NOW.date()
        async with storage.transaction(tenant) as work:
            sums = await work.security_events.sum_by_day(tenant, today - DAY, today + DAY)
        assert [(one.day, one.type, one.severity, one.events, one.occurrences, one.resolved) for one in sums] == [
            (today, canary, Severity.CRITICAL, 1, 1, 0),
            (today, denials, Severity.MEDIUM, 2, 15, 1),
            (today + DAY, denials, Severity.MEDIUM, 1, 7, 0),
        ]

    async def test_items_come_in_the_order_of_their_commits_and_by_topic(self, storage):
        one, other = await a_tenant(storage), await a_tenant(storage)
        await told(storage, new_item(one, '"a"'), new_item(one, '"b"', Topic.APPROVALS))
        await told(storage, new_item(other, '"c"'))
        await told(storage, new_item(one, '"d"'))
        assert await bodies(storage) == ['"a"', '"b"', '"c"', '"d"']
        assert await bodies(storage, topics=[Topic.APPROVALS]) == ['"b"']
        items = await storage.outbox_items(0, TOPICS, 2)
        assert [item.body for item in items] == ['"a"', '"b"']
        assert await bodies(storage, after=items[-1].position) == ['"c"', '"d"']
        assert (items[0].tenant, items[0].created_at, items[1].topic) == (one, NOW, Topic.APPROVALS)

    async def test_a_reader_never_sees_a_position_before_a_lower_one_is_committed(self, storage):
        tenant = await a_tenant(storage)

        async def write(index):
            async with storage.transaction(tenant, write=True) as work:
                await work.outbox.add_all([new_item(tenant, str(index))])
                await asyncio.sleep(0.001 * (index % 3))

        seen, last = [], 0
        writers = [asyncio.create_task(write(index)) for index in range(4)]
        ended = False
        while not ended:
            ended = all(writer.done() for writer in writers)  # then one more look finds all
            for item in await storage.outbox_items(last, TOPICS, 10):
                assert item.position == last + 1
                seen.append(item.body)
                last = item.position
        await asyncio.gather(*writers)
        assert sorted(seen) == [str(index) for index in range(4)]

    async def test_a_transaction_that_fails_tells_nobody(self, storage):
        tenant = await a_tenant(storage)
        taken = new_item(tenant)
        with pytest.raises(Conflict):
            await told(storage, taken, taken)
        assert await bodies(storage) == []

    async def test_a_new_sink_begins_at_the_end_and_keeps_its_position(self, storage):
        tenant, node = await a_tenant(storage), uuid4()
        await told(storage, new_item(tenant), new_item(tenant))
        start = await storage.claim_sink("soc", node, NOW, NOW + SECOND)
        assert start == 2
        assert await storage.advance_sink("soc", node, 7, NOW + SECOND)
        assert await storage.claim_sink("soc", node, NOW, NOW + SECOND) == 7
        assert await storage.claim_sink("other", node, NOW, NOW + SECOND) == 2

    async def test_one_node_at_a_time_delivers_to_a_sink(self, storage):
        one, other = uuid4(), uuid4()
        assert await storage.claim_sink("soc", one, NOW, NOW + SECOND * 60) == 0
        assert await storage.claim_sink("soc", other, NOW + SECOND * 59, NOW + SECOND * 119) is None
        assert not await storage.advance_sink("soc", other, 5, NOW + SECOND * 119)
        assert await storage.claim_sink("soc", other, NOW + SECOND * 60, NOW + SECOND * 120) == 0
        assert not await storage.advance_sink("soc", one, 5, NOW + SECOND * 180)
        await storage.release_sink("soc", one, NOW)
        assert await storage.claim_sink("soc", one, NOW + SECOND * 61, NOW + SECOND * 180) is None
        await storage.release_sink("soc", other, NOW)
        assert await storage.claim_sink("soc", one, NOW + SECOND * 61, NOW + SECOND * 180) == 0

    async def test_old_items_go_whether_told_or_not_and_positions_go_on(self, storage):
        tenant = await a_tenant(storage)
        await told(
            storage, *[replace(new_item(tenant, str(index)), created_at=NOW + SECOND * index) for index in range(4)]
        )
        assert await storage.prune_outbox(NOW + SECOND * 3, 2) == 2
        assert await storage.prune_outbox(NOW + SECOND * 3, 2) == 1
        assert await storage.prune_outbox(NOW + SECOND * 3, 2) == 0
        assert await bodies(storage) == ["3"]
        await told(storage, new_item(tenant, "4"))
        assert [item.position for item in await storage.outbox_items(0, TOPICS, 10)] == [4, 5]
