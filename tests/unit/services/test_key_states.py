"""Every state of a key and of a version against every use of it, on real parts; what may not be used is not unwrapped."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.census import Uses
from kms.core.errors import CannotDecrypt, FailedPrecondition, VersionExhausted, WrongKeyState
from kms.core.keyring import ERASED
from kms.core.lifecycle import KeyState, Use, key_allows, spoken, version_allows
from kms.core.names import KeyName, Principal
from kms.core.policy import SMALLEST_LIMIT
from kms.core.ports import Counter
from kms.core.suites import Purpose
from kms.services.masked import decrypt_masked
from tests.node import RESCUER, Node, now

pytestmark = pytest.mark.softhsm

PAIRS = (("table", b"users"),)
DATA = "data"

Act = Callable[[Node, Principal, KeyName, bytes], Awaitable[object]]

# Every way to use a key, and what it needs of the version that made the ciphertext and of the primary one.
ACTS: dict[str, tuple[Use | None, Use | None, Act]] = {
    "encrypt": (None, Use.ENCRYPT, lambda n, c, k, _: n.fields.encrypt(c, k, b"x", PAIRS)),
    "encrypt batch": (None, Use.ENCRYPT, lambda n, c, k, _: n.fields.encrypt_batch(c, k, [b"x"], PAIRS, None)),
    "decrypt": (Use.DECRYPT, None, lambda n, c, k, text: n.fields.decrypt(c, k, text, PAIRS)),
    "decrypt batch": (Use.DECRYPT, None, lambda n, c, k, text: n.fields.decrypt_batch(c, k, [text], PAIRS, None)),
    "masks": (Use.DECRYPT, None, lambda n, c, k, text: decrypt_masked(n.fields, c, k, [text], PAIRS, None, 4)),
    "re-encrypt": (Use.DECRYPT, Use.ENCRYPT, lambda n, c, k, text: n.fields.reencrypt(c, k, text, PAIRS)),
    "re-encrypt batch": (
        Use.DECRYPT,
        Use.ENCRYPT,
        lambda n, c, k, text: n.fields.reencrypt_batch(c, k, [text], PAIRS, None),
    ),
    "rescue": (Use.RESCUE, Use.ENCRYPT, lambda n, c, k, text: n.fields.reencrypt(rescuer(c), k, text, PAIRS)),
    "rescue batch": (
        Use.RESCUE,
        Use.ENCRYPT,
        lambda n, c, k, text: n.fields.reencrypt_batch(rescuer(c), k, [text], PAIRS, None),
    ),
    "generate data key": (None, Use.ENCRYPT, lambda n, c, _, __: n.data_keys.generate(c, data_key(c), 32, PAIRS)),
    "decrypt data key": (Use.DECRYPT, None, lambda n, c, _, text: n.data_keys.decrypt(c, data_key(c), text, PAIRS)),
}
DATA_KEY_ACTS = {"generate data key", "decrypt data key"}


def rescuer(caller: Principal) -> Principal:
    return Principal(caller.tenant, RESCUER)


def data_key(caller: Principal) -> KeyName:
    return KeyName(str(caller.tenant), DATA)


async def set_key(node: Node, caller: Principal, name: KeyName, state: KeyState) -> None:
    ring = await node.ring(caller, name)
    scheduled = state is KeyState.DESTRUCTION_SCHEDULED
    changed = replace(
        ring.key,
        state=state,
        state_before=KeyState.ACTIVE if scheduled else None,
        destroy_at=now() if scheduled else None,
    )
    async with node.storage.transaction(ring.tenant.uid, write=True) as work:
        await work.keys.replace(changed)


async def set_version(node: Node, caller: Principal, name: KeyName, number: int, state: KeyState) -> None:
    ring = await node.ring(caller, name)
    async with node.storage.transaction(ring.tenant.uid, write=True) as work:
        version = await work.key_versions.get(ring.tenant.uid, ring.key.uid, number)
        assert version is not None
        scheduled = state is KeyState.DESTRUCTION_SCHEDULED
        changed = replace(
            version,
            state=state,
            state_before=KeyState.ARCHIVED if scheduled else None,
            until=now() if scheduled or state is KeyState.ROTATING else None,
            stopped_at=now() if state is KeyState.ROTATING or scheduled else None,
            wrapped=ERASED if state is KeyState.DESTROYED else version.wrapped,
        )
        await work.key_versions.replace(changed)


def another(node: Node) -> Node:
    return Node(node.storage, node.vault, node.clock)


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def name(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "payroll")


async def outcome(act: Act, node: Node, caller: Principal, name: KeyName, text: bytes) -> str:
    """`ok`, or the refusal's message, which a batch tells of the item."""
    try:
        made = await act(node, caller, name, text)
    except WrongKeyState as refusal:
        return str(refusal)
    failures = getattr(made, "failures", {})
    assert all(isinstance(error, WrongKeyState) for error in failures.values())
    return str(failures[0]) if failures else "ok"


async def test_the_keys_state_decides_about_every_use(node, acme, name):
    await node.key(acme, DATA, Purpose.DATA_KEY)
    texts = {name: (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext}
    texts[data_key(acme)] = (await node.data_keys.generate(acme, data_key(acme), 32, PAIRS)).ciphertext
    cases = 0
    for state, (what, (source, target, act)) in itertools.product(KeyState, ACTS.items()):
        key = data_key(acme) if what in DATA_KEY_ACTS else name
        await set_key(node, acme, key, state)
        needs = [use for use in (source, target) if use is not None]
        fresh = another(node)
        before = node.vault.operations["unwrap"]
        got = await outcome(act, fresh, acme, key, texts[key])
        if all(key_allows(state, use) for use in needs):
            assert got == "ok", (state, what)
        else:
            refused = next(use for use in needs if not key_allows(state, use))
            assert got == f"{key} is {spoken(state)}: it cannot be used to {refused}", (state, what)
            assert node.vault.operations["unwrap"] == before
            assert len(fresh.versions) == 0
        cases += 1
    assert cases == len(KeyState) * len(ACTS) == 88


async def test_a_versions_state_decides_about_every_use_of_it(node, acme, name):
    """Version 1 made the ciphertext, version 2 is the primary one; each is brought to every state in turn."""
    await node.key(acme, DATA, Purpose.DATA_KEY)
    texts = {name: (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext}
    texts[data_key(acme)] = (await node.data_keys.generate(acme, data_key(acme), 32, PAIRS)).ciphertext
    for key in texts:
        await node.keys.rotate(acme, key, "")
    cases = 0
    # No key has two ACTIVE versions, and DESTROYED is for good.
    usual = {1: KeyState.ROTATING, 2: KeyState.ACTIVE}
    states = [
        (number, state)
        for number in usual
        for state in KeyState
        if state is not KeyState.DESTROYED and (number, state) != (1, KeyState.ACTIVE)
    ]
    for (number, state), (what, (source, target, act)) in itertools.product(states, ACTS.items()):
        key = data_key(acme) if what in DATA_KEY_ACTS else name
        use = (source, target)[number - 1]
        await set_version(node, acme, key, number, state)
        fresh = another(node)
        got = await outcome(act, fresh, acme, key, texts[key])
        if use is None or version_allows(state, use):
            assert got == "ok", (number, state, what)
        else:
            assert got == f"{key}/versions/{number} is {spoken(state)}: it cannot be used to {use}", (state, what)
            ring = await node.ring(acme, key)
            assert fresh.versions.peek(ring.key.place(number)) is None
        await set_version(node, acme, key, number, usual[number])
        cases += 1
    assert cases == len(states) * len(ACTS) == 143


async def test_a_destroyed_version_is_named_and_an_unknown_one_is_not(node, acme, name):
    text = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    await node.keys.rotate(acme, name, "")
    await set_version(node, acme, name, 1, KeyState.DESTROYED)
    fresh = another(node)
    with pytest.raises(WrongKeyState, match="versions/1 is destroyed: it cannot be used to decrypt"):
        await fresh.fields.decrypt(acme, name, text, PAIRS)
    with pytest.raises(CannotDecrypt):
        await fresh.fields.decrypt(acme, name, text[:18] + (9).to_bytes(4, "big") + text[22:], PAIRS)
    assert issubclass(WrongKeyState, FailedPrecondition)


async def test_a_batch_of_several_versions_is_refused_item_by_item(node, acme, name):
    texts = []
    for _ in range(3):
        texts.append((await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext)
        await node.keys.rotate(acme, name, "")
    await set_version(node, acme, name, 2, KeyState.REVOKED)
    fresh = another(node)
    batch = await fresh.fields.decrypt_batch(acme, name, [*texts, texts[1]], PAIRS, None)
    assert batch.values == [b"x", b"", b"x", b""]
    assert {index: type(error) for index, error in batch.failures.items()} == {1: WrongKeyState, 3: WrongKeyState}


async def test_who_may_rescue_does_not_open_the_version_for_others(node, acme, name):
    """The revoked version's DEK is in the rescuer's cache, and nobody else can use it."""
    text = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    await node.keys.rotate(acme, name, "")
    await set_version(node, acme, name, 1, KeyState.REVOKED)
    fresh = another(node)
    rescued = await fresh.fields.reencrypt(rescuer(acme), name, text, PAIRS)
    assert (rescued.version, rescued.changed) == (2, True)
    for caller in (acme, rescuer(acme)):
        with pytest.raises(WrongKeyState, match="versions/1 is revoked"):
            await fresh.fields.decrypt(caller, name, text, PAIRS)
    with pytest.raises(WrongKeyState, match="versions/1 is revoked"):
        await fresh.fields.reencrypt(acme, name, text, PAIRS)
    assert (await fresh.fields.decrypt(acme, name, rescued.ciphertext, PAIRS)).plaintext == b"x"


async def test_who_may_not_and_who_may_load_a_version_at_once_each_get_their_answer(node, acme, name):
    text = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    await node.keys.rotate(acme, name, "")
    await set_version(node, acme, name, 1, KeyState.REVOKED)
    for first in (True, False):
        fresh = another(node)
        refused = fresh.fields.decrypt(acme, name, text, PAIRS)
        rescued = fresh.fields.reencrypt(rescuer(acme), name, text, PAIRS)
        order = (refused, rescued) if first else (rescued, refused)
        outcomes = await asyncio.gather(*order, return_exceptions=True)
        kinds = [type(result).__name__ for result in outcomes]
        assert kinds == (["WrongKeyState", "Encrypted"] if first else ["Encrypted", "WrongKeyState"])


async def test_a_refused_use_in_quarantine_is_recorded_against_the_version_that_the_ciphertext_names(node, acme, name):
    text = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    await node.keys.rotate(acme, name, "")
    key = (await node.ring(acme, name)).key

    async def refusals() -> list[int]:
        await node.uses.flush()
        return [seen.refused for seen in await node.storage.uses([Counter(key.tenant, key.uid, n) for n in (1, 2, 3)])]

    await set_version(node, acme, name, 1, KeyState.DESTRUCTION_SCHEDULED)
    node.membership.drop(key.tenant)
    with pytest.raises(WrongKeyState):
        await node.fields.decrypt(acme, name, text, PAIRS)
    await node.fields.decrypt_batch(acme, name, [text, text], PAIRS, None)
    assert await refusals() == [3, 0, 0]
    # The whole key waits for its destruction: one that the ciphertext names, otherwise the primary one.
    await set_key(node, acme, name, KeyState.DESTRUCTION_SCHEDULED)
    node.membership.drop(key.tenant)
    forged = text[:18] + (2**32 - 1).to_bytes(4, "big") + text[22:]
    for act in (
        lambda: node.fields.decrypt(acme, name, text, PAIRS),
        lambda: node.fields.encrypt(acme, name, b"x", PAIRS),
        lambda: node.fields.decrypt_batch(acme, name, [text, b"", forged], PAIRS, None),
        lambda: node.fields.decrypt(acme, name, forged, PAIRS),
    ):
        with pytest.raises(WrongKeyState):
            await act()
    assert await refusals() == [5, 2, 0]
    # Other states refuse, too, and are nobody's alarm.
    await set_key(node, acme, name, KeyState.SUSPENDED)
    node.membership.drop(key.tenant)
    with pytest.raises(WrongKeyState):
        await node.fields.decrypt(acme, name, text, PAIRS)
    assert await refusals() == [5, 2, 0]


async def test_uses_of_versions_are_seen(node, acme, name):
    first = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    await node.keys.rotate(acme, name, "")
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    key = (await node.ring(acme, name)).key
    counters = [Counter(key.tenant, key.uid, number) for number in (1, 2)]
    await node.uses.flush()
    for seen in await node.storage.uses(counters):
        assert seen.last_used_at is not None
        assert seen.last_decrypted_at is None
    with pytest.raises(CannotDecrypt):
        await node.fields.decrypt(acme, name, first, ())
    await node.uses.flush()
    assert [seen.last_decrypted_at for seen in await node.storage.uses(counters)] == [None, None]
    await node.fields.decrypt(acme, name, first, PAIRS)
    await node.uses.flush()
    decrypted, other = await node.storage.uses(counters)
    assert decrypted.last_decrypted_at is not None
    assert decrypted.last_decrypted_at >= now()
    assert other.last_decrypted_at is None
    assert isinstance(decrypted, Uses)


async def test_a_deks_life_in_memory_is_that_of_its_policy_where_that_is_shorter(node, acme, name):
    await node.keys.update(acme, name, "", {}, {"cache_lifetime": timedelta(seconds=20)})
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    before = node.vault.operations["unwrap"]
    node.clock.now += 19.9
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    assert node.vault.operations["unwrap"] == before
    node.clock.now += 0.1
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    assert node.vault.operations["unwrap"] == before + 1


async def test_a_policys_limit_holds_also_for_a_version_in_memory(node, acme, name):
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    key = (await node.ring(acme, name)).key
    reserved = (await node.storage.reserved([Counter(key.tenant, key.uid, 1)]))[0]
    await node.keys.update(acme, name, "", {}, {"encryption_limit": SMALLEST_LIMIT})
    assert reserved > SMALLEST_LIMIT
    with pytest.raises(VersionExhausted):
        await node.fields.encrypt_batch(acme, name, [b"x"] * 5_000, PAIRS, None)
    await node.keys.rotate(acme, name, "")
    await node.fields.encrypt_batch(acme, name, [b"x"] * SMALLEST_LIMIT, PAIRS, None)
    with pytest.raises(VersionExhausted):
        await node.fields.encrypt(acme, name, b"x", PAIRS)
