"""Three days of twenty keys, an hour a step, on the real token and both databases: time is an argument, all else is real."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from kms.core.keyring import KeyVersion
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName, Principal
from kms.core.ports import Storage
from storage.database import Database
from tests.node import Node
from tests.schedule import DAY, HOUR, Wall, carry_out, rotation_of, stored
from tests.sealing import open_postgresql, open_sqlite

pytestmark = pytest.mark.softhsm

KEYS = 20
DAYS = 3
GRACE = timedelta(minutes=10)
APP = Principal("acme", "app")


@dataclass(frozen=True)
class Returned:
    """What an Encrypt has answered."""

    key: KeyName
    plaintext: bytes
    version: int
    ciphertext: bytes


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def storage(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        opened: Database = await open_sqlite(request.getfixturevalue("hostile").path)
    else:
        opened = await open_postgresql(request.getfixturevalue("postgresql_url"))
    yield opened
    await opened.close()


async def test_three_days_rotate_each_key_three_times_and_lose_nothing(storage: Database, open_vault) -> None:
    wall, dice = Wall(), random.Random(3)
    nodes = [Node(storage, open_vault, wall=wall) for _ in range(2)]
    rotations = [rotation_of(node, wall) for node in nodes]
    await nodes[0].tenant("acme")
    names: list[KeyName] = []
    for index in range(KEYS):
        names.append(await nodes[0].key(APP, f"k{index}"))
        wall.wait(timedelta(minutes=1))
    returned: list[Returned] = []
    for hour in range(24 * DAYS + 1):
        for rotation in dice.sample(rotations, dice.randint(0, 2)):  # nodes miss some hours
            await carry_out(rotation)
        for node in nodes:
            node.clock.now += HOUR.total_seconds()
            returned.append(await encrypt(node, dice.choice(names), f"in hour {hour}".encode()))
            await check_value(node, dice.choice(returned))
        for name in dice.sample(names, 3):
            check_versions((await stored(storage, name))[2])
        wall.wait(HOUR)
    for _ in range(2):  # what is left, and the graces that begin with it
        for rotation in rotations:
            await carry_out(rotation)
        wall.wait(GRACE)
    cold = Node(storage, open_vault, wall=wall)
    returned += [await encrypt(cold, name, b"at last") for name in names]
    assert {value.version for value in returned} == set(range(1, DAYS + 2))
    for value in returned:
        await check_value(cold, value)
    for name in names:
        await check_key(storage, name)
    assert sum(rotation.counts.rotations["schedule"] for rotation in rotations) == DAYS * KEYS
    assert all(rotation.counts.failures == 0 for rotation in rotations)


async def encrypt(node: Node, name: KeyName, value: bytes) -> Returned:
    made = await node.fields.encrypt(APP, name, value, ())
    return Returned(name, value, made.version, made.ciphertext)


async def check_value(node: Node, value: Returned) -> None:
    decrypted = await node.fields.decrypt(APP, value.key, value.ciphertext, ())
    assert (decrypted.plaintext, decrypted.version) == (value.plaintext, value.version)


async def check_key(storage: Storage, name: KeyName) -> None:
    """One version for each day, made for its time, and nothing left to do before the next."""
    _, key, versions = await stored(storage, name)
    assert [version.version for version in versions] == list(range(1, DAYS + 2))
    slots = [key.created_at + day * DAY for day in range(1, DAYS + 1)]
    assert [version.due_at for version in versions] == [None, *slots]
    assert [version.state for version in versions] == [KeyState.ARCHIVED] * DAYS + [KeyState.ACTIVE]
    assert (key.state, key.primary_version) == (KeyState.ACTIVE, DAYS + 1)
    assert key.due_at == slots[-1] + DAY


def check_versions(versions: list[KeyVersion]) -> None:
    """At every moment there is exactly one version that is the primary one, and it is the newest."""
    assert [version.version for version in versions] == list(range(1, len(versions) + 1))
    assert [version.version for version in versions if version.state is KeyState.ACTIVE] == [len(versions)]
