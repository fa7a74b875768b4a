"""Bringing values to the newest version, to another key, and out of what was revoked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kms.core.errors import CannotDecrypt, InvalidRequest, NotFound, WrongKeyState, WrongPurpose
from kms.core.keyring import Key
from kms.core.lifecycle import KeyEvent, KeyState
from kms.core.names import KeyName, Principal
from kms.core.suites import Purpose, Suite
from kms.services.fields import Varying
from tests.node import RESCUER, Node, new_key, now

pytestmark = pytest.mark.softhsm

PAIRS = (("table", b"users"),)
RESCUE = Principal("acme", RESCUER)


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def old(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "old")


@pytest.fixture
async def new(node: Node, acme: Principal) -> KeyName:
    name = KeyName("acme", "new")
    await node.keys.create(acme, name.parent, new_key("new", Purpose.ENCRYPT, Suite.XAES_256_GCM))
    await node.keys.rotate(acme, name, "")
    return name


async def bring(node: Node, caller: Principal, name: KeyName, state: KeyState) -> None:
    """Bring a key to a state, and let this node hear of it."""
    ring = await node.ring(caller, name)
    changed: Key = replace(ring.key, state=state)
    async with node.storage.transaction(ring.tenant.uid, write=True) as work:
        await work.keys.replace(changed)
        await work.epochs.revoked(ring.tenant.uid)
    node.membership.drop(ring.tenant.uid)


async def test_a_value_comes_to_the_destinations_primary_version_in_the_same_context(node, acme, old, new):
    text = (await node.fields.encrypt(acme, old, b"x", PAIRS)).ciphertext
    made = await node.fields.reencrypt(acme, old, text, PAIRS, new)
    assert (made.version, made.changed) == (2, True)
    assert (await node.fields.decrypt(acme, new, made.ciphertext, PAIRS)).plaintext == b"x"
    with pytest.raises(CannotDecrypt):
        await node.fields.decrypt(acme, new, made.ciphertext, ())
    with pytest.raises(CannotDecrypt):
        await node.fields.decrypt(acme, old, made.ciphertext, PAIRS)


async def test_a_pass_over_a_table_can_be_repeated(node, acme, old, new):
    """Some values have come to the destination already, one of them under an older version of it, one is neither's."""
    third = await node.key(acme, "third")
    texts = [(await node.fields.encrypt(acme, old, bytes([n]), PAIRS)).ciphertext for n in range(3)]
    first = (await node.fields.reencrypt(acme, old, texts[0], PAIRS, new)).ciphertext
    await node.keys.rotate(acme, new, "")
    items = [*texts, first, (await node.fields.encrypt(acme, third, b"x", PAIRS)).ciphertext, b"", texts[0][:-1]]
    batch = await node.fields.reencrypt_batch(acme, old, items, PAIRS, None, new)
    assert (batch.version, batch.changed) == (3, 4)
    assert {index: type(error) for index, error in batch.failures.items()} == {
        4: CannotDecrypt,
        5: InvalidRequest,
        6: CannotDecrypt,
    }
    back = await node.fields.decrypt_batch(acme, new, batch.values[:4], PAIRS, None)
    assert back.values == [b"\0", b"\1", b"\2", b"\0"]
    again = await node.fields.reencrypt_batch(acme, old, batch.values[:4], PAIRS, None, new)
    assert (again.values, again.changed, again.failures) == (batch.values[:4], 0, {})
    one = await node.fields.reencrypt(acme, old, batch.values[0], PAIRS, new)
    assert (one.ciphertext, one.changed) == (batch.values[0], False)
    older = await node.fields.reencrypt(acme, old, first, PAIRS, new)
    assert (older.version, older.changed) == (3, True)


async def test_a_varying_context_goes_along(node, acme, old, new):
    rows = Varying("row", [b"1", b"2"])
    made = await node.fields.encrypt_batch(acme, old, [b"a", b"b"], PAIRS, rows)
    batch = await node.fields.reencrypt_batch(acme, old, made.values, PAIRS, rows, new)
    assert (await node.fields.decrypt_batch(acme, new, batch.values, PAIRS, rows)).values == [b"a", b"b"]


async def test_the_key_itself_as_destination_is_none(node, acme, old):
    text = (await node.fields.encrypt(acme, old, b"x", PAIRS)).ciphertext
    assert (await node.fields.reencrypt(acme, old, text, PAIRS, old)).ciphertext == text
    await node.keys.rotate(acme, old, "")
    assert (await node.fields.reencrypt(acme, old, text, PAIRS, old)).version == 2


async def test_a_destination_is_of_the_same_tenant_and_purpose_and_encrypts(node, acme, old, new):
    text = (await node.fields.encrypt(acme, old, b"x", PAIRS)).ciphertext
    globex = await node.tenant("globex")
    theirs = await node.key(globex, "theirs")
    fixed = await node.key(acme, "fixed", Purpose.DETERMINISTIC)
    for destination, refusal in (
        (theirs, NotFound),
        (KeyName("acme", "absent"), NotFound),
        (fixed, WrongPurpose),
    ):
        with pytest.raises(refusal):
            await node.fields.reencrypt(acme, old, text, PAIRS, destination)
        with pytest.raises(refusal):
            await node.fields.reencrypt_batch(acme, old, [text], PAIRS, None, destination)
    await bring(node, acme, new, KeyState.ARCHIVED)
    with pytest.raises(WrongKeyState, match="keys/new is archived: it cannot be used to encrypt"):
        await node.fields.reencrypt(acme, old, text, PAIRS, new)


async def test_encrypted_data_keys_and_deterministic_values_are_brought_along(node, acme):
    for slug, purpose in (("data", Purpose.DATA_KEY), ("fixed", Purpose.DETERMINISTIC)):
        name = await node.key(acme, slug, purpose)
        if purpose is Purpose.DATA_KEY:
            made = await node.data_keys.generate(acme, name, 32, PAIRS)
            text, plaintext = made.ciphertext, made.plaintext
        else:
            text, plaintext = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext, b"x"
        await node.keys.rotate(acme, name, "")
        one = await node.fields.reencrypt(acme, name, text, PAIRS)
        batch = await node.fields.reencrypt_batch(acme, name, [text], PAIRS, None)
        assert (one.version, batch.version, batch.changed) == (2, 2, 1)
        read = node.data_keys.decrypt if purpose is Purpose.DATA_KEY else node.fields.decrypt
        for ciphertext in (one.ciphertext, batch.values[0]):
            assert (await read(acme, name, ciphertext, PAIRS)).plaintext == plaintext


async def test_a_revoked_key_is_left_by_the_rotation_identity_alone_and_to_another_key_only(node, acme, old, new):
    text = (await node.fields.encrypt(acme, old, b"x", PAIRS)).ciphertext
    await bring(node, acme, old, KeyState.REVOKED)
    for caller in (acme, Principal("acme", "rotations")):
        for refused in (
            node.fields.reencrypt(caller, old, text, PAIRS, new),
            node.fields.reencrypt_batch(caller, old, [text], PAIRS, None, new),
        ):
            with pytest.raises(WrongKeyState, match="keys/old is revoked: it cannot be used to decrypt"):
                await refused
    with pytest.raises(WrongKeyState, match="keys/old is revoked: it cannot be used to encrypt"):
        await node.fields.reencrypt(RESCUE, old, text, PAIRS)
    made = await node.fields.reencrypt(RESCUE, old, text, PAIRS, new)
    batch = await node.fields.reencrypt_batch(RESCUE, old, [text], PAIRS, None, new)
    for ciphertext in (made.ciphertext, batch.values[0]):
        assert (await node.fields.decrypt(acme, new, ciphertext, PAIRS)).plaintext == b"x"
    for caller in (acme, RESCUE):
        with pytest.raises(WrongKeyState):
            await node.fields.decrypt(caller, old, text, PAIRS)


async def test_another_tenants_rotation_identity_is_a_stranger(node, acme, old, new):
    text = (await node.fields.encrypt(acme, old, b"x", PAIRS)).ciphertext
    await node.tenant("globex")
    for caller in (Principal("globex", RESCUER), Principal(None, RESCUER)):
        with pytest.raises(NotFound):
            await node.fields.reencrypt(caller, old, text, PAIRS, new)


async def test_versions_of_different_states_are_rescued_each_by_its_own(node, acme, old):
    texts = []
    for _ in range(3):
        texts.append((await node.fields.encrypt(acme, old, b"x", PAIRS)).ciphertext)
        await node.keys.rotate(acme, old, "")
    ring = await node.ring(acme, old)
    async with node.storage.transaction(ring.tenant.uid, write=True) as work:
        for number, events in {
            1: (KeyEvent.REVOKE,),
            2: (KeyEvent.FINISH_ROTATION, KeyEvent.SCHEDULE_DESTRUCTION),
        }.items():
            version = await work.key_versions.get(ring.tenant.uid, ring.key.uid, number)
            assert version is not None
            for event in events:
                version = version.after(event, now(), until=now() if event is KeyEvent.SCHEDULE_DESTRUCTION else None)
            await work.key_versions.replace(version)
        await work.epochs.revoked(ring.tenant.uid)
    node.membership.drop(ring.tenant.uid)
    batch = await node.fields.reencrypt_batch(RESCUE, old, texts, PAIRS, None)
    assert batch.changed == 2
    assert {index: str(error) for index, error in batch.failures.items()} == {
        1: "tenants/acme/keys/old/versions/2 is destruction scheduled: it cannot be used to re-encrypt"
    }
    batch = await node.fields.reencrypt_batch(acme, old, texts, PAIRS, None)
    assert (batch.changed, sorted(batch.failures)) == (1, [0, 1])
