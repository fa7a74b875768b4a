"""What a node does when it hears of a stop while a result is under way, and when it hears nothing at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from kms.core.alphabets import Alphabet, Layout
from kms.core.errors import Conflict, NotFound, StorageUnavailable, WrongKeyState
from kms.core.keyring import Kek
from kms.core.lease import OVER
from kms.core.lifecycle import KeyEvent, Use
from kms.core.names import KeyName, Principal, TenantUid
from kms.core.normalisation import IndexNormaliser
from kms.core.ports import CreatedKek, KekVault, Storage
from kms.core.repositories import UnitOfWork
from kms.core.suites import Purpose
from kms.services.fields import TURN
from kms.services.formats import FormatRule
from kms.services.keyrings import Grant
from kms.services.masked import decrypt_masked
from kms.services.pseudonyms import PseudonymRule
from tests.node import KEY_LIFETIME, Node, RecordingStorage, now
from tests.sealing import reseal

pytestmark = pytest.mark.softhsm

PAIRS = (("table", b"users"),)


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
async def name(node: Node, acme: Principal) -> KeyName:
    return await node.key(acme, "payroll")


async def revoke(node: Node, caller: Principal, name: KeyName) -> None:
    """Commit a revocation; no node has heard of it."""
    ring = await node.ring(caller, name)
    async with node.storage.transaction(ring.tenant.uid, write=True) as work:
        await work.keys.replace(ring.key.after(KeyEvent.REVOKE, now(), "lost"))
        await work.epochs.revoked(ring.tenant.uid)


async def revoke_primary(node: Node, caller: Principal, name: KeyName) -> None:
    ring = await node.ring(caller, name)
    await node.rotator.rotate(ring.tenant, ring.key, "test", revoked_for="lost")


class SlowVault:
    """The real vault, whose unwrapping waits for *go*; tells when somebody waits."""

    def __init__(self, vault: KekVault) -> None:
        self._vault = vault
        self.waiting = asyncio.Event()
        self.go = asyncio.Event()

    async def create_kek(self, uid, version) -> CreatedKek:
        return await self._vault.create_kek(uid, version)

    async def wrap(self, kek: Kek, dek: bytes, bound: bytes) -> bytes:
        return await self._vault.wrap(kek, dek, bound)

    async def unwrap(self, kek: Kek, wrapped: bytes, bound: bytes) -> bytes:
        self.waiting.set()
        await self.go.wait()
        return await self._vault.unwrap(kek, wrapped, bound)

    async def random(self, length: int) -> bytes:
        return await self._vault.random(length)


class Slow:
    """A node whose next loading of a DEK waits, with a call under way that found the key in its old state."""

    def __init__(self, node: Node) -> None:
        self.vault = SlowVault(node.vault)
        self.node = Node(node.storage, self.vault, node.clock)

    @asynccontextmanager
    async def under_way(self, call: Callable[[Node], object]) -> AsyncIterator[asyncio.Task[object]]:
        task = asyncio.ensure_future(call(self.node))
        await asyncio.wait_for(self.vault.waiting.wait(), 20)
        yield task
        self.vault.go.set()
        await asyncio.wait({task}, timeout=20)


CALLS = {
    "encrypt": lambda a, k, _: lambda n: n.fields.encrypt(a, k, b"x", PAIRS),
    "decrypt": lambda a, k, t: lambda n: n.fields.decrypt(a, k, t, PAIRS),
    "re-encrypt": lambda a, k, t: lambda n: n.fields.reencrypt(a, k, t, PAIRS),
    "encrypt batch": lambda a, k, _: lambda n: n.fields.encrypt_batch(a, k, [b"x"], PAIRS, None),
    "decrypt batch": lambda a, k, t: lambda n: n.fields.decrypt_batch(a, k, [t], PAIRS, None),
    "masks": lambda a, k, t: lambda n: decrypt_masked(n.fields, a, k, [t], PAIRS, None, 4),
    "re-encrypt batch": lambda a, k, t: lambda n: n.fields.reencrypt_batch(a, k, [t], PAIRS, None),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_result_that_a_stop_overtakes_does_not_leave(node, acme, name, call):
    text = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    slow = Slow(node)
    async with slow.under_way(CALLS[call](acme, name, text)) as task:
        await revoke(node, acme, name)
        await slow.node.membership.look()
    with pytest.raises(WrongKeyState, match="payroll is revoked"):
        raise (await task).failures[0]  # of a batch that had not begun with the item
    assert len(slow.node.versions) == 0


class Between:
    """The real Fields, where something happens as soon as a batch has been decrypted."""

    def __init__(self, node: Node, then: Callable[[], Awaitable[object]]) -> None:
        self.confirm = node.fields.confirm
        self._node = node
        self._then = then

    async def decrypt_batch(self, *arguments):
        batch = await self._node.fields.decrypt_batch(*arguments)
        await self._then()
        return batch


async def test_masks_that_a_stop_overtakes_while_they_are_made_do_not_leave(node, acme, name):
    text = (await node.fields.encrypt(acme, name, b"4929 7318", PAIRS)).ciphertext

    async def stop():
        await revoke(node, acme, name)
        await node.membership.look()

    with pytest.raises(WrongKeyState, match="payroll is revoked"):
        await decrypt_masked(Between(node, stop), acme, name, [text], PAIRS, None, 4)


@pytest.mark.parametrize("call", ["generate", "decrypt"])
async def test_a_data_key_that_a_stop_overtakes_does_not_leave(node, acme, call):
    key = await node.key(acme, "data", Purpose.DATA_KEY)
    text = (await node.data_keys.generate(acme, key, 32, PAIRS)).ciphertext
    calls = {
        "generate": lambda n: n.data_keys.generate(acme, key, 32, PAIRS),
        "decrypt": lambda n: n.data_keys.decrypt(acme, key, text, PAIRS),
    }
    slow = Slow(node)
    async with slow.under_way(calls[call]) as task:
        await revoke(node, acme, key)
        await slow.node.membership.look()
    with pytest.raises(WrongKeyState, match="data is revoked"):
        await task


@pytest.mark.parametrize("call", ["encrypt", "decrypt", "pseudonymize", "pseudonymize on"])
async def test_a_value_without_a_header_that_a_stop_overtakes_does_not_leave(node, acme, call):
    purpose = Purpose.PSEUDONYM if call.startswith("pseudonymize") else Purpose.FORMAT_PRESERVING
    key = await node.key(acme, "cards", purpose)
    rule = FormatRule("s", Layout(Alphabet.DIGITS), b"")
    named = PseudonymRule("s", IndexNormaliser.NONE, 0)
    calls = {
        "encrypt": lambda n: n.formats.encrypt_batch(acme, key, ["123456"], rule),
        "decrypt": lambda n: n.formats.decrypt_batch(acme, key, ["123456"], rule, 1),
        "pseudonymize": lambda n: n.pseudonyms.compute_batch(acme, key, [b"x"], named, 0),
        "pseudonymize on": lambda n: n.pseudonyms.compute_batch(acme, key, [b"x"], named, 1),
    }
    assert (await calls[call](node)).failures == {}
    slow = Slow(node)
    async with slow.under_way(calls[call]) as task:
        await revoke(node, acme, key)
        await slow.node.membership.look()
    with pytest.raises(WrongKeyState, match="cards is revoked"):
        await task


@pytest.mark.parametrize("call", CALLS)
async def test_a_result_leaves_when_the_stop_was_another_keys(node, acme, name, call):
    other = await node.key(acme, "other")
    text = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    slow = Slow(node)
    async with slow.under_way(CALLS[call](acme, name, text)) as task:
        await revoke(node, acme, other)
        await slow.node.membership.look()
    assert await task


@pytest.mark.parametrize("call", ["encrypt", "encrypt batch"])
async def test_what_a_replaced_version_encrypted_does_not_leave_and_may_be_tried_again(node, acme, name, call):
    slow = Slow(node)
    async with slow.under_way(CALLS[call](acme, name, b"")) as task:
        await revoke_primary(node, acme, name)
        await slow.node.membership.look()
    with pytest.raises(Conflict, match=r"versions/1 is revoked.*; there is a newer version: try again"):
        await task
    assert (await slow.node.fields.encrypt(acme, name, b"x", PAIRS)).version == 2


async def test_a_key_that_was_made_anew_under_its_name_is_not_the_same(node, acme, name, hostile):
    slow = Slow(node)
    async with slow.under_way(CALLS["encrypt"](acme, name, b"")) as task:
        ring = await node.ring(acme, name)
        hostile.change("UPDATE encryption_keys SET key_id = 'gone' WHERE key_id = 'payroll'")
        await reseal(node.storage)
        await node.key(acme, "payroll")
        slow.node.membership.drop(ring.tenant.uid)
    with pytest.raises(NotFound):
        await task


class Stopping(RecordingStorage):
    """The real storage; whoever reads a key hears of a stop right after."""

    node: Node
    tenant: TenantUid
    times = 0

    @asynccontextmanager
    async def transaction(self, tenant: TenantUid | None = None, *, write: bool = False) -> AsyncIterator[UnitOfWork]:
        async with super().transaction(tenant, write=write) as work:
            yield work
        if tenant is not None and self.times > 0:
            self.times -= 1
            self.node.membership.drop(tenant)


async def test_stop_after_stop_ends_in_a_refusal_and_not_in_a_loop(node, acme, name):
    text = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    storage = Stopping(node.storage)
    storage.node = Node(storage, node.vault, node.clock)
    storage.times = 1_000
    with pytest.raises(StorageUnavailable, match="one after the other; try again"):
        await storage.node.fields.decrypt(acme, name, text, PAIRS)
    assert storage.times > 950
    storage.times = 1
    assert (await storage.node.fields.decrypt(acme, name, text, PAIRS)).plaintext == b"x"


async def test_a_batch_that_a_stop_overtakes_in_its_middle_does_not_leave(node, acme, name):
    values = [b"x"] * (8 * TURN)
    text = (await node.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    ring = await node.ring(acme, name)
    await revoke(node, acme, name)
    task = asyncio.ensure_future(node.fields.encrypt_batch(acme, name, values, PAIRS, None))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()  # record and DEK were in memory: it is at work, turn by turn
    node.membership.drop(ring.tenant.uid)
    with pytest.raises(WrongKeyState):
        await task
    with pytest.raises(WrongKeyState):
        await node.fields.decrypt_batch(acme, name, [text], PAIRS, None)


async def test_a_stop_drops_the_tenants_deks_and_no_others(node, acme, name):
    globex = await node.tenant("globex")
    theirs = await node.key(globex, "theirs")
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    await node.fields.encrypt(globex, theirs, b"x", PAIRS)
    ours, other = await node.ring(acme, name), await node.ring(globex, theirs)
    node.membership.drop(ours.tenant.uid)
    assert node.versions.peek(ours.key.place(1)) is None
    assert node.versions.peek(other.key.place(1)) is not None


async def test_a_change_is_heard_of_without_dropping_a_dek(node, acme, name):
    other = Node(node.storage, node.vault, node.clock)
    await other.membership.look()
    assert (await other.fields.encrypt(acme, name, b"x", PAIRS)).version == 1
    await node.keys.rotate(acme, name, "")
    assert (await other.fields.encrypt(acme, name, b"x", PAIRS)).version == 1
    await other.membership.look()
    before = node.vault.operations["unwrap"]
    assert (await other.fields.encrypt(acme, name, b"x", PAIRS)).version == 2
    assert node.vault.operations["unwrap"] == before + 1  # version 2 alone
    ring = await node.ring(acme, name)
    assert other.versions.peek(ring.key.place(1)) is not None


async def test_a_node_that_has_not_heard_that_the_primary_version_was_revoked_takes_the_new_one(node, acme, name):
    """Its record of the key is the old one, and the DEK has left its memory."""
    other = Node(node.storage, node.vault, node.clock)
    await other.fields.encrypt(acme, name, b"x", PAIRS)
    await revoke_primary(node, acme, name)
    other.versions.clear()
    assert (await other.fields.encrypt(acme, name, b"x", PAIRS)).version == 2


async def test_a_stopped_keys_dek_is_not_brought_back_by_a_call_that_knew_it_before(node, acme, name):
    """The stop comes between the record and the loading: nothing is unwrapped any more."""
    await node.fields.encrypt(acme, name, b"x", PAIRS)
    ring = await node.keyrings.find(acme, name, frozenset({Purpose.ENCRYPT}), Use.ENCRYPT)
    await revoke(node, acme, name)
    node.membership.drop(ring.tenant.uid)
    before = node.vault.operations["unwrap"]
    with pytest.raises(WrongKeyState):
        await node.keyrings.primary(ring)
    assert node.vault.operations["unwrap"] == before


# No word from the database.


class Shared:
    """The real storage, said to be shared, so that the lease counts; it may be away."""

    shared = True

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.away = False

    def __getattr__(self, attribute: str) -> object:
        if self.away:
            raise StorageUnavailable("away")
        return getattr(self._storage, attribute)


@pytest.fixture
async def leased(node) -> Node:
    made = Node(Shared(node.storage), node.vault, node.clock)
    await made.membership.look()
    return made


def every_call(node: Node, caller: Principal, name: KeyName, data_key: KeyName, text: bytes, wrapped: bytes):
    return [
        *(make(caller, name, text)(node) for make in CALLS.values()),
        node.data_keys.generate(caller, data_key, 32, PAIRS),
        node.data_keys.decrypt(caller, data_key, wrapped, PAIRS),
    ]


async def test_a_node_without_a_lease_answers_nothing_that_needs_a_key_and_comes_back_by_itself(leased, acme, name):
    data_key = await leased.key(acme, "data", Purpose.DATA_KEY)
    text = (await leased.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    wrapped = (await leased.data_keys.generate(acme, data_key, 32, PAIRS)).ciphertext
    leased.clock.now += 4.49
    for call in every_call(leased, acme, name, data_key, text, wrapped):
        assert await call
    assert leased.membership.valid()
    leased.clock.now += 0.01
    assert not leased.membership.valid()
    for call in every_call(leased, acme, name, data_key, text, wrapped):
        with pytest.raises(StorageUnavailable, match=r"longer than cache\.revocation_deadline allows"):
            await call
    assert len(await leased.data_keys.random(16)) == 16  # is under no key
    await leased.membership.look()
    for call in every_call(leased, acme, name, data_key, text, wrapped):
        assert await call


async def test_a_node_of_a_shared_database_answers_nothing_before_it_has_heard(node, acme, name):
    fresh = Node(Shared(node.storage), node.vault, node.clock, leased=False)
    with pytest.raises(StorageUnavailable):
        await fresh.fields.encrypt(acme, name, b"x", PAIRS)
    await fresh.membership.look()
    assert await fresh.fields.encrypt(acme, name, b"x", PAIRS)


async def test_a_lease_begins_before_the_query(leased, acme, name):
    """The answer took two seconds: they are gone from the lease."""
    epochs = leased.storage._storage.epochs

    class Late(Shared):
        async def epochs(self):
            answer = await epochs()
            leased.clock.now += 2
            return answer

    leased.membership._nodes = Late(leased.storage._storage)
    await leased.membership.look()
    assert leased.membership.remaining() == pytest.approx(2.5)


async def test_a_look_that_fails_renews_nothing(leased):
    leased.clock.now += 3
    leased.storage.away = True
    with pytest.raises(StorageUnavailable):
        await leased.membership.look()
    assert leased.membership.remaining() == pytest.approx(1.5)


async def test_a_call_whose_lease_ends_while_it_works_does_not_answer(leased, acme, name):
    text = (await leased.fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    slow = Slow(leased)
    await slow.node.membership.look()
    async with slow.under_way(CALLS["decrypt"](acme, name, text)) as task:
        leased.clock.now += KEY_LIFETIME
    with pytest.raises(StorageUnavailable):
        await task


async def test_a_batch_that_took_its_time_to_tell_its_failures_is_looked_at_once_more(node, acme, name):
    batch = await node.fields.encrypt_batch(acme, name, [b"x"], PAIRS, None)
    await node.fields.confirm(batch)
    await revoke(node, acme, name)
    await node.membership.look()
    with pytest.raises(WrongKeyState):
        await node.fields.confirm(batch)
    node.keyrings.lease = OVER
    with pytest.raises(StorageUnavailable):
        await node.fields.confirm(batch)
    nothing = replace(batch, grants=[])
    await node.fields.confirm(nothing)  # nothing but failures: nothing leaves
    assert isinstance(batch.grants[0], Grant)
