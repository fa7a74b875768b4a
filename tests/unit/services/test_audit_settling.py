"""Intents without an outcome, over both databases and the real writer: each gets one, once, and says why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kms.core.audit import AuditEvent, Category, Outcome, Phase, StreamUid
from kms.core.audit_ports import Position
from kms.core.names import TenantUid
from kms.crypto.audit_values import AuditValues
from kms.services import audit_settling
from kms.services.audit import AuditTrail, Origin
from kms.services.audit_changes import Changes
from kms.services.audit_settling import ENDED, UNSETTLED_FOR, UNWRITTEN, Settling
from storage.audit_writer import GroupCommit
from storage.audit_writer_postgresql import open_postgresql_audit
from storage.audit_writer_sqlite import open_sqlite_audit
from storage.database import Database
from storage.sqlite import SqliteDatabase
from tests.node import stored_tenant
from tests.trail import INSTALLATION, VALUES_KEY


class Process:
    """One process of a node: its stream, and what it writes."""

    def __init__(self, storage: Database, writer: GroupCommit, node: str, now: Callable[[], datetime]) -> None:
        self.storage, self.writer = storage, writer
        origin = Origin(node, "1.0")
        self.trail = AuditTrail(writer, origin, Changes(AuditValues(VALUES_KEY, INSTALLATION)), now)
        self.settling = Settling(storage, writer, self.trail, node, now)

    async def intent(self, tenant: TenantUid, request: str) -> Position:
        event = AuditEvent(
            action="/kms.v1.KeyService/RotateKey",
            category=Category.ADMIN,
            phase=Phase.INTENT,
            tenant=tenant,
            request_id=request,
            resource="tenants/acme/keys/k1",
            principal="tenants/acme/principals/app",
        )
        return await self.trail.note(event)

    async def outcome(self, intent: Position) -> None:
        event = AuditEvent(
            action="/kms.v1.KeyService/RotateKey",
            category=Category.ADMIN,
            phase=Phase.OUTCOME,
            outcome=Outcome.SUCCESS,
            intent_stream=intent.stream,
            intent_sequence=intent.sequence,
        )
        await self.trail.note(event)


Begin = Callable[..., Awaitable[Process]]


@pytest.fixture
async def begin(storage: Database, request: pytest.FixtureRequest) -> AsyncIterator[Begin]:
    writers: list[GroupCommit] = []

    async def start(node: str = "n1", now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Process:
        about: dict[str, Any] = {"installation": INSTALLATION, "node": node, "now": now}
        if isinstance(storage, SqliteDatabase):
            writer = await open_sqlite_audit(storage, **about)
        else:
            writer = await open_postgresql_audit(request.getfixturevalue("postgresql_url"), **about)
        writers.append(writer)
        return Process(storage, writer, node, now)

    yield start
    for writer in writers:
        await writer.close(5)


async def unsettled(storage: Database) -> list[Any]:
    async with storage.transaction() as work:
        return await work.audit_reads.unsettled(datetime(2020, 1, 1, tzinfo=UTC), None, 1_000)


async def test_what_a_process_left_is_settled_by_the_next_one_and_only_once(begin: Begin, storage: Database):
    tenant = (await stored_tenant(storage)).uid
    first = await begin()
    done, *left = [await first.intent(tenant, f"r{number}") for number in range(4)]
    await first.outcome(done)
    await first.writer.close(5)
    second = await begin()
    own = await second.intent(tenant, "live")
    found = [event for event in await unsettled(storage) if isinstance(event, AuditEvent)]
    assert [event.request_id for event in found if event.stream == done.stream] == ["r1", "r2", "r3"]
    assert await second.settling.settle() == 3
    assert [event.sequence for event in await unsettled(storage)] == [own.sequence]
    assert await second.settling.settle() == 0
    third = await begin("n2")
    assert await third.settling.settle() == 0  # n1 lives
    await second.outcome(own)
    assert await unsettled(storage) == []
    assert left


async def test_an_outcome_that_was_settled_says_so_and_belongs_to_its_intent(begin: Begin, storage: Database):
    tenant = (await stored_tenant(storage)).uid
    first = await begin()
    intent = await first.intent(tenant, "r1")
    await first.writer.close(5)
    second = await begin()
    written: list[AuditEvent] = []
    append = second.trail.note

    async def note(event: AuditEvent) -> Position:
        written.append(event)
        return await append(event)

    second.trail.note = note  # type: ignore[method-assign]  # looks on; everything is real
    await second.settling.settle()
    outcome, end = written
    assert (outcome.phase, outcome.outcome, outcome.request_id) == (Phase.OUTCOME, Outcome.UNKNOWN, "r1")
    assert (outcome.intent_stream, outcome.intent_sequence) == (intent.stream, intent.sequence)
    assert (outcome.tenant, outcome.resource) == (tenant, "tenants/acme/keys/k1")
    assert json.loads(outcome.details)["settled"] == ENDED
    assert (end.action, end.items) == ("audit.settled", 1)


async def test_another_nodes_intents_wait_for_its_next_start_or_for_an_hour(begin: Begin, storage: Database):
    tenant = (await stored_tenant(storage)).uid
    moment = datetime.now(UTC)
    times = [moment]
    other = await begin("n2", lambda: times[-1])
    await other.intent(tenant, "r1")
    mine = await begin("n1", lambda: times[-1])
    assert await mine.settling.settle() == 0
    times.append(moment + UNSETTLED_FOR + timedelta(seconds=1))
    assert await mine.settling.settle() == 1
    assert await unsettled(storage) == []
    await other.intent(tenant, "r2")
    await other.writer.close(5)
    await begin("n2", lambda: times[-1])
    assert await mine.settling.settle() == 1


async def test_two_nodes_at_once_settle_each_intent_once_and_many_go_in_batches(
    begin: Begin, storage: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(audit_settling, "AT_ONCE", 3)
    tenant = (await stored_tenant(storage)).uid
    first = await begin()
    await asyncio.gather(*(first.intent(tenant, f"r{number}") for number in range(10)))
    await first.writer.close(5)
    nodes = [await begin("n1"), await begin("n2")]
    assert sum(await asyncio.gather(*(node.settling.settle() for node in nodes))) == 10
    assert await unsettled(storage) == []


async def test_a_pass_looks_no_further_back_than_it_must(begin: Begin, storage: Database):
    process = await begin()
    async with storage.transaction() as work:
        assert await work.audit_reads.settled_at() is None
    await process.settling.settle()
    async with storage.transaction() as work:
        last = await work.audit_reads.settled_at()
        assert last is not None
        assert abs(last - datetime.now(UTC)) < timedelta(minutes=1)
        assert await work.audit_reads.ended([StreamUid(process.writer.head.stream)]) == set()
    assert UNWRITTEN != ENDED
