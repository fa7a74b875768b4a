"""The record key and anchors in SoftHSM, and what is left of an anchor when the token host is killed as it writes."""

import asyncio
import os
import random
import signal
from uuid import uuid4

import pytest

from kms.core.anchors import first_anchor, node_digest, open_value
from kms.core.audit_ports import Anchor
from kms.core.errors import CorruptRecord, HsmUnavailable
from kms.hosts import HostState
from kms.services.anchor_stores import ANCHOR_LABEL, CombinedAnchors, TokenAnchors
from tests.contract.token_records import LABEL, AnchorObjectsContract, RecordKeysContract
from tests.softhsm_token import Opened, eventually

pytestmark = pytest.mark.softhsm

KILLS = 4  # of one host, which is started again later each time; of 12 in all


@pytest.fixture
async def vault(fresh_token):
    async with Opened(fresh_token.vault()) as opened:
        yield opened


class TestSoftHsm(RecordKeysContract, AnchorObjectsContract):
    """All of it."""


def test_the_record_key_serves_hmacs_alone_and_cannot_leave(fresh_token):
    async def made():
        async with Opened(fresh_token.vault()) as vault:
            await vault.make_record_key()

    asyncio.run(made())
    names = ["SENSITIVE", "EXTRACTABLE", "PRIVATE", "SIGN", "VERIFY", "ENCRYPT", "DECRYPT", "WRAP", "UNWRAP", "DERIVE"]
    (found,) = fresh_token.run(f"""
wanted = {{Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: "kms-record"}}
result = [[key[Attribute[name]] for name in {names}] for key in list(session.get_objects(wanted))]
""")
    assert dict(zip(names, found, strict=True)) == {name: name in {"SENSITIVE", "PRIVATE", "SIGN"} for name in names}


@pytest.mark.parametrize("what", ["several", "readable"])
async def test_a_record_key_that_is_not_ours_alone_is_not_used(fresh_token, what):
    readable = what == "readable"
    fresh_token.run(f"""
for _ in range({1 if readable else 2}):
    session.generate_key(KeyType.GENERIC_SECRET, 256, label="kms-record", store=True, capabilities=MechanismFlag.SIGN,
        mechanism=Mechanism.GENERIC_SECRET_KEY_GEN,
        template={{Attribute.SENSITIVE: {not readable}, Attribute.EXTRACTABLE: {readable}, Attribute.PRIVATE: True}})
""")
    async with Opened(fresh_token.vault()) as vault:
        for call in (vault.record_key_exists(), vault.derive("records", uuid4())):
            with pytest.raises(HsmUnavailable, match="read out" if readable else "2 record keys"):
                await call


async def test_a_token_that_takes_no_data_objects_says_so_and_has_all_else(fresh_token):
    async with Opened(fresh_token.vault()) as vault:
        assert vault.capabilities().data_objects is True
    async with Opened(fresh_token.altered("no-data")) as vault:
        assert vault.capabilities().data_objects is False
        with pytest.raises(HsmUnavailable, match="no data objects"):
            await vault.write_anchor(f"{LABEL}-0", b"value")
        await vault.make_record_key()
        assert len(await vault.derive("records", uuid4())) == 32


@pytest.mark.parametrize(("alteration", "left"), [("data-dies", [b"new", b"old"]), ("keep-data", [b"new", b"old"])])
async def test_a_host_that_dies_between_the_new_value_and_the_old_one_leaves_both(
    fresh_token, tmp_path, alteration, left
):
    flag = tmp_path / "now"
    async with Opened(fresh_token.altered(f"{alteration}={flag}")) as vault:
        await vault.write_anchor(f"{LABEL}-0", b"old")
        flag.touch()
        with pytest.raises(HsmUnavailable):
            await vault.write_anchor(f"{LABEL}-0", b"new")
        flag.unlink()
        await eventually(lambda: vault.status.state is HostState.RUNNING)
        assert sorted(value for _, value in await vault.read_anchors()) == left
        await vault.write_anchor(f"{LABEL}-0", b"next")
        assert await vault.read_anchors() == [(f"{LABEL}-0", b"next")]


async def killed_while_writing(token, kills: int, seed: int = 7) -> int:
    """Write to two slots in turn while the host is killed again and again; returns how often a slot was left twice."""
    chance = random.Random(seed)
    twice = 0
    async with Opened(token.vault()) as vault:
        for slot in range(2):
            await vault.write_anchor(f"{LABEL}-{slot}", b"%d" % (slot - 2))
        number = 0
        for _ in range(kills):
            acknowledged = number - 1
            killing = asyncio.get_running_loop().call_later(
                chance.uniform(0.0005, 0.02), os.kill, vault.status.pid, signal.SIGKILL
            )
            try:
                while True:
                    await vault.write_anchor(f"{LABEL}-{number % 2}", b"%d" % number)
                    acknowledged, number = number, number + 1
            except HsmUnavailable:
                killing.cancel()
            await eventually(lambda: vault.status.state is HostState.RUNNING)
            found = await vault.read_anchors()
            values = sorted(int(value) for _, value in found)
            assert acknowledged in values, "a value that was acknowledged is gone"
            assert set(values) <= {acknowledged - 2, acknowledged - 1, acknowledged, acknowledged + 1}
            twice += len(found) > 2
            number = acknowledged + 1
    return twice


@pytest.mark.parametrize("seed", range(3))
async def test_no_acknowledged_value_is_lost_to_kills(fresh_token, seed):
    await killed_while_writing(fresh_token, KILLS, seed)


@pytest.mark.soak
async def test_no_acknowledged_value_is_lost_to_many_kills(fresh_token):
    assert await killed_while_writing(fresh_token, 60) > 0


async def serials(vault, installation) -> list[int]:
    key = await vault.derive(ANCHOR_LABEL, installation)
    return sorted(open_value(value, key).anchor.serial for _, value in await vault.read_anchors())


async def test_a_nodes_two_slots_hold_its_two_newest_anchors_also_after_a_restart(vault):
    await vault.make_record_key()
    installation, anchors = uuid4(), TokenAnchors(vault, "a:00000000")
    assert await anchors.newest() is None
    await anchors.put(first_anchor(installation))
    for serial in (1, 2, 3):
        await anchors.put(Anchor(installation, serial, bytes([serial]) * 32))
        assert await serials(vault, installation) == [serial - 1, serial]
    for serial in (4, 5):  # what was written last is found out anew
        await TokenAnchors(vault, "a:00000000").put(Anchor(installation, serial, bytes([serial]) * 32))
        assert await serials(vault, installation) == [serial - 1, serial]
    await TokenAnchors(vault, "b:00000000").put(Anchor(installation, 9, bytes(32)))
    assert await anchors.newest() == Anchor(installation, 9, bytes(32))
    assert await CombinedAnchors([anchors]).newest() == Anchor(installation, 9, bytes(32))


async def test_one_slot_that_is_no_anchor_is_passed_over_and_two_of_a_node_are_refused(vault):
    await vault.make_record_key()
    installation, anchors = uuid4(), TokenAnchors(vault, "a:00000000")
    for serial in (1, 2):
        await anchors.put(Anchor(installation, serial, bytes(32)))
    found = dict(await vault.read_anchors())
    digest = node_digest("a:00000000")
    first, other = sorted(found)
    await vault.write_anchor(first, b"nothing")
    left = await anchors.newest()
    assert left is not None
    assert left.serial == 2  # slot 1 holds the second
    await vault.write_anchor(other, found[other][:-1] + bytes([found[other][-1] ^ 1]))
    with pytest.raises(CorruptRecord, match=digest):
        await anchors.newest()


async def test_an_anchor_that_was_moved_to_another_nodes_slot_does_not_count(vault):
    await vault.make_record_key()
    installation = uuid4()
    await TokenAnchors(vault, "a:00000000").put(Anchor(installation, 1, bytes(32)))
    [(_, value)] = await vault.read_anchors()
    await vault.write_anchor(f"{node_digest('b:00000000')}-0", value)
    with pytest.raises(CorruptRecord, match=node_digest("b:00000000")):
        await TokenAnchors(vault, "a:00000000").newest()
