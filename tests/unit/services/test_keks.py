"""Tenants and their KEKs: made in two steps, by nodes at once, with a token that is away, and each version once."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally

import pytest
import structlog

from kms.core.errors import AlreadyExists, Conflict, HsmUnavailable, NotFound, VersionExhausted
from kms.core.keyring import Tenant
from kms.core.names import Principal, TenantName
from kms.core.ports import Counter
from kms.core.suites import WRAP_STOP
from tests.node import OPERATOR, Node, SlowVault, keks_in_token, new_key, until
from tests.softhsm_token import Token

pytestmark = pytest.mark.softhsm

ACME = TenantName("acme")


@pytest.fixture
def tokenless(database, shared_token: Token) -> Node:
    """A node whose token is not there."""
    return Node(database, shared_token.vault())


async def stored(node: Node, slug: str = "acme") -> Tenant | None:
    async with node.storage.transaction() as work:
        return await work.tenants.get(slug)


async def settle(node: Node) -> int:
    with structlog.testing.capture_logs():
        return await node.keks.settle()


async def test_a_tenant_whose_kek_could_not_be_made_does_not_exist_and_a_retry_finishes_it(
    tokenless, node, shared_token
):
    with pytest.raises(HsmUnavailable):
        await tokenless.tenants.create(OPERATOR, "acme", "Acme")
    caller = Principal("acme", "app")
    for act in (
        lambda: node.tenants.get(OPERATOR, ACME),
        lambda: node.tenants.get(caller, ACME),
        lambda: node.keys.create(caller, ACME, new_key("k1")),
        lambda: node.keys.list_by_slug(caller, ACME, "", 10),
        lambda: node.keks.list_statuses(caller, ACME, 0, 10),
        lambda: node.keks.rotate(caller, ACME, 0),
    ):
        with pytest.raises(NotFound):
            await act()
    assert await node.tenants.list_by_slug("", 10) == []

    tenant = await node.tenants.create(OPERATOR, "acme", "Acme")
    assert tenant.primary_kek == 1
    assert await node.kek_versions("acme") == {1: True}
    assert keks_in_token(shared_token, tenant.kek) == Tally({1: 1})
    with pytest.raises(AlreadyExists):
        await node.tenants.create(OPERATOR, "acme", "Acme")


async def test_nodes_that_create_one_tenant_at_once_make_it_once(node, shared_token):
    nodes = [node, Node(node.storage, node.vault)]
    outcomes = await asyncio.gather(
        *(each.tenants.create(OPERATOR, "acme", "") for each in nodes), return_exceptions=True
    )
    made = [outcome for outcome in outcomes if isinstance(outcome, Tenant)]
    assert made
    assert all(isinstance(outcome, Tenant | AlreadyExists) for outcome in outcomes)
    assert {tenant.uid for tenant in made} == {(await node.tenants.get(OPERATOR, ACME)).uid}
    assert await node.kek_versions("acme") == {1: True}
    assert keks_in_token(shared_token, made[0].kek) == Tally({1: 1})


async def test_nodes_that_rotate_one_kek_at_once_make_one_version(node, shared_token):
    await node.tenant("acme")
    nodes = [node, Node(node.storage, node.vault), Node(node.storage, node.vault)]
    outcomes = await asyncio.gather(*(each.keks.rotate(OPERATOR, ACME, 1) for each in nodes), return_exceptions=True)
    assert any(not isinstance(outcome, BaseException) for outcome in outcomes)
    assert all(isinstance(outcome, tuple | Conflict) for outcome in outcomes)
    assert await node.kek_versions("acme") == {1: False, 2: True}
    tenant = await node.tenants.get(OPERATOR, ACME)
    assert keks_in_token(shared_token, tenant.kek) == Tally({1: 1, 2: 1})
    with pytest.raises(Conflict, match="is 2, not 1"):
        await node.keks.rotate(OPERATOR, ACME, 1)


async def test_a_new_kek_version_wraps_what_is_new_and_the_old_one_goes_on_unwrapping(node):
    acme = await node.tenant("acme")
    old = await node.key(acme, "old")
    made = await node.fields.encrypt(acme, old, b"x", ())
    await node.keks.rotate(acme, ACME, 0)
    new = await node.key(acme, "new")
    assert [status.version.kek_version for status in (await node.keys.list_versions(acme, new, 0, 9))[1]] == [2]
    cold = Node(node.storage, node.vault)
    assert (await cold.fields.decrypt(acme, old, made.ciphertext, ())).plaintext == b"x"
    statuses = (await node.keks.list_statuses(acme, ACME, 0, 9))[1]
    assert [status.wrapped_key_versions for status in statuses] == [1, 1]
    assert all(status.wraps_reserved >= 1 for status in statuses)


async def test_an_intent_without_an_outcome_is_shown_to_nobody_and_settled_once(tokenless, node, shared_token):
    acme = await node.tenant("acme")
    with pytest.raises(HsmUnavailable):
        await tokenless.keks.rotate(OPERATOR, ACME, 1)
    assert await node.kek_versions("acme") == {1: True}
    assert (await node.keks.list_statuses(acme, ACME, 1, 10))[1] == []
    await node.key(acme, "k1")
    assert [await settle(node), await settle(node)] == [1, 0]
    assert await node.kek_versions("acme") == {1: False, 2: True}
    tenant = await stored(node)
    assert tenant is not None
    assert keks_in_token(shared_token, tenant.kek) == Tally({1: 1, 2: 1})


async def test_nodes_that_settle_at_once_make_each_version_once(tokenless, node, shared_token):
    for slug in ("acme", "globex"):
        with pytest.raises(HsmUnavailable):
            await tokenless.tenants.create(OPERATOR, slug, "")
    await asyncio.gather(settle(node), settle(Node(node.storage, node.vault)))
    for slug in ("acme", "globex"):
        tenant = await stored(node, slug)
        assert tenant is not None
        assert await node.kek_versions(slug) == {1: True}
        assert keks_in_token(shared_token, tenant.kek) == Tally({1: 1})


async def test_a_failed_rotation_is_carried_through_by_the_next_instead_of_adding_another(tokenless, node):
    await node.tenant("acme")
    for _ in range(2):
        with pytest.raises(HsmUnavailable):
            await tokenless.keks.rotate(OPERATOR, ACME, 1)
    await node.keks.rotate(OPERATOR, ACME, 1)
    assert await node.kek_versions("acme") == {1: False, 2: True}


async def test_an_intent_that_cannot_be_settled_stops_neither_the_start_nor_the_other_tenants(
    tokenless, node, shared_token
):
    acme = await node.tenant("acme")
    for slug in ("broken", "globex"):
        with pytest.raises(HsmUnavailable):
            await tokenless.tenants.create(OPERATOR, slug, "")
    broken = await stored(node, "broken")
    assert broken is not None
    # Two keys under the id of the KEK to be made: the token's host rightly refuses both.
    id_ = (broken.kek.bytes + (1).to_bytes(4, "big")).hex()
    shared_token.run(
        f"for _ in range(2): session.generate_key(KeyType.AES, 256, id=bytes.fromhex('{id_}'), store=True, label='x')"
    )
    with structlog.testing.capture_logs() as log:
        assert await node.keks.settle() == 1
    [left] = [line for line in log if line["event"] == "kek.intent_left"]
    assert (left["tenant"], left["log_level"]) == ("broken", "error")
    assert "2 keys" in left["reason"]
    assert await node.kek_versions("globex") == {1: True}
    await node.key(acme, "k1")
    with pytest.raises(NotFound):
        await node.tenants.get(OPERATOR, TenantName("broken"))


async def test_a_start_without_a_token_settles_nothing_and_loses_nothing(tokenless, node):
    with pytest.raises(HsmUnavailable):
        await tokenless.tenants.create(OPERATOR, "acme", "")
    assert await settle(tokenless) == 0
    assert await settle(node) == 1


async def test_a_caller_that_goes_away_leaves_the_lock_to_the_work_in_the_token(node, open_vault, shared_token):
    """Otherwise a second node of the same token makes the same version while the first one's is being made."""
    acme = await node.tenant("acme")
    slow = SlowVault(open_vault)
    nodes = [Node(node.storage, slow), Node(node.storage, slow)]
    gone = asyncio.create_task(nodes[0].keks.rotate(acme, ACME, 1))
    await until(lambda: slow.inside)
    gone.cancel()
    await asyncio.wait({gone})
    retry = asyncio.create_task(nodes[1].keks.rotate(acme, ACME, 1))
    done, _ = await asyncio.wait({retry}, timeout=0.2)
    assert not done
    slow.go.set()
    await retry
    assert gone.cancelled()
    assert slow.most_inside == 1
    assert await node.kek_versions("acme") == {1: False, 2: True}
    assert keks_in_token(shared_token, (await node.tenants.get(OPERATOR, ACME)).kek) == Tally({1: 1, 2: 1})


async def test_a_kek_at_its_limit_of_wraps_is_named_and_a_rotation_helps(node):
    acme = await node.tenant("acme")
    key = await node.key(acme, "k1")
    tenant = await node.tenants.get(OPERATOR, ACME)
    left, counter = 2, Counter(tenant.uid, tenant.kek, 1)
    [before] = await node.storage.reserved([counter])
    assert await node.storage.reserve(counter, WRAP_STOP - left - before, None) == WRAP_STOP - left
    fresh = Node(node.storage, node.vault)
    await fresh.key(acme, "k2")
    await fresh.keys.rotate(acme, key, "")
    for act in (lambda: fresh.key(acme, "k3"), lambda: fresh.keys.rotate(acme, key, "")):
        with pytest.raises(VersionExhausted, match=r"^tenants/acme/keks/1 has reached its limit of wraps"):
            await act()
    await fresh.keks.rotate(acme, ACME, 0)
    assert (await fresh.keys.rotate(acme, key, "")).key.primary_version == 3


async def test_pages_of_kek_versions_are_whole_whatever_is_pending(tokenless, node):
    await node.tenant("acme")
    for _ in range(3):
        await node.keks.rotate(OPERATOR, ACME, 0)
    with pytest.raises(HsmUnavailable):
        await tokenless.keks.rotate(OPERATOR, ACME, 0)
    pages = {
        (after, limit): [
            status.kek.version for status in (await node.keks.list_statuses(OPERATOR, ACME, after, limit))[1]
        ]
        for after, limit in ((0, 3), (3, 3), (4, 3), (0, 9))
    }
    assert pages == {(0, 3): [1, 2, 3], (3, 3): [4], (4, 3): [], (0, 9): [1, 2, 3, 4]}
