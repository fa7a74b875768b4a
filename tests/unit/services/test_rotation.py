"""The scheduler: what is due is done once, at its time, whatever the clocks, the other nodes and the token do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import structlog

from kms.core.errors import FailedPrecondition, VersionExhausted
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.lifecycle import KeyEvent, KeyState
from kms.core.names import KekUid, KeyName, KeyUid, Principal
from kms.core.ports import Counter, HealthStatus
from kms.core.suites import Purpose
from kms.services.due_keys import HELD_FOR, SCHEDULER
from kms.services.rotation import BATCH, MOST_REQUESTS, Rotation
from storage.sqlite import SqliteDatabase
from tests.node import OPERATOR, Hostile, Node, until
from tests.schedule import (
    CLAIM_OVER,
    DAY,
    HOUR,
    SECOND,
    START,
    Wall,
    carry_out,
    change,
    never,
    override,
    rotation_of,
    stored,
)
from tests.sealing import reseal
from tests.softhsm_token import Token

pytestmark = pytest.mark.softhsm

GRACE = timedelta(minutes=10)


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def node(database: SqliteDatabase, open_vault, wall: Wall) -> Node:
    return Node(database, open_vault, wall=wall)


@pytest.fixture
def rotation(node: Node, wall: Wall) -> Rotation:
    return rotation_of(node, wall)


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def name(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "payroll")


async def states(node: Node, name: KeyName) -> list[KeyState]:
    return [version.state for version in (await stored(node.storage, name))[2]]


async def test_a_key_is_rotated_when_its_period_is_over_and_not_before(node, rotation, wall, acme, name):
    before = await node.fields.encrypt(acme, name, b"first", ())
    wall.wait(DAY - SECOND)
    assert await carry_out(rotation) == 0
    wall.wait(SECOND)
    assert await carry_out(rotation) == 1
    _, key, versions = await stored(node.storage, name)
    assert (key.primary_version, key.state) == (2, KeyState.ROTATING)
    assert [version.state for version in versions] == [KeyState.ROTATING, KeyState.ACTIVE]
    assert (versions[1].due_at, versions[1].created_by, key.scheduled_from) == (START + DAY, SCHEDULER, START + DAY)
    # The node that rotated a key encrypts under the new version at once, and still decrypts.
    assert (await node.fields.encrypt(acme, name, b"second", ())).version == 2
    assert (await node.fields.decrypt(acme, name, before.ciphertext, ())).plaintext == b"first"


async def test_the_end_of_the_grace_archives_the_replaced_version(node, rotation, wall, name):
    wall.wait(DAY)
    await carry_out(rotation)
    wall.wait(GRACE - SECOND)
    assert await carry_out(rotation) == 0
    wall.wait(SECOND)
    assert await carry_out(rotation) == 1
    _, key, versions = await stored(node.storage, name)
    assert [version.state for version in versions] == [KeyState.ARCHIVED, KeyState.ACTIVE]
    assert (key.state, key.due_at) == (KeyState.ACTIVE, START + 2 * DAY)


async def test_periods_that_were_missed_are_one_rotation_and_the_schedule_stays(node, rotation, wall, name):
    wall.wait(10 * DAY + 3 * HOUR)
    await carry_out(rotation)
    _, key, versions = await stored(node.storage, name)
    assert [version.version for version in versions] == [1, 2]
    assert versions[1].due_at == key.scheduled_from == START + 10 * DAY
    wall.wait(21 * HOUR - SECOND)
    await carry_out(rotation)
    assert len(await states(node, name)) == 2
    wall.wait(SECOND)
    await carry_out(rotation)
    assert len(await states(node, name)) == 3


async def test_a_batch_leaves_the_rest_for_the_next_step(node, rotation, wall, acme):
    names = [await node.key(acme, f"k{index}") for index in range(BATCH + 3)]
    wall.wait(DAY)
    assert await rotation.step()
    assert rotation.counts.rotations["schedule"] == BATCH
    assert await carry_out(rotation) == 1
    assert [await node.key_versions(acme, name) for name in names] == [[1, 2]] * len(names)
    assert rotation.counts.claimed["key"] == rotation.counts.rotations["schedule"] == BATCH + 3


async def test_nodes_that_work_at_once_make_one_version_for_each_slot(node, wall, acme):
    names = [await node.key(acme, f"k{index}") for index in range(12)]
    others = [rotation_of(Node(node.storage, node.vault, wall=wall), wall) for _ in range(2)]
    for _ in range(2):
        wall.wait(DAY)
        await asyncio.gather(*(carry_out(rotation) for rotation in others))
    assert [await node.key_versions(acme, name) for name in names] == [[1, 2, 3]] * len(names)
    assert sum(rotation.counts.rotations["schedule"] for rotation in others) == 2 * len(names)


async def test_nodes_that_rotate_the_same_key_in_spite_of_claims_make_one_version(node, wall, acme, name):
    tenant, key, _ = await stored(node.storage, name)
    others = [rotation_of(Node(node.storage, node.vault, wall=wall), wall) for _ in range(4)]
    wall.wait(DAY)
    done = await asyncio.gather(*(each._keys.carry_out(tenant, key, may_destroy=False) for each in others))
    assert done == [True] * 4
    assert await node.key_versions(acme, name) == [1, 2]
    assert sum(each.counts.rotations["schedule"] for each in others) == 1


async def test_what_a_node_claimed_and_left_another_does_when_the_claim_is_over(node, rotation, wall, acme, name):
    wall.wait(DAY)
    dead = rotation_of(Node(node.storage, node.vault, wall=wall), wall)
    assert len(await node.storage.claim_keys(dead._node, wall.now, wall.now + timedelta(seconds=60), 10)) == 1
    assert await carry_out(rotation) == 0
    wall.wait(CLAIM_OVER)
    assert await carry_out(rotation) == 1
    assert await node.key_versions(acme, name) == [1, 2]


async def test_a_clock_that_jumps_ahead_and_back_makes_one_version_too_many_and_no_more(
    node, rotation, wall, acme, name
):
    wall.wait(2 * HOUR)
    wall.jump(10 * DAY)
    await carry_out(rotation)
    wall.jump(-10 * DAY)
    with structlog.testing.capture_logs() as log:
        await carry_out(rotation)
    assert [entry["event"] for entry in log if entry["event"] == "schedule.reanchored"] == ["schedule.reanchored"]
    assert await node.key_versions(acme, name) == [1, 2]
    _, key, _ = await stored(node.storage, name)
    assert key.scheduled_from == wall.now
    wall.wait(DAY - SECOND)
    await carry_out(rotation)
    assert await node.key_versions(acme, name) == [1, 2]
    wall.wait(SECOND)
    await carry_out(rotation)
    assert await node.key_versions(acme, name) == [1, 2, 3]


async def test_a_clock_that_jumps_back_rotates_nothing_until_it_is_time_again(node, rotation, wall, acme, name):
    wall.wait(DAY)
    await carry_out(rotation)
    wall.jump(-timedelta(minutes=50))
    for _ in range(3):
        await carry_out(rotation)
    assert await node.key_versions(acme, name) == [1, 2]
    wall.wait(DAY + timedelta(minutes=50))
    await carry_out(rotation)
    assert await node.key_versions(acme, name) == [1, 2, 3]


async def test_a_claim_of_a_clock_that_was_ahead_holds_up_nobody(node, rotation, wall, acme, name):
    dead = rotation_of(Node(node.storage, node.vault, wall=wall), wall)
    wall.jump(10 * DAY)
    await node.storage.claim_keys(dead._node, wall.now, wall.now + timedelta(seconds=60), 10)
    wall.jump(-10 * DAY)
    wall.wait(DAY)
    await carry_out(rotation)
    assert await node.key_versions(acme, name) == [1, 2]


@pytest.mark.parametrize(
    "state",
    [
        KeyState.PENDING,
        KeyState.SUSPENDED,
        KeyState.ARCHIVED,
        KeyState.REVOKED,
        KeyState.DESTRUCTION_SCHEDULED,
        KeyState.DESTROYED,
    ],
)
@pytest.mark.parametrize("due", [True, False], ids=["planned before", "planned after"])
async def test_a_key_that_does_not_encrypt_is_not_rotated(node, rotation, wall, acme, name, state, due):
    planned_before = {"due_at": START + DAY} if due else {}
    waits = {"destroy_at": START + 30 * DAY, "state_before": KeyState.ACTIVE}
    waits = waits if state is KeyState.DESTRUCTION_SCHEDULED else {}
    await change(node.storage, name, state=state, **planned_before, **waits)
    wall.wait(3 * DAY)
    assert await carry_out(rotation) == due
    assert await node.key_versions(acme, name) == [1]
    assert (await stored(node.storage, name))[1].due_at == waits.get("destroy_at")


@pytest.mark.parametrize("purpose", [Purpose.DETERMINISTIC, Purpose.INDEX])
async def test_a_deterministic_or_index_key_is_never_rotated_by_itself(node, rotation, wall, acme, purpose):
    name = await node.key(acme, "index", purpose)
    tenant, key, _ = await stored(node.storage, name)
    await change(node.storage, name, due_at=START)
    rotation.request(Counter(tenant.uid, key.uid, 1))
    wall.wait(400 * DAY)
    await carry_out(rotation)
    assert await node.key_versions(acme, name) == [1]


async def test_a_key_whose_policy_never_rotates_is_left_alone(node, rotation, wall, acme, name):
    await never(node.storage, name)
    wall.wait(400 * DAY)
    assert await carry_out(rotation) == 0
    assert await node.key_versions(acme, name) == [1]


async def test_a_key_that_was_due_for_nothing_is_planned_and_not_looked_at_again(node, rotation, wall, name):
    await change(node.storage, name, due_at=START - DAY)
    assert await carry_out(rotation) == 1
    assert (await stored(node.storage, name))[1].due_at == START + DAY
    assert not await rotation.step()


async def test_one_step_does_all_that_is_due_with_a_key(node, rotation, wall, acme, name):
    await override(node.storage, name, rotation=HOUR)
    wall.wait(HOUR)
    await carry_out(rotation)
    wall.wait(HOUR)  # the grace of version 1 is over, too
    assert await carry_out(rotation) == 1
    assert await states(node, name) == [KeyState.ARCHIVED, KeyState.ROTATING, KeyState.ACTIVE]


# By count.


async def encrypt(node: Node, caller: Principal, name: KeyName, count: int) -> list[int]:
    node.clock.now += 10  # the record is read again
    return [(await node.fields.encrypt(caller, name, b"x", ())).version for _ in range(count)]


async def test_a_key_is_rotated_before_it_reaches_its_limit(node, rotation, wall, acme, name):
    await override(node.storage, name, encryption_limit=1000)
    made = await encrypt(node, acme, name, 400)
    assert not await rotation.step()
    made += await encrypt(node, acme, name, 150)
    assert await carry_out(rotation) == 1
    made += await encrypt(node, acme, name, 50)
    assert made == [1] * 550 + [2] * 50
    assert rotation.counts.rotations == {"schedule": 0, "count": 1}
    _, key, versions = await stored(node.storage, name)
    assert versions[1].due_at is None
    assert key.due_at == START + GRACE
    assert (key.scheduled_from, key.primary_version) == (START, 2)


async def test_a_key_under_load_never_meets_its_limit(node, rotation, acme, name):
    await override(node.storage, name, encryption_limit=1000)
    others = [node, *(Node(node.storage, node.vault) for _ in range(2))]
    for other in others:
        other.usage.watch(rotation.request)
    for _ in range(30):
        for other in others:
            await encrypt(other, acme, name, 37)
        await carry_out(rotation)
    _, _, versions = await stored(node.storage, name)
    assert len(versions) >= 30 * 37 * 3 // 1000
    tenant, key, _ = await stored(node.storage, name)
    reserved = await node.storage.reserved([Counter(tenant.uid, key.uid, v.version) for v in versions])
    assert sum(reserved) >= 30 * 37 * 3
    assert all(500 <= count <= 1000 for count in reserved[:-1])


async def test_an_exhausted_version_is_replaced_when_somebody_tries_it(node, rotation, acme, name):
    await override(node.storage, name, encryption_limit=1000)
    tenant, key, _ = await stored(node.storage, name)
    await node.storage.reserve(Counter(tenant.uid, key.uid, 1), 1000, None)
    with pytest.raises(VersionExhausted):
        await encrypt(node, acme, name, 1)
    await carry_out(rotation)
    assert await encrypt(node, acme, name, 1) == [2]


async def test_requests_for_what_is_no_longer_the_primary_version_are_dropped(node, rotation, acme, name):
    tenant, key, _ = await stored(node.storage, name)
    for version in (1, 1, 7, 0):
        rotation.request(Counter(tenant.uid, key.uid, version))
    rotation.request(Counter(tenant.uid, KeyUid(KekUid(key.uid)), 1))
    rotation.request(Counter(key.tenant, KeyUid(tenant.uid), 1))
    await carry_out(rotation)
    assert await node.key_versions(acme, name) == [1, 2]
    assert not rotation._requested


@pytest.mark.parametrize("state", [KeyState.SUSPENDED, KeyState.ARCHIVED, KeyState.REVOKED])
async def test_a_request_for_a_key_that_no_longer_encrypts_is_dropped(node, rotation, acme, name, state):
    tenant, key, _ = await stored(node.storage, name)
    rotation.request(Counter(tenant.uid, key.uid, 1))
    await change(node.storage, name, state=state)
    await carry_out(rotation)
    assert await node.key_versions(acme, name) == [1]


async def test_requests_are_bounded(rotation, node, name):
    tenant, key, _ = await stored(node.storage, name)
    for version in range(MOST_REQUESTS + 5):
        rotation.request(Counter(tenant.uid, key.uid, version + 2))
    assert len(rotation._requested) == MOST_REQUESTS


async def test_a_kek_that_has_passed_its_soft_limit_is_replaced(node, wall, acme, name):
    rotation = rotation_of(node, wall, rotate_kek=lambda tenant, seen: node.keks.rotate(OPERATOR, tenant.name, seen))
    tenant, _, _ = await stored(node.storage, name)
    counter = Counter(tenant.uid, tenant.kek, 1)
    await node.storage.reserve(counter, 2**30, None)
    node = Node(node.storage, node.vault)
    node.usage.watch(rotation.request)
    await node.key(acme, "another")
    assert await carry_out(rotation) == 1
    assert await node.kek_versions("acme") == {1: False, 2: True}
    rotation.request(counter)
    await carry_out(rotation)
    assert await node.kek_versions("acme") == {1: False, 2: True}


# What is away.


async def test_with_the_token_gone_nothing_is_lost_and_it_goes_on_when_it_is_back(database, fresh_token: Token, wall):
    vault = fresh_token.vault()
    await vault.start()
    node = Node(database, vault, wall=wall)
    rotation = rotation_of(node, wall)
    acme = await node.tenant("acme")
    names = [await node.key(acme, f"k{index}") for index in range(5)]
    made = [await node.fields.encrypt(acme, name, b"value", ()) for name in names]
    graced = await node.key(acme, "graced")
    await node.keys.rotate(acme, graced, "")
    await never(node.storage, graced)
    await vault.stop()
    wall.wait(DAY)
    with structlog.testing.capture_logs() as log:
        assert await carry_out(rotation) == 1
    failed = [entry for entry in log if entry["event"] == "schedule.failed"]
    assert {entry["subject"] for entry in failed} == {str(name) for name in names}
    assert {entry["error"] for entry in failed} == {"HSM_UNAVAILABLE"}
    assert rotation.counts.failures == 5
    # What needs no token was done.
    assert await states(node, graced) == [KeyState.ARCHIVED, KeyState.ACTIVE]
    assert await carry_out(rotation) == 0  # the claims are the back-off
    await vault.start()
    wall.wait(CLAIM_OVER)
    await carry_out(rotation)
    assert [await node.key_versions(acme, name) for name in names] == [[1, 2]] * 5
    for name, old in zip(names, made, strict=True):
        assert (await node.fields.decrypt(acme, name, old.ciphertext, ())).plaintext == b"value"
        assert (await node.fields.encrypt(acme, name, b"x", ())).version == 2
    await vault.stop()


async def test_a_request_waits_for_the_token(database, fresh_token: Token, wall):
    vault = fresh_token.vault()
    await vault.start()
    node = Node(database, vault, wall=wall)
    rotation = rotation_of(node, wall)
    acme = await node.tenant("acme")
    name = await node.key(acme, "payroll")
    tenant, key, _ = await stored(database, name)
    rotation.request(Counter(tenant.uid, key.uid, 1))
    await vault.stop()
    assert await carry_out(rotation) == 0
    await vault.start()
    assert await carry_out(rotation) == 1
    assert await node.key_versions(acme, name) == [1, 2]
    await vault.stop()


async def test_a_key_that_cannot_be_rotated_holds_up_no_other(node, rotation, wall, acme, hostile: Hostile):
    names = [await node.key(acme, f"k{index}") for index in range(4)]
    assert hostile.change("UPDATE encryption_keys SET primary_version = 9 WHERE key_id = 'k1'") == 1
    await reseal(node.storage)
    wall.wait(DAY)
    with structlog.testing.capture_logs() as log:
        assert await carry_out(rotation) == 1
    assert [e["subject"] for e in log if e["event"] == "schedule.failed"] == ["tenants/acme/keys/k1"]
    assert [len(await states(node, name)) for name in names] == [2, 1, 2, 2]


# Destruction.


class Census:
    """Destroys what is in `known`, and refuses the rest as its census would."""

    def __init__(self, node: Node) -> None:
        self._storage = node.storage
        self.known: set[str] = set()
        self.asked: list[str] = []

    async def destroy_version(self, tenant: Tenant, key: Key, version: KeyVersion) -> None:
        self._look(key.name(tenant).version(version.version))
        destroyed = version.after(KeyEvent.DESTROY, version.state_at)
        await change(self._storage, key.name(tenant), destroyed)

    async def destroy_key(self, tenant: Tenant, key: Key) -> None:
        self._look(str(key.name(tenant)))
        await change(self._storage, key.name(tenant), state=KeyState.DESTROYED, destroy_at=None)

    def _look(self, name: str) -> None:
        self.asked.append(name)
        if name not in self.known:
            raise FailedPrecondition(f"{name} may protect something")


@pytest.fixture
def census(node: Node) -> Census:
    return Census(node)


async def quarantined(node: Node, wall: Wall, acme: Principal, name: KeyName, ends: datetime) -> None:
    """Put version 1 of a key, whose second it gets, into a quarantine."""
    await never(node.storage, name)
    await node.keys.rotate(acme, name, "")
    [old, _] = (await stored(node.storage, name))[2]
    old = old.after(KeyEvent.FINISH_ROTATION, wall.now).after(KeyEvent.SCHEDULE_DESTRUCTION, wall.now, until=ends)
    await change(node.storage, name, old)


async def test_a_version_is_destroyed_at_the_end_of_its_quarantine(node, wall, acme, name, census):
    rotation = rotation_of(node, wall, census)
    census.known = {f"{name}/versions/1"}
    await quarantined(node, wall, acme, name, START + 7 * DAY)
    wall.wait(7 * DAY - SECOND)
    await carry_out(rotation)
    assert census.asked == []
    wall.wait(SECOND)
    await carry_out(rotation)
    assert await states(node, name) == [KeyState.DESTROYED, KeyState.ACTIVE]
    assert rotation.counts.destroyed == {"version": 1, "key": 0}
    assert (await stored(node.storage, name))[1].due_at is None


async def test_what_the_census_does_not_allow_is_tried_again_in_an_hour(node, wall, acme, name, census):
    rotation = rotation_of(node, wall, census)
    await quarantined(node, wall, acme, name, START + 7 * DAY)
    wall.wait(7 * DAY)
    with structlog.testing.capture_logs() as log:
        await carry_out(rotation)
        wall.wait(HELD_FOR - SECOND)
        await carry_out(rotation)
    held = [entry for entry in log if entry["event"] == "key_version.destruction_held"]
    version = f"{name}/versions/1"
    assert [(entry["name"], entry["reason"]) for entry in held] == [(version, f"{version} may protect something")]
    assert rotation.counts.destroyed["version"] == 0
    census.known = {version}
    wall.wait(SECOND)
    await carry_out(rotation)
    assert census.asked == [version] * 2
    assert await states(node, name) == [KeyState.DESTROYED, KeyState.ACTIVE]


async def test_a_destruction_that_is_held_delays_no_rotation(node, wall, acme, name, census):
    rotation = rotation_of(node, wall, census)
    await quarantined(node, wall, acme, name, START + 7 * DAY)
    wall.wait(7 * DAY - timedelta(minutes=30))
    await change(node.storage, name, scheduled_from=wall.now, policy="")
    await override(node.storage, name, rotation=HOUR)
    wall.wait(timedelta(minutes=30))
    await carry_out(rotation)
    assert len(census.asked) == 1
    wall.wait(timedelta(minutes=30))
    await carry_out(rotation)
    assert await states(node, name) == [KeyState.DESTRUCTION_SCHEDULED, KeyState.ROTATING, KeyState.ACTIVE]


async def test_a_key_is_destroyed_at_the_end_of_its_waiting_period(node, wall, acme, name, census):
    rotation = rotation_of(node, wall, census)
    scheduled = {"state": KeyState.DESTRUCTION_SCHEDULED, "state_before": KeyState.ACTIVE}
    await change(node.storage, name, destroy_at=START + 30 * DAY, **scheduled)
    wall.wait(30 * DAY)
    await carry_out(rotation)
    assert census.asked == [str(name)]
    census.known = {str(name)}
    wall.wait(HELD_FOR)
    await carry_out(rotation)
    assert (await stored(node.storage, name))[1].state is KeyState.DESTROYED
    assert rotation.counts.destroyed == {"version": 0, "key": 1}


async def test_while_the_clock_is_in_doubt_nothing_is_destroyed_and_rotation_goes_on(node, wall, acme, name, census):
    rotation = rotation_of(node, wall, census)
    other = await node.key(acme, "other")
    census.known = {f"{name}/versions/1"}
    await quarantined(node, wall, acme, name, START + 7 * DAY)
    assert (await rotation.health()).status is HealthStatus.HEALTHY
    with structlog.testing.capture_logs() as log:
        for _ in range(3):
            wall.jump(3 * DAY)
            await carry_out(rotation)
    [held] = [entry for entry in log if entry["event"] == "destruction.held"]
    assert "jumped forward" in held["reason"]
    health = await rotation.health()
    assert (health.status, health.reason) == (HealthStatus.DEGRADED, held["reason"])
    assert census.asked == []
    assert (await states(node, name))[0] is KeyState.DESTRUCTION_SCHEDULED
    assert len(await states(node, other)) > 1
    # Somebody has looked at the clock and started the node again.
    wall.wait(HELD_FOR)
    await carry_out(rotation_of(node, wall, census))
    assert (await states(node, name))[0] is KeyState.DESTROYED


async def test_a_node_without_a_part_that_destroys_destroys_nothing(node, rotation, wall, acme, name):
    await quarantined(node, wall, acme, name, START + 7 * DAY)
    wall.wait(8 * DAY)
    await carry_out(rotation)
    assert (await states(node, name))[0] is KeyState.DESTRUCTION_SCHEDULED


# KEKs, and the loop.


class LookedAt:
    """Plans tenants for the next day, and refuses those in `failing`."""

    def __init__(self, node: Node, wall: Wall) -> None:
        self._storage = node.storage
        self._wall = wall
        self.seen: list[str] = []
        self.failing: set[str] = set()

    async def look(self, tenant: Tenant, *, may_destroy: bool) -> None:
        self.seen.append(tenant.slug)
        if tenant.slug in self.failing:
            raise VersionExhausted(tenant.slug)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.replace(replace(tenant, due_at=self._wall.now + DAY))


async def test_tenants_whose_keks_are_due_are_looked_at_and_one_that_fails_waits(node, wall):
    keks = LookedAt(node, wall)
    rotation = rotation_of(node, wall, keks=keks)
    for slug in ("one", "two", "not-due"):
        await node.tenant(slug)
        async with node.storage.transaction() as work:
            tenant = await work.tenants.get(slug)
        async with node.storage.transaction(tenant.uid, write=True) as work:
            due_at = wall.now + DAY if slug == "not-due" else wall.now
            await work.tenants.replace(replace(tenant, due_at=due_at))
    keks.failing = {"two"}
    with structlog.testing.capture_logs() as log:
        assert await carry_out(rotation) == 1
    assert sorted(keks.seen) == ["one", "two"]
    assert [e["subject"] for e in log if e["event"] == "schedule.failed"] == ["tenants/two"]
    keks.failing.clear()
    wall.wait(CLAIM_OVER)
    await carry_out(rotation)
    assert sorted(keks.seen) == ["one", "two", "two"]
    assert rotation.counts.claimed["tenant"] == 3


async def test_the_loop_does_what_is_due_at_once_and_what_is_asked_for_when_it_is_woken(node, rotation, wall, name):
    wall.wait(DAY)
    loop = asyncio.create_task(rotation.run())
    await until(lambda: rotation.counts.rotations["schedule"] == 1)
    tenant, key, _ = await stored(node.storage, name)
    rotation.request(Counter(tenant.uid, key.uid, 2))
    await until(lambda: rotation.counts.rotations["count"] == 1)
    wall.wait(DAY)
    rotation.wake()
    await until(lambda: rotation.counts.rotations["schedule"] == 2)
    loop.cancel()
    await asyncio.wait([loop])
    assert loop.cancelled()


async def test_the_loop_outlives_a_database_that_is_away(database, open_vault, wall):
    node = Node(database, open_vault, wall=wall)
    rotation = rotation_of(node, wall)
    await database.close()
    with structlog.testing.capture_logs() as log:
        loop = asyncio.create_task(rotation.run())
        await until(lambda: rotation.counts.failures == 1)
        rotation.wake()
        await until(lambda: rotation.counts.failures == 2)
        assert not loop.done()
        loop.cancel()
        await asyncio.wait([loop])
    assert {entry["error"] for entry in log} == {"STORAGE_UNAVAILABLE"}
