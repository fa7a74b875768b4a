"""Two nodes on one PostgreSQL: commands at once serialise, and none of them waits for another for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.errors import Conflict, WrongKeyState
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName, KeyVersionName, PolicyName, Principal, TenantName
from kms.core.policy import DEFAULT
from kms.hsm.pkcs11 import Pkcs11Vault
from kms.services.lifecycle import StoppedKey, StoppedVersion
from kms.services.replan import Replan
from tests.node import Node, new_key, now
from tests.sealing import open_postgresql

pytestmark = [pytest.mark.softhsm, pytest.mark.postgresql]

ACME = TenantName("acme")


@pytest.fixture
async def nodes(postgresql_url: str, open_vault: Pkcs11Vault) -> AsyncIterator[list[Node]]:
    """Two nodes with a database connection pool each."""
    storages = [await open_postgresql(postgresql_url) for _ in range(2)]
    yield [Node(storage, open_vault) for storage in storages]
    for storage in storages:
        await storage.close()


async def test_of_stops_at_once_one_wins_and_the_others_are_told_the_state(nodes: list[Node]):
    acme = await nodes[0].tenant("acme")
    name = await nodes[0].key(acme, "payroll")
    outcomes = await asyncio.gather(
        *(nodes[index % 2].lifecycle.revoke(acme, name, "", "leaked", wait=False) for index in range(6)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, StoppedKey) for outcome in outcomes) == 1
    refusals = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert {type(refusal) for refusal in refusals} == {WrongKeyState}
    assert (await nodes[1].storage.epochs())[0] == 1


async def test_revocations_of_one_version_at_once_make_one_successor(nodes: list[Node]):
    acme = await nodes[0].tenant("acme")
    name = await nodes[0].key(acme, "payroll")
    outcomes = await asyncio.gather(
        *(
            nodes[index % 2].lifecycle.revoke_version(acme, KeyVersionName(name, 1), "", "leaked", wait=False)
            for index in range(4)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, StoppedVersion) for outcome in outcomes) == 1
    assert {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)} == {WrongKeyState}
    assert await nodes[1].key_versions(acme, name) == [1, 2]


GOLD = PolicyName("acme", "gold")


async def tried(act: Awaitable[object]) -> None:
    """Do what may be refused because somebody else was faster."""
    with suppress(Conflict, WrongKeyState):
        await act


async def change(node: Node, caller: Principal, names: list[KeyName], hours: int) -> None:
    """Change each key in every way."""
    for name in names:
        await tried(node.keys.update(caller, name, "", {"display_name": f"by {hours}"}))
        await tried(node.keys.rotate(caller, name, ""))
    await tried(node.policies.update(caller, GOLD, 0, {"rotation": timedelta(hours=hours)}))
    await replanned(node)
    for name in reversed(names):
        await tried(node.lifecycle.suspend(caller, name, "", "audit", wait=False))
        await tried(node.lifecycle.resume(caller, name, ""))


async def replanned(node: Node) -> int:
    """Carry out what the changes of the policy have begun; returns how many they were."""
    async with node.storage.transaction() as work:
        operations = await work.operations.list_free(now(), 9)
    for operation in operations:
        await tried(Replan(node.storage).batch(operation))
    return len(operations)


async def test_changes_of_every_kind_at_once_neither_block_nor_undo_each_other(nodes: list[Node]):
    """Whoever locks a key and then tells all nodes, in this order, cannot wait for somebody who waits for it."""
    acme = await nodes[0].tenant("acme")
    await nodes[0].policies.create(acme, ACME, "gold", DEFAULT)
    names = [KeyName("acme", f"k{number}") for number in range(4)]
    for name in names:
        await nodes[0].keys.create(acme, ACME, replace(new_key(name.key), policy="gold"))
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for index in range(4):
            tasks.create_task(change(nodes[index % 2], acme, names, index + 2))
    # Nobody changes anything any more, so that the plans are now those of the newest version.
    begun = await replanned(nodes[0])
    newest = (await nodes[0].policies.get(acme, GOLD))[1]
    assert newest.version == 1 + begun > 1
    for status in await nodes[1].keys.list_by_slug(acme, ACME, "", 9):
        key = status.key
        assert key.state in {KeyState.ACTIVE, KeyState.ROTATING}
        versions = (await nodes[1].keys.list_versions(acme, KeyName("acme", key.slug), 0, 99))[1]
        assert [v.version.version for v in versions] == list(range(1, key.primary_version + 1))
        assert [v.version.version for v in versions if v.version.state is KeyState.ACTIVE] == [key.primary_version]
        graces = [v.version.until for v in versions if v.version.until is not None]
        assert key.due_at == min([key.scheduled_from + newest.policy.rotation, *graces])
