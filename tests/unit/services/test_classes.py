"""Classes of policies and keys: what would break one is refused when it is asked for, and at the latest in use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from kms.core.classification import Classification
from kms.core.errors import (
    AlreadyExists,
    ClassViolation,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    NotSupported,
)
from kms.core.keyring import Kek
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName, PolicyName, Principal, TenantName
from kms.core.policy import BUILT_IN, DEFAULT, NEVER, NamedPolicy, Overrides, Policy
from kms.core.ports import KekVault
from kms.core.suites import Purpose
from kms.services import policies
from kms.services.statuses import KeyStatus
from storage.database import Database
from tests.lifecycles import key_in, stored
from tests.node import RESCUER, Node, new_key, now

pytestmark = pytest.mark.softhsm

ACME = TenantName("acme")
PEOPLE = PolicyName("acme", "people")
CONFIDENTIAL = BUILT_IN["confidential"]
PLACE = (("table", b"users"), ("column", b"email"))
K1 = KeyName("acme", "k1")


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


async def policy(node: Node, caller: Principal, **rules: Any) -> NamedPolicy:
    """The policy "people", of class confidential unless told."""
    given = {"classification": Classification.CONFIDENTIAL} | rules
    return (await node.policies.create(caller, ACME, "people", Policy(**given)))[1]


async def key(node: Node, caller: Principal, policy: str, slug: str = "k1", **wish: Any) -> KeyStatus:
    overrides = Overrides(**{name: wish.pop(name) for name in ("rotation", "cache_lifetime") if name in wish})
    made = replace(new_key(slug, wish.pop("purpose", Purpose.ENCRYPT)), policy=policy, overrides=overrides)
    return await node.keys.create(caller, ACME, made)


def fields_of(error: InvalidRequest) -> list[str]:
    return [violation.field for violation in error.violations]


# Policies.


async def test_a_policy_outside_of_its_class_is_not_made(node, acme):
    with pytest.raises(InvalidRequest, match=r"rule confidential\.rotation_period") as caught:
        await policy(node, acme, rotation=NEVER, cache_lifetime=timedelta(minutes=6))
    assert fields_of(caught.value) == ["policy.rotation_period", "policy.cache_lifetime"]
    with pytest.raises(NotSupported, match=r"rule secret\.protection_level"):
        await policy(node, acme, classification=Classification.SECRET)
    assert (await node.policies.list_by_slug(acme, ACME, "", 9))[1] == []
    made = await policy(node, acme, rotation=timedelta(days=90), required_context=("row",), approvals=3)
    assert (await node.policies.get(acme, PEOPLE))[1] == made


async def test_a_change_that_leaves_the_class_is_refused_and_one_within_it_is_not(node, acme):
    first = await policy(node, acme)
    for changes, error in (
        ({"rotation": timedelta(days=91)}, InvalidRequest),
        ({"cache_lifetime": timedelta(hours=1)}, InvalidRequest),
        ({"classification": Classification.SECRET}, NotSupported),
    ):
        with pytest.raises(error):
            await node.policies.update(acme, PEOPLE, 0, changes)
    assert (await node.policies.get(acme, PEOPLE))[1] == first
    changed = (await node.policies.update(acme, PEOPLE, 0, {"rotation": timedelta(days=2)}))[1]
    assert (changed.version, changed.policy.classification) == (2, Classification.CONFIDENTIAL)
    # Downwards, which needs the approvals that every change of a policy needs.
    lower = {"classification": Classification.INTERNAL, "rotation": NEVER}
    assert (await node.policies.update(acme, PEOPLE, 0, lower))[1].policy == Policy(rotation=NEVER)


async def test_each_class_is_a_policy_that_nobody_made_and_nobody_changes(node, acme):
    globex = await node.tenant("globex")
    for classification in Classification:
        slug = classification.slug
        name = PolicyName("acme", slug)
        found = (await node.policies.get(acme, name))[1]
        assert (found.slug, found.version, found.policy, found.created_by) == (slug, 0, BUILT_IN[slug], "")
        assert (await node.policies.list_versions(acme, name, 0, 9))[1] == [found]
        with pytest.raises(AlreadyExists, match=f"tenants/acme/policies/{slug} is built in"):
            await node.policies.create(acme, ACME, slug, DEFAULT)
        with pytest.raises(FailedPrecondition, match="is built in and cannot be changed"):
            await node.policies.update(acme, name, 0, {"grace": timedelta(hours=1)})
        with pytest.raises(NotFound):
            await node.policies.get(globex, name)
    assert (await node.policies.list_by_slug(acme, ACME, "", 9))[1] == []


async def test_a_policy_that_was_stored_before_under_such_a_name_goes_on_holding(node, acme):
    tenant = await node.tenants.get(acme, ACME)
    own = NamedPolicy(tenant.uid, "confidential", 1, Policy(rotation=NEVER), now(), str(acme))
    async with node.storage.transaction(tenant.uid, write=True) as work:
        own = await work.policies.add(own)
    assert (await node.policies.get(acme, PolicyName("acme", "confidential")))[1] == own
    made = await key(node, acme, "confidential")
    assert (made.policy, made.policy_version) == (own.policy, 1)


# Keys.


async def test_a_key_is_of_its_policys_class(node, acme):
    await policy(node, acme)
    for slug, named, wanted in (
        ("plain", "", Classification.INTERNAL),
        ("open", "public", Classification.PUBLIC),
        ("own", "people", Classification.CONFIDENTIAL),
        ("built-in", "confidential", Classification.CONFIDENTIAL),
    ):
        made = await key(node, acme, named, slug)
        assert made.policy.classification is wanted
        assert await node.keyrings.classification_of(KeyName("acme", slug)) is wanted
    assert made.policy_version == 0
    assert await node.keyrings.classification_of(KeyName("acme", "absent")) is None
    assert await node.keyrings.classification_of(KeyName("absent", "k1")) is None


async def test_a_key_outside_of_its_class_is_not_made(node, acme):
    await policy(node, acme, required_context=("row",))
    cases = [
        ("confidential", {"rotation": timedelta(days=91)}, ["key.rotation_period"]),
        ("confidential", {"cache_lifetime": timedelta(minutes=6)}, ["key.cache_lifetime"]),
        ("people", {"purpose": Purpose.DETERMINISTIC}, ["key.policy"]),
    ]
    for named, wish, fields in cases:
        with pytest.raises(InvalidRequest, match=r"\(rule confidential\.") as caught:
            await key(node, acme, named, **wish)
        assert fields_of(caught.value) == fields
    with pytest.raises(NotSupported, match="class SECRET"):
        await key(node, acme, "secret")
    with pytest.raises(NotFound):
        await node.keys.get(acme, K1)
    await key(node, acme, "confidential", purpose=Purpose.DETERMINISTIC)
    await key(node, acme, "people", "k2", rotation=timedelta(days=90), cache_lifetime=timedelta(minutes=5))


async def test_an_update_brings_a_key_neither_out_of_its_class_nor_to_a_lower_one(node, acme):
    await policy(node, acme, required_context=("row",), approvals=2)
    made = await key(node, acme, "people")
    for named, what in (
        ("", "from class CONFIDENTIAL to INTERNAL"),
        ("public", "from class CONFIDENTIAL to PUBLIC"),
        ("confidential", "must still require row in the context .*; .*must still need 2 approvals"),
    ):
        with pytest.raises(ClassViolation, match=what) as refused:
            await node.keys.update(acme, K1, "", {"policy": named})
        assert "(rule no_lowering)" in str(refused.value)
    with pytest.raises(InvalidRequest, match=r"^key\.rotation_period: .*rule confidential\.rotation_period"):
        await node.keys.update(acme, K1, "", {}, {"rotation": timedelta(days=91)})
    with pytest.raises(NotSupported):
        await node.keys.update(acme, K1, "", {"policy": "secret"})
    assert await node.keys.get(acme, K1) == made
    assert (await node.keys.update(acme, K1, "", {}, {"rotation": timedelta(days=1)})).key.revision == 2


async def test_a_key_goes_to_a_higher_class_that_it_keeps_to(node, acme):
    await key(node, acme, "", rotation=timedelta(days=200))
    with pytest.raises(InvalidRequest, match=r"^key\.rotation_period"):
        await node.keys.update(acme, K1, "", {"policy": "confidential"})
    raised = await node.keys.update(acme, K1, "", {"policy": "confidential"}, {"rotation": None})
    assert raised.policy == CONFIDENTIAL
    with pytest.raises(InvalidRequest, match=r"^context"):
        await node.fields.encrypt(acme, K1, b"x", ())


class Meanwhile:
    """A vault before whose first wrap something else happens."""

    def __init__(self, vault: KekVault, happens: Callable[[], Awaitable[object]]) -> None:
        self._vault = vault
        self._happens: Callable[[], Awaitable[object]] | None = happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._vault, name)

    async def wrap(self, kek: Kek, dek: bytes, bound: bytes) -> bytes:
        happens, self._happens = self._happens, None
        if happens is not None:
            await happens()
        return await self._vault.wrap(kek, dek, bound)


async def test_a_policy_that_changes_while_the_token_works_is_looked_at_again(node, acme):
    await node.policies.create(acme, ACME, "people", DEFAULT)
    raised = {"classification": Classification.CONFIDENTIAL}
    slow = Node(node.storage, Meanwhile(node.vault, lambda: node.policies.update(acme, PEOPLE, 0, raised)))
    with pytest.raises(InvalidRequest, match=r"^key\.rotation_period"):
        await key(slow, acme, "people", rotation=timedelta(days=91))
    assert (await node.policies.get(acme, PEOPLE))[1].version == 2
    with pytest.raises(NotFound):
        await node.keys.get(acme, K1)
    await key(slow, acme, "people")


# A policy whose class is raised above its keys.


async def test_a_class_is_not_raised_above_a_key_that_names_the_policy(node, acme):
    await node.policies.create(acme, ACME, "people", DEFAULT)
    gone = await key_in(node, acme, "gone", KeyState.DESTROYED)
    for slug in ("gone", "k2", "k3"):
        if slug != "gone":
            await key(node, acme, "people", slug)
        change = {"policy": "people", "overrides": Overrides(rotation=timedelta(days=200))}
        await stored(node, acme, KeyName("acme", slug), lambda key, change=change: replace(key, **change))
    raised = {"classification": Classification.CONFIDENTIAL}
    with pytest.raises(ClassViolation, match=r"^tenants/acme/keys/k2 would .*rule confidential\.rotation_period"):
        await node.policies.update(acme, PEOPLE, 0, raised)
    assert (await node.policies.get(acme, PEOPLE))[1].version == 1
    for slug in ("k2", "k3"):
        await node.keys.update(acme, KeyName("acme", slug), "", {}, {"rotation": None})
    assert (await node.policies.update(acme, PEOPLE, 0, raised))[1].version == 2
    assert (await node.keys.get(acme, gone)).key.overrides.rotation == timedelta(days=200)


async def test_a_context_is_not_required_that_a_deterministic_key_cannot_have(node, acme):
    await policy(node, acme)
    await key(node, acme, "people", purpose=Purpose.DETERMINISTIC)
    with pytest.raises(
        ClassViolation, match=r"keys/k1 would break its class: policy .*rule confidential\.required_context"
    ):
        await node.policies.update(acme, PEOPLE, 0, {"required_context": ("row",)})


async def test_a_key_beyond_those_that_were_compared_is_refused_in_use_until_it_is_brought_back(
    node, acme, monkeypatch
):
    monkeypatch.setattr(policies, "MOST_COMPARED", 1)
    await node.policies.create(acme, ACME, "people", DEFAULT)
    await key(node, acme, "people", "k0")
    await key(node, acme, "people", rotation=timedelta(days=200))
    await key(node, acme, "confidential", "k2")
    text = (await node.fields.encrypt(acme, K1, b"x", PLACE)).ciphertext
    await node.policies.update(acme, PEOPLE, 0, {"classification": Classification.CONFIDENTIAL})
    told = r"keys/k1 breaks its class CONFIDENTIAL: rotation_period .*rule confidential\.rotation_period"
    for act in (
        lambda: node.fields.encrypt(acme, K1, b"x", PLACE),
        lambda: node.fields.encrypt_batch(acme, K1, [b"x"], PLACE, None),
        lambda: node.fields.decrypt(acme, K1, text, PLACE),
        lambda: node.fields.decrypt_batch(acme, K1, [text], PLACE, None),
        lambda: node.fields.reencrypt(acme, K1, text, PLACE),
        lambda: node.fields.reencrypt_batch(acme, KeyName("acme", "k0"), [text], PLACE, None, K1),
    ):
        with pytest.raises(ClassViolation, match=told):
            await act()
    rescued = await node.fields.reencrypt(Principal("acme", RESCUER), K1, text, PLACE, KeyName("acme", "k2"))
    assert (await node.fields.decrypt(acme, KeyName("acme", "k2"), rescued.ciphertext, PLACE)).plaintext == b"x"
    # Something else of it may be changed as it is.
    await node.keys.update(acme, K1, "", {"display_name": "New"})
    with pytest.raises(InvalidRequest, match=r"key\.rotation_period"):
        await node.keys.update(acme, K1, "", {}, {"cache_lifetime": timedelta(minutes=1)})
    await node.keys.update(acme, K1, "", {}, {"rotation": None})
    assert (await node.fields.decrypt(acme, K1, text, PLACE)).plaintext == b"x"


async def test_a_raised_class_holds_at_once_here_and_on_another_node_when_it_has_heard(node, acme):
    other = Node(node.storage, node.vault)
    await node.policies.create(acme, ACME, "people", DEFAULT)
    await key(node, acme, "people")
    await other.membership.look()
    for each in (node, other):
        await each.fields.encrypt(acme, K1, b"x", ())
    await node.policies.update(acme, PEOPLE, 0, {"classification": Classification.CONFIDENTIAL})
    assert await node.keyrings.classification_of(K1) is Classification.CONFIDENTIAL
    with pytest.raises(InvalidRequest, match=r"^context"):
        await node.fields.encrypt(acme, K1, b"x", ())
    await other.membership.look()
    assert await other.keyrings.classification_of(K1) is Classification.CONFIDENTIAL
    with pytest.raises(InvalidRequest, match=r"^context"):
        await other.fields.encrypt(acme, K1, b"x", ())


# Both databases, where what is stored matters.


async def test_the_keys_of_a_policy_are_found_in_order_and_within_their_tenant(storage: Database, open_vault):
    node = Node(storage, open_vault)
    for slug in ("acme", "globex"):
        caller = await node.tenant(slug)
        for number in (3, 1, 2):
            wish = replace(new_key(f"k{number}"), policy="confidential" if number != 2 else "")
            await node.keys.create(caller, TenantName(slug), wish)
    tenant = await node.tenants.get(Principal("acme", "app"), ACME)
    async with storage.transaction(tenant.uid) as work:
        found = await work.keys.list_by_policy(tenant.uid, "confidential", 9)
        assert [(key.tenant, key.slug) for key in found] == [(tenant.uid, "k1"), (tenant.uid, "k3")]
        assert await work.keys.list_by_policy(tenant.uid, "confidential", 1) == found[:1]
        assert await work.keys.list_by_policy(tenant.uid, "absent", 9) == []


async def test_a_policys_class_comes_back_from_the_database_with_all_that_it_demands(storage: Database, open_vault):
    node = Node(storage, open_vault)
    caller = await node.tenant("acme")
    made = await policy(node, caller, required_context=("row", "z.1"), log_data_access=True, approvals=7)
    assert (await node.policies.get(caller, PEOPLE))[1] == made
    await key(node, caller, "people")
    with pytest.raises(InvalidRequest, match=r"must have row.*must have z\.1"):
        await node.fields.encrypt(caller, K1, b"x", PLACE)
    lower = {"classification": Classification.PUBLIC, "required_context": (), "approvals": 0}
    changed = (await node.policies.update(caller, PEOPLE, 1, lower))[1]
    assert changed.policy == Policy(classification=Classification.PUBLIC, log_data_access=True)
