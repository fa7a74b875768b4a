"""DEKs that are lent: to whom, in which states, for how long, and what is written down before one leaves."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kms.acting import begin_noting
from kms.core.classification import Classification
from kms.core.errors import (
    ClassViolation,
    Conflict,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    StorageUnavailable,
    WrongKeyState,
    WrongPurpose,
)
from kms.core.keyring import KeyVersion
from kms.core.lease import MARGIN, Lease
from kms.core.lifecycle import KeyState, Use, key_allows, spoken, version_allows
from kms.core.names import KeyName, KeyVersionName, PolicyName, Principal, TenantName
from kms.core.operations import OperationKind
from kms.core.policy import Overrides, Policy
from kms.core.ports import Counter
from kms.core.suites import ALLOWED, Purpose, Suite
from kms.services.keys import NewKey
from tests.node import DEADLINE, OPERATOR, Node, now

pytestmark = pytest.mark.softhsm

ACME = TenantName("acme")
NAME = KeyName("acme", "lent")
PEOPLE = PolicyName("acme", "people")
PAIRS = (("table", b"users"),)
LONGEST = DEADLINE - timedelta(seconds=MARGIN)


def wish(slug: str = "lent", **chosen: Any) -> NewKey:
    given = {"purpose": Purpose.ENCRYPT, "suite": Suite.XAES_256_GCM, "leasable": True} | chosen
    return NewKey(slug=slug, display_name="", labels={}, **given)


@pytest.fixture
async def acme(node: Node) -> Principal:
    caller = await node.tenant("acme")
    await node.keys.create(caller, ACME, wish())
    return caller


def another(node: Node, **parts: Any) -> Node:
    """A node that has heard of everything and holds nothing."""
    return Node(parts.get("storage", node.storage), node.vault, node.clock)


async def stored(node: Node, caller: Principal, number: int = 1, name: KeyName = NAME) -> KeyVersion:
    _, [found] = await node.keys.list_versions(caller, name, number - 1, 1)
    return found.version


async def dek(node: Node, caller: Principal, number: int = 1) -> bytes:
    """The DEK, unwrapped past the service."""
    status = await node.ring(caller, NAME)
    unwrapped = await node.wrapping.unwrap(status.tenant, status.key, await stored(node, caller, number))
    return unwrapped.expose_secret_dek_material()


# What a lease is.


async def test_the_dek_of_the_primary_version_is_lent_to_encrypt_and_of_another_to_decrypt(node, acme):
    status = await node.ring(acme, NAME)
    first = await node.leases.lease(acme, NAME, 0)
    assert (first.version, first.encrypts, first.lease) == (1, True, LONGEST)
    assert (first.key_uid, first.tenant_uid) == (status.key.uid, status.tenant.uid)
    assert first.key == await dek(node, acme)
    assert (await node.leases.lease(acme, NAME, 1)).encrypts
    await node.keys.rotate(acme, NAME, "")
    second = await node.leases.lease(acme, NAME, 0)
    assert (second.version, second.encrypts, second.key) == (2, True, await dek(node, acme, 2))
    old = await node.leases.lease(acme, NAME, 1)
    assert (old.version, old.encrypts, old.key) == (1, False, first.key)
    assert first.key != second.key


async def test_nothing_of_a_lease_shows_its_key(node, acme):
    made = await node.leases.lease(acme, NAME, 0)
    assert made.key.hex() not in repr(made).replace("'", "")
    assert repr(made.key) not in repr(made)


async def test_the_same_dek_decrypts_what_the_daemon_encrypted(node, acme):
    text = (await node.fields.encrypt(acme, NAME, b"x", PAIRS)).ciphertext
    await node.leases.lease(acme, NAME, 0)
    assert (await node.fields.decrypt(acme, NAME, text, PAIRS)).plaintext == b"x"


async def test_a_dek_in_memory_costs_the_token_nothing(node, acme):
    await node.leases.lease(acme, NAME, 0)
    before = node.vault.operations["unwrap"]
    for _ in range(3):
        await node.leases.lease(acme, NAME, 0)
    assert node.vault.operations["unwrap"] == before


async def test_a_version_that_another_node_has_made_since_is_found(node, acme):
    other = another(node)
    await other.leases.lease(acme, NAME, 0)
    await node.keys.rotate(acme, NAME, "")
    assert (await other.leases.lease(acme, NAME, 2)).encrypts


async def test_a_version_that_the_key_never_had_is_not_found(node, acme):
    for number in (2, 2**32 - 1):
        with pytest.raises(NotFound, match=f"lent/versions/{number}"):
            await node.leases.lease(acme, NAME, number)


async def test_anothers_key_and_no_key_get_the_same_answer(node, acme):
    await node.tenant("globex")
    for caller, name in ((Principal("globex", "app"), NAME), (acme, KeyName("acme", "absent"))):
        with pytest.raises(NotFound) as caught:
            await node.leases.lease(caller, name, 0)
        assert str(caught.value).count(str(name)) == 1


async def test_a_key_that_is_not_leasable_keeps_its_deks(node, acme):
    await node.keys.create(acme, ACME, wish("kept", leasable=False))
    await node.key(acme, "data", Purpose.DATA_KEY)
    with pytest.raises(FailedPrecondition, match="tenants/acme/keys/kept is not leasable"):
        await node.leases.lease(acme, KeyName("acme", "kept"), 0)
    with pytest.raises(WrongPurpose):
        await node.leases.lease(acme, KeyName("acme", "data"), 0)
    await node.fields.encrypt(acme, KeyName("acme", "kept"), b"x", PAIRS)
    kept = (await node.ring(acme, KeyName("acme", "kept"))).key
    held = node.versions.peek(kept.place(1))
    assert held is not None
    assert held.lent is None  # the daemon does not hold its bytes beside the cipher


async def test_a_lease_is_a_use_of_its_version(node, acme):
    noted = begin_noting()
    await node.leases.lease(acme, NAME, 0)
    status = await node.ring(acme, NAME)
    assert [key.name for key in noted.keys] == [str(NAME)]
    assert noted.versions == [(status.key.uid, 1)]
    assert noted.confirm is not None
    assert noted.items == ()
    await node.uses.flush()
    counter = Counter(status.tenant.uid, status.key.uid, 1)
    [uses] = await node.storage.uses([counter])
    assert uses.last_used_at is not None
    assert uses.last_decrypted_at is not None
    assert (await node.storage.reserved([counter]))[0] > 0  # so that no census calls it unused


# How long.


class Shared:
    """The real storage, said to be shared, so that the node's lease counts."""

    shared = True

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __getattr__(self, attribute: str) -> object:
        return getattr(self._storage, attribute)


async def test_a_lease_shrinks_with_the_nodes_own_and_there_is_none_after_it(node, acme):
    made = another(node, storage=Shared(node.storage))
    await made.membership.look()
    assert (await made.leases.lease(acme, NAME, 0)).lease == LONGEST
    made.clock.now += 3
    assert (await made.leases.lease(acme, NAME, 0)).lease.total_seconds() == pytest.approx(1.5)
    made.clock.now += 1.5
    with pytest.raises(StorageUnavailable, match=r"longer than cache\.revocation_deadline allows"):
        await made.leases.lease(acme, NAME, 0)
    await made.membership.look()
    assert (await made.leases.lease(acme, NAME, 0)).lease == LONGEST


async def test_a_node_whose_own_lease_is_longer_lends_no_longer_than_the_deadline(node, acme):
    made = another(node)
    made.keyrings.lease = Lease(made.clock.now + 1_000)
    assert (await made.leases.lease(acme, NAME, 0)).lease == LONGEST


# In which states.


async def set_states(node: Node, caller: Principal, key: KeyState, versions: dict[int, KeyState]) -> None:
    status = await node.ring(caller, NAME)
    async with node.storage.transaction(status.tenant.uid, write=True) as work:
        scheduled = key is KeyState.DESTRUCTION_SCHEDULED
        before, at = (KeyState.ACTIVE, now()) if scheduled else (None, None)
        await work.keys.replace(replace(status.key, state=key, state_before=before, destroy_at=at))
        for number, state in versions.items():
            version = await work.key_versions.get(status.tenant.uid, status.key.uid, number)
            waits = state is KeyState.DESTRUCTION_SCHEDULED
            before, until = (KeyState.ARCHIVED, now()) if waits else (None, None)
            await work.key_versions.replace(replace(version, state=state, state_before=before, until=until))


async def test_the_state_of_the_key_decides(node, acme):
    await node.keys.rotate(acme, NAME, "")
    cases = 0
    for state, number in itertools.product(KeyState, (0, 1, 2)):
        await set_states(node, acme, state, {})
        fresh = another(node)
        if key_allows(state, Use.DECRYPT):
            made = await fresh.leases.lease(acme, NAME, number)
            assert made.encrypts == (number != 1 and key_allows(state, Use.ENCRYPT)), (state, number)
            assert made.version == (number or 2)
        else:
            before = node.vault.operations["unwrap"]
            with pytest.raises(WrongKeyState, match=f"tenants/acme/keys/lent is {spoken(state)}"):
                await fresh.leases.lease(acme, NAME, number)
            assert node.vault.operations["unwrap"] == before
        cases += 1
    assert cases == 24


async def test_the_state_of_the_version_decides(node, acme):
    await node.keys.rotate(acme, NAME, "")
    cases = 0
    for number, state in itertools.product((1, 2), KeyState):
        if state is KeyState.DESTROYED or (number, state) == (1, KeyState.ACTIVE):
            continue  # for good; and no key has two active versions
        versions = {1: KeyState.ROTATING, 2: KeyState.ACTIVE} | {number: state}
        await set_states(node, acme, KeyState.ACTIVE, versions)
        fresh = another(node)
        if version_allows(state, Use.DECRYPT):
            made = await fresh.leases.lease(acme, NAME, number)
            assert made.encrypts == (number == 2 and version_allows(state, Use.ENCRYPT)), (number, state)
        else:
            with pytest.raises(WrongKeyState, match=f"lent/versions/{number} is {spoken(state)}"):
                await fresh.leases.lease(acme, NAME, number)
        if number == 2 and not version_allows(state, Use.ENCRYPT):
            with pytest.raises(WrongKeyState, match="lent/versions/2 is"):
                await another(node).leases.lease(acme, NAME, 0)
        cases += 1
    assert cases == 13


async def test_an_archived_key_is_lent_to_decrypt_only(node, acme):
    await node.lifecycle.archive(acme, NAME, "")
    for number in (0, 1):
        made = await node.leases.lease(acme, NAME, number)
        assert (made.version, made.encrypts) == (1, False)


async def test_a_dek_that_a_stop_overtakes_does_not_leave(node, acme):
    """The stop is committed, and heard of, while the exposure is being written."""
    slow = Paused(node.storage)
    other = another(node, storage=slow)
    task = asyncio.create_task(other.leases.lease(acme, NAME, 0))
    await asyncio.wait_for(slow.inside.wait(), 20)
    await node.lifecycle.revoke(acme, NAME, "", "lost", wait=False)
    await other.membership.look()
    slow.go.set()
    with pytest.raises(WrongKeyState, match="lent is revoked"):
        await task


class Paused:
    """The real storage, whose transactions that write wait for *go*."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.inside, self.go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, attribute: str) -> object:
        return getattr(self._storage, attribute)

    @asynccontextmanager
    async def transaction(self, *arguments: Any, write: bool = False) -> Any:
        if write:
            self.inside.set()
            await self.go.wait()
        async with self._storage.transaction(*arguments, write=write) as work:
            yield work


# What is written down.


class Refusing:
    """The real storage, which does not commit what is written under the name *refuses*."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.refusals: list[Exception] = []
        self.writes = 0

    def __getattr__(self, attribute: str) -> object:
        return getattr(self._storage, attribute)

    @asynccontextmanager
    async def transaction(self, *arguments: Any, write: bool = False) -> Any:
        self.writes += write
        if write and self.refusals:
            raise self.refusals.pop(0)
        async with self._storage.transaction(*arguments, write=write) as work:
            yield work


async def test_a_version_is_marked_before_its_dek_leaves_and_only_once(node, acme):
    storage = Refusing(node.storage)
    other, late = another(node, storage=storage), another(node)
    await late.fields.encrypt(acme, NAME, b"x", PAIRS)  # so that it holds the DEK as it was before
    assert (await stored(node, acme)).exposed_at is None
    storage.refusals = [StorageUnavailable("away")]
    with pytest.raises(StorageUnavailable, match="away"):
        await other.leases.lease(acme, NAME, 0)
    assert (await stored(node, acme)).exposed_at is None
    before = node.wall()
    await other.leases.lease(acme, NAME, 0)
    marked = await stored(node, acme)
    assert marked.exposed_at is not None
    assert before - timedelta(seconds=1) <= marked.exposed_at <= node.wall()
    storage.writes = 0
    await other.leases.lease(acme, NAME, 0)
    await other.leases.lease(acme, NAME, 1)
    assert storage.writes == 0
    for node_that_has_to_look in (late, another(node)):
        await node_that_has_to_look.leases.lease(acme, NAME, 0)
    assert await stored(node, acme) == marked


async def test_each_version_is_marked_by_itself(node, acme):
    await node.leases.lease(acme, NAME, 0)
    await node.keys.rotate(acme, NAME, "")
    assert (await stored(node, acme, 1)).exposed_at is not None
    assert (await stored(node, acme, 2)).exposed_at is None
    await node.leases.lease(acme, NAME, 0)
    assert (await stored(node, acme, 2)).exposed_at is not None


async def test_who_changes_the_version_at_the_same_moment_does_not_keep_it_from_being_marked(node, acme):
    storage = Refusing(node.storage)
    other = another(node, storage=storage)
    storage.refusals = [Conflict("busy")] * 4
    await other.leases.lease(acme, NAME, 0)
    assert (await stored(node, acme)).exposed_at is not None
    await node.keys.rotate(acme, NAME, "")
    storage.refusals = [Conflict("busy")] * 5
    with pytest.raises(Conflict):
        await other.leases.lease(acme, NAME, 2)
    assert (await stored(node, acme, 2)).exposed_at is None


async def test_what_was_exposed_stays_so_through_rotation_revocation_and_rewrapping(node, acme):
    await node.leases.lease(acme, NAME, 0)
    marked = (await stored(node, acme)).exposed_at
    await node.keys.rotate(acme, NAME, "")
    await node.lifecycle.revoke_version(acme, KeyVersionName(NAME, 1), "", "leaked", wait=False)
    await node.keks.rotate(OPERATOR, ACME, 1)
    tenant = await node.tenants.get(OPERATOR, ACME)
    await node.operations.start(tenant, OperationKind.REWRAP, "tenants/acme/keks", "scheduler", 2)
    while await node.operations.step():
        pass
    kept = await stored(node, acme)
    assert (kept.exposed_at, kept.state, kept.kek_version) == (marked, KeyState.REVOKED, 2)


async def test_the_stop_of_what_may_be_lent_is_told_as_such(node, acme):
    told: list[bool] = []

    async def propagation(epoch: int, committed: Any, *, wait: bool, leased: bool) -> Any:
        told.append(leased)
        return await node.propagation(epoch, committed, wait=wait, leased=leased)

    node.lifecycle._propagation = propagation
    await node.keys.create(acme, ACME, wish("kept", leasable=False))
    await node.lifecycle.suspend(acme, KeyName("acme", "kept"), "", "", wait=False)
    await node.lifecycle.suspend(acme, NAME, "", "", wait=False)
    await node.lifecycle.resume(acme, NAME, "")
    await node.leases.lease(acme, NAME, 0)
    await node.keys.rotate(acme, NAME, "")
    await node.lifecycle.revoke_version(acme, KeyVersionName(NAME, 2), "", "", wait=False)  # never lent
    await node.lifecycle.revoke_version(acme, KeyVersionName(NAME, 1), "", "", wait=False)
    assert told == [False, True, False, True]


async def test_a_revoked_version_that_was_lent_asks_for_reencryption(node, acme):
    await node.leases.lease(acme, NAME, 0)
    await node.keys.rotate(acme, NAME, "")
    await node.keys.rotate(acme, NAME, "")
    for number in (1, 2):
        await node.lifecycle.revoke_version(acme, KeyVersionName(NAME, number), "", "leaked", wait=False)
    _, found = await node.keys.list_versions(acme, NAME, 0, 9)
    steps = ["re-encrypt all that it encrypted, for its DEK has left the daemon" in one.next_step for one in found]
    assert steps == [True, False, False]
    assert not found[0].census.zero


# Which keys are leasable.


async def test_only_encrypt_keys_of_the_suite_that_needs_no_count_are_leasable(node, acme):
    refused = 0
    choices = [(purpose, suite) for purpose in Purpose for suite in ALLOWED[purpose]]
    for number, (purpose, suite) in enumerate(choices):
        made = node.keys.create(acme, ACME, wish(f"k{number}", purpose=purpose, suite=suite))
        if (purpose, suite) == (Purpose.ENCRYPT, Suite.XAES_256_GCM):
            assert (await made).key.leasable
            continue
        told = rf"^key\.leasable: must be false for (purpose {purpose.name}|suite {suite.name}): only"
        with pytest.raises(InvalidRequest, match=told) as caught:
            await made
        assert [violation.field for violation in caught.value.violations] == ["key.leasable"]
        refused += 1
    assert refused == 7


@pytest.mark.parametrize(
    ("policy", "overrides", "rule"),
    [
        (Policy(classification=Classification.CONFIDENTIAL), Overrides(), "rule confidential.log_data_access"),
        (Policy(log_data_access=True), Overrides(), "log_data_access of the policy"),
        (Policy(required_context=("row",)), Overrides(), "where contexts must have row"),
        (Policy(encryption_limit=2_000), Overrides(), "encryption_limit"),
        (Policy(), Overrides(encryption_limit=2_000), "encryption_limit"),
    ],
    ids=["class", "policy", "context", "limit of the policy", "limit of the key"],
)
async def test_what_is_logged_looked_at_or_counted_is_not_leasable_from_the_beginning_nor_later(
    node, acme, policy, overrides, rule
):
    await node.policies.create(acme, ACME, "people", policy)
    with pytest.raises(InvalidRequest, match=r"key\.leasable: must be false") as caught:
        await node.keys.create(acme, ACME, wish("k1", policy="people", overrides=overrides))
    assert rule in str(caught.value)
    own = {"encryption_limit": overrides.encryption_limit} if overrides.encryption_limit else {}
    with pytest.raises(InvalidRequest, match=r"key\.leasable: must be false"):
        await node.keys.update(acme, NAME, "", {"policy": "people"}, own)
    assert (await node.ring(acme, NAME)).key.policy == ""
    assert (await node.leases.lease(acme, NAME, 0)).encrypts


@pytest.mark.parametrize(
    "changes",
    [
        {"classification": Classification.CONFIDENTIAL},
        {"log_data_access": True},
        {"required_context": ("row",)},
        {"encryption_limit": 2_000},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_policy_does_not_change_so_under_a_leasable_key(node, acme, changes):
    await node.policies.create(acme, ACME, "people", Policy())
    await node.keys.update(acme, NAME, "", {"policy": "people"})
    with pytest.raises(ClassViolation, match="tenants/acme/keys/lent would break its class: leasable must be false"):
        await node.policies.update(acme, PEOPLE, 0, changes)
    await node.policies.update(acme, PEOPLE, 0, {"grace": timedelta(hours=1)})
    assert (await node.leases.lease(acme, NAME, 0)).encrypts


async def test_a_policy_that_is_changed_past_the_rules_ends_the_lending(node, acme, monkeypatch):
    """More keys may name it than are compared: what does not fit is refused when it is used."""
    await node.policies.create(acme, ACME, "people", Policy())
    await node.keys.update(acme, NAME, "", {"policy": "people"})
    await node.leases.lease(acme, NAME, 0)
    monkeypatch.setattr("kms.services.policies.MOST_COMPARED", 0)
    await node.policies.update(acme, PEOPLE, 0, {"log_data_access": True})
    with pytest.raises(ClassViolation, match="leasable must be false where each data access is logged"):
        await node.leases.lease(acme, NAME, 0)
