"""What the daemon does by itself in the trail: intent, act, outcome; values before and after; what all events get."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import pytest

from kms.acting import MOST_CHANGES, note_changes, noting
from kms.core.audit import LONGEST_DETAILS, AuditEvent, Category, Outcome, Phase, Retention, Sensitivity
from kms.core.audit_contexts import canonical_json, items_digest, shown_context
from kms.core.audit_ports import RecordChange
from kms.core.context import Context
from kms.core.errors import AuditUnavailable, CannotDecrypt, Conflict, StorageUnavailable
from kms.core.names import TenantUid
from kms.core.policy import AuditContext
from kms.crypto.audit_values import OVERHEAD, AuditValues
from kms.services.audit import AuditTrail, Origin, shown_details
from kms.services.audit_changes import LONGEST, Changes, encoded, subject_of
from tests.trail import INSTALLATION, VALUES_KEY, MemoryWriter, make_trail

TENANT = TenantUid(UUID(int=3))
SEALED = Changes(AuditValues(VALUES_KEY, INSTALLATION))


def change(number: int = 1, size: int = 1) -> RecordChange:
    return RecordChange("keks", TENANT, {"version": number}, {"state": "active"}, {"state": "x" * size, "mac": b"m"})


async def test_an_act_is_between_its_intent_and_its_outcome_with_what_it_has_changed():
    writer = MemoryWriter()
    trail = make_trail(writer)
    with noting() as outside:
        async with trail.act(
            "kek.rotated", tenant=TENANT, resource="tenants/acme/keks/2", by="scheduler", details={"cause": "count"}
        ) as act:
            assert writer.happened == ["intent kek.rotated"]
            note_changes([change()])
            act.details["made"] = 2
            writer.happened.append("work")
    assert outside.changes == []
    assert writer.happened == ["intent kek.rotated", "work", "outcome kek.rotated"]
    intent, outcome = writer.events
    assert (intent.phase, intent.outcome, json.loads(intent.details)) == (
        Phase.INTENT,
        Outcome.UNKNOWN,
        {"cause": "count"},
    )
    assert (outcome.outcome, outcome.principal, outcome.tenant) == (Outcome.SUCCESS, "scheduler", TENANT)
    assert (outcome.intent_stream, outcome.intent_sequence) == (intent.stream, intent.sequence)
    assert json.loads(outcome.details) == {"cause": "count", "made": 2}
    assert SEALED.of(outcome)["changes"][0]["after"] == {"state": "x"}
    assert outcome.sensitivity is Sensitivity.SENSITIVE
    assert (outcome.node, outcome.release, outcome.retention) == ("n1", "1.2.3", Retention.EXTENDED)


@pytest.mark.parametrize(
    ("error", "outcome", "reason", "severity"),
    [
        (Conflict("another node was faster"), Outcome.FAILURE, "CONFLICT", "low"),
        (StorageUnavailable("away"), Outcome.ERROR, "STORAGE_UNAVAILABLE", "medium"),
        (ValueError("pin=1234"), Outcome.ERROR, "INTERNAL", "medium"),
    ],
)
async def test_an_act_that_fails_says_how_and_nothing_that_was_not_written_to_be_read(error, outcome, reason, severity):
    writer = MemoryWriter()
    with pytest.raises(type(error)):
        async with make_trail(writer).act("key.rotated"):
            raise error
    event = writer.events[-1]
    assert (event.phase, event.outcome, event.error, event.severity) == (Phase.OUTCOME, outcome, reason, severity)
    assert b"1234" not in writer.bytes[-1]


async def test_an_act_that_is_cancelled_leaves_its_outcome_without_waiting():
    writer = MemoryWriter()
    begun = asyncio.Event()

    async def work() -> None:
        async with make_trail(writer).act("operation.batch"):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        while len(writer.events) < 2:  # noqa: ASYNC110  the writer announces nothing
            await asyncio.sleep(0)
    assert (writer.events[1].outcome, writer.events[1].error) == (Outcome.ERROR, "CANCELLED")


async def test_an_act_whose_intent_cannot_be_written_does_not_begin_and_one_without_outcome_is_not_done():
    writer = MemoryWriter(failing=True)
    trail = make_trail(writer)
    begun = False
    with pytest.raises(AuditUnavailable):
        async with trail.act("key.rotated"):
            begun = True
    assert not begun
    writer.failing = False
    with pytest.raises(AuditUnavailable):
        async with trail.act("key.rotated"):
            writer.failing = True
    writer.failing = False

    async def fail() -> None:
        async with trail.act("key.rotated"):
            writer.failing = True
            raise Conflict("changed")

    with pytest.raises(Conflict):  # why it failed matters more
        await fail()
    assert [event.phase for event in writer.events] == [Phase.INTENT, Phase.INTENT]


async def test_what_holds_for_all_events_is_filled_in_and_what_is_said_stands():
    writer, moment = MemoryWriter(), datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
    times = [moment]
    origin = Origin("n1", "1.0", "eu", timedelta(days=10), timedelta(days=20))
    trail = AuditTrail(writer, origin, SEALED, lambda: times[-1])
    for retention in Retention:
        await trail.note(AuditEvent(action="a", category=Category.SYSTEM, retention=retention))
    kept = [event.kept_until for event in writer.events]
    day = datetime(2026, 3, 2, tzinfo=UTC)
    assert kept == [day + timedelta(days=10), day + timedelta(days=20), None]
    assert all(end is None or end >= moment + timedelta(days=10) for end in kept)
    times.append(moment + timedelta(days=1))
    await trail.note(AuditEvent(action="a", category=Category.SYSTEM, node="other"))
    assert (writer.events[-1].kept_until, writer.events[-1].node) == (day + timedelta(days=11), "other")


def test_changes_beyond_the_room_of_an_event_are_counted():
    few = json.loads(encoded([change(1), change(2)], 0))
    assert [entry["identity"]["version"] for entry in few["changes"]] == [1, 2]
    assert few["left_out"] == 0
    many = [change(number, 500) for number in range(100)]
    text = encoded(many, 7)
    told = json.loads(text)
    assert len(text) <= LONGEST
    assert len(text) > LONGEST - 800  # as many as there is room for
    assert len(told["changes"]) + told["left_out"] == 107
    assert len(SEALED.sealed(many, 7, "r")) <= LONGEST_DETAILS
    with noting() as noted:
        note_changes([change(number) for number in range(MOST_CHANGES - 1)])
        note_changes([change(1), change(2), change(3)])
    assert (len(noted.changes), noted.left_out) == (MOST_CHANGES, 2)


def test_changes_are_bound_to_their_event_and_no_byte_of_them_can_be_altered():
    event = AuditEvent(action="a", category=Category.ADMIN, request_id="r1")
    event.changes = SEALED.sealed([change()], 0, subject_of(event))
    assert SEALED.of(event)["left_out"] == 0
    assert b"active" not in event.changes
    sealed = event.changes
    for index in range(len(sealed)):
        event.changes = sealed[:index] + bytes((sealed[index] ^ 1,)) + sealed[index + 1 :]
        with pytest.raises(CannotDecrypt):
            SEALED.of(event)
    event.changes, event.request_id = sealed, "r2"
    with pytest.raises(CannotDecrypt):
        SEALED.of(event)
    event.request_id = "r1"
    for other in (AuditValues(bytes(32), INSTALLATION), AuditValues(VALUES_KEY, UUID(int=8))):
        with pytest.raises(CannotDecrypt):
            Changes(other).of(event)
    assert len(AuditValues(VALUES_KEY, INSTALLATION).seal(b"", "r")) == OVERHEAD


def test_hashed_contexts_tell_equal_from_unequal_and_nothing_else():
    key, other = bytes(32), b"\1" * 32
    pairs = Context.of(TENANT, [("table", b"people"), ("a", b"people")]).pairs
    shown = json.loads(shown_context(key, TENANT, pairs, AuditContext.HASHED))
    assert list(shown) == ["a", "table"]  # the daemon's own pair is not the caller's
    assert shown["a"] != shown["table"]
    assert all(value.startswith("h:") and len(value) == 34 for value in shown.values())
    assert shown_context(key, TENANT, pairs, AuditContext.HASHED) == canonical_json(shown)
    assert shown_context(other, TENANT, pairs, AuditContext.HASHED) != canonical_json(shown)
    assert shown_context(key, TenantUid(UUID(int=4)), pairs, AuditContext.HASHED) != canonical_json(shown)
    long = [(f"k{number:02}", "\u00fc".encode() * 60) for number in range(60)]
    assert "h:" in shown_context(key, TENANT, long, AuditContext.PLAIN)
    assert len(shown_context(key, TENANT, long, AuditContext.PLAIN)) <= LONGEST_DETAILS
    assert shown_context(key, TENANT, pairs, AuditContext.NONE) == ""


def test_a_digest_of_items_tells_where_one_ends():
    assert items_digest([b"ab", b"c"]) != items_digest([b"a", b"bc"])
    assert items_digest([b"", b"a"]) != items_digest([b"a"])
    assert items_digest([b"a", b""]) != items_digest([b"a"])
    assert items_digest([b"ab", b"c"]) == sha256(b"\0\0\0\2\0\0\0\2\0\0\0\1abc").digest()
    assert items_digest([b"abc"]) == sha256(b"\0\0\0\1\0\0\0\3abc").digest()
    assert items_digest([]) == b""


def test_details_that_are_too_long_are_told_by_their_digest():
    assert shown_details({}) == ""
    short = json.loads(shown_details({"a": "x" * LONGEST_DETAILS}))
    assert list(short) == ["left_out", "sha256"]


def test_what_is_always_told_is_told_beside_a_digest_too():
    always = {"executions": [1]}
    assert shown_details({"a": 1}, always) == '{"a":1,"executions":[1]}'
    assert shown_details({"executions": "forged"}, always) == '{"executions":[1]}'
    assert shown_details({}, always) == '{"executions":[1]}'
    long = json.loads(shown_details({"a": "x" * LONGEST_DETAILS}, always))
    assert (sorted(long), long["executions"]) == (["executions", "left_out", "sha256"], [1])


def test_nothing_is_noted_outside_of_an_act():
    note_changes([change()])
    with noting() as noted:
        pass
    note_changes([change()])
    assert (noted.changes, noted.keys) == ([], [])
