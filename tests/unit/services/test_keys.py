"""Creating, changing and rotating keys: one primary version at every instant, versions without gaps, etags kept."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from kms.core.errors import AlreadyExists, Conflict, HsmUnavailable, VersionExhausted
from kms.core.names import KeyName, Principal
from kms.core.ports import Counter
from kms.core.suites import GCM_STOP, RULES, Purpose, Suite
from kms.services.statuses import KeyStatus
from tests.node import Node, new_key
from tests.softhsm_token import Token

pytestmark = pytest.mark.softhsm


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def name(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "payroll")


@pytest.mark.parametrize("etag", [True, False], ids=["with etag", "without etag"])
async def test_of_rotations_at_once_one_wins_and_the_others_conflict(node, acme, name, etag):
    nodes = [node, Node(node.storage, node.vault)]
    given = (await node.ring(acme, name)).key.etag if etag else ""
    outcomes = await asyncio.gather(
        *(nodes[index % 2].keys.rotate(acme, name, given) for index in range(6)), return_exceptions=True
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, KeyStatus)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, Conflict)]
    assert len(won) + len(lost) == 6
    assert won
    assert not etag or len(won) == 1
    versions = sorted(ring.key.primary_version for ring in won)
    assert versions == list(range(2, len(won) + 2))
    assert await node.key_versions(acme, name) == [1, *versions]
    assert (await node.ring(acme, name)).key.primary_version == versions[-1]


async def test_what_is_encrypted_while_keys_rotate_decrypts_afterwards(node, acme, name):
    nodes = [node, Node(node.storage, node.vault)]
    made = [(await node.fields.encrypt(acme, name, b"first", ()), b"first")]

    rotated = asyncio.Event()

    async def encrypt(each: Node) -> None:
        last = False
        while not last:
            last = rotated.is_set()  # once more when all is rotated
            each.clock.now += 1 + 10 * last
            value = str(len(made)).encode()
            made.append((await each.fields.encrypt(acme, name, value, ()), value))
            await asyncio.sleep(0)

    async def rotate(each: Node) -> int:
        wins = 0
        for _ in range(5):
            try:
                await each.keys.rotate(acme, name, "")
                wins += 1
            except Conflict:
                await asyncio.sleep(0)
        return wins

    encrypting = [asyncio.create_task(encrypt(each)) for each in nodes]
    first, second = await asyncio.gather(*(rotate(each) for each in nodes))
    rotated.set()
    await asyncio.gather(*encrypting)
    assert first + second >= 5
    assert await node.key_versions(acme, name) == list(range(1, first + second + 2))
    assert {1, first + second + 1} <= {encrypted.version for encrypted, _ in made}
    cold = Node(node.storage, node.vault)
    for encrypted, plaintext in made:
        assert (await cold.fields.decrypt(acme, name, encrypted.ciphertext, ())).plaintext == plaintext


async def test_a_rotation_that_the_token_refuses_changes_nothing(node, acme, name, shared_token: Token):
    before = await node.ring(acme, name)
    tokenless = Node(node.storage, shared_token.vault())
    with pytest.raises(HsmUnavailable):
        await tokenless.keys.rotate(acme, name, "")
    assert await node.ring(acme, name) == before
    assert await node.key_versions(acme, name) == [1]


async def test_a_rotation_whose_caller_goes_away_happens_whole_or_not_at_all(node, acme, name):
    """At whatever step the caller leaves: the key's primary version is there, and it is the newest."""
    for turns in range(0, 60, 4):
        task = asyncio.create_task(node.keys.rotate(acme, name, ""))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        ring = await settled(node, acme, name)
        assert await node.key_versions(acme, name) == list(range(1, ring.key.primary_version + 1))
    await node.keys.rotate(acme, name, "")


async def settled(node: Node, caller: Principal, name: KeyName) -> KeyStatus:
    """The key when the transactions that were left behind have ended: a write waits for them."""
    async with node.storage.transaction(write=True):
        pass
    return await node.ring(caller, name)


async def test_an_etag_is_compared_where_it_is_given(node, acme, name):
    first = (await node.ring(acme, name)).key.etag
    second = (await node.keys.update(acme, name, first, {"display_name": "Payroll"})).key.etag
    assert second != first
    for act in (
        lambda: node.keys.update(acme, name, first, {"display_name": "stale"}),
        lambda: node.keys.rotate(acme, name, first),
        lambda: node.keys.rotate(acme, name, "stale"),
    ):
        with pytest.raises(Conflict):
            await act()
    assert (await node.ring(acme, name)).key.display_name == "Payroll"
    third = (await node.keys.rotate(acme, name, second)).key.etag
    assert (await node.keys.update(acme, name, "", {"labels": {"a": "b"}})).key.labels == {"a": "b"}
    assert third not in {first, second}


async def test_a_change_and_a_rotation_at_once_do_not_undo_each_other(node, acme, name):
    other = Node(node.storage, node.vault)
    changed, rotated = await asyncio.gather(
        node.keys.update(acme, name, "", {"display_name": "new"}),
        other.keys.rotate(acme, name, ""),
        return_exceptions=True,
    )
    key = (await node.ring(acme, name)).key
    assert isinstance(changed, KeyStatus | Conflict)
    assert isinstance(rotated, KeyStatus | Conflict)
    assert key.display_name == ("new" if isinstance(changed, KeyStatus) else "")
    assert key.primary_version == (2 if isinstance(rotated, KeyStatus) else 1)


async def test_keys_of_one_name_that_are_created_at_once_are_one_key(node, acme):
    other = Node(node.storage, node.vault)
    wish = replace(new_key("k1"), display_name="first")
    outcomes = await asyncio.gather(
        *(each.keys.create(acme, KeyName("acme", "k1").parent, wish) for each in (node, other, node)),
        return_exceptions=True,
    )
    made = [outcome for outcome in outcomes if isinstance(outcome, KeyStatus)]
    assert len(made) == 1
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 2
    assert (await node.ring(acme, KeyName("acme", "k1"))).key.uid == made[0].key.uid
    assert await node.key_versions(acme, KeyName("acme", "k1")) == [1]


# Promise 6, with the real numbers.


async def reserved(node, caller, name, version, total):
    """Let others have used a version up to *total*."""
    ring = await node.ring(caller, name)
    counter = Counter(ring.tenant.uid, ring.key.uid, version)
    [before] = await node.storage.reserved([counter])
    assert await node.storage.reserve(counter, total - before, None) == total


@pytest.mark.parametrize("suite", [Suite.AES_256_GCM, Suite.XAES_256_GCM])
async def test_a_version_refuses_exactly_at_its_limit_and_a_rotation_helps(node, acme, suite):
    name = KeyName("acme", "busy")
    await node.keys.create(acme, name.parent, new_key("busy", suite=suite))
    first = await node.fields.encrypt(acme, name, b"x", ())
    limit, left = RULES[suite].stop_at, 10
    assert limit is not None
    await reserved(node, acme, name, 1, limit - left)

    fresh = Node(node.storage, node.vault)
    await fresh.fields.encrypt_batch(acme, name, [b"x"] * (left - 3), (), None)
    with pytest.raises(VersionExhausted):
        await fresh.fields.encrypt_batch(acme, name, [b"x"] * 4, (), None)
    made = [await fresh.fields.encrypt(acme, name, b"x", ()) for _ in range(3)]
    for act in (
        lambda: fresh.fields.encrypt(acme, name, b"x", ()),
        lambda: fresh.fields.encrypt_batch(acme, name, [b"x"], (), None),
    ):
        with pytest.raises(VersionExhausted):
            await act()
    [status] = (await fresh.keys.list_versions(acme, name, 0, 9))[1]
    assert status.encryptions_reserved == limit
    for encrypted in (first, *made):
        assert (await fresh.fields.decrypt(acme, name, encrypted.ciphertext, ())).plaintext == b"x"

    await fresh.keys.rotate(acme, name, "")
    assert (await fresh.fields.encrypt(acme, name, b"x", ())).version == 2
    assert (await fresh.fields.reencrypt(acme, name, first.ciphertext, ())).version == 2


async def test_data_keys_count_against_the_limit_too(node, acme):
    name = await node.key(acme, "data-key", Purpose.DATA_KEY)
    await node.data_keys.generate(acme, name, 32, ())
    await reserved(node, acme, name, 1, GCM_STOP - 1)
    fresh = Node(node.storage, node.vault)
    await fresh.data_keys.generate(acme, name, 32, ())
    with pytest.raises(VersionExhausted):
        await fresh.data_keys.generate(acme, name, 32, ())


async def test_every_way_to_encrypt_counts(node, acme, name):
    old = (await node.fields.encrypt(acme, name, b"x", ())).ciphertext
    await node.keys.rotate(acme, name, "")
    new = (await node.fields.encrypt(acme, name, b"x", ())).ciphertext
    await reserved(node, acme, name, 2, GCM_STOP)
    fresh = Node(node.storage, node.vault)
    for act in (
        lambda: fresh.fields.encrypt(acme, name, b"x", ()),
        lambda: fresh.fields.encrypt_batch(acme, name, [b"x"], (), None),
        lambda: fresh.fields.reencrypt(acme, name, old, ()),
        lambda: fresh.fields.reencrypt_batch(acme, name, [new, old], (), None),
    ):
        with pytest.raises(VersionExhausted):
            await act()
    # What is of the primary version already is checked and stays, which uses nothing.
    assert (await fresh.fields.reencrypt(acme, name, new, ())).ciphertext == new
    assert (await fresh.fields.reencrypt_batch(acme, name, [new], (), None)).values == [new]
