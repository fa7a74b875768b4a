"""Principals and grants over either database: who may change whose, and that every node hears of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from kms.core import access as core
from kms.core.access import Conditions, Effect, Facts, PrincipalKind, Rule, decide
from kms.core.errors import AlreadyExists, Conflict, CorruptRecord, Denied, FailedPrecondition, InvalidRequest, NotFound
from kms.core.names import GrantName, Principal, TenantName
from kms.core.patterns import Pattern
from kms.core.roles import Role
from kms.services import access as services_access
from kms.services import grants as services_grants
from kms.services.grants import NewGrant
from tests.both_databases import add_tenants
from tests.keyrings import NOW, new_tenant
from tests.node import Clock, Node

ACME = TenantName("acme")
ALICE, BOB, EVE = Principal("acme", "alice"), Principal("acme", "bob"), Principal("globex", "eve")
ROOT = Principal(None, "root")
KEY = "tenants/acme/keys/payroll"
FACTS = Facts(NOW)


def wish(permission="keys.encrypt", effect=Effect.ALLOW, resource=None, **fields):
    plain = NewGrant(effect, None, frozenset({permission}), resource, Conditions(), None, "")
    return replace(plain, **fields)


@pytest.fixture
async def nodes(storage, wall):
    """Two nodes over one database with two tenants; the principal bob of the first."""
    await add_tenants(storage, "acme", "globex")
    clock = Clock()
    first, second = (Node(storage, None, clock=clock, wall=wall) for _ in range(2))
    await first.principals.create(ALICE, ACME, "bob", PrincipalKind.SERVICE, "")
    return first, second


async def may(node, principal=BOB, permission="keys.encrypt", resource=KEY, facts=FACTS):
    return decide(await node.accesses.of(principal), permission, resource, facts).allowed


async def test_a_new_principal_may_do_nothing_until_it_is_granted_something(nodes):
    node, _ = nodes
    assert not await may(node)
    grant = await node.grants.create(ALICE, BOB, wish())
    assert await may(node)
    assert (grant.created_by, str(grant.resource)) == (str(ALICE), "tenants/acme/**")
    assert await node.grants.list_by_uid(ALICE, BOB, None, 10) == [grant]


async def test_a_deleted_grant_stops_on_the_other_node_once_that_has_looked(nodes):
    first, second = nodes
    grant = await first.grants.create(ALICE, BOB, wish())
    await second.membership.look()
    assert await may(first)
    assert await may(second)
    await first.grants.delete(ALICE, GrantName(BOB, grant.uid))
    assert not await may(first)
    assert await may(second)  # it has not heard of it
    await second.membership.look()
    assert not await may(second)


@pytest.mark.parametrize("act", ["deny", "block", "unblock", "allow"])
async def test_every_change_is_heard_of_by_the_other_node(nodes, act):
    first, second = nodes
    await first.grants.create(ALICE, BOB, wish())
    if act == "unblock":
        await first.principals.block(ALICE, BOB, None, "lost")
    permission = "keys.decrypt" if act == "allow" else "keys.encrypt"
    await second.membership.look()
    before = await may(second, permission=permission)
    match act:
        case "deny":
            await first.grants.create(ALICE, BOB, wish(effect=Effect.DENY))
        case "block":
            await first.principals.block(ALICE, BOB, None, "lost")
        case "unblock":
            await first.principals.unblock(ALICE, BOB)
        case "allow":
            await first.grants.create(ALICE, BOB, wish("keys.decrypt"))
    await second.membership.look()
    assert await may(second, permission=permission) is not before
    assert await may(first, permission=permission) is not before


async def test_an_access_is_read_again_after_its_lifetime_even_if_nothing_was_heard(nodes):
    first, second = nodes
    assert not await may(second)
    await first.grants.create(ALICE, BOB, wish())
    assert not await may(second)
    second.clock.now += 6
    assert await may(second)


async def test_a_read_that_began_before_a_change_is_not_remembered(nodes):
    node, _ = nodes
    reading, go = asyncio.Event(), asyncio.Event()
    read = node.accesses.read

    async def slow(principal):
        found = await read(principal)
        reading.set()
        await go.wait()
        return found

    node.accesses.read = slow
    waiting = asyncio.create_task(node.accesses.of(BOB))
    await reading.wait()
    await node.grants.create(ALICE, BOB, wish())
    go.set()
    await waiting
    assert node.accesses.peek(BOB) is None


async def test_changes_of_one_tenant_leave_what_is_remembered_of_another(nodes):
    node, _ = nodes
    await node.principals.create(EVE, TenantName("globex"), "mallory", PrincipalKind.PERSON, "")
    other = Principal("globex", "mallory")
    await node.accesses.of(BOB)
    await node.accesses.of(other)
    await node.accesses.of(ROOT)
    await node.grants.create(ALICE, BOB, wish())
    assert node.accesses.peek(BOB) is None
    assert node.accesses.peek(other) is not None
    assert node.accesses.peek(ROOT) is not None


async def test_nobody_changes_their_own_grants_or_blocks_themself(nodes):
    node, _ = nodes
    grant = await node.grants.create(ALICE, BOB, wish(effect=Effect.DENY))
    with pytest.raises(Denied, match="nobody changes their own grants"):
        await node.grants.create(BOB, BOB, wish())
    with pytest.raises(Denied, match="nobody changes their own grants"):
        await node.grants.delete(BOB, GrantName(BOB, grant.uid))
    with pytest.raises(Denied, match="nobody blocks themself"):
        await node.principals.block(BOB, BOB, None, "tired")
    assert await node.grants.list_by_uid(ALICE, BOB, None, 10) == [grant]


@pytest.mark.parametrize("caller", [EVE, ROOT])
async def test_nobody_reaches_the_principals_of_another_tenant(nodes, caller):
    node, _ = nodes
    grant = await node.grants.create(ALICE, BOB, wish())
    name = GrantName(BOB, grant.uid)
    acts = [
        (lambda: node.principals.get(caller, BOB), BOB),
        (lambda: node.principals.update(caller, BOB, "", "x"), BOB),
        (lambda: node.principals.block(caller, BOB, None, "x"), BOB),
        (lambda: node.principals.unblock(caller, BOB), BOB),
        (lambda: node.grants.create(caller, BOB, wish()), BOB),
        (lambda: node.grants.list_by_uid(caller, BOB, None, 9), BOB),
        (lambda: node.grants.delete(caller, name), name),
    ]
    for act, missing in acts:
        with pytest.raises(NotFound, match=f"^{missing} does not exist$"):
            await act()
    assert await may(node)


@pytest.mark.parametrize(
    "resource", ["tenants/globex/**", "tenants/*/keys/payroll", "**", "tenants/**", "operators/**"]
)
async def test_a_grant_reaches_nothing_beyond_its_tenant(nodes, resource):
    node, _ = nodes
    with pytest.raises(InvalidRequest, match=r"^grant\.resource: must begin with tenants/acme$"):
        await node.grants.create(ALICE, BOB, wish(resource=Pattern.parse(resource)))
    assert await node.grants.list_by_uid(ALICE, BOB, None, 9) == []


async def test_what_is_no_permission_or_over_already_is_not_granted(nodes, wall):
    node, _ = nodes
    with pytest.raises(InvalidRequest, match="is no permission"):
        await node.grants.create(ALICE, BOB, wish("keys.fly"))
    with pytest.raises(InvalidRequest, match="in the future"):
        await node.grants.create(ALICE, BOB, wish(expires_at=wall.now))


async def test_a_grant_is_deleted_by_its_whole_name_once(nodes):
    node, _ = nodes
    await node.principals.create(ALICE, ACME, "carol", PrincipalKind.PERSON, "")
    grant = await node.grants.create(ALICE, BOB, wish())
    for name in (GrantName(Principal("acme", "carol"), grant.uid), GrantName(BOB, uuid4())):
        with pytest.raises(NotFound, match=f"^{name} does not exist$"):
            await node.grants.delete(ALICE, name)
    await node.grants.delete(ALICE, GrantName(BOB, grant.uid))
    with pytest.raises(NotFound):
        await node.grants.delete(ALICE, GrantName(BOB, grant.uid))


async def test_a_principal_has_so_many_grants_and_not_one_more(nodes, monkeypatch):
    node, _ = nodes
    monkeypatch.setattr(services_grants, "MOST_GRANTS", 3)
    assert core.MOST_GRANTS == 256
    for _ in range(3):
        await node.grants.create(ALICE, BOB, wish())
    with pytest.raises(FailedPrecondition, match="has 3 grants, which is the limit"):
        await node.grants.create(ALICE, BOB, wish())
    # More than there may be are not decided by, since a deny may be among those not read.
    monkeypatch.setattr(services_access, "MOST_GRANTS", 2)
    with pytest.raises(CorruptRecord):
        await node.accesses.of(BOB)


async def test_two_grants_at_once_do_not_pass_the_limit(nodes, monkeypatch):
    node, _ = nodes
    monkeypatch.setattr(services_grants, "MOST_GRANTS", 1)
    outcomes = await asyncio.gather(*(node.grants.create(ALICE, BOB, wish()) for _ in range(4)), return_exceptions=True)
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)} <= {Conflict, FailedPrecondition}
    assert len(await node.grants.list_by_uid(ALICE, BOB, None, 9)) == 1


async def test_a_block_ends_by_itself_or_by_hand(nodes, wall):
    node, _ = nodes
    await node.grants.create(ALICE, BOB, wish())
    await node.principals.block(ALICE, BOB, wall.now + timedelta(hours=1), "too many denials")
    assert not await may(node, facts=Facts(wall.now))
    assert await may(node, facts=Facts(wall.now + timedelta(hours=1)))
    await node.principals.block(ALICE, BOB, None, "for good")
    assert not await may(node, facts=Facts(wall.now + timedelta(days=999)))
    free = await node.principals.unblock(ALICE, BOB)
    assert (free.blocked, free.blocked_until, free.blocked_reason) == (False, None, "")
    assert await may(node)


async def test_one_of_whom_nothing_is_stored_can_be_blocked_also_an_operator(nodes):
    node, _ = nodes
    unknown, operator = Principal("acme", "ghost"), Principal(None, "mallory")
    blocked = await node.principals.block(ALICE, unknown, None, "who is that")
    assert (blocked.kind, blocked.blocked) == (PrincipalKind.SERVICE, True)
    assert await may(node, operator, "nodes.list", "installation")
    await node.principals.block(ROOT, operator, None, "left the company")
    assert not await may(node, operator, "nodes.list", "installation")
    assert (await node.principals.get(ROOT, operator)).blocked_reason == "left the company"
    with pytest.raises(NotFound):
        await node.principals.block(ALICE, operator, None, "x")


async def test_principals_are_created_once_listed_and_changed_by_their_etag(nodes):
    node, _ = nodes
    with pytest.raises(AlreadyExists):
        await node.principals.create(ALICE, ACME, "bob", PrincipalKind.PERSON, "")
    await node.principals.create(ALICE, ACME, "alice", PrincipalKind.PERSON, "Alice")
    assert [p.slug for p in await node.principals.list_by_slug(ALICE, ACME, "", 9)] == ["alice", "bob"]
    bob = await node.principals.get(ALICE, BOB)
    changed = await node.principals.update(ALICE, BOB, bob.etag, "Bob")
    assert (changed.display_name, changed.etag) == ("Bob", "2")
    with pytest.raises(Conflict, match="has the etag 2, not 1"):
        await node.principals.update(ALICE, BOB, bob.etag, "Robert")
    with pytest.raises(NotFound):
        await node.principals.get(ALICE, Principal("acme", "ghost"))


async def test_who_is_not_known_may_do_nothing_and_in_open_tenants_everything(nodes, storage, wall):
    node, _ = nodes
    ghost, nowhere = Principal("acme", "ghost"), Principal("nowhere", "ghost")
    assert not await may(node, ghost)
    assert not await may(node, nowhere)
    opened = Node(storage, None, clock=node.clock, wall=wall, open_tenants=True)
    assert await may(opened, ghost)
    await node.grants.create(ALICE, BOB, wish(effect=Effect.DENY))
    assert not await may(opened, BOB)
    assert await may(opened, BOB, "keys.decrypt")
    await node.principals.block(ALICE, ghost, None, "x")
    await opened.membership.look()
    assert not await may(opened, ghost)


async def test_a_tenant_that_is_made_later_is_found_at_once(nodes, storage):
    node, _ = nodes
    late = new_tenant("late")
    bob = Principal("late", "bob")
    assert not await may(node, bob, resource="tenants/late/keys/payroll")
    async with storage.transaction(late.uid, write=True) as work:
        await work.tenants.add(late)
    await node.principals.create(Principal("late", "a1"), TenantName("late"), "bob", PrincipalKind.PERSON, "")
    await node.grants.create(Principal("late", "a1"), bob, wish())
    assert await may(node, bob, resource="tenants/late/keys/payroll")


async def test_an_explanation_is_of_what_is_stored_now_and_names_the_rule(nodes):
    first, second = nodes
    assert not await may(second)
    allow = await first.grants.create(ALICE, BOB, wish(role=Role.APPLICATION, permissions=frozenset()))
    deny = await first.grants.create(ALICE, BOB, wish("keys.decrypt", Effect.DENY))
    told = await second.accesses.explain(BOB, "keys.encrypt", KEY, FACTS)
    assert (told.decision.allowed, told.decision.rule, told.decision.grant) == (True, Rule.GRANT, allow)
    assert {look.grant.uid: look.applies for look in told.looks} == {allow.uid: True, deny.uid: False}
    told = await second.accesses.explain(BOB, "keys.decrypt", KEY, FACTS)
    assert (told.decision.allowed, told.decision.grant) == (False, deny)


async def test_what_is_remembered_is_bounded(nodes):
    node, _ = nodes
    for number in range(105):
        await node.accesses.of(Principal("acme", f"p{number}"))
    assert len(node.accesses.cache) == 100
