"""Batches: order kept, each item on its own, whatever its neighbours are."""

from __future__ import annotations

import pytest

from kms.core.errors import CannotDecrypt, InvalidRequest, WrongPurpose
from kms.core.names import KeyName, Principal
from kms.core.suites import MAX_PLAINTEXT, Purpose
from kms.services.data_keys import LONGEST, MOST_RANDOM_BYTES, SHORTEST
from kms.services.fields import TURN, Varying
from tests.node import Node

pytestmark = pytest.mark.softhsm

PAIRS = (("table", b"users"),)


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def name(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "payroll")


@pytest.mark.parametrize("varies", [False, True])
async def test_a_batch_keeps_its_order(node, acme, name, varies):
    pairs = (*PAIRS, ("row", b"row 0")) if varies else PAIRS
    for count in (1, TURN - 1, TURN, TURN + 1, 2 * TURN + 3):
        values = [str(index).encode() for index in range(count)]
        varying = Varying("row", [b"row " + value for value in values]) if varies else None
        made = await node.fields.encrypt_batch(acme, name, values, PAIRS, varying)
        assert (made.failures, made.version) == ({}, 1)
        back = await node.fields.decrypt_batch(acme, name, made.values, PAIRS, varying)
        assert (back.values, back.failures) == (values, {})
        assert (await node.fields.decrypt(acme, name, made.values[0], pairs)).plaintext == b"0"


async def test_a_bad_item_spoils_none_of_its_neighbours(node, acme, name):
    plaintexts = [b"a", bytes(MAX_PLAINTEXT + 1), b"c", b"", bytes(MAX_PLAINTEXT)]
    varying = Varying("row", [b"1", b"2", b"\xff", b"4", b"5"])
    made = await node.fields.encrypt_batch(acme, name, plaintexts, PAIRS, varying)
    assert {index: error.violations[0].field for index, error in made.failures.items()} == {
        1: "plaintexts[1]",
        2: "varying.values[2]",
    }
    assert [bool(value) for value in made.values] == [True, False, False, True, True]
    moved = Varying("row", [b"1", b"2", b"3", b"5", b"5"])
    back = await node.fields.decrypt_batch(acme, name, made.values, PAIRS, moved)
    assert back.values == [b"a", b"", b"", b"", plaintexts[4]]
    assert {index: type(error) for index, error in back.failures.items()} == {
        1: InvalidRequest,
        2: InvalidRequest,
        3: CannotDecrypt,
    }


async def test_a_batch_of_all_versions_and_bad_ones_is_brought_to_the_primary(node, acme, name):
    made = []
    for _ in range(3):
        made.append((await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext)
        await node.keys.rotate(acme, name, "")
    made.append((await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext)
    items = [made[3], b"", made[1], made[0][:-1], made[0], made[2], made[1][:18] + b"\0\0\0\x09" + made[1][22:]]
    batch = await node.fields.reencrypt_batch(acme, name, items, PAIRS, None)
    assert sorted(batch.failures) == [1, 3, 6]
    assert (batch.version, batch.changed) == (4, 3)
    assert batch.values[0] == made[3]
    good = [batch.values[index] for index in (0, 2, 4, 5)]
    assert [value[18:22] for value in good] == [(4).to_bytes(4, "big")] * 4
    assert (await node.fields.decrypt_batch(acme, name, good, PAIRS, None)).values == [b"x"] * 4
    # Nothing of a failed item is returned, least of all its plaintext.
    assert [batch.values[index] for index in (1, 3, 6)] == [b"", b"", b""]


async def test_a_ciphertext_of_another_key_tenant_or_version_does_not_decrypt_and_does_not_say_why(node, acme, name):
    other = await node.key(acme, "other")
    globex = await node.tenant("globex")
    theirs = await node.key(globex, "payroll")
    ours = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    flipped = bytes((ours[-1] ^ 1,))
    foreign = [
        (await node.fields.encrypt(acme, other, b"x", PAIRS)).ciphertext,
        (await node.fields.encrypt(globex, theirs, b"x", PAIRS)).ciphertext,
        ours[:18] + (2**32 - 1).to_bytes(4, "big") + ours[22:],
        ours[:1] + b"\x02" + ours[2:] + bytes(12),
        ours[:-1] + flipped,
    ]
    messages = set()
    for ciphertext in foreign:
        with pytest.raises(CannotDecrypt) as caught:
            await node.fields.decrypt(acme, name, ciphertext, PAIRS)
        messages.add(str(caught.value))
    with pytest.raises(CannotDecrypt) as caught:
        await node.fields.decrypt(acme, name, ours, (("table", b"others"),))
    batch = await node.fields.decrypt_batch(acme, name, foreign, PAIRS, None)
    messages |= {str(caught.value), *(str(error) for error in batch.failures.values())}
    assert len(messages) == 1
    assert len(batch.failures) == len(foreign)


async def test_a_deterministic_key_takes_table_and_column_alone(node, acme):
    fixed = await node.key(acme, "fixed", Purpose.DETERMINISTIC)
    place = (("table", b"t"), ("column", b"c"))
    first = await node.fields.encrypt(acme, fixed, b"x", place)
    assert first.ciphertext == (await node.fields.encrypt(acme, fixed, b"x", place[::-1])).ciphertext
    assert first.ciphertext != (await node.fields.encrypt(acme, fixed, b"x", place[:1])).ciphertext
    with pytest.raises(InvalidRequest) as caught:
        await node.fields.encrypt(acme, fixed, b"x", (*place, ("row", b"1"), ("tenant", b"acme")))
    assert [violation.field for violation in caught.value.violations] == ["context[2].key", "context[3].key"]
    for act in (node.fields.encrypt_batch, node.fields.decrypt_batch, node.fields.reencrypt_batch):
        with pytest.raises(InvalidRequest, match=r"^varying: must be absent"):
            await act(acme, fixed, [b"x"], place, Varying("row", [b"1"]))


async def test_data_keys_have_the_length_asked_for_and_only_come_back_whole(node, acme, name):
    key = await node.key(acme, "data-key", Purpose.DATA_KEY)
    for length in (0, SHORTEST, LONGEST):
        made = await node.data_keys.generate(acme, key, length, PAIRS)
        assert len(made.plaintext) == (length or 32)
        assert (await node.data_keys.decrypt(acme, key, made.ciphertext, PAIRS)).plaintext == made.plaintext
        with pytest.raises(CannotDecrypt):
            await node.data_keys.decrypt(acme, key, made.ciphertext, ())
        with pytest.raises(WrongPurpose):
            await node.fields.decrypt(acme, key, made.ciphertext, PAIRS)
    for length in (1, SHORTEST - 1, LONGEST + 1, 2**32 - 1):
        with pytest.raises(InvalidRequest, match=r"^length: "):
            await node.data_keys.generate(acme, key, length, PAIRS)


async def test_random_bytes_are_the_tokens_and_bounded(node):
    before = node.vault.operations["random"]
    assert len(await node.data_keys.random(MOST_RANDOM_BYTES)) == MOST_RANDOM_BYTES
    assert len({await node.data_keys.random(16) for _ in range(3)}) == 3
    assert node.vault.operations["random"] == before + 4
    for length in (0, MOST_RANDOM_BYTES + 1):
        with pytest.raises(InvalidRequest):
            await node.data_keys.random(length)
