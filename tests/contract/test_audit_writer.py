"""What the audit writer promises, on both databases."""

from __future__ import annotations

import asyncio
import time
from dataclasses import fields, replace
from datetime import datetime, timedelta

import pytest
import structlog

from kms.core.audit import FIELDS, AuditEvent
from kms.core.audit_ports import Position
from kms.core.errors import AuditUnavailable
from kms.core.ports import HealthStatus
from storage import audit_writer
from storage.audit_binary import FEW
from storage.audit_rows import COLUMNS, LONGEST_BODY
from storage.audit_store import BOUND
from storage.audit_tables import audit_log
from storage.migrate import upgrade
from tests.audit import NODE, AuditLog, full_event, new_event, told
from tests.keyrings import NOW

# ruff: noqa: S608  no input


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def log(request, tmp_path) -> AuditLog:
    if request.param == "sqlite":
        upgrade(tmp_path / "kms.db")
        return AuditLog(tmp_path / "kms.db")
    return AuditLog(request.getfixturevalue("postgresql_url"))


def test_every_column_is_written_and_every_field_has_one():
    assert sorted(COLUMNS) == sorted(column.name for column in audit_log.c)
    assert len(FIELDS) + len(("stream", "sequence", "at", "canonical", "hash")) == len(COLUMNS)
    assert {field.name for field in fields(AuditEvent)} == {*FIELDS, "stream", "sequence", "at"}


async def test_an_event_that_is_confirmed_is_in_the_log_whole(log):
    async with log.opened() as writer:
        event = full_event()
        position = await writer.append(event)
        assert position == writer.head == Position(writer.head.stream, 2, log.rows()[-1]["hash"])
        assert log.verified(position.stream)[-1] == event
        assert (event.stream, event.sequence) == (position.stream, 2)


@pytest.mark.parametrize("events", [1, 2, FEW, FEW + 1])
async def test_a_group_of_any_size_is_written_whole(log, events):
    async with log.opened() as writer:
        made = [new_event(number) if number % 2 else full_event() for number in range(events)]
        await asyncio.gather(*map(writer.append, made))
        assert writer.counts.groups == 2
        assert log.verified(writer.head.stream)[1:] == made


async def test_a_column_may_differ_in_one_event_of_a_group_and_be_null_in_any(log):
    full, blank = full_event(), new_event(0)
    async with log.opened() as writer:
        written: list[AuditEvent] = []
        for name in FIELDS:
            for most, one in ((full, blank), (blank, full)):
                made = [replace(most) for _ in range(FEW)] + [replace(most, **{name: getattr(one, name)})]
                await asyncio.gather(*map(writer.append, made))
                written += made
        assert len(written) == len(FIELDS) * 2 * (FEW + 1) == 43 * 2 * (FEW + 1)
        assert writer.counts.groups == 1 + len(FIELDS) * 2
        assert log.verified(writer.head.stream)[1:] == written


async def test_events_stand_in_the_order_in_which_they_were_given(log):
    async with log.opened() as writer:
        waiting = [writer.append(new_event(number)) for number in range(300)]
        positions = [await each for each in waiting]
        assert [position.sequence for position in positions] == list(range(2, 302))
        events = log.verified(writer.head.stream)
        assert [event.items for event in events[1:]] == list(range(300))
        assert [position.hash for position in positions] == [row["hash"] for row in log.rows()[1:]]


async def test_many_who_wait_share_few_commits(log):
    async with log.opened() as writer:
        await asyncio.gather(*(writer.append(new_event(number)) for number in range(200)))
        assert (writer.counts.events, writer.counts.groups) == (201, 2)
        assert writer.waiting == writer.counts.refused == 0


async def test_callers_at_the_same_time_each_get_their_own_place(log):
    async def call(caller: int) -> list[Position]:
        return [await writer.append(new_event(caller * 100 + number)) for number in range(20)]

    async with log.opened() as writer:
        answers = await asyncio.gather(*map(call, range(20)))
        events = log.verified(writer.head.stream)
        for caller, positions in enumerate(answers):
            assert [events[position.sequence - 1].items for position in positions] == [
                caller * 100 + number for number in range(20)
            ]
        assert sorted(position.sequence for answer in answers for position in answer) == list(range(2, 402))


async def test_what_nobody_waits_for_is_written_all_the_same(log):
    async with log.opened() as writer:
        writer.append(new_event(1))
        await writer.append(new_event(2))
        assert [event.items for event in log.verified(writer.head.stream)[1:]] == [1, 2]


async def test_who_goes_away_disturbs_nobody(log):
    async with log.opened() as writer:
        waiters = [asyncio.ensure_future(writer.append(new_event(number))) for number in range(10)]
        tasks = [asyncio.create_task(asyncio.wait_for(waiter, 10)) for waiter in waiters]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert [task.cancelled() for task in tasks] == [True, False] * 5
        await writer.append(new_event(10))
        assert [event.items for event in log.verified(writer.head.stream)[1:]] == list(range(11))


async def test_a_stream_begins_with_the_end_of_the_one_before(log):
    heads = []
    for start in range(3):
        async with log.opened(details={"restart": start}) as writer:
            await asyncio.gather(*(writer.append(new_event(number)) for number in range(start + 1)))
            heads.append(writer.head)
    async with log.opened(node="host-2:0123abcd") as writer:
        other = writer.head
    assert len({head.stream for head in [*heads, other]}) == 4
    for start, head in enumerate(heads):
        [first, *rest] = log.verified(head.stream)
        assert (first.action, first.node, first.release, len(rest)) == ("daemon.started", NODE, "1.2.3", start + 1)
        before = heads[start - 1] if start else None
        assert told(first) == {
            "node": NODE,
            "restart": start,
            "previous_stream": str(before.stream) if before else None,
            "previous_sequence": before.sequence if before else 0,
            "previous_hash": before.hash.hex() if before else "",
        }
    assert told(log.verified(other.stream)[0])["previous_stream"] is None


async def test_the_first_event_is_durable_before_the_writer_is_there(log):
    async with log.opened() as writer:
        assert writer.head.sequence == 1
        assert len(log.rows()) == 1


async def test_times_never_go_back_within_a_stream(log):
    shown = iter([NOW, NOW + timedelta(seconds=2), NOW + timedelta(seconds=1), NOW + timedelta(seconds=3)])
    async with log.opened(now=lambda: next(shown)) as writer:
        for number in range(3):
            await writer.append(new_event(number))
        times = [event.at - NOW for event in log.verified(writer.head.stream)]
        assert [time.total_seconds() for time in times] == [0, 2, 2, 3]


@pytest.mark.parametrize(
    "bad",
    [
        {"reason": "a\0b"},
        {"reason": "\ud800"},
        {"items": 2**63},
        {"details": "x" * LONGEST_BODY},
        {"reason": 1.5},
        {"kept_until": datetime(2030, 1, 1)},  # noqa: DTZ001  that is what is wrong with it
    ],
    ids=["nul", "surrogate", "number", "long", "type", "naive"],
)
async def test_an_event_that_cannot_be_stored_harms_no_other(log, bad):
    async with log.opened() as writer:
        good = writer.append(new_event(1))
        with pytest.raises((ValueError, TypeError)):
            writer.append(new_event(2, **bad))
        await asyncio.gather(good, writer.append(new_event(3)))
        assert [event.items for event in log.verified(writer.head.stream)[1:]] == [1, 3]


async def test_more_than_may_wait_are_refused_at_once(log, monkeypatch):
    monkeypatch.setattr(audit_writer, "MOST_WAITING", 100)
    monkeypatch.setattr(audit_writer, "LARGEST_GROUP", 30)
    async with log.opened() as writer:
        waiting = [writer.append(new_event(number)) for number in range(100)]
        with pytest.raises(AuditUnavailable, match="too many events wait"):
            writer.append(new_event())
        assert (writer.counts.refused, writer.waiting) == (1, 100)
        await asyncio.gather(*waiting)
        await writer.append(new_event(100))
        events = log.verified(writer.head.stream)
        assert [event.items for event in events[1:]] == list(range(101))
        assert writer.counts.groups == 1 + 4 + 1  # the first event, and of 30 at most


async def test_who_has_waited_too_long_for_a_group_is_not_written(log, monkeypatch):
    """So that what is begun still has time to be confirmed."""
    monkeypatch.setattr(audit_writer, "LARGEST_GROUP", 1)
    async with log.opened() as writer:
        monkeypatch.setattr(audit_writer, "PATIENCE", -1.0)
        with pytest.raises(AuditUnavailable, match="too slow"):
            await writer.append(new_event(1))
        monkeypatch.undo()
        await writer.append(new_event(2))
        assert [event.items for event in log.verified(writer.head.stream)] == [0, 2]


async def test_long_events_that_wait_are_bounded_too(log, monkeypatch):
    monkeypatch.setattr(audit_writer, "MOST_WAITING_BYTES", 100_000)
    async with log.opened() as writer:
        waiting = [writer.append(new_event(number, details="x" * 50_000)) for number in range(2)]
        with pytest.raises(AuditUnavailable, match="too many events wait"):
            writer.append(new_event())
        await asyncio.gather(*waiting)
        await writer.append(new_event(2))


async def test_closing_writes_what_waits_and_refuses_the_rest(log):
    async with log.opened() as writer:
        waiting = [writer.append(new_event(number)) for number in range(50)]
        await writer.close(5)
        assert [(await each).sequence for each in waiting] == list(range(2, 52))
        assert len(log.verified(writer.head.stream)) == 51
        with pytest.raises(AuditUnavailable, match="closed"):
            writer.append(new_event())


async def test_a_group_that_is_refused_never_happened(log):
    """A trigger of the test's own refuses one event, and with it its whole group."""
    async with log.opened() as writer:
        await writer.append(new_event(1))
        head = writer.head
        refuse(log)
        waiting = [writer.append(new_event(number)) for number in (2, 666, 3)]
        for each in waiting:
            with pytest.raises(AuditUnavailable):
                await each
        assert writer.head == head
        await available(writer)
        await writer.append(new_event(4))
        events = log.verified(writer.head.stream)
        assert [event.items for event in events if event.action != "audit.resumed"] == [0, 1, 4]
        [resumed] = [event for event in events if event.action == "audit.resumed"]
        assert told(resumed)["lost"] >= 3
        assert writer.counts.refused == told(resumed)["lost"]


async def test_while_it_cannot_write_it_refuses_at_once_and_says_so(log):
    async with log.opened() as writer:
        refuse(log, always=True)
        with pytest.raises(AuditUnavailable):
            await writer.append(new_event(1))
        for number in range(20):
            started = time.monotonic()
            with pytest.raises(AuditUnavailable):
                writer.append(new_event(number))
            assert time.monotonic() - started < BOUND / 4
        assert (await writer.health()).status is HealthStatus.UNHEALTHY
        refuse(log, never=True)
        await available(writer)
        assert await writer.append(new_event(2)) == writer.head
        log.verified(writer.head.stream)


def refuse(log: AuditLog, *, always: bool = False, never: bool = False) -> None:
    if isinstance(log.target, str):
        log.execute("ALTER TABLE audit.audit_log DROP CONSTRAINT IF EXISTS test_refuse")
        if not never:
            log.execute(
                f"ALTER TABLE audit.audit_log ADD CONSTRAINT test_refuse CHECK ({'sequence < 2' if always else 'items <> 666'}) NOT VALID"
            )
    else:
        log.execute("DROP TRIGGER IF EXISTS test_refuse")
        if not never:
            log.execute(
                f"CREATE TRIGGER test_refuse BEFORE INSERT ON audit_log WHEN {'1' if always else 'NEW.items = 666'} BEGIN SELECT RAISE(ABORT, 'no'); END"
            )


async def available(writer) -> None:
    async with asyncio.timeout(20):
        while (await writer.health()).status is not HealthStatus.HEALTHY:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.01)


async def test_a_log_that_ends_with_something_else_stops_the_writer_for_good(log):
    """Somebody else has written to the stream: whatever came next would deny one or the other."""
    with structlog.testing.capture_logs() as logged:
        async with log.opened() as writer:
            await writer.append(new_event(1))
            [*_, row] = log.rows()
            names = [name for name in row if name not in {"sequence", "hash"}]
            copied = f"INSERT INTO audit.audit_log (sequence, hash, {', '.join(names)}) SELECT sequence + 1, %s, {', '.join(names)} FROM audit.audit_log WHERE sequence = 2"
            log.execute(copied, bytes(32))
            stop = writer.append(new_event(2, items=7))
            if isinstance(log.target, str):  # where the time tells two rows apart, so that the line has to be lost
                await stop
                log.execute(copied.replace("sequence + 1", "sequence + 2"), bytes(32))
                cut_next(writer)
                stop = writer.append(new_event(3))
            with pytest.raises(AuditUnavailable):
                await stop
            async with asyncio.timeout(10):
                await asyncio.wait({writer._task})
            health = await writer.health()
            assert (health.status, health.reason[:27]) == (HealthStatus.UNHEALTHY, "the audit trail is stopped:")
            with pytest.raises(AuditUnavailable, match="does not end where it was written to"):
                writer.append(new_event())
    assert "audit.stopped" in [line["event"] for line in logged]


def cut_next(writer) -> None:
    writer._store.cut()
