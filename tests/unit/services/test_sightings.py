"""What real keys let the watch see: canaries, refused states, and records that were tampered with."""

from __future__ import annotations

import asyncio

import pytest

from kms.core.errors import CorruptRecord, WrongKeyState
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName, KeyVersionName
from kms.services.fields import Fields
from kms.services.keyrings import Keyrings
from kms.services.sightings import KeySightings
from tests.node import RESCUER, new_key

PAIRS = (("table", b"users"),)


@pytest.fixture
def sightings():
    return KeySightings()


@pytest.fixture
def fields(node, sightings):
    keyrings = Keyrings(
        node.storage, node.wrapping, node.usage, node.rings, node.versions, node.uses, node.clock, sightings
    )
    keyrings.lease = node.keyrings.lease
    return Fields(keyrings, 10_000, RESCUER)


async def test_a_canary_is_known_with_its_first_use_and_until_its_label_goes(node, fields, sightings):
    acme = await node.tenant("acme")
    name = await node.key(acme, "plain")
    labelled = new_key("bait")
    labelled.labels["canary"] = "true"
    await node.keys.create(acme, name.parent, labelled)
    bait = KeyName("acme", "bait")
    await fields.encrypt(acme, name, b"x", PAIRS)
    assert list(sightings.canaries) == []
    await fields.encrypt(acme, bait, b"x", PAIRS)
    assert list(sightings.canaries) == [str(bait)]


async def test_uses_that_a_revoked_version_refuses_are_counted_one_by_one(node, fields, sightings):
    acme = await node.tenant("acme")
    name = await node.key(acme, "payroll")
    made = await fields.encrypt(acme, name, b"x", PAIRS)
    await node.keys.rotate(acme, name, "")
    await node.lifecycle.revoke_version(acme, KeyVersionName(name, 1), "", "leaked", wait=False)
    node.rings.drop(name)
    node.versions.drop_where(lambda _: True)
    batch = await fields.decrypt_batch(acme, name, [made.ciphertext] * 7, PAIRS, None)
    assert len(batch.failures) == 7
    assert sightings.taken() == {(name.version(1), KeyState.REVOKED): 7}
    assert sightings.taken() is None


async def test_a_revoked_key_is_named_itself(node, fields, sightings):
    acme = await node.tenant("acme")
    name = await node.key(acme, "payroll")
    await node.lifecycle.revoke(acme, name, "", "lost", wait=False)
    with pytest.raises(WrongKeyState):
        await fields.encrypt(acme, name, b"x", PAIRS)
    assert sightings.taken() == {(str(name), KeyState.REVOKED): 1}


async def test_one_task_sees_nothing_of_anothers_refusals(sightings):
    async def refused(name):
        sightings.refused(name, KeyState.REVOKED, 1)
        await asyncio.sleep(0)
        return sightings.taken()

    seen = await asyncio.gather(*(asyncio.create_task(refused(f"k{index}")) for index in range(20)))
    assert seen == [{(f"k{index}", KeyState.REVOKED): 1} for index in range(20)]


async def test_a_wrapped_key_that_somebody_altered_is_told_as_such(node, fields, hostile):
    acme = await node.tenant("acme")
    name = await node.key(acme, "payroll")
    assert hostile.change("UPDATE key_versions SET wrapped = zeroblob(60)") == 1
    with pytest.raises(CorruptRecord):
        await fields.encrypt(acme, name, b"x", PAIRS)
