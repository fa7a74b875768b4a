"""When versions were last used, as other nodes and the census see it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import structlog

from kms.core.census import Uses
from kms.core.errors import StorageUnavailable
from kms.core.lifecycle import Use
from kms.core.names import KeyUid
from kms.core.ports import Counter
from kms.services import uses
from kms.services.uses import AT_ONCE, UseRecorder
from storage.sqlite import SqliteDatabase
from tests.node import stored_tenant, until

START = datetime(2024, 2, 29, 12, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NEXT_MINUTE = datetime(2024, 2, 29, 12, 1, tzinfo=UTC)


class Wall:
    """Shows the time that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class Records:
    """The real table, which can be away; remembers what it was asked to write."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self.writes: list[dict[Counter, Uses]] = []
        self.away = False

    async def add_uses(self, seen):
        if self.away:
            raise StorageUnavailable("away")
        self.writes.append(dict(seen))
        await self._database.add_uses(seen)

    async def uses(self, counters):
        return await self._database.uses(counters)


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def records(database) -> Records:
    return Records(database)


@pytest.fixture
def recorder(records, wall) -> UseRecorder:
    return UseRecorder(records, wall)


@pytest.fixture
async def counters(database):
    tenant = await stored_tenant(database)
    return [Counter(tenant.uid, KeyUid(uuid4()), version) for version in (1, 2, 3)]


async def stored(records: Records, counter: Counter) -> Uses:
    [found] = await records.uses([counter])
    return found


async def test_a_use_is_written_with_the_minute_that_it_is_not_after(records, recorder, counters):
    encrypted, decrypted, idle = [recorder.marks(counter) for counter in counters]
    encrypted.used = True
    decrypted.decrypted = True
    await recorder.flush()
    assert await stored(records, counters[0]) == Uses(NEXT_MINUTE)
    assert await stored(records, counters[1]) == Uses(NEXT_MINUTE, NEXT_MINUTE)
    assert await stored(records, counters[2]) == Uses()
    assert idle.counter == counters[2]


async def test_the_same_minute_is_written_once_and_the_next_one_again(records, recorder, wall, counters):
    marks = recorder.marks(counters[0])
    for seconds, writes in ((0, 1), (29, 1), (30, 2), (89, 2), (90, 3)):
        wall.now = START + timedelta(seconds=seconds)
        marks.decrypted = True
        await recorder.flush()
        assert len(records.writes) == writes
    assert (await stored(records, counters[0])).last_decrypted_at == NEXT_MINUTE + 2 * MINUTE
    await recorder.flush()
    assert len(records.writes) == 3  # nothing was used since


async def test_what_was_noted_before_a_version_was_forgotten_is_written(records, recorder, counters):
    marks = recorder.marks(counters[0])
    await recorder.flush()  # what is held from one writing to the next is not what makes the difference
    marks.used = True
    del marks
    await recorder.flush()
    assert (await stored(records, counters[0])).last_used_at == NEXT_MINUTE


async def test_a_version_that_nobody_holds_any_more_is_forgotten(recorder, counters):
    marks = [recorder.marks(counter) for counter in counters]
    assert recorder.marks(counters[0]) is marks[0]
    await recorder.flush()
    assert len(recorder._held) == 3
    del marks
    await recorder.flush()
    assert (recorder._held, len(recorder._marks)) == ([], 0)


async def test_refused_uses_are_counted_and_told_once_a_minute(records, recorder, wall, counters):
    with structlog.testing.capture_logs() as log:
        for seconds in (0, 1, 59, 60):
            wall.now = START + timedelta(seconds=seconds)
            recorder.refused(counters[0], "tenants/acme/keys/k1/versions/1", Use.DECRYPT, 10)
            await recorder.flush()
        recorder.refused(counters[1], "tenants/acme/keys/k1/versions/2", Use.ENCRYPT, 1)
    told = [(line["event"], line["name"][-1], line["use"], line["count"], line["log_level"]) for line in log]
    assert told == [
        ("key_version.used_in_quarantine", "1", "decrypt", 10, "warning"),
        ("key_version.used_in_quarantine", "1", "decrypt", 10, "warning"),
        ("key_version.used_in_quarantine", "2", "encrypt", 1, "warning"),
    ]
    assert await stored(records, counters[0]) == Uses(refused=40, last_refused_at=START + MINUTE)
    assert await stored(records, counters[1]) == Uses()
    await recorder.flush()
    assert await stored(records, counters[1]) == Uses(refused=1, last_refused_at=START + MINUTE)


async def test_what_cannot_be_written_waits_and_is_complained_of_once(records, recorder, counters):
    records.away = True
    recorder.marks(counters[0]).used = True
    with structlog.testing.capture_logs() as log:
        for _ in range(3):
            recorder.refused(counters[1], "v", Use.DECRYPT, 2)
            await recorder.flush()
    assert [line["event"] for line in log].count("key_version.uses_not_written") == 1
    records.away = False
    await recorder.flush()
    assert (await stored(records, counters[0])).last_used_at == NEXT_MINUTE
    assert (await stored(records, counters[1])).refused == 6


async def test_many_versions_are_written_in_parts(records, recorder, counters):
    many = [Counter(counters[0].tenant, counters[0].subject, number) for number in range(1, AT_ONCE + 8)]
    marks = [recorder.marks(counter) for counter in many]
    for mark in marks:
        mark.used = True
    await recorder.flush()
    assert [len(write) for write in records.writes] == [AT_ONCE, 7]


async def test_what_waits_is_bounded(records, recorder, counters, monkeypatch):
    monkeypatch.setattr(uses, "MOST_WAITING", 2)
    records.away = True
    for counter in counters:
        recorder.refused(counter, "v", Use.DECRYPT, 1)
    records.away = False
    await recorder.flush()
    assert list(records.writes[0]) == counters[:2]


async def test_the_loop_writes_a_refusal_without_waiting_for_its_turn_and_the_rest_at_the_end(
    records, wall, counters, monkeypatch
):
    monkeypatch.setattr(uses, "GATHERING", 0.01)
    recorder = UseRecorder(records, wall, interval=3600)
    running = asyncio.create_task(recorder.run())
    recorder.refused(counters[0], "v", Use.DECRYPT, 1)
    async with asyncio.timeout(20):
        while not records.writes:  # noqa: ASYNC110  a row has no event
            await asyncio.sleep(0.005)
    await until(lambda: len(records.writes) == 1)
    marks = recorder.marks(counters[1])
    marks.used = True
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await stored(records, counters[1])).last_used_at == NEXT_MINUTE
