"""Events on their way into the database: in order, answered once, kept through an outage, bounded."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
import structlog

from kms.core.detection import Grown
from kms.core.errors import NotFound, StorageUnavailable, WrongKeyState
from kms.core.events import KINDS, Answer, EventType, Outcome
from kms.core.names import INSTALLATION_UID, KeyName, Principal
from kms.core.outbox import Topic
from kms.core.repositories import EventFilter
from kms.services import event_recorder
from kms.services.event_recorder import Answers, EventRecorder, Noticed
from tests.both_databases import add_tenants
from tests.keyrings import NOW, new_event
from tests.node import Clock, until

ACME = Principal("acme", "app")
KEY = KeyName("acme", "payroll")
NOBODY = Answers({}, timedelta(hours=1))


class Line:
    """A storage that can be away, and can lose the answer to a commit."""

    def __init__(self, storage):
        self._storage = storage
        self.away = False
        self.lost = 0
        self.writes = 0

    @asynccontextmanager
    async def transaction(self, tenant=None, *, write=False):
        if self.away:
            raise StorageUnavailable("away")
        async with self._storage.transaction(tenant, write=write) as work:
            yield work
        self.writes += write
        if write and self.lost:
            self.lost -= 1
            raise StorageUnavailable("the answer was lost")


class Growing:
    """Tells what a test has set."""

    def __init__(self):
        self.next = []

    def __call__(self, now):
        told, self.next = self.next, []
        return told


@pytest.fixture
async def acme(storage):
    [tenant] = await add_tenants(storage, "acme")
    return tenant


@pytest.fixture
def line(storage):
    return Line(storage)


@pytest.fixture
def growing():
    return Growing()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(line, growing, wall, clock):
    def make(answers=NOBODY, **options):
        return EventRecorder(line, answers, growing, wall, clock, **options)

    return make


def noticed(kind=EventType.REPEATED_DENIALS, tenant="acme", principal=ACME, key=None, **fields):
    return Noticed(new_event(INSTALLATION_UID, kind, **fields), tenant, principal, key)


async def stored(storage, tenant):
    async with storage.transaction(tenant) as work:
        return await work.security_events.list_newest(tenant, EventFilter(), None, 1_000)


async def told(storage):
    return [json.loads(item.body) for item in await storage.outbox_items(0, tuple(Topic), 1_000)]


async def test_an_event_is_stored_under_its_tenant_and_told_with_its_name(storage, make, acme, wall):
    recorder = make()
    wall.advance(timedelta(seconds=3))
    recorder.offer(first := noticed())
    await recorder.flush()
    [event] = await stored(storage, acme.uid)
    assert event == replace(first.event, tenant=acme.uid, created_at=wall.now, revision=1)
    [body] = await told(storage)
    assert body["name"] == f"tenants/acme/securityEvents/{event.uid}"
    assert (body["type"], body["severity"], body["count"]) == ("repeated_denials", "medium", 10)


@pytest.mark.parametrize("slug", [None, "absent"])
async def test_what_is_of_no_tenant_is_the_installations(storage, make, slug):
    recorder = make()
    recorder.offer(noticed(tenant=slug, principal=None))
    await recorder.flush()
    [event] = await stored(storage, INSTALLATION_UID)
    assert [body["name"] for body in await told(storage)] == [f"installation/securityEvents/{event.uid}"]


async def test_events_are_stored_in_batches_and_told_in_their_order(storage, make, acme, line):
    recorder = make()
    events = [noticed(resource=f"r{index}") for index in range(450)]
    for event in events:
        recorder.offer(event)
    await recorder.flush()
    assert [body["resource"] for body in await told(storage)] == [f"r{index}" for index in range(450)]
    assert line.writes == 3
    assert len(recorder) == 0


async def test_an_outage_is_waited_for_and_loses_nothing(storage, make, acme, line):
    recorder = make()
    line.away = True
    for index in range(5):
        recorder.offer(noticed(resource=f"r{index}"))
    with structlog.testing.capture_logs() as logs:
        await recorder.flush()
        await recorder.flush()
        assert len(recorder) == 5
        line.away = False
        await recorder.flush()
    assert [body["resource"] for body in await told(storage)] == [f"r{index}" for index in range(5)]
    names = [entry["event"] for entry in logs]
    assert names.count("security.events_not_written") == 1
    assert names.count("security.events_written_again") == 1
    assert names.count("security.event") == 5  # each once, at its first attempt


async def test_an_event_whose_commit_was_not_confirmed_is_stored_and_told_once(storage, make, acme, line):
    recorder = make()
    line.lost = 1
    recorder.offer(noticed())
    await recorder.flush()
    assert len(recorder) == 1
    recorder.offer(noticed())
    await recorder.flush()
    assert len(recorder) == 0
    assert len(await stored(storage, acme.uid)) == len(await told(storage)) == 2


async def test_an_event_that_no_database_keeps_holds_up_no_other(storage, make, acme):
    recorder = make()
    recorder.offer(noticed())
    recorder.offer(noticed(resource="a\0b"))
    recorder.offer(noticed())
    with structlog.testing.capture_logs() as logs:
        await recorder.flush()
    assert len(await stored(storage, acme.uid)) == 2
    assert [entry["type"] for entry in logs if entry["event"] == "security.event_refused"] == ["repeated_denials"]
    assert (recorder.dropped, len(recorder)) == (1, 0)


async def test_the_queue_is_bounded_and_what_is_lost_is_counted_and_said(storage, make, acme, wall):
    recorder = make(most=3)
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            recorder.offer(noticed())
        wall.advance(timedelta(minutes=2))
        recorder.offer(noticed())
    assert (len(recorder), recorder.dropped) == (3, 3)
    assert recorder.counts["repeated_denials", "medium"] == 6
    assert [entry["dropped"] for entry in logs if entry["event"] == "security.events_dropped"] == [1, 3]


async def test_what_an_event_has_grown_to_is_stored_with_its_risk_and_last_time(
    storage, make, growing, acme, wall, clock
):
    recorder = make()
    recorder.offer(one := noticed())
    await recorder.flush()
    wall.advance(timedelta(seconds=60))
    clock.now += 60
    growing.next = [Grown(one.event.uid, clock.now - 15, 85)]
    await recorder.flush()
    [event] = await stored(storage, acme.uid)
    assert (event.count, event.last_at) == (85, NOW + timedelta(seconds=45))
    assert event.risk == KINDS[event.type].risk + 15


async def test_growth_waits_for_an_event_that_waits_itself(storage, make, growing, acme, line, clock):
    recorder = make()
    recorder.offer(one := noticed())
    line.away = True
    growing.next = [Grown(one.event.uid, clock.now, 30)]
    await recorder.flush()
    line.away = False
    await recorder.flush()
    assert [event.count for event in await stored(storage, acme.uid)] == [30]


async def test_growth_and_an_investigation_do_not_undo_each_other(storage, make, growing, acme, clock):
    recorder = make()
    recorder.offer(one := noticed())
    await recorder.flush()
    [event] = await stored(storage, acme.uid)
    async with storage.transaction(acme.uid, write=True) as work:
        await work.security_events.replace(replace(event, notes="seen"))
    growing.next = [Grown(one.event.uid, clock.now, 30)]
    await recorder.flush()
    [event] = await stored(storage, acme.uid)
    assert (event.count, event.notes) == (30, "seen")


class Hand:
    """Carries answers out, as a test has said."""

    def __init__(self, error=None, hangs=False):
        self.asked = []
        self.error = error
        self.hangs = hangs

    async def __call__(self, *what):
        self.asked.append(what)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


BLOCK = {EventType.REPEATED_DENIALS: Answer.BLOCK_PRINCIPAL}
SUSPEND = {EventType.CANARY_TOUCHED: Answer.SUSPEND_KEY}


async def answered(storage, make, tenant, answers, event):
    recorder = make(answers)
    recorder.offer(event)
    await recorder.flush()
    [found] = await stored(storage, tenant)
    return found


async def test_a_principal_is_blocked_once_and_for_a_time_even_if_the_event_cannot_be_stored_yet(
    storage, make, acme, line, wall
):
    hand = Hand()
    recorder = make(Answers(BLOCK, timedelta(hours=2), block_principal=hand))
    line.away = True
    recorder.offer(one := noticed())
    await recorder.flush()
    await recorder.flush()
    line.away = False
    await recorder.flush()
    [(principal, reason, end)] = hand.asked
    assert (principal, end) == (ACME, wall.now + timedelta(hours=2))
    assert str(one.event.uid) in reason
    [event] = await stored(storage, acme.uid)
    assert (event.answer, event.outcome) == (Answer.BLOCK_PRINCIPAL, Outcome.DONE)
    assert [body["outcome"] for body in await told(storage)] == ["done"]


async def test_a_key_is_suspended(storage, make, acme):
    hand = Hand()
    canary = noticed(EventType.CANARY_TOUCHED, key=KEY)
    event = await answered(storage, make, acme.uid, Answers(SUSPEND, timedelta(hours=1), suspend_key=hand), canary)
    assert [name for name, _ in hand.asked] == [KEY]
    assert event.outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("hand", "reason"),
    [
        (Hand(WrongKeyState("it is suspended")), "it is suspended"),
        (Hand(NotFound("x")), "x does not exist"),
        (Hand(ValueError("a mistake")), "ValueError"),
    ],
)
async def test_an_answer_that_fails_is_told(storage, make, acme, hand, reason):
    canary = noticed(EventType.CANARY_TOUCHED, key=KEY)
    event = await answered(storage, make, acme.uid, Answers(SUSPEND, timedelta(hours=1), suspend_key=hand), canary)
    assert (event.outcome, event.indicators) == (Outcome.FAILED, (f"answer: {reason}",))


async def test_an_answer_that_hangs_is_given_up(storage, make, acme, monkeypatch):
    monkeypatch.setattr(event_recorder, "ANSWER_DEADLINE", 0.01)
    canary = noticed(EventType.CANARY_TOUCHED, key=KEY)
    answers = Answers(SUSPEND, timedelta(hours=1), suspend_key=Hand(hangs=True))
    assert (await answered(storage, make, acme.uid, answers, canary)).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("answers", "event"),
    [
        (Answers(BLOCK, timedelta(hours=1)), noticed()),  # nobody can
        (Answers(BLOCK, timedelta(hours=1), block_principal=Hand()), noticed(principal=Principal(None, "root"))),
        (Answers(BLOCK, timedelta(hours=1), block_principal=Hand()), noticed(principal=None)),
        (Answers(SUSPEND, timedelta(hours=1), suspend_key=Hand()), noticed(EventType.CANARY_TOUCHED, key=None)),
    ],
)
async def test_an_answer_that_is_not_to_be_had_is_told(storage, make, acme, answers, event):
    found = await answered(storage, make, acme.uid, answers, event)
    assert found.outcome is Outcome.NOT_AVAILABLE
    assert not (answers.block_principal or Hand()).asked


async def test_the_writer_writes_by_itself_and_once_more_at_its_end(storage, make, acme):
    woken = []
    recorder = make(stored=lambda: woken.append(True))
    task = asyncio.create_task(recorder.run())
    recorder.offer(noticed())
    await until(lambda: woken)
    assert len(await stored(storage, acme.uid)) == 1
    recorder.offer(noticed(tenant=None))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert len(await stored(storage, INSTALLATION_UID)) == 1


async def test_growth_of_an_event_that_is_not_known_is_passed_over(storage, make, growing, acme, clock):
    recorder = make()
    growing.next = [Grown(uuid4(), clock.now, 30)]
    await recorder.flush()
    assert await stored(storage, acme.uid) == []


async def test_a_mistake_costs_the_events_that_it_is_about_and_the_writer_goes_on(storage, make, acme, monkeypatch):
    recorder = make()
    recorder.offer(noticed())

    async def broken(slug):
        raise RuntimeError("a mistake")

    with monkeypatch.context() as patched, structlog.testing.capture_logs() as logs:
        patched.setattr(recorder, "_owner", broken)
        await recorder.flush()
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["security.writer_failed"]
    recorder.offer(noticed())
    await recorder.flush()
    assert (len(await stored(storage, acme.uid)), recorder.dropped) == (1, 1)
