"""Every command in every state: one transaction, the tables' next state, and a refusal that names state and event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kms.core.errors import Conflict, HsmUnavailable, NotFound, WrongKeyState
from kms.core.keyring import KeyVersion
from kms.core.lifecycle import KEY_TRANSITIONS, VERSION_TRANSITIONS, KeyEvent, KeyState, spoken
from kms.core.names import KeyName, KeyVersionName, Principal, TenantUid
from kms.core.policy import DEFAULT
from kms.core.ports import Storage, TenantEpoch
from kms.core.repositories import UnitOfWork
from kms.core.suites import Purpose
from kms.services.lifecycle import StoppedVersion
from tests.lifecycles import COMMANDS, key_in, scheduled, stored, stored_version, version_of
from tests.node import Node, RecordingStorage, now
from tests.softhsm_token import Token

pytestmark = pytest.mark.softhsm

STOPS = {KeyEvent.SUSPEND, KeyEvent.ARCHIVE, KeyEvent.REVOKE}


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


async def epoch(node: Node) -> TenantEpoch:
    """What nodes hear of the only tenant."""
    return next(iter((await node.storage.epochs())[1].values()), TenantEpoch(0, 0))


@pytest.mark.parametrize("state", KeyState, ids=lambda state: state.name)
async def test_a_command_does_what_the_table_says_or_names_state_and_event(node, acme, state):
    for event in COMMANDS:
        slug = f"to-{event.replace(' ', '-')}"
        name = await key_in(node, acme, slug, state)
        before, heard = await node.keys.get(acme, name), await epoch(node)
        node.dropped.clear()
        expected = KEY_TRANSITIONS.get((state, event))
        if expected is None:
            with pytest.raises(WrongKeyState) as caught:
                await COMMANDS[event](node, acme, name, "")
            assert str(caught.value) == f"key {slug} is {spoken(state)}: it cannot {event}"
            assert await node.keys.get(acme, name) == before
            assert await epoch(node) == heard
            continue
        await COMMANDS[event](node, acme, name, "")
        after = await node.keys.get(acme, name)
        assert after.key.state is expected
        assert after.key.state_reason == ("why" if event in {KeyEvent.SUSPEND, KeyEvent.REVOKE} else "")
        assert after.key.revision == before.key.revision + 1
        assert (await epoch(node)).changes == heard.changes + 1
        assert ((await epoch(node)).revoked > heard.revoked) is (event in STOPS)
        assert node.dropped == ([] if event is KeyEvent.ROTATE else [after.tenant.uid])


async def test_every_state_is_reached_by_a_command_or_by_the_part_that_destroys(node, acme):
    commanded = {KEY_TRANSITIONS[step] for step in KEY_TRANSITIONS if step[1] in COMMANDS}
    assert set(KeyState) - commanded == {KeyState.PENDING, KeyState.DESTRUCTION_SCHEDULED, KeyState.DESTROYED}


# A key's time.


async def test_a_pending_key_has_no_schedule_until_it_is_activated(node, acme):
    name = await key_in(node, acme, "later", KeyState.PENDING)
    pending = (await node.keys.get(acme, name)).key
    version = KeyVersionName(name, 1)
    assert pending.due_at is None
    assert (await version_of(node, acme, version)).state is KeyState.PENDING
    old = now() - timedelta(days=400)
    await stored(node, acme, name, lambda key: replace(key, scheduled_from=old, created_at=old, rotated_at=old))
    began = now()
    active = (await node.lifecycle.activate(acme, name, "")).key
    assert began <= active.scheduled_from <= now()
    assert active.due_at == active.scheduled_from + DEFAULT.rotation
    assert (active.rotated_at, active.created_at) == (old, old)
    assert (await version_of(node, acme, version)).state is KeyState.ACTIVE


async def test_a_stopped_key_waits_for_nothing_and_a_resumed_one_keeps_its_schedule(node, acme):
    name = await node.key(acme, "payroll")
    due = (await node.keys.get(acme, name)).key.due_at
    assert (await node.lifecycle.suspend(acme, name, "", "holiday", wait=False)).status.key.due_at is None
    resumed = (await node.lifecycle.resume(acme, name, "")).key
    assert (resumed.due_at, resumed.state_reason) == (due, "")
    # A rotation that was missed meanwhile is due at once.
    await node.lifecycle.suspend(acme, name, "", "holiday", wait=False)
    long_ago = now() - timedelta(days=10)
    await stored(node, acme, name, lambda key: replace(key, scheduled_from=long_ago))
    assert (await node.lifecycle.resume(acme, name, "")).key.due_at == long_ago + DEFAULT.rotation


async def test_the_grace_of_a_version_ends_also_while_its_key_is_stopped(node, acme):
    name = await key_in(node, acme, "payroll", KeyState.ROTATING)
    until = (await version_of(node, acme, KeyVersionName(name, 1))).until
    for command in (KeyEvent.SUSPEND, KeyEvent.ARCHIVE, KeyEvent.REVOKE):
        await COMMANDS[command](node, acme, name, "")
        assert (await node.keys.get(acme, name)).key.due_at == until


async def test_a_revocation_ends_a_scheduled_destruction(node, acme):
    name = await key_in(node, acme, "payroll", KeyState.DESTRUCTION_SCHEDULED)
    key = (await node.lifecycle.revoke(acme, name, "", "leaked", wait=False)).status.key
    assert (key.state, key.destroy_at, key.state_before, key.due_at) == (KeyState.REVOKED, None, None, None)


# What a stop tells, and who sees it.


async def test_a_stop_tells_its_epoch_and_passes_on_whether_to_wait(node, acme):
    first, second = await node.key(acme, "first"), await node.key(acme, "second")
    began = now()
    stopped = await node.lifecycle.suspend(acme, first, "", "why", wait=True)
    await node.lifecycle.revoke(acme, second, "", "why", wait=False)
    newest, heard = await node.storage.epochs()
    assert node.stops == [(1, True), (2, False)]
    assert (newest, [tenant.revoked for tenant in heard.values()]) == (2, [2])
    assert began <= stopped.propagation.commit_time <= now()


def remembers(node, name):
    """Whether the node would answer by the record in its memory."""
    ring = node.rings.peek(name)
    return ring is not None and (ring.changes, ring.stops) == (ring.generation.changes, ring.generation.stops)


async def test_this_node_forgets_the_tenants_records_and_deks_at_once(node, acme):
    globex = await node.tenant("globex")
    theirs = await node.key(globex, "theirs")
    other = await node.key(acme, "other")
    for event in STOPS:
        name = await node.key(acme, event.value)
        for caller, key in ((acme, name), (acme, other), (globex, theirs)):
            await node.fields.encrypt(caller, key, b"x", ())
        assert len(node.versions) == 3
        await COMMANDS[event](node, acme, name, "")
        assert len(node.versions) == 1
        assert not remembers(node, name)


async def test_an_activation_reaches_a_node_that_remembers_the_key(node, acme):
    name = await key_in(node, acme, "later", KeyState.PENDING)
    await node.rings.get(name, lambda: node.keyrings._read(name))
    assert remembers(node, name)
    await node.lifecycle.activate(acme, name, "")
    assert not remembers(node, name)


# Etags, names, and others who change the key meanwhile.


async def test_an_etag_that_is_not_the_present_one_is_refused_before_the_state(node, acme):
    name = await node.key(acme, "payroll")
    before = await node.keys.get(acme, name)
    for event in COMMANDS:
        for etag in ("stale", str(before.key.revision + 1)):
            with pytest.raises(Conflict):
                await COMMANDS[event](node, acme, name, etag)
    with pytest.raises(Conflict):
        await node.lifecycle.revoke_version(acme, KeyVersionName(name, 1), "stale", "why", wait=False)
    assert await node.keys.get(acme, name) == before


async def test_with_the_present_etag_a_command_acts(node, acme):
    name = await node.key(acme, "payroll")
    etag = (await node.keys.get(acme, name)).key.etag
    etag = (await node.lifecycle.suspend(acme, name, etag, "why", wait=False)).status.key.etag
    etag = (await node.lifecycle.resume(acme, name, etag)).key.etag
    version = KeyVersionName(name, 1)
    etag = (await node.lifecycle.revoke_version(acme, version, etag, "why", wait=False)).status.key.etag
    await node.lifecycle.revoke(acme, name, etag, "why", wait=False)


async def test_a_key_that_is_not_there_and_anothers_are_not_found(node, acme):
    await node.key(acme, "payroll")
    globex = await node.tenant("globex")
    for caller, name in ((acme, KeyName("acme", "absent")), (globex, KeyName("acme", "payroll"))):
        for command in COMMANDS.values():
            with pytest.raises(NotFound, match=f"{name} does not exist"):
                await command(node, caller, name, "")
        with pytest.raises(NotFound):
            await node.lifecycle.revoke_version(caller, KeyVersionName(name, 1), "", "why", wait=False)
    absent = KeyVersionName(KeyName("acme", "payroll"), 2)
    with pytest.raises(NotFound, match="versions/2 does not exist"):
        await node.lifecycle.revoke_version(acme, absent, "", "why", wait=False)


class Disturbed(RecordingStorage):
    """The real storage, where somebody else is faster than the first writes."""

    def __init__(self, storage: Storage, disturb: Callable[[], Awaitable[object]], times: int) -> None:
        super().__init__(storage)
        self.disturb = disturb
        self.left = times

    @asynccontextmanager
    async def transaction(self, tenant: TenantUid | None = None, *, write: bool = False) -> AsyncIterator[UnitOfWork]:
        if write and self.left:
            self.left -= 1
            await self.disturb()
        async with super().transaction(tenant, write=write) as work:
            yield work


async def test_without_an_etag_a_revocation_gets_through_while_its_key_goes_on_changing(node, acme):
    """At night the scheduler rotates: that must not be what refuses a revocation."""
    name = await key_in(node, acme, "payroll", KeyState.ROTATING)

    async def disturb() -> None:
        await node.keys.update(acme, name, "", {"display_name": "changed"})

    for version in (1, 2):
        storage = Disturbed(node.storage, disturb, 3)
        disturbed = Node(storage, node.vault)
        done = await revoke(disturbed, acme, name, version)
        assert done.version.version.state is KeyState.REVOKED
        assert storage.left == 0
    assert await node.key_versions(acme, name) == [1, 2, 3]


async def test_with_an_etag_it_does_not_act_on_another_state(node, acme):
    name = await key_in(node, acme, "payroll", KeyState.ROTATING)
    for version in (1, 2):
        etag = (await node.keys.get(acme, name)).key.etag

        async def disturb() -> None:
            await node.keys.update(acme, name, "", {"display_name": "changed"})

        disturbed = Node(Disturbed(node.storage, disturb, 1), node.vault)
        with pytest.raises(Conflict):
            await disturbed.lifecycle.revoke_version(acme, at(name, version), etag, "leaked", wait=False)
    assert await node.key_versions(acme, name) == [1, 2]


async def test_of_two_stops_at_once_one_wins_and_the_other_is_told_the_state(node, acme):
    name = await node.key(acme, "payroll")
    nodes = [node, Node(node.storage, node.vault)]
    outcomes = await asyncio.gather(
        *(each.lifecycle.revoke(acme, name, "", "leaked", wait=False) for each in nodes), return_exceptions=True
    )
    [refused] = [outcome for outcome in outcomes if isinstance(outcome, WrongKeyState)]
    assert "is revoked" in str(refused)
    assert (await node.storage.epochs())[0] == 1


# Versions.


async def revoke(node: Node, caller: Principal, name: KeyName, version: int) -> StoppedVersion:
    return await node.lifecycle.revoke_version(caller, KeyVersionName(name, version), "", "leaked", wait=False)


def at(name: KeyName, version: int) -> KeyVersionName:
    return KeyVersionName(name, version)


async def test_a_revoked_primary_version_is_replaced_in_the_same_step(node, acme):
    name = await node.key(acme, "payroll")
    began = now()
    done = await revoke(node, acme, name, 1)
    assert (done.version.version.state, done.version.version.state_reason) == (KeyState.REVOKED, "leaked")
    assert not done.version.primary
    assert (done.status.key.state, done.status.key.primary_version) == (KeyState.ACTIVE, 2)
    assert began <= done.status.key.scheduled_from <= now()
    assert node.stops == [(1, False)]
    [first, second] = (await node.keys.list_versions(acme, name, 0, 9))[1]
    assert (first.version.state, first.primary) == (KeyState.REVOKED, False)
    assert (second.version.state, second.primary) == (KeyState.ACTIVE, True)
    assert second.version.created_by == str(acme)
    assert done.version == first
    assert (await node.fields.encrypt(acme, name, b"x", ())).version == 2


async def test_a_revoked_primary_version_of_a_rotating_key_leaves_it_rotating(node, acme):
    name = await key_in(node, acme, "payroll", KeyState.ROTATING)
    done = await revoke(node, acme, name, 2)
    assert (done.status.key.state, done.status.key.primary_version) == (KeyState.ROTATING, 3)
    grace = await version_of(node, acme, at(name, 1))
    assert (grace.state, done.status.key.due_at) == (KeyState.ROTATING, grace.until)


async def test_the_last_version_in_its_grace_ends_the_rotation_when_it_is_revoked(node, acme):
    name = await key_in(node, acme, "payroll", KeyState.ROTATING)
    await node.keys.rotate(acme, name, "")
    graces = [(await version_of(node, acme, at(name, number))).until for number in (1, 2)]
    done = await revoke(node, acme, name, 1)
    assert (done.status.key.state, done.status.key.due_at) == (KeyState.ROTATING, graces[1])
    done = await revoke(node, acme, name, 2)
    key = done.status.key
    assert (key.state, key.primary_version, key.due_at) == (KeyState.ACTIVE, 3, key.scheduled_from + DEFAULT.rotation)
    revoked = done.version.version
    assert (revoked.state, revoked.until, revoked.state_reason) == (KeyState.REVOKED, None, "leaked")


async def test_every_node_hears_of_a_revoked_version(node, acme):
    name = await key_in(node, acme, "payroll", KeyState.ROTATING)
    node.dropped.clear()
    for number, version in ((1, 1), (2, 2)):
        done = await revoke(node, acme, name, version)
        assert node.stops[-1] == (number, False)
        assert node.dropped == [done.status.tenant.uid] * number
    assert (await node.storage.epochs())[0] == 2


def archived(version: KeyVersion) -> KeyVersion:
    return version.after(KeyEvent.FINISH_ROTATION, now())


def quarantined(version: KeyVersion) -> KeyVersion:
    end = now() + timedelta(days=7)
    return archived(version).after(KeyEvent.SCHEDULE_DESTRUCTION, now(), until=end)


def revoked(version: KeyVersion) -> KeyVersion:
    return version.after(KeyEvent.REVOKE, now())


def destroyed(version: KeyVersion) -> KeyVersion:
    return version.after(KeyEvent.DESTROY_WITH_KEY, now())


# How a replaced version, which is in its grace, comes into each state that it can be in.
REPLACED: dict[KeyState, Callable[[KeyVersion], KeyVersion]] = {
    KeyState.ROTATING: lambda version: version,
    KeyState.ARCHIVED: archived,
    KeyState.REVOKED: revoked,
    KeyState.DESTRUCTION_SCHEDULED: quarantined,
    KeyState.DESTROYED: destroyed,
}


async def key_with_replaced(node: Node, caller: Principal, slug: str, key: KeyState, version: KeyState) -> KeyName:
    """Make a key in one state whose version 1, which was replaced, is in another."""
    name = await key_in(node, caller, slug, KeyState.ROTATING)
    await stored_version(node, caller, at(name, 1), REPLACED[version])
    await stored(node, caller, name, lambda key: key.after(KeyEvent.FINISH_ROTATION, now()))
    path = {
        KeyState.ROTATING: KeyEvent.ROTATE,
        KeyState.SUSPENDED: KeyEvent.SUSPEND,
        KeyState.ARCHIVED: KeyEvent.ARCHIVE,
        KeyState.REVOKED: KeyEvent.REVOKE,
    }
    if key in path:
        await COMMANDS[path[key]](node, caller, name, "")
    elif key is not KeyState.ACTIVE:
        await scheduled(node, caller, name)
        if key is KeyState.DESTROYED:
            await stored(node, caller, name, lambda key: key.after(KeyEvent.DESTROY, now()))
    assert (await node.keys.get(caller, name)).key.state is key
    return name


# A pending key has no version that was replaced.
@pytest.mark.parametrize("key_state", [state for state in KeyState if state is not KeyState.PENDING], ids=str)
async def test_a_replaced_version_is_revoked_whatever_has_become_of_its_key(node, acme, key_state):
    for version_state in REPLACED:
        slug = f"k-{version_state.value.replace('_', '-')}"
        name = await key_with_replaced(node, acme, slug, key_state, version_state)
        before = await node.keys.get(acme, name)
        if key_state is not KeyState.DESTROYED and (version_state, KeyEvent.REVOKE) in VERSION_TRANSITIONS:
            done = await revoke(node, acme, name, 1)
            assert (done.version.version.state, done.version.version.until) == (KeyState.REVOKED, None)
            assert (done.status.key.state, done.status.key.primary_version) == (key_state, before.key.primary_version)
            continue
        expected = f"version 1 is {spoken(version_state)}: it cannot revoke"
        if key_state is KeyState.DESTROYED:
            expected = f"key {slug} is destroyed"
        with pytest.raises(WrongKeyState, match=expected):
            await revoke(node, acme, name, 1)
        assert await node.keys.get(acme, name) == before
        assert (await version_of(node, acme, at(name, 1))).state is version_state


@pytest.mark.parametrize("state", KeyState, ids=lambda state: state.name)
async def test_a_primary_version_is_revoked_where_one_takes_its_place_or_none_is_needed(node, acme, state):
    """A key that may encrypt again would have nothing to encrypt under."""
    name = await key_in(node, acme, "payroll", state)
    before = await node.keys.get(acme, name)
    primary = before.key.primary_version
    if state in {KeyState.ACTIVE, KeyState.ROTATING}:
        done = await revoke(node, acme, name, primary)
        assert (done.status.key.state, done.status.key.primary_version) == (state, primary + 1)
    elif state in {KeyState.ARCHIVED, KeyState.REVOKED}:
        done = await revoke(node, acme, name, primary)
        assert (done.status.key.state, done.status.key.primary_version) == (state, primary)
        assert (done.version.version.state, done.version.primary) == (KeyState.REVOKED, True)
    else:
        expected = "nothing left" if state is KeyState.DESTROYED else "cannot rotate.*revoke the key instead"
        with pytest.raises(WrongKeyState, match=f"key payroll is {spoken(state)}: .*{expected}"):
            await revoke(node, acme, name, primary)
        assert await node.keys.get(acme, name) == before


async def test_a_primary_version_whose_successor_cannot_be_made_is_not_revoked(node, acme, shared_token: Token):
    name = await node.key(acme, "payroll")
    tokenless = Node(node.storage, shared_token.vault())
    with pytest.raises(HsmUnavailable):
        await revoke(tokenless, acme, name, 1)
    assert (await version_of(node, acme, at(name, 1))).state is KeyState.ACTIVE
    # What needs no token stops it all the same.
    stopped = await tokenless.lifecycle.revoke(acme, name, "", "leaked", wait=False)
    assert stopped.status.key.state is KeyState.REVOKED


async def test_revocations_of_one_version_at_once_make_one_successor(node, acme):
    name = await node.key(acme, "payroll")
    nodes = [node, Node(node.storage, node.vault)]
    outcomes: list[Any] = await asyncio.gather(
        *(revoke(nodes[index % 2], acme, name, 1) for index in range(4)), return_exceptions=True
    )
    assert sum(isinstance(outcome, StoppedVersion) for outcome in outcomes) == 1
    assert {str(outcome) for outcome in outcomes if isinstance(outcome, Exception)} == {
        "version 1 is revoked: it cannot revoke"
    }
    assert await node.key_versions(acme, name) == [1, 2]


async def test_a_key_can_be_made_pending_for_every_purpose(node, acme):
    for purpose in Purpose:
        name = await key_in(node, acme, f"k{purpose.value}", KeyState.PENDING, purpose)
        assert (await node.lifecycle.activate(acme, name, "")).key.state is KeyState.ACTIVE
