"""A node among others: what it says of itself, and how a stop reaches all of them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import structlog

from kms.core.errors import StorageUnavailable
from kms.core.lease import Lease
from kms.core.names import TenantUid
from kms.core.ports import HealthStatus, Node
from kms.core.propagation import NodeStop, StopState
from kms.services import membership
from kms.services.membership import APPLICATIONS, DEAD_AFTER, HEARTBEAT, PROPAGATION_POLL, UNHEARD_FOR, Membership
from tests.node import Clock, stored_tenant, until

DEADLINE = timedelta(seconds=5)
START = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)


class Holdings:
    """Remembers what it was told to drop."""

    def __init__(self) -> None:
        self.lease = Lease(0.0)
        self.stopped: list[set[TenantUid]] = []
        self.changed: list[set[TenantUid]] = []

    def stop(self, tenants):
        self.stopped.append(set(tenants))

    def reread(self, tenants):
        self.changed.append(set(tenants))


class Wall:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


class Shared:
    """The real storage, said to be shared; it may be away, or away for writing."""

    shared = True

    def __init__(self, storage) -> None:
        self._storage = storage
        self.away: set[str] = set()
        self.asked: list[str] = []

    def __getattr__(self, attribute):
        self.asked.append(attribute)
        if attribute in self.away or "all" in self.away:
            raise StorageUnavailable("away")
        return getattr(self._storage, attribute)


class Member(Membership):
    """A membership with the clocks and holdings of its own that a test sets."""

    def __init__(self, storage, name: str = "node", deadline: timedelta = DEADLINE) -> None:
        self.held, self.wall, self.clock, self.storage = Holdings(), Wall(), Clock(), storage
        super().__init__(storage, self.held, deadline, name, self.wall, self.clock)

    def go_on(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wall.now += timedelta(seconds=seconds)


async def revoked(database, tenant) -> int:
    async with database.transaction(tenant.uid, write=True) as work:
        return await work.epochs.revoked(tenant.uid)


async def changed(database, tenant) -> None:
    async with database.transaction(tenant.uid, write=True) as work:
        await work.epochs.changed(tenant.uid)


async def test_what_has_changed_is_read_again_and_what_was_stopped_is_dropped(database):
    one, two, three = [await stored_tenant(database) for _ in range(3)]
    member = Member(Shared(database))
    await member.look()
    await member.look()
    assert (member.held.stopped, member.held.changed) == ([], [])
    await changed(database, one)
    await revoked(database, two)
    await member.look()
    assert (member.held.stopped, member.held.changed) == ([{two.uid}], [{one.uid}])
    await changed(database, two)
    await changed(database, three)
    await revoked(database, three)
    await member.look()
    assert (member.held.stopped[1:], member.held.changed[1:]) == ([{three.uid}], [{two.uid}])


async def test_a_database_that_went_back_is_believed_and_what_was_held_dropped(database, hostile):
    one, two = [await stored_tenant(database) for _ in range(2)]
    for tenant in (one, two):
        await revoked(database, tenant)
    member = Member(Shared(database))
    await member.look()
    member.held.stopped.clear()
    hostile.change("UPDATE epochs SET revoked = 0 WHERE tenant_id = :uid", uid=str(one.uid))
    hostile.change("DELETE FROM epochs WHERE tenant_id = :uid", uid=str(two.uid))
    await member.look()
    assert member.held.stopped == [{one.uid, two.uid}]


async def test_a_node_acknowledges_a_revocation_at_once_and_otherwise_shows_itself_now_and_then(database):
    tenant = await stored_tenant(database)
    member = Member(Shared(database))
    for seconds, writes in ((0, 1), (1, 1), (HEARTBEAT - 1.5, 1), (0.5, 2), (1, 2)):
        member.go_on(seconds)
        await member.look()
        assert member.storage.asked.count("acknowledge") == writes
    epoch = await revoked(database, tenant)
    await member.look()
    assert member.storage.asked.count("acknowledge") == 3
    [node] = await database.nodes()
    assert (node.uid, node.acknowledged, node.seen_at) == (member.uid, epoch, member.wall.now)
    assert (member.epoch, node.name, node.started_at) == (epoch, "node", START)


async def test_a_revocation_is_acknowledged_after_the_drop_and_again_until_it_is_written(database):
    tenant = await stored_tenant(database)
    member = Member(Shared(database))
    await member.look()
    epoch = await revoked(database, tenant)
    member.storage.away = {"acknowledge"}
    with pytest.raises(StorageUnavailable):
        await member.look()
    assert member.held.stopped == [{tenant.uid}]
    assert member.valid()  # it has heard, and acts on it: that it cannot say so is another thing
    assert [node.acknowledged for node in await database.nodes()] == [0]
    member.storage.away = set()
    await member.look()
    assert [node.acknowledged for node in await database.nodes()] == [epoch]


async def test_a_node_that_was_struck_out_joins_again(database):
    tenant = await stored_tenant(database)
    epoch = await revoked(database, tenant)
    member = Member(Shared(database))
    await member.look()
    await database.leave(member.uid)
    member.go_on(HEARTBEAT)
    with structlog.testing.capture_logs() as log:
        await member.look()
    assert [line["event"] for line in log] == ["node.struck_out"]
    assert [(node.uid, node.acknowledged) for node in await database.nodes()] == [(member.uid, epoch)]


async def look_for(member: Member, seconds: float) -> None:
    """Let time pass as the loop would."""
    for _ in range(int(seconds / HEARTBEAT)):
        member.go_on(HEARTBEAT)
        await member.look()


async def test_the_dead_are_struck_out_after_an_hour_and_nobody_else(database):
    dead = Node(uuid4(), "dead", START, START, 0)
    ahead = Node(uuid4(), "clock ahead", START, START + timedelta(days=1), 0)
    member, living = Member(Shared(database), "member"), Member(Shared(database), "living")
    living.wall.now -= timedelta(days=1)  # its clock is behind: what it says was always long ago
    for node in (dead, ahead):
        await database.join(node)
    await living.look()
    for _ in range(int(DEAD_AFTER.total_seconds() / HEARTBEAT)):
        assert {node.name for node in await database.nodes()} >= {"dead", "clock ahead", "living"}
        living.go_on(HEARTBEAT)
        await living.look()
        await look_for(member, HEARTBEAT)
    await look_for(member, HEARTBEAT)
    assert {node.name for node in await database.nodes()} == {"clock ahead", "living", "member"}


async def test_a_clock_that_jumps_strikes_out_no_living_node(database):
    member, living = Member(Shared(database), "member"), Member(Shared(database), "living")
    for _ in range(3):
        await living.look()
        await member.look()
        member.wall.now += timedelta(days=365)
        living.go_on(HEARTBEAT)
        member.go_on(HEARTBEAT)
    assert len(await database.nodes()) == 2
    # Whoever is silent from then on is gone once that has been watched for long enough.
    await look_for(member, UNHEARD_FOR + HEARTBEAT)
    assert [node.name for node in await database.nodes()] == ["member"]


async def test_a_lone_node_needs_no_lease_and_strikes_out_its_predecessor_at_once(database):
    await database.join(Node(uuid4(), "killed", START, START, 0))
    member = Member(database)
    await member.look()
    assert [node.uid for node in await database.nodes()] == [member.uid]
    assert member.held.lease == Lease(0.0)  # nobody has touched it


# How a stop reaches the nodes.


@pytest.fixture
async def members(database) -> list[Member]:
    made = [Member(Shared(database), name) for name in ("one", "two", "three")]
    for member in made:
        await member.look()
    return made


def told(propagation) -> dict[str, tuple[StopState, timedelta | None]]:
    return {node.name: (node.state, node.after) for node in propagation.nodes}


async def test_a_lone_nodes_stop_is_complete_at_once(database):
    tenant = await stored_tenant(database)
    member = Member(database)
    await member.look()
    epoch = await revoked(database, tenant)
    member.drop(tenant.uid)
    for wait in (False, True):
        found = await member.propagation(epoch, START, wait=wait)
        assert found.complete
        assert (found.commit_time, found.last_stop) == (START, timedelta(0))
        assert found.nodes == (NodeStop("node", StopState.ACKNOWLEDGED, timedelta(0)),)
    assert member.held.stopped == [{tenant.uid}]


@pytest.mark.parametrize("shared", [False, True])
async def test_applications_that_hold_deks_count_as_stopped_when_the_deadline_has_passed_and_no_sooner(
    database, shared
):
    member = Member(Shared(database) if shared else database)
    await member.look()
    epoch = await revoked(database, await stored_tenant(database))
    member.go_on(1)
    found = await member.propagation(epoch, START, wait=False, leased=True)
    assert told(found) == {
        "node": (StopState.ACKNOWLEDGED, timedelta(seconds=1)),
        APPLICATIONS: (StopState.WAITING, None),
    }
    assert (found.complete, found.last_stop) == (False, None)
    waiting = asyncio.create_task(member.propagation(epoch, START, wait=True, leased=True))
    member.go_on(3.999)
    done, _ = await asyncio.wait({waiting}, timeout=3 * PROPAGATION_POLL)
    assert not done
    member.go_on(0.001)
    found = await waiting
    assert told(found)[APPLICATIONS] == (StopState.EXPIRED, DEADLINE)
    assert (found.complete, found.last_stop) == (True, DEADLINE)


async def test_without_waiting_the_state_of_this_moment_is_told(database, members):
    one, two, three = members
    epoch = await revoked(database, await stored_tenant(database))
    one.go_on(1)
    await two.look()
    found = await one.propagation(epoch, START, wait=False)
    after = timedelta(seconds=1)
    assert told(found) == {
        "one": (StopState.ACKNOWLEDGED, after),
        "two": (StopState.ACKNOWLEDGED, after),
        "three": (StopState.WAITING, None),
    }
    assert (found.complete, found.last_stop) == (False, None)
    assert [node.name for node in found.nodes] == ["one", "three", "two"]
    await three.look()
    found = await one.propagation(epoch, START, wait=False)
    assert (found.complete, found.last_stop) == (True, after)


async def test_waiting_ends_with_the_last_acknowledgement(database, members):
    one, two, three = members
    epoch = await revoked(database, await stored_tenant(database))
    waiting = asyncio.create_task(one.propagation(epoch, START, wait=True))
    await two.look()
    one.go_on(0.25)
    await until(lambda: one.storage.asked.count("nodes") >= 3)
    assert not waiting.done()
    one.go_on(0.75)
    await three.look()
    found = await waiting
    assert found.complete
    assert found.last_stop == timedelta(seconds=1)
    assert told(found)["one"] == (StopState.ACKNOWLEDGED, timedelta(0))
    assert told(found)["three"] == (StopState.ACKNOWLEDGED, timedelta(seconds=1))


async def test_who_cannot_be_heard_is_expired_when_the_deadline_has_passed_and_no_sooner(database, members):
    one, two, _ = members
    epoch = await revoked(database, await stored_tenant(database))
    await two.look()
    one.go_on(4.999)
    assert told(await one.propagation(epoch, START, wait=False))["three"] == (StopState.WAITING, None)
    waiting = asyncio.create_task(one.propagation(epoch, START, wait=True))
    await until(lambda: one.storage.asked.count("nodes") >= 4)
    assert not waiting.done()
    one.go_on(0.001)
    found = await waiting
    assert told(found)["three"] == (StopState.EXPIRED, DEADLINE)
    assert (found.complete, found.last_stop) == (True, DEADLINE)


async def test_a_wall_clock_that_goes_back_makes_the_wait_longer_and_never_shorter(database, members):
    one = members[0]
    epoch = await revoked(database, await stored_tenant(database))
    committed = one.wall.now
    one.wall.now -= timedelta(hours=1)
    found = await one.propagation(epoch, committed, wait=False)
    assert told(found)["three"] == (StopState.WAITING, None)


async def test_a_node_that_leaves_has_stopped(database, members):
    one, two, three = members
    epoch = await revoked(database, await stored_tenant(database))
    await two.look()
    waiting = asyncio.create_task(one.propagation(epoch, START, wait=True))
    await until(lambda: one.storage.asked.count("nodes") >= 2)
    await database.leave(three.uid)
    found = await waiting
    assert found.complete
    assert told(found)["three"][0] is StopState.ACKNOWLEDGED


async def test_a_database_that_goes_away_after_the_commit_leaves_it_to_the_deadline(database, members):
    one = members[0]
    epoch = await revoked(database, await stored_tenant(database))
    one.storage.away = {"nodes"}
    found = await one.propagation(epoch, START, wait=False)
    assert (found.complete, found.last_stop) == (False, None)
    waiting = asyncio.create_task(one.propagation(epoch, START, wait=True))
    await until(lambda: one.storage.asked.count("nodes") >= 4)
    assert not waiting.done()
    one.go_on(DEADLINE.total_seconds())
    assert (await waiting).complete


# The loop.


class Signals:
    """A storage whose signals come when the test says so."""

    def __init__(self, storage) -> None:
        self._storage = storage
        self.waiting = asyncio.Event()
        self.come = asyncio.Event()

    def __getattr__(self, attribute):
        return getattr(self._storage, attribute)

    def changes(self):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        return None

    async def wait(self, seconds: float) -> None:
        self.waiting.set()
        await self.come.wait()
        self.come.clear()


@pytest.fixture
async def running(database):
    """A member whose next look is an hour away, and what stops it."""
    shared = Shared(database)
    signals = Signals(shared)
    member = Member(signals, deadline=timedelta(hours=1) * membership.LOOKS)
    task = asyncio.create_task(member.run())
    await asyncio.wait_for(signals.waiting.wait(), 20)
    yield member, shared, signals, task
    task.cancel()
    await asyncio.wait({task}, timeout=20)


async def eventually(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is waited for announces nothing
            await asyncio.sleep(0.002)


async def test_a_signal_makes_a_node_look_at_once(database, running):
    member, _, signals, _ = running
    await eventually(member.valid)
    epoch = await revoked(database, await stored_tenant(database))
    signals.come.set()
    await eventually(lambda: member.epoch == epoch)
    found = await database.nodes()
    assert [node.uid for node in found] == [member.uid]


async def test_an_outage_is_told_once_and_ends_by_itself(running):
    member, shared, signals, _ = running
    await eventually(member.valid)
    with structlog.testing.capture_logs() as log:
        shared.away = {"all"}
        for looks in (1, 2, 3):
            asked = shared.asked.count("epochs")
            signals.come.set()
            await eventually(lambda asked=asked: shared.asked.count("epochs") > asked)
            assert looks
        member.clock.now += 5 * 3600
        assert not member.valid()
        health = await member.health()
        assert health.status is HealthStatus.UNHEALTHY
        assert "cache.revocation_deadline (18000 s)" in health.reason
        assert "encryption and decryption have stopped" in health.reason
        shared.away = set()
        signals.come.set()
        await eventually(member.valid)
        await eventually(lambda: len(log) == 2)
    assert [line["event"] for line in log] == ["node.database_silent", "node.database_heard_again"]
    assert (await member.health()).status is HealthStatus.HEALTHY


async def test_a_node_that_stops_leaves_and_answers_nothing_more(database, running):
    member, _, _, task = running
    await eventually(member.valid)
    assert len(await database.nodes()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.nodes() == []
    assert not member.valid()


async def test_a_node_that_starts_without_a_database_joins_when_it_comes(database):
    shared = Shared(database)
    shared.away = {"all"}
    signals = Signals(shared)
    member = Member(signals)
    task = asyncio.create_task(member.run())
    await eventually(lambda: shared.asked.count("join") > 0)
    assert not member.valid()
    shared.away = set()
    signals.come.set()
    await eventually(member.valid)
    assert [node.uid for node in await database.nodes()] == [member.uid]
    task.cancel()
    await asyncio.wait({task}, timeout=20)
