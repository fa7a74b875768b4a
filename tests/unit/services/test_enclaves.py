"""What a node tells of its enclave, over a real database; and what its words are worth later, and to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog

from kms.core.enclave_ports import NOT_YET, AttestationState, Verdict
from kms.core.enclaves import HEARD_WITHIN, LONGEST_REASON, EnclaveRecord, as_of, living, others_than
from kms.core.errors import Conflict, StorageUnavailable
from kms.core.names import INSTALLATION_UID
from kms.core.ports import HealthStatus, Node, PartHealth
from kms.services.enclaves import KEPT, EnclaveRegister, Enclaves
from storage.migrate import upgrade
from tests.enclave_records import FACTS, VALID, ShownEnclave, new_enclave
from tests.keyrings import NOW
from tests.sealing import open_sqlite
from tests.softhsm_token import eventually

SECOND = timedelta(seconds=1)
HEALTHY = PartHealth(HealthStatus.HEALTHY, "SIMULATED")
PATIENCE = 20.0


@pytest.fixture
async def storage(tmp_path):
    upgrade(tmp_path / "kms.db")
    opened = await open_sqlite(tmp_path / "kms.db")
    yield opened
    await opened.close()


class Cut:
    """The storage, which a test can take away; it counts the writes that went through."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.away = False
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    @asynccontextmanager
    async def transaction(self, tenant: Any = None, *, write: bool = False) -> Any:
        if self.away:
            raise StorageUnavailable("the database is away")
        async with self._storage.transaction(tenant, write=write) as work:
            yield work
        self.writes += write


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def join(storage: Any, uid: UUID, name: str = "node", seen_at: datetime = NOW) -> None:
    await storage.join(Node(uid, name, NOW, seen_at, 0))


async def stored(storage: Any) -> list[EnclaveRecord]:
    async with storage.transaction(INSTALLATION_UID) as work:
        return await work.enclaves.list_after(INSTALLATION_UID, None, 100, None)


def register_of(
    storage: Any, clock: Callable[[], datetime], node: str = "here"
) -> tuple[EnclaveRegister, ShownEnclave]:
    enclave = ShownEnclave()
    return EnclaveRegister(storage, enclave, node, uuid4(), clock), enclave  # type: ignore[arg-type]


async def test_each_change_is_told_once_and_nothing_before_a_process_has_said_who_it_is(storage, clock):
    cut = Cut(storage)
    register, enclave = register_of(cut, clock)
    await register.tell(HEALTHY)
    assert await stored(storage) == []
    enclave.runs(verdict=NOT_YET)
    await register.tell(HEALTHY)
    [first] = await stored(storage)
    assert (first.facts, first.verdict, first.active, first.revision) == (FACTS, NOT_YET, True, 1)
    writes = cut.writes
    clock.now += SECOND
    await register.tell(HEALTHY)
    assert cut.writes == writes
    enclave.runs(restarts=1)
    await register.tell(PartHealth(HealthStatus.DEGRADED, "why"))
    [then] = await stored(storage)
    assert (then.verdict, then.restarts, then.health, then.health_reason) == (VALID, 1, HealthStatus.DEGRADED, "why")
    assert (then.uid, then.started_at, then.changed_at, then.revision) == (first.uid, NOW, NOW + SECOND, 2)


@pytest.mark.parametrize("state", [AttestationState.INVALID, AttestationState.REVOKED])
async def test_a_refusal_is_told_with_its_quote_and_reason(storage, clock, state):
    register, enclave = register_of(storage, clock)
    enclave.runs(verdict=Verdict(state, "PlatformRevoked: \0" + "x" * 2_000, b"q" * 500, NOW))
    await register.tell(PartHealth(HealthStatus.UNHEALTHY, "y" * 2_000))
    [told] = await stored(storage)
    assert (told.verdict.state, told.verdict.quote, told.verdict.expires) == (state, b"q" * 500, None)
    assert told.verdict.reason.startswith("PlatformRevoked: \ufffdx")
    assert (len(told.verdict.reason), len(told.health_reason)) == (LONGEST_REASON, LONGEST_REASON)


async def test_a_process_that_has_ended_is_inactive_and_another_measurement_begins_anew(storage, clock):
    register, enclave = register_of(storage, clock)
    enclave.runs()
    await register.tell(HEALTHY)
    enclave.status = replace(enclave.status, greeted=None, state="backing off", verdict=NOT_YET)
    await register.tell(PartHealth(HealthStatus.UNHEALTHY, "killed"))
    [ended] = await stored(storage)
    assert (ended.active, ended.facts, ended.state) == (False, FACTS, "backing off")
    clock.now += SECOND
    enclave.runs(replace(FACTS, mrenclave=b"n" * 32, isv_svn=6))
    await register.tell(HEALTHY)
    [other] = await stored(storage)
    assert (other.uid, other.facts.isv_svn, other.started_at) == (ended.uid, 6, clock.now)


async def test_the_next_daemon_of_a_node_takes_the_record_over(storage, clock):
    for _ in range(2):
        register, enclave = register_of(storage, clock)
        enclave.runs()
        await register.tell(HEALTHY)
        [told] = await stored(storage)
        assert (told.node_uid, told.started_at) == (register._node_uid, clock.now)
        clock.now += SECOND
    assert told.revision == 2


async def test_it_goes_on_while_the_database_is_away_and_tells_at_its_end_that_nothing_runs_more(storage, clock):
    cut = Cut(storage)
    register, enclave = register_of(cut, clock)
    cut.away = True
    with structlog.testing.capture_logs() as logs:
        running = asyncio.create_task(register.run())
        enclave.runs()
        await eventually(lambda: len(logs) > 0, PATIENCE)
        enclave.changed()
        assert not running.done()
        cut.away = False
        enclave.changed()

        async def told() -> bool:
            return bool(await stored(storage))

        async with asyncio.timeout(PATIENCE):
            while not await told():  # noqa: ASYNC110  the database announces nothing
                await asyncio.sleep(0)
    assert [one["event"] for one in logs] == ["enclave.not_told"]
    [now] = await stored(storage)
    assert (now.active, now.health) == (True, HealthStatus.HEALTHY)
    running.cancel()
    await asyncio.wait([running])
    [then] = await stored(storage)
    assert (then.active, then.health, then.health_reason) == (False, HealthStatus.UNHEALTHY, "its daemon has stopped")


async def test_whoever_was_overtaken_reads_again(storage, clock):
    register, enclave = register_of(storage, clock)
    enclave.runs()
    await register.tell(HEALTHY)
    [told] = await stored(storage)
    async with storage.transaction(INSTALLATION_UID, write=True) as work:
        await work.enclaves.put(INSTALLATION_UID, replace(told, restarts=9))
    enclave.runs(restarts=1)
    with pytest.raises(Conflict):
        await register.tell(HEALTHY)
    await register.tell(HEALTHY)
    assert [one.restarts for one in await stored(storage)] == [1]


async def test_a_start_removes_what_nodes_that_are_gone_told_long_ago(storage, clock):
    lives, gone, new = uuid4(), uuid4(), uuid4()
    await join(storage, lives)
    old = NOW - KEPT - SECOND
    for uid, changed_at in ((lives, old), (gone, old), (new, NOW - KEPT)):
        async with storage.transaction(INSTALLATION_UID, write=True) as work:
            await work.enclaves.put(INSTALLATION_UID, new_enclave(node_uid=uid, changed_at=changed_at))
    register, enclave = register_of(storage, clock)
    enclave.runs()
    await register.tell(HEALTHY)
    assert {one.node_uid for one in await stored(storage)} == {lives, new, register._node_uid}


async def test_a_list_tells_how_they_are_now(storage, clock):
    lives, silent = uuid4(), uuid4()
    await join(storage, lives)
    await join(storage, silent, "silent", NOW - HEARD_WITHIN - SECOND)
    records = [new_enclave(node_uid=uid) for uid in (lives, silent, uuid4())]
    for record in records:
        async with storage.transaction(INSTALLATION_UID, write=True) as work:
            await work.enclaves.put(INSTALLATION_UID, record)
    enclaves = Enclaves(storage, clock)
    assert [one.node_uid for one in await enclaves.list_after(None, 10, active=True)] == [lives]
    told = {one.node_uid: one for one in await enclaves.list_after(None, 10, active=False)}
    assert {uid for uid, one in told.items() if one.active} == {lives}
    assert told[lives].health is HealthStatus.HEALTHY
    assert told[silent].health is HealthStatus.UNHEALTHY
    assert "nothing has been heard of its node" in told[silent].health_reason
    clock.now = NOW + timedelta(hours=1)
    await join(storage, lives, seen_at=clock.now)
    [told_then] = await enclaves.list_after(None, 10, active=True)
    assert (told_then.verdict.state, told_then.active) == (AttestationState.EXPIRED, True)


async def test_others_ask_which_live_nodes_run_another_enclave(storage, clock):
    nodes = {name: uuid4() for name in ("same", "other", "stopped", "without", "silent")}
    for name, uid in nodes.items():
        await join(storage, uid, name, NOW - (HEARD_WITHIN + SECOND if name == "silent" else 0 * SECOND))
    other = replace(FACTS, mrenclave=b"n" * 32)
    for name, facts, active in (
        ("same", FACTS, True),
        ("other", other, True),
        ("stopped", other, False),
        ("silent", other, True),
    ):
        async with storage.transaction(INSTALLATION_UID, write=True) as work:
            await work.enclaves.put(INSTALLATION_UID, new_enclave(name, nodes[name], facts=facts, active=active))
    live = await Enclaves(storage, clock).of_live_nodes()
    assert [one.node.name for one in live] == ["other", "same", "stopped", "without"]
    assert [one.node.name for one in live if one.enclave is None] == ["without"]
    assert sorted(one.node for one in others_than(live, FACTS.sealer)) == ["other", "stopped"]
    assert [one.node for one in others_than(live, other.sealer)] == ["same"]


def test_a_node_whose_clock_is_ahead_lives_and_one_that_has_been_silent_too_long_does_not():
    def node(seen_at: datetime) -> Node:
        return Node(uuid4(), "n", NOW, seen_at, 0)

    nodes = [node(NOW + timedelta(hours=1)), node(NOW - HEARD_WITHIN), node(NOW - HEARD_WITHIN - SECOND)]
    assert list(living(nodes, NOW)) == [one.uid for one in nodes[:2]]


@pytest.mark.parametrize("state", [one for one in AttestationState if one is not AttestationState.VALID])
def test_only_what_was_valid_expires(state):
    record = new_enclave(verdict=Verdict(state, "why", b"q", NOW - SECOND, NOW))
    assert as_of(record, [record.node_uid], NOW).verdict.state is state


def test_what_was_shown_expires_at_its_very_end():
    record = new_enclave(verdict=replace(VALID, expires=NOW))
    assert as_of(record, [record.node_uid], NOW - SECOND).verdict.state is AttestationState.VALID
    assert as_of(record, [record.node_uid], NOW).verdict.state is AttestationState.EXPIRED
