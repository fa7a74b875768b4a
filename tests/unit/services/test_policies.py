"""Policies: immutable versions, and keys that are planned anew by the newest one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from kms.core.errors import AlreadyExists, Conflict, InvalidRequest, NotFound
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName, PolicyName, Principal, TenantName
from kms.core.operations import Operation, OperationKind, OperationState
from kms.core.policy import DEFAULT, NEVER, NamedPolicy, Overrides, Policy
from kms.core.suites import Purpose
from kms.services import replan
from kms.services.replan import Replan
from kms.services.statuses import KeyStatus
from tests.lifecycles import key_in, stored
from tests.node import Node, new_key, now

pytestmark = pytest.mark.softhsm

ACME = TenantName("acme")
GOLD = PolicyName("acme", "gold")
HOURLY = Policy(rotation=timedelta(hours=1))


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def gold(node: Node, acme: Principal) -> NamedPolicy:
    return (await node.policies.create(acme, ACME, "gold", HOURLY))[1]


async def key(node: Node, caller: Principal, slug: str, policy: str = "gold", **overrides: Any) -> KeyStatus:
    wish = replace(new_key(slug), policy=policy, overrides=Overrides(**overrides))
    return await node.keys.create(caller, ACME, wish)


async def running(node: Node) -> list[Operation]:
    """The operations that wait for somebody to carry them on, the oldest first."""
    async with node.storage.transaction() as work:
        return await work.operations.list_free(now(), 100)


async def carried_out(node: Node, operation: Operation) -> Operation:
    """Carry an operation on to its end."""
    runner = Replan(node.storage)
    while True:
        batch = await runner.batch(operation)
        operation = operation.progressed(batch.cursor, batch.done, now())
        if batch.finished:
            return operation


async def due(node: Node, caller: Principal, slug: str) -> datetime | None:
    return (await node.keys.get(caller, KeyName("acme", slug))).key.due_at


async def test_a_change_makes_the_next_version_and_leaves_the_older_ones(node, acme, gold):
    assert (gold.version, gold.policy, gold.created_by) == (1, HOURLY, str(acme))
    second = (await node.policies.update(acme, GOLD, 0, {"grace": timedelta(hours=1)}))[1]
    third = (await node.policies.update(acme, GOLD, 2, {"rotation": NEVER, "encryption_limit": 5_000}))[1]
    assert second.policy == replace(HOURLY, grace=timedelta(hours=1))
    assert third.policy == replace(second.policy, rotation=NEVER, encryption_limit=5_000)
    assert (await node.policies.get(acme, GOLD))[1] == third
    assert (await node.policies.list_versions(acme, GOLD, 0, 9))[1] == [gold, second, third]
    assert (await node.policies.list_versions(acme, GOLD, 1, 1))[1] == [second]


async def test_a_version_that_is_not_the_newest_is_not_changed(node, acme, gold):
    await node.policies.update(acme, GOLD, 1, {"grace": timedelta(hours=1)})
    for seen in (1, 3):
        with pytest.raises(Conflict, match="the newest version of tenants/acme/policies/gold is 2"):
            await node.policies.update(acme, GOLD, seen, {"grace": timedelta(hours=2)})
    assert (await node.policies.get(acme, GOLD))[1].version == 2
    assert len(await running(node)) == node.woken == 1


async def test_changes_at_once_are_one_version_each(node, acme, gold):
    nodes = [node, Node(node.storage, node.vault)]
    outcomes = await asyncio.gather(
        *(nodes[index % 2].policies.update(acme, GOLD, 1, {"encryption_limit": 1_000 + index}) for index in range(4)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 3
    assert [v.version for v in (await node.policies.list_versions(acme, GOLD, 0, 9))[1]] == [1, 2]


async def test_a_name_is_taken_once(node, acme, gold):
    with pytest.raises(AlreadyExists, match="tenants/acme/policies/gold exists"):
        await node.policies.create(acme, ACME, "gold", DEFAULT)
    outcomes = await asyncio.gather(
        *(node.policies.create(acme, ACME, "silver", DEFAULT) for _ in range(3)), return_exceptions=True
    )
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 2
    assert (await node.policies.get(acme, GOLD))[1] == gold
    found = (await node.policies.list_by_slug(acme, ACME, "", 9))[1]
    assert [(policy.slug, policy.version) for policy in found] == [("gold", 1), ("silver", 1)]


async def test_another_tenants_policy_is_not_found(node, acme, gold):
    globex = await node.tenant("globex")
    for caller, name in ((globex, GOLD), (acme, PolicyName("acme", "absent"))):
        for act in (
            lambda caller=caller, name=name: node.policies.get(caller, name),
            lambda caller=caller, name=name: node.policies.update(caller, name, 0, {"grace": timedelta(hours=1)}),
            lambda caller=caller, name=name: node.policies.list_versions(caller, name, 0, 9),
        ):
            with pytest.raises(NotFound, match=f"{name} does not exist"):
                await act()
    for act in (
        lambda: node.policies.create(globex, ACME, "mine", DEFAULT),
        lambda: node.policies.list_by_slug(globex, ACME, "", 9),
    ):
        with pytest.raises(NotFound):
            await act()
    assert (await node.policies.list_by_slug(globex, TenantName("globex"), "", 9))[1] == []


# Keys that name one.


async def test_a_key_lives_by_its_policy_and_what_it_has_otherwise(node, acme, gold):
    plain, own = await key(node, acme, "plain"), await key(node, acme, "own", rotation=timedelta(hours=5))
    assert (plain.policy, plain.policy_version) == (HOURLY, 1)
    assert plain.key.due_at == plain.key.created_at + timedelta(hours=1)
    assert own.policy == replace(HOURLY, rotation=timedelta(hours=5))
    assert own.key.due_at == own.key.created_at + timedelta(hours=5)
    assert await node.keys.get(acme, KeyName("acme", "own")) == own
    assert await node.keys.list_by_slug(acme, ACME, "", 9) == [own, plain]
    fixed = await node.keys.create(acme, ACME, replace(new_key("fixed", Purpose.DETERMINISTIC), policy="gold"))
    assert (fixed.policy.rotation, fixed.key.due_at) == (NEVER, None)


async def test_a_policy_that_is_not_there_is_refused_and_nothing_is_stored(node, acme, gold):
    globex = await node.tenant("globex")
    with pytest.raises(InvalidRequest, match=r"^key\.policy: must name a policy that exists"):
        await key(node, acme, "k1", policy="absent")
    with pytest.raises(InvalidRequest, match=r"^key\.policy"):
        await node.keys.create(globex, TenantName("globex"), replace(new_key("k1"), policy="gold"))
    with pytest.raises(NotFound):
        await node.keys.get(acme, KeyName("acme", "k1"))
    made = await key(node, acme, "k1")
    with pytest.raises(InvalidRequest, match=r"^key\.policy"):
        await node.keys.update(acme, KeyName("acme", "k1"), "", {"policy": "absent"})
    assert await node.keys.get(acme, KeyName("acme", "k1")) == made


async def test_an_update_plans_the_key_anew_and_leaves_the_other_overrides(node, acme, gold):
    name = KeyName("acme", "k1")
    made = await key(node, acme, "k1", policy="", grace=timedelta(hours=1))
    assert made.key.due_at == made.key.created_at + DEFAULT.rotation
    updated = await node.keys.update(acme, name, "", {"policy": "gold"})
    assert (updated.key.due_at, updated.policy_version) == (made.key.created_at + timedelta(hours=1), 1)
    updated = await node.keys.update(acme, name, "", {}, {"rotation": timedelta(hours=2)})
    assert updated.key.overrides == Overrides(rotation=timedelta(hours=2), grace=timedelta(hours=1))
    assert updated.key.due_at == made.key.created_at + timedelta(hours=2)
    updated = await node.keys.update(acme, name, "", {"policy": ""}, {"rotation": None})
    assert updated.key.overrides == made.key.overrides
    assert (updated.key.due_at, updated.policy_version) == (made.key.due_at, 0)
    assert updated.key.scheduled_from == made.key.scheduled_from


async def test_overrides_changed_at_once_do_not_undo_each_other(node, acme, gold):
    await key(node, acme, "k1")
    name, other = KeyName("acme", "k1"), Node(node.storage, node.vault)
    for _ in range(3):
        changes = {"grace": timedelta(hours=1), "quarantine": timedelta(days=9), "rotation": timedelta(hours=3)}
        outcomes = await asyncio.gather(
            *(
                each.keys.update(acme, name, "", {}, {field: value})
                for each, (field, value) in zip((node, other, node), changes.items(), strict=True)
            ),
            return_exceptions=True,
        )
        assert all(isinstance(outcome, KeyStatus | Conflict) for outcome in outcomes)
        overrides = (await node.keys.get(acme, name)).key.overrides
        for outcome, (field, value) in zip(outcomes, changes.items(), strict=True):
            assert getattr(overrides, field) == (value if isinstance(outcome, KeyStatus) else None)
        await node.keys.update(acme, name, "", {}, dict.fromkeys(changes))


# Planning anew.


async def test_after_a_change_the_keys_that_name_the_policy_are_planned_anew(node, acme, gold):
    plain = (await key(node, acme, "plain")).key
    own = (await key(node, acme, "own", rotation=timedelta(hours=5))).key
    other = (await key(node, acme, "other", policy="")).key
    stopped = (await key(node, acme, "stopped")).key
    await node.lifecycle.suspend(acme, KeyName("acme", "stopped"), "", "why", wait=False)
    tenant, changed = await node.policies.update(acme, GOLD, 1, {"rotation": timedelta(days=3)})
    [operation] = await running(node)
    assert (operation.kind, operation.target) == (OperationKind.REPLAN, "tenants/acme/policies/gold/versions/2")
    assert (operation.total, operation.requested_by) == (4, str(acme))
    assert operation.tenant == tenant.uid == changed.tenant
    assert node.woken == 1
    assert await due(node, acme, "plain") == plain.created_at + timedelta(hours=1)  # not yet
    ended = await carried_out(node, operation)
    assert (ended.done, ended.cursor) == (4, "stopped")
    assert await due(node, acme, "plain") == plain.created_at + timedelta(days=3)
    assert await due(node, acme, "own") == own.due_at
    assert await due(node, acme, "other") == other.due_at
    assert await due(node, acme, "stopped") is None
    resumed = await node.lifecycle.resume(acme, KeyName("acme", "stopped"), "")
    assert resumed.key.due_at == stopped.created_at + timedelta(days=3)


async def test_only_keys_whose_time_changes_are_written_and_nodes_hear_of_each_batch_once(
    node, acme, gold, monkeypatch
):
    monkeypatch.setattr(replan, "BATCH", 2)
    for slug in ("k1", "k2", "k3", "k4", "k5"):
        await key(node, acme, slug, policy="" if slug == "k4" else "gold")

    async def revisions() -> list[int]:
        return [status.key.revision for status in await node.keys.list_by_slug(acme, ACME, "", 9)]

    async def heard() -> int:
        [epoch] = (await node.storage.epochs())[1].values()
        return epoch.changes

    await node.policies.update(acme, GOLD, 0, {"rotation": timedelta(hours=9)})
    [operation] = await running(node)
    before = await heard()
    assert (await carried_out(node, operation)).done == 5
    assert await revisions() == [2, 2, 2, 1, 2]
    assert await heard() == before + 3
    # Again, as after a crash: nothing is left to write.
    assert (await carried_out(node, operation)).done == 5
    assert await revisions() == [2, 2, 2, 1, 2]
    assert await heard() == before + 3


async def test_a_crash_in_between_goes_on_from_the_last_batch(node, acme, gold, monkeypatch):
    monkeypatch.setattr(replan, "BATCH", 2)
    made = {slug: (await key(node, acme, slug)).key for slug in ("k1", "k2", "k3")}
    await node.policies.update(acme, GOLD, 0, {"rotation": timedelta(hours=9)})
    [operation] = await running(node)
    batch = await Replan(node.storage).batch(operation)
    assert (batch.cursor, batch.done, batch.finished) == ("k2", 2, False)
    assert await due(node, acme, "k3") == made["k3"].due_at
    await carried_out(Node(node.storage, node.vault), replace(operation, cursor=batch.cursor))
    for slug, first in made.items():
        assert await due(node, acme, slug) == first.created_at + timedelta(hours=9)


async def test_every_version_has_an_operation_of_its_own_and_any_of_them_plans_by_the_newest(node, acme, gold):
    made = (await key(node, acme, "k1")).key
    await node.policies.update(acme, GOLD, 0, {"rotation": timedelta(hours=2)})
    await node.policies.update(acme, GOLD, 0, {"rotation": timedelta(hours=3)})
    first, second = await running(node)
    assert [operation.target.rpartition("/")[2] for operation in (first, second)] == ["2", "3"]
    for operation in (first, second, first):
        await carried_out(node, operation)
        assert await due(node, acme, "k1") == made.created_at + timedelta(hours=3)


async def test_keys_that_change_meanwhile_do_not_stop_it(node, acme, gold):
    made = (await key(node, acme, "k1")).key
    await node.policies.update(acme, GOLD, 0, {"rotation": timedelta(hours=9)})
    [operation] = await running(node)
    other = Node(node.storage, node.vault)
    await asyncio.gather(
        carried_out(node, operation),
        *(other.keys.update(acme, KeyName("acme", "k1"), "", {"display_name": str(n)}) for n in range(5)),
    )
    assert await due(node, acme, "k1") == made.created_at + timedelta(hours=9)


async def test_a_key_in_every_state_can_be_planned(node, acme, gold):
    for state in KeyState:
        name = await key_in(node, acme, f"k-{state.value.replace('_', '-')}", state)
        await stored(node, acme, name, lambda key: replace(key, policy="gold"))
    await node.policies.update(acme, GOLD, 0, {"rotation": timedelta(hours=9)})
    [operation] = await running(node)
    assert operation.state is OperationState.RUNNING
    assert (await carried_out(node, operation)).done == len(KeyState)
    active = (await node.keys.get(acme, KeyName("acme", "k-active"))).key
    scheduled = (await node.keys.get(acme, KeyName("acme", "k-destruction-scheduled"))).key
    assert active.due_at == active.created_at + timedelta(hours=9)
    assert scheduled.due_at == scheduled.destroy_at
    assert await due(node, acme, "k-pending") is None
