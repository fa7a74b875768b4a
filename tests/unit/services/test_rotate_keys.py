"""Rotating all keys of a tenant: each that encrypts once, whatever happens meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from kms.core.errors import CorruptRecord, HsmUnavailable, NotFound, NotSupported
from kms.core.keyring import Tenant
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName, Principal, TenantName
from kms.core.operations import Operation, OperationKind, OperationState, OperationUid
from kms.core.suites import Purpose
from kms.services import rotate_keys
from kms.services.keys import Keys
from kms.services.operations import Batch
from kms.services.rotate_keys import RotateKeys
from tests.lifecycles import key_in, stored
from tests.node import Hostile, Node, now
from tests.sealing import reseal
from tests.softhsm_token import Token

pytestmark = pytest.mark.softhsm

ACME = TenantName("acme")


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


class Starter:
    """Stores an operation as the part does that carries operations out."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def __call__(self, tenant: Tenant, kind: OperationKind, target: str, by: str, total: int) -> Operation:
        async with self.node.storage.transaction(tenant.uid, write=True) as work:
            found = await work.operations.find(tenant.uid, kind, target, OperationState.RUNNING)
            if found is not None:
                return found
            uid = OperationUid(tenant.uid)
            return await work.operations.add(
                Operation(uid, tenant.uid, kind, target, OperationState.RUNNING, by, now(), now(), total=total)
            )


def starting(node: Node) -> Keys:
    return Keys(node.storage, node.tenants, node.keyrings, node.rotator, now, Starter(node))


async def begun(node: Node, caller: Principal) -> Operation:
    return (await starting(node).rotate_all(caller, ACME))[1]


def runner(node: Node) -> RotateKeys:
    return RotateKeys(node.storage, node.rotator, node.keyrings.forget, node.clock)


async def carried_out(node: Node, operation: Operation) -> tuple[Operation, Batch]:
    """Carry an operation on to its end, and return the last batch with it."""
    while True:
        batch = await runner(node).batch(operation)
        operation = operation.progressed(batch.cursor, batch.done, now())
        if batch.finished:
            return operation, batch


async def primaries(node: Node, caller: Principal) -> dict[str, int]:
    return {
        status.key.slug: status.key.primary_version for status in await node.keys.list_by_slug(caller, ACME, "", 99)
    }


async def test_every_key_that_encrypts_is_rotated_once(node, acme):
    for state in KeyState:
        await key_in(node, acme, f"k-{state.value.replace('_', '-')}", state)
    await node.key(acme, "fixed", Purpose.DETERMINISTIC)
    await node.key(acme, "search", Purpose.INDEX)
    await node.key(acme, "data", Purpose.DATA_KEY)
    before = await primaries(node, acme)
    operation = await begun(node, acme)
    assert (operation.kind, operation.target, operation.total) == ("rotate_keys", "tenants/acme", 11)
    assert operation.requested_by == str(acme)
    ended, last = await carried_out(node, operation)
    assert (ended.done, last.error) == (11, "")
    rotated = {slug for slug, version in (await primaries(node, acme)).items() if version != before[slug]}
    assert rotated == {"k-active", "k-rotating", "data"}
    # Again, as after a crash, and with a key that was made meanwhile.
    await node.key(acme, "new")
    after = await primaries(node, acme)
    await carried_out(node, operation)
    assert await primaries(node, acme) == after
    # Who asks meanwhile gets the one that is running.
    assert (await starting(node).rotate_all(acme, ACME))[1] == operation


async def test_a_node_that_rotated_encrypts_under_the_new_version_at_once(node, acme):
    name = await node.key(acme, "payroll")
    assert (await node.fields.encrypt(acme, name, b"x", ())).version == 1
    await carried_out(node, await begun(node, acme))
    assert (await node.fields.encrypt(acme, name, b"x", ())).version == 2


async def test_a_crash_in_between_goes_on_behind_the_last_progress(node, acme, monkeypatch):
    monkeypatch.setattr(rotate_keys, "BATCH", 2)
    for slug in ("k1", "k2", "k3"):
        await node.key(acme, slug)
    operation = await begun(node, acme)
    batch = await runner(node).batch(operation)
    assert (batch.done, batch.finished) == (2, False)
    # The progress of that batch was lost: its keys have it behind them.
    ended, last = await carried_out(Node(node.storage, node.vault), operation)
    assert await primaries(node, acme) == {"k1": 2, "k2": 2, "k3": 2}
    assert (ended.done, last.finished) == (3, True)


async def test_a_slow_token_gets_smaller_batches(node, acme):
    for slug in ("k1", "k2", "k3"):
        await node.key(acme, slug)
    operation = await begun(node, acme)

    def slow() -> float:
        node.clock.now += 1.5
        return node.clock.now

    slowly = RotateKeys(node.storage, node.rotator, node.keyrings.forget, slow)
    done = []
    while True:
        batch = await slowly.batch(operation)
        done.append(batch.done)
        operation = operation.progressed(batch.cursor, batch.done, now())
        if batch.finished:
            break
    assert done == [2, 1]
    assert set((await primaries(node, acme)).values()) == {2}


async def test_a_key_that_somebody_else_changes_is_read_again(node, acme):
    changed, rotated, stopped = [await node.key(acme, slug) for slug in ("changed", "rotated", "stopped")]
    operation = await begun(node, acme)
    async with node.storage.transaction(operation.tenant) as work:
        tenant = await work.tenants.by_uid(operation.tenant)
        seen = {key.slug: key for key in await work.keys.list_by_slug(operation.tenant, "", 9)}
    await node.keys.update(acme, changed, "", {"display_name": "changed"})
    await node.keys.rotate(acme, rotated, "")
    await node.lifecycle.suspend(acme, stopped, "", "why", wait=False)
    for key in seen.values():
        assert await runner(node)._rotate(operation, tenant, key)
    assert await primaries(node, acme) == {"changed": 2, "rotated": 2, "stopped": 1}


async def test_a_key_that_cannot_be_rotated_does_not_hold_up_the_others(node, acme, hostile: Hostile):
    names = [await node.key(acme, slug) for slug in ("k1", "k2", "k3")]
    broken = (await node.keys.get(acme, names[1])).key
    hostile.change("UPDATE encryption_keys SET policy_id = 'absent' WHERE id = :uid", uid=str(broken.uid))
    await reseal(node.storage)
    operation = await begun(node, acme)
    with capture_logs() as logs:
        ended, last = await carried_out(node, operation)
    assert last.error == "not rotated: 1 keys, which the log names (key.not_rotated)"
    [told] = [line for line in logs if line["event"] == "key.not_rotated"]
    assert told["name"] == str(names[1])
    assert ended.done == 3
    hostile.change("UPDATE encryption_keys SET policy_id = NULL WHERE id = :uid", uid=str(broken.uid))
    await reseal(node.storage)
    assert await primaries(node, acme) == {"k1": 2, "k2": 1, "k3": 2}
    # Resumed, it rotates what it has left.
    ended, last = await carried_out(node, replace(operation, cursor=last.cursor))
    assert last.error == ""
    assert await primaries(node, acme) == {"k1": 2, "k2": 2, "k3": 2}


async def test_without_a_token_it_is_left_for_later(node, acme, shared_token: Token):
    await node.key(acme, "k1")
    operation = await begun(node, acme)
    with pytest.raises(HsmUnavailable):
        await runner(Node(node.storage, shared_token.vault())).batch(operation)
    await carried_out(node, operation)
    assert await primaries(node, acme) == {"k1": 2}


async def test_a_cursor_that_makes_no_sense_is_not_guessed_at(node, acme):
    operation = await begun(node, acme)
    for cursor in ("k1", "k1 x", "K1 0"):
        with pytest.raises(CorruptRecord):
            await runner(node).batch(replace(operation, cursor=cursor))


async def test_another_tenants_keys_are_not_rotated(node, acme):
    globex = await node.tenant("globex")
    theirs = KeyName("globex", "theirs")
    await node.key(globex, "theirs")
    with pytest.raises(NotFound):
        await starting(node).rotate_all(globex, ACME)
    await node.key(acme, "ours")
    await carried_out(node, await begun(node, acme))
    assert (await node.keys.get(globex, theirs)).key.primary_version == 1


async def test_a_node_that_carries_out_no_operations_refuses(node, acme):
    with pytest.raises(NotSupported):
        await node.keys.rotate_all(acme, ACME)


async def test_a_key_rotated_before_the_operation_began_is_rotated(node, acme):
    name = await node.key(acme, "k1")
    operation = await begun(node, acme)
    await stored(node, acme, name, lambda key: replace(key, rotated_at=operation.created_at - timedelta(seconds=1)))
    await carried_out(node, operation)
    assert await primaries(node, acme) == {"k1": 2}
