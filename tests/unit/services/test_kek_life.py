"""The life of KEK versions under the scheduler: rotated, emptied, in quarantine, destroyed; time is an argument."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import structlog

from kms.core.errors import Conflict, CorruptRecord, FailedPrecondition, HsmUnavailable
from kms.core.keyring import Kek, KekState, KeyVersion, Tenant
from kms.core.names import KeyName, OperationName, Principal, TenantName
from kms.core.operations import Operation, OperationState
from kms.core.policy import NEVER
from kms.core.ports import Counter, Storage
from kms.core.receipts import Receipt, ReceiptUid, body_of
from kms.core.rotation import KekPolicy
from kms.core.suites import WRAP_ROTATE
from kms.services.keks import LONGEST_LOOK, REWRAP_AGAIN, SOON, Keks
from kms.services.wrapping import hold_kek
from tests.both_databases import Wall
from tests.node import OPERATOR, Node, keks_in_token

pytestmark = pytest.mark.softhsm

ACME = TenantName("acme")
DAY = timedelta(days=1)
ROTATION, QUARANTINE = 90 * DAY, 30 * DAY


@dataclass
class Hooked:
    """The real vault; what the test sets under the name of a call happens before it, or after it with `:after`."""

    vault: Any
    hooks: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    destroyed: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.vault, name)

    async def wrap(self, kek: Kek, dek: bytes, bound: bytes) -> bytes:
        blob: bytes = await self.vault.wrap(kek, dek, bound)
        await self._happen("wrap:after")
        return blob

    async def destroy_kek(self, kek: Kek) -> None:
        await self._happen("destroy")
        self.destroyed += 1
        await self.vault.destroy_kek(kek)
        await self._happen("destroy:after")

    async def _happen(self, name: str) -> None:
        hook = self.hooks.pop(name, None)
        if hook is not None:
            await hook()


@dataclass
class Life:
    """A tenant whose KEK grows old, and what was encrypted under its keys."""

    node: Node
    vault: Hooked
    wall: Wall
    caller: Principal
    sealed: list[tuple[KeyName, bytes]] = field(default_factory=list)

    async def key(self, slug: str) -> KeyName:
        name = await self.node.key(self.caller, slug)
        self.sealed.append((name, (await self.node.fields.encrypt(self.caller, name, b"x", ())).ciphertext))
        return name

    async def tenant(self) -> Tenant:
        return await self.node.tenants.get(OPERATOR, ACME)

    async def look(self, node: Node | None = None, **changes: Any) -> timedelta:
        """What the scheduler does for a tenant that is due; returns when it will come again."""
        await (node or self.node).keks.look(await self.tenant(), **changes)
        due_at = (await self.tenant()).due_at
        assert due_at is not None
        return due_at - self.wall.now

    async def work(self) -> None:
        """Carry on whatever there is."""
        async with asyncio.timeout(60):
            while await self.node.operations.step():
                pass

    async def states(self) -> dict[int, KekState]:
        statuses = (await self.node.keks.list_statuses(OPERATOR, ACME, 0, 100))[1]
        return {status.kek.version: status.kek.state for status in statuses}

    async def kek(self, version: int) -> Kek:
        tenant = await self.tenant()
        async with self.node.storage.transaction(tenant.uid) as work:
            found = await work.keks.get(tenant.uid, version)
        assert found is not None
        return found

    async def version(self, name: KeyName, number: int = 1) -> KeyVersion:
        ring = await self.node.ring(self.caller, name)
        async with self.node.storage.transaction(ring.tenant.uid) as work:
            found = await work.key_versions.get(ring.tenant.uid, ring.key.uid, number)
        assert found is not None
        return found

    async def put(self, version: KeyVersion) -> None:
        async with self.node.storage.transaction(version.tenant, write=True) as work:
            await work.key_versions.replace(version)

    async def operations(self) -> list[Operation]:
        return (await self.node.operations.list_newest(OPERATOR, ACME, None, 100))[1]

    async def check(self) -> None:
        """Everything decrypts on a node that remembers nothing."""
        cold = another(self)
        for name, ciphertext in self.sealed:
            assert (await cold.fields.decrypt(self.caller, name, ciphertext, ())).plaintext == b"x"

    async def rotated_and_emptied(self) -> None:
        await self.node.keks.rotate(OPERATOR, ACME, 0)
        await self.look()
        await self.work()

    async def in_quarantine(self) -> None:
        """Bring version 1 into quarantine."""
        await self.rotated_and_emptied()
        self.wall.advance(SOON)
        await self.look()
        assert (await self.states())[1] is KekState.DESTRUCTION_SCHEDULED


def another(life: Life, **changes: Any) -> Node:
    """Another node of the same installation."""
    node = Node(life.node.storage, life.vault, wall=life.wall)
    node.keks = Keks(
        node.storage, life.vault, node.usage, node.operations, KekPolicy(ROTATION, QUARANTINE), life.wall, **changes
    )
    return node


@pytest.fixture
async def life(storage: Storage, open_vault, wall: Wall) -> Life:
    vault = Hooked(open_vault)
    node = Node(storage, vault, wall=wall)
    return Life(node, vault, wall, await node.tenant("acme"))


async def test_a_kek_lives_by_the_rules(life, shared_token):
    for slug in ("k1", "k2", "k3"):
        await life.key(slug)
    uid = (await life.tenant()).kek
    assert (await life.tenant()).due_at == life.wall.now
    assert await life.look() == LONGEST_LOOK
    assert await life.states() == {1: KekState.ACTIVE}

    # 1. Rotated by time, once, however late.
    life.wall.advance(5 * ROTATION)
    assert await life.look() == SOON
    assert await life.states() == {1: KekState.ACTIVE, 2: KekState.ACTIVE}
    assert (await life.kek(2)).created_by == "scheduler"
    [operation] = await life.operations()
    assert (operation.target, operation.total, operation.requested_by) == ("tenants/acme/keks", 3, "scheduler")
    await life.check()

    # 2. Emptied.
    assert await life.look() == SOON
    await life.work()
    [operation] = await life.operations()
    assert (operation.state, operation.done) == (OperationState.SUCCEEDED, 3)
    await life.check()

    # 3. Retired, but not while calls that began before the rotation may still wrap by it.
    assert await life.look() == SOON
    assert (await life.states())[1] is KekState.ACTIVE
    life.wall.advance(SOON)
    assert await life.look() == LONGEST_LOOK
    retired = await life.kek(1)
    assert (retired.state, retired.destroy_at) == (KekState.DESTRUCTION_SCHEDULED, life.wall.now + QUARANTINE)
    await life.check()

    # 4. In the token until its quarantine is over.
    life.wall.advance(QUARANTINE - timedelta(minutes=5))
    assert await life.look() == timedelta(minutes=5)
    assert keks_in_token(shared_token, uid) == Tally({1: 1, 2: 1})

    # 5. Destroyed.
    life.wall.advance(timedelta(minutes=5))
    assert await life.look() == LONGEST_LOOK
    assert await life.states() == {1: KekState.DESTROYED, 2: KekState.ACTIVE}
    assert keks_in_token(shared_token, uid) == Tally({2: 1})
    await life.check()
    assert len(await life.operations()) == 1


async def test_what_is_shown_tells_when_a_version_will_be_replaced_and_destroyed(life):
    await life.in_quarantine()
    statuses = (await life.node.keks.list_statuses(life.caller, ACME, 0, 10))[1]
    assert [status.next_rotation_at for status in statuses] == [None, statuses[1].kek.created_at + ROTATION]
    assert [status.kek.destroy_at for status in statuses] == [life.wall.now + QUARANTINE, None]


async def test_no_version_is_retired_while_anything_is_wrapped_by_it(life):
    await life.key("k1")
    await life.node.keks.rotate(OPERATOR, ACME, 0)
    for _ in range(3):
        life.wall.advance(DAY)
        await life.look()
        assert await life.states() == {1: KekState.ACTIVE, 2: KekState.ACTIVE}
    await life.check()


async def test_a_dek_that_turns_up_in_quarantine_brings_the_version_back(life, shared_token):
    name = await life.key("k1")
    old = await life.version(name)
    await life.in_quarantine()
    await life.check()
    # As after bringing rows back from an older copy of the database.
    await life.put(replace(await life.version(name), wrapped=old.wrapped, kek_version=1))
    await life.check()
    life.wall.advance(QUARANTINE)
    with structlog.testing.capture_logs() as log:
        assert await life.look() == SOON
    assert [line["version"] for line in log if line["event"] == "kek.restored"] == [1]
    assert await life.states() == {1: KekState.ACTIVE, 2: KekState.ACTIVE}
    assert (await life.kek(1)).destroy_at is None
    await life.work()
    await life.look()
    assert (await life.kek(1)).destroy_at == life.wall.now + QUARANTINE
    assert keks_in_token(shared_token, (await life.tenant()).kek) == Tally({1: 1, 2: 1})
    await life.check()


async def test_nothing_new_comes_under_a_version_that_has_been_retired(life):
    name = await life.key("k1")
    stale = await life.tenant()
    await life.in_quarantine()
    key = (await life.node.ring(life.caller, name)).key
    with pytest.raises(Conflict, match=r"^tenants/acme/keks/1 has been replaced and retired meanwhile"):
        await life.node.rotator.rotate(stale, key, "late")
    assert (await life.node.ring(life.caller, name)).key == key


async def test_a_version_retired_between_a_wrap_and_its_commit_refuses_it(life):
    """Otherwise the DEK would be stored under a KEK that is about to be destroyed."""
    name = await life.key("k1")
    stale = await life.tenant()
    await life.rotated_and_emptied()
    life.wall.advance(SOON)
    key = (await life.node.ring(life.caller, name)).key

    async def retire() -> None:
        await life.look()

    life.vault.hooks["wrap:after"] = retire
    with pytest.raises(Conflict, match="retired meanwhile"):
        await life.node.rotator.rotate(stale, key, "late")
    assert (await life.states())[1] is KekState.DESTRUCTION_SCHEDULED
    assert (await life.node.ring(life.caller, name)).key == key
    async with life.node.storage.transaction(stale.uid) as work:
        assert await work.key_versions.count_by_kek(stale.uid) == {2: 1}


@pytest.mark.parametrize("first", ["wrap", "retirement"])
async def test_of_a_wrap_and_a_retirement_at_the_same_moment_one_is_refused(life, first):
    """In transactions that are open at once, where the database has such."""
    name = await life.key("k1")
    old = await life.version(name)
    await life.rotated_and_emptied()
    tenant, kek = await life.tenant(), await life.kek(1)
    back = replace(await life.version(name), wrapped=old.wrapped, kek_version=1)

    async def wrap() -> str:
        try:
            async with life.node.storage.transaction(tenant.uid, write=True) as work:
                await work.key_versions.replace(back)
                await hold_kek(work, tenant, 1)
                await asyncio.sleep(0.1)
        except Conflict:
            return "wrap refused"
        return ""

    async def retire() -> str:
        try:
            await life.node.keks._retirement.retire(tenant, kek)
        except FailedPrecondition:
            return "retirement refused"
        return ""

    with structlog.testing.capture_logs():
        outcomes = await asyncio.gather(*([wrap(), retire()] if first == "wrap" else [retire(), wrap()]))
    assert len([outcome for outcome in outcomes if outcome]) == 1
    async with life.node.storage.transaction(tenant.uid) as work:
        wraps = (await work.key_versions.count_by_kek(tenant.uid)).get(1, 0)
    assert (wraps, (await life.states())[1]) in [(1, KekState.ACTIVE), (0, KekState.DESTRUCTION_SCHEDULED)]
    await life.check()


async def test_a_version_that_wraps_something_is_not_destroyed_whoever_says_so(life, shared_token):
    name = await life.key("k1")
    old = await life.version(name)
    await life.in_quarantine()
    retired, tenant = await life.kek(1), await life.tenant()
    await life.put(replace(await life.version(name), wrapped=old.wrapped, kek_version=1))
    with pytest.raises(FailedPrecondition, match="tenants/acme/keks/1 wraps 1 key versions"):
        await life.node.keks._retirement.destroy(tenant, retired)
    assert await life.kek(1) == retired
    assert keks_in_token(shared_token, tenant.kek) == Tally({1: 1, 2: 1})


async def test_no_kek_is_destroyed_while_a_record_of_its_tenant_has_been_taken_away(life, shared_token):
    name = await life.key("k1")
    await life.in_quarantine()
    version, retired, tenant = await life.version(name), await life.kek(1), await life.tenant()
    storage = life.node.storage
    async with storage._session(None, write=True) as session:  # past the daemon
        schema = "" if session.dialect == "sqlite" else "security_secret."
        if schema:
            await session.raw("RESET ROLE")
        await session.raw(f"DELETE FROM {schema}key_versions WHERE key_uid = '{version.key}'")  # noqa: S608  no input
    with pytest.raises(CorruptRecord, match="no KEK is destroyed"):
        await life.node.keks._retirement.destroy(tenant, retired)
    assert keks_in_token(shared_token, tenant.kek) == Tally({1: 1, 2: 1})


async def test_a_token_that_is_away_leaves_an_intent_which_the_next_look_carries_through(life, shared_token):
    name = await life.key("k1")
    old = await life.version(name)
    await life.in_quarantine()
    life.wall.advance(QUARANTINE)

    async def away() -> None:
        raise HsmUnavailable("away")

    life.vault.hooks["destroy"] = away
    with structlog.testing.capture_logs() as log:
        assert await life.look() == SOON
    assert [(line["action"], line["reason"]) for line in log if line["event"] == "kek.delayed"] == [
        ("DestroyKek", "away")
    ]
    assert (await life.states())[1] is KekState.DESTROYING
    # There is no way back: what would be wrapped by it is refused, and so is unwrapping.
    ring = await life.node.ring(life.caller, name)
    with pytest.raises(CorruptRecord, match="tenants/acme/keks/1 is destroying"):
        await life.node.wrapping.unwrap(ring.tenant, ring.key, old)
    with pytest.raises(Conflict):
        await life.node.rotator.rotate(replace(ring.tenant, primary_kek=1), ring.key, "late")
    assert await life.look(may_destroy=False) == LONGEST_LOOK
    assert (await life.states())[1] is KekState.DESTROYED
    assert keks_in_token(shared_token, ring.tenant.kek) == Tally({2: 1})
    with pytest.raises(CorruptRecord, match="tenants/acme/keks/1 is destroyed"):
        await life.node.wrapping.unwrap(ring.tenant, ring.key, old)


async def test_an_intent_to_destroy_is_settled_at_the_next_start_and_once(life, shared_token):
    await life.in_quarantine()
    life.wall.advance(QUARANTINE)

    async def die() -> None:
        raise HsmUnavailable("died after the token had acted")

    life.vault.hooks["destroy:after"] = die
    with structlog.testing.capture_logs() as log:
        await life.look()
        nodes = [another(life), another(life)]
        assert sum(await asyncio.gather(*(node.keks.settle() for node in nodes))) in (1, 2)
        assert await life.node.keks.settle() == 0
    assert len([line for line in log if line["event"] == "kek.destroyed"]) == 1
    assert await life.states() == {1: KekState.DESTROYED, 2: KekState.ACTIVE}
    assert keks_in_token(shared_token, (await life.tenant()).kek) == Tally({2: 1})


async def test_nodes_that_look_at_once_do_everything_once(life, shared_token):
    await life.key("k1")
    nodes = [life.node, another(life), another(life)]

    async def all_look() -> None:
        tenant = await life.tenant()
        with structlog.testing.capture_logs() as log:
            await asyncio.gather(*(node.keks.look(tenant) for node in nodes))
        assert [line for line in log if line["log_level"] == "error"] == []

    life.wall.advance(ROTATION)
    await all_look()
    assert await life.states() == {1: KekState.ACTIVE, 2: KekState.ACTIVE}
    assert len(await life.operations()) == 1
    await life.work()
    life.wall.advance(SOON)
    await all_look()
    assert (await life.states())[1] is KekState.DESTRUCTION_SCHEDULED
    life.wall.advance(QUARANTINE)
    await all_look()
    await all_look()
    assert await life.states() == {1: KekState.DESTROYED, 2: KekState.ACTIVE}
    assert life.vault.destroyed == 1
    assert keks_in_token(shared_token, (await life.tenant()).kek) == Tally({2: 1})
    await life.check()


async def test_whoever_goes_away_leaves_the_lock_to_the_destruction_in_the_token(life):
    await life.in_quarantine()
    life.wall.advance(QUARANTINE)
    reached, go = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        reached.set()
        await go.wait()

    life.vault.hooks["destroy"] = slow
    gone = asyncio.create_task(life.look())
    await reached.wait()
    gone.cancel()
    await asyncio.wait({gone})
    retry = asyncio.create_task(another(life).keks.settle())
    done, _ = await asyncio.wait({retry}, timeout=0.2)
    assert not done
    go.set()
    with structlog.testing.capture_logs():
        await retry
    assert life.vault.destroyed == 1
    assert (await life.states())[1] is KekState.DESTROYED


async def test_without_trust_in_the_clock_nothing_is_destroyed_and_it_is_looked_at_again(life):
    await life.in_quarantine()
    life.wall.advance(QUARANTINE)
    assert await life.look(may_destroy=False) == SOON
    assert (await life.states())[1] is KekState.DESTRUCTION_SCHEDULED
    await life.look()
    assert (await life.states())[1] is KekState.DESTROYED


async def test_a_cancelled_rewrap_stays_so_until_it_is_resumed_or_the_kek_is_rotated_again(life):
    await life.key("k1")
    await life.node.keks.rotate(OPERATOR, ACME, 1)
    await life.look()
    [operation] = await life.operations()
    name = OperationName("acme", operation.uid)
    await life.node.operations.cancel(life.caller, name)
    for _ in range(3):
        life.wall.advance(DAY)
        assert await life.look() == LONGEST_LOOK
    assert [operation.state for operation in await life.operations()] == [OperationState.CANCELLED]
    life.wall.advance(DAY)
    await life.node.keks.rotate(OPERATOR, ACME, 2)
    assert await life.look() == SOON
    assert sorted(operation.state for operation in await life.operations()) == ["cancelled", "running"]
    await life.work()
    life.wall.advance(SOON)
    await life.look()
    assert await life.states() == {
        1: KekState.DESTRUCTION_SCHEDULED,
        2: KekState.DESTRUCTION_SCHEDULED,
        3: KekState.ACTIVE,
    }
    await life.check()


async def test_a_failed_rewrap_is_tried_again_after_an_hour_and_adds_no_operations(life):
    name = await life.key("k1")
    good = await life.version(name)
    await life.put(replace(good, wrapped=good.wrapped[:-1] + bytes([good.wrapped[-1] ^ 1])))
    await life.node.keks.rotate(OPERATOR, ACME, 1)
    with structlog.testing.capture_logs():
        await life.look()
        await life.work()
        for _ in range(3):
            [failed] = await life.operations()
            assert failed.state is OperationState.FAILED
            assert await life.look() == SOON
            assert (await life.operations()) == [failed]
            life.wall.advance(REWRAP_AGAIN)
            await life.look()
            assert [operation.state for operation in await life.operations()] == [OperationState.RUNNING]
            await life.work()
    assert await life.states() == {1: KekState.ACTIVE, 2: KekState.ACTIVE}
    await life.put(replace(await life.version(name), wrapped=good.wrapped))
    life.wall.advance(REWRAP_AGAIN)
    await life.look()
    await life.work()
    await life.look()
    assert (await life.states())[1] is KekState.DESTRUCTION_SCHEDULED
    await life.check()


async def test_a_kek_that_has_made_too_many_wraps_is_rotated_early(life):
    tenant = await life.tenant()
    await life.node.storage.reserve(Counter(tenant.uid, tenant.kek, 1), WRAP_ROTATE, None)
    await life.look()
    assert await life.states() == {1: KekState.ACTIVE, 2: KekState.ACTIVE}
    await life.look()
    assert set(await life.states()) == {1, 2}


async def test_a_rotation_for_the_count_is_made_once_for_the_version_that_was_meant(life):
    woken = []
    node = another(life, wake=lambda: woken.append(1))
    uid = (await life.tenant()).uid
    await asyncio.gather(*(node.keks.rotate_for_count(uid, 1) for _ in range(3)))
    await node.keks.rotate_for_count(uid, 1)
    assert set(await life.states()) == {1, 2}
    assert woken
    assert (await life.tenant()).due_at == life.wall.now


async def test_a_rotation_by_a_caller_wakes_the_scheduler(life):
    woken = []
    node = another(life, wake=lambda: woken.append(1))
    await life.look()
    await node.keks.rotate(OPERATOR, ACME, 1)
    assert woken == [1]
    assert (await life.tenant()).due_at == life.wall.now


async def test_a_receipt_is_stored_with_the_outcome(life):
    subjects: list[str] = []

    async def receipt(tenant: Tenant, subject: str, fields: Mapping[str, Any]) -> Receipt:
        subjects.append(subject)
        return Receipt(
            ReceiptUid(uuid4()),
            tenant.uid,
            subject,
            None,
            body_of(fields),
            b"signature",
            datetime.now(life.wall.now.tzinfo),
        )

    node = another(life, receipt=receipt)
    await life.in_quarantine()
    life.wall.advance(QUARANTINE)
    await life.look(node)
    tenant = await life.tenant()
    async with life.node.storage.transaction(tenant.uid) as work:
        [stored] = await work.receipts.list_of_subject(tenant.uid, "tenants/acme", "", 10)
    assert stored.subject == subjects[0] == "tenants/acme/keks/1"
    assert '"destroyed_at":"2024-03-31T00:00:59.999999Z"' in stored.body
    assert f'"kek_uid":"{tenant.kek}"' in stored.body
    assert '"wrapped_key_versions":0' in stored.body


async def test_without_a_signature_nothing_counts_as_destroyed(life):
    async def unsigned(*_: Any) -> Receipt:
        raise HsmUnavailable("no signing key")

    await life.in_quarantine()
    life.wall.advance(QUARANTINE)
    with structlog.testing.capture_logs():
        assert await life.look(another(life, receipt=unsigned)) == SOON
    assert (await life.states())[1] is KekState.DESTROYING
    await life.look()
    assert (await life.states())[1] is KekState.DESTROYED


async def test_keks_that_rotate_by_hand_only_are_looked_at_daily_and_never_rotated(life):
    node = Node(life.node.storage, life.vault, wall=life.wall)
    keks = Keks(life.node.storage, life.vault, node.usage, node.operations, KekPolicy(NEVER, QUARANTINE), life.wall)
    life.wall.advance(10 * ROTATION)
    await keks.look(await life.tenant())
    assert await life.states() == {1: KekState.ACTIVE}
    assert (await life.tenant()).due_at == life.wall.now + LONGEST_LOOK
    [status] = (await keks.list_statuses(OPERATOR, ACME, 0, 10))[1]
    assert status.next_rotation_at is None
