"""Requests for approval over both databases, and over two nodes of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from uuid import uuid4

import pytest

from kms.core import approvals as core
from kms.core.approvals import ApprovalState, Decision
from kms.core.callers import Caller, Credential, CredentialKind
from kms.core.classification import Classification
from kms.core.errors import (
    AlreadyExists,
    ApprovalUnusable,
    Conflict,
    Denied,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    SelfApproval,
    StorageUnavailable,
    WrongApprovalState,
    WrongKeyState,
)
from kms.core.keyring import Tenant
from kms.core.names import ApprovalName, Principal, QuorumRuleName, TenantName
from kms.core.policy import NamedPolicy, Policy
from kms.services import approvals as module
from kms.services.approvals import Approvals, Asked, Standing
from kms.services.quorum_rules import QuorumRules
from storage.database import Database
from tests.both_databases import Wall
from tests.keyrings import activated, new_kek, new_key, new_policy, new_tenant, new_version
from tests.sealing import open_sqlite

METHOD = "/kms.v1.KeyService/ScheduleKeyDestruction"
_numbers = count(1)


def caller(name: str, tenant: str, kind: CredentialKind = CredentialKind.CERTIFICATE) -> Caller:
    return Caller(Principal(tenant, name), Credential(kind, f"id-{next(_numbers)}"))


class Told:
    """Remembers which requests it was told of."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def approval_requested(self, work, tenant, request) -> None:
        assert await work.approvals.get(tenant.uid, request.uid) == request
        self.names.append(str(request.name(tenant.slug)))

    def committed(self) -> None:
        assert self.names


class World:
    """One tenant, and services as of one node."""

    def __init__(self, storage: Database, wall: Wall, tenant: Tenant, default: int = 2) -> None:
        self.storage, self.wall, self.tenant = storage, wall, tenant
        self.rules = QuorumRules(storage, default, wall)
        self.told = Told()
        self.denied: set[str] = set()
        self.approvals = Approvals(storage, self.rules, wall, may_approve=self.may_approve, notifier=self.told)

    async def may_approve(self, principal: Principal, name: ApprovalName) -> bool:
        return principal.name not in self.denied

    def caller(self, name: str, kind: CredentialKind = CredentialKind.CERTIFICATE) -> Caller:
        return caller(name, self.tenant.slug, kind)

    def asked(self, request: bytes = b"\x0a\x01k", by: str = "asker", permissions=("keys.destroy",)) -> Asked:
        resources = (f"{self.tenant.name}/keys/k",)
        return Asked(self.caller(by), self.tenant, METHOD, permissions, resources, request, "gone")

    async def vote(self, standing: Standing, name: str, decision: Decision = Decision.APPROVE) -> Standing:
        return await self.approvals.decide(self.caller(name), standing.name, decision, "", standing.request.digest)

    async def approved(self, asked: Asked) -> Standing:
        standing = await self.approvals.request(asked)
        for number in range(standing.needed):
            standing = await self.vote(standing, f"p{number}")
        assert standing.state is ApprovalState.APPROVED
        return standing

    async def state(self, name: ApprovalName) -> ApprovalState:
        return (await self.approvals.get(Principal(self.tenant.slug, "x"), name)).state


async def stored(storage: Database) -> Tenant:
    new = new_tenant()
    async with storage.transaction(new.uid, write=True) as work:
        return await work.tenants.add(new)


@pytest.fixture
async def world(storage: Database, wall: Wall) -> World:
    return World(storage, wall, await stored(storage))


async def test_a_request_is_stored_once_and_told_once(world: World) -> None:
    first = await world.approvals.request(world.asked())
    again = await world.approvals.request(world.asked())
    assert again.name == first.name
    assert (first.needed, first.state, first.request.reason) == (2, ApprovalState.OPEN, "gone")
    others = [
        await world.approvals.request(world.asked(b"other")),
        await world.approvals.request(world.asked(by="other")),
    ]
    assert len({first.name, *(other.name for other in others)}) == 3
    assert world.told.names == [str(first.name), *(str(other.name) for other in others)]


async def test_an_approved_request_is_done_once(world: World) -> None:
    asked = world.asked()
    standing = await world.approved(asked)
    used = await world.approvals.consume(asked, standing.name)
    assert await world.state(standing.name) is ApprovalState.EXECUTING
    with pytest.raises(ApprovalUnusable, match="is executing"):
        await world.approvals.consume(asked, standing.name)
    await world.approvals.settle(used, None)
    assert await world.state(standing.name) is ApprovalState.EXECUTED
    with pytest.raises(ApprovalUnusable, match="serves once"):
        await world.approvals.consume(asked, standing.name)
    assert (await world.approvals.request(asked)).name != standing.name


async def test_two_nodes_at_once_do_it_once(world: World) -> None:
    other = World(world.storage, world.wall, world.tenant)
    for number in range(5):
        asked = world.asked(bytes([number]))
        standing = await world.approved(asked)
        outcomes = await asyncio.gather(
            *(node.approvals.consume(asked, standing.name) for node in (world, other, world, other)),
            return_exceptions=True,
        )
        assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
        assert {type(outcome) for outcome in outcomes} == {core.ApprovalRequest, ApprovalUnusable}


async def test_two_nodes_at_once_store_it_once(world: World) -> None:
    other = World(world.storage, world.wall, world.tenant)
    found = await asyncio.gather(*(node.approvals.request(world.asked()) for node in (world, other, world, other)))
    assert len({standing.name for standing in found}) == 1
    assert len(world.told.names + other.told.names) == 1


async def test_votes_at_once_all_count_and_one_principal_has_one(world: World) -> None:
    standing = await world.approvals.request(world.asked())
    tries = ["p1", "p1", "p2", "p3", "p1"]
    outcomes = await asyncio.gather(*(world.vote(standing, name) for name in tries), return_exceptions=True)
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 2
    now = await world.approvals.get(Principal(world.tenant.slug, "x"), standing.name)
    assert [vote.principal.rpartition("/")[2] for vote in now.votes] == ["p1", "p2", "p3"]
    assert now.state is ApprovalState.APPROVED


async def test_nobody_approves_its_own_request_or_twice(world: World) -> None:
    standing = await world.approvals.request(world.asked())
    with pytest.raises(SelfApproval):
        await world.vote(standing, "asker")
    await world.vote(standing, "p1")
    again = world.caller("p1", CredentialKind.TOKEN)
    with pytest.raises(AlreadyExists, match="has voted"):
        await world.approvals.decide(again, standing.name, Decision.APPROVE, "", standing.request.digest)
    with pytest.raises(InvalidRequest, match="digest"):
        await world.approvals.decide(world.caller("p2"), standing.name, Decision.APPROVE, "", bytes(32))
    with pytest.raises(ApprovalUnusable, match="1 of 2 approvals count"):
        await world.approvals.consume(world.asked(), standing.name)


async def test_one_rejection_ends_it_also_when_it_was_approved(world: World) -> None:
    standing = await world.approved(world.asked())
    assert (await world.vote(standing, "late", Decision.REJECT)).state is ApprovalState.REJECTED
    with pytest.raises(ApprovalUnusable, match="is rejected"):
        await world.approvals.consume(world.asked(), standing.name)
    with pytest.raises(WrongApprovalState):
        await world.vote(standing, "later")


async def test_the_requester_alone_withdraws(world: World) -> None:
    standing = await world.approved(world.asked())
    with pytest.raises(Denied):
        await world.approvals.withdraw(Principal(world.tenant.slug, "p1"), standing.name)
    await world.approvals.withdraw(Principal(world.tenant.slug, "asker"), standing.name)
    with pytest.raises(ApprovalUnusable, match="is withdrawn"):
        await world.approvals.consume(world.asked(), standing.name)


async def test_an_approval_serves_nobody_and_nothing_else(world: World) -> None:
    standing = await world.approved(world.asked())
    with pytest.raises(ApprovalUnusable, match="another request"):
        await world.approvals.consume(world.asked(b"changed"), standing.name)
    with pytest.raises(Denied, match="somebody else"):
        await world.approvals.consume(world.asked(by="p1"), standing.name)
    other = World(world.storage, world.wall, await stored(world.storage))
    foreign = ApprovalName(other.tenant.slug, standing.name.approval)
    with pytest.raises(NotFound):
        await other.approvals.consume(other.asked(), standing.name)
    with pytest.raises(NotFound):
        await other.approvals.consume(other.asked(), foreign)
    for name in (standing.name, foreign, ApprovalName(other.tenant.slug, uuid4())):
        with pytest.raises(NotFound, match=f"^{name} does not exist$"):
            await world.approvals.get(Principal(other.tenant.slug + "-x", "x"), name)
    assert await world.state(standing.name) is ApprovalState.APPROVED


async def test_time_ends_it_and_makes_room_for_the_same_again(world: World) -> None:
    asked = world.asked()
    standing = await world.approved(asked)
    world.wall.advance(core.LIFETIME)
    with pytest.raises(ApprovalUnusable, match="is expired"):
        await world.approvals.consume(asked, standing.name)
    fresh = await world.approvals.request(asked)
    assert fresh.name != standing.name
    assert (fresh.state, fresh.votes) == (ApprovalState.OPEN, ())
    assert await world.state(standing.name) is ApprovalState.EXPIRED


async def test_what_was_not_done_gives_the_approval_back_and_what_is_unknown_does_not(world: World) -> None:
    asked = world.asked()
    standing = await world.approved(asked)
    await world.approvals.settle(await world.approvals.consume(asked, standing.name), WrongKeyState("no"))
    assert await world.state(standing.name) is ApprovalState.APPROVED
    await world.approvals.settle(await world.approvals.consume(asked, standing.name), StorageUnavailable("?"))
    assert await world.state(standing.name) is ApprovalState.OUTCOME_UNKNOWN
    with pytest.raises(ApprovalUnusable, match="whether the act was done is not known"):
        await world.approvals.consume(asked, standing.name)


async def test_votes_of_who_may_not_approve_any_more_do_not_count(world: World) -> None:
    asked = world.asked()
    standing = await world.approved(asked)
    world.denied = {"p1"}
    with pytest.raises(ApprovalUnusable, match="1 of 2 approvals count"):
        await world.approvals.consume(asked, standing.name)
    await world.vote(standing, "p9")
    await world.approvals.consume(asked, standing.name)


async def test_a_raised_rule_holds_for_what_was_asked_before_and_a_lowered_one_does_not(world: World) -> None:
    asked = world.asked()
    standing = await world.approved(asked)
    officer, name = Principal(world.tenant.slug, "o"), QuorumRuleName(world.tenant.slug, "keys.destroy")
    await world.rules.update(officer, name, 3, 2)
    with pytest.raises(ApprovalUnusable, match="2 of 3 approvals count"):
        await world.approvals.consume(asked, standing.name)
    assert (await world.approvals.get(officer, standing.name)).needed == 3
    await world.rules.update(officer, name, 0, 3)
    await world.approvals.consume(asked, standing.name)
    other = await world.approvals.request(world.asked(b"other"))  # it was found to need some just before
    assert other.needed == 1


async def test_rules_change_over_what_was_seen_alone(world: World) -> None:
    officer, name = Principal(world.tenant.slug, "o"), QuorumRuleName(world.tenant.slug, "keys.destroy")
    uid = world.tenant.uid
    with pytest.raises(Conflict, match="needs 2 approvals now, not 3"):
        await world.rules.update(officer, name, 0, 3)
    outcomes = await asyncio.gather(
        *(world.rules.update(officer, name, wanted, 2) for wanted in (3, 4)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    assert await world.rules.needed(uid, ["keys.destroy"]) in {3, 4}
    assert await world.rules.needed(uid, ["policies.update"]) == 2
    assert await world.rules.needed(uid, ["policies.update", "keys.destroy"]) in {3, 4}
    _, [rule] = await world.rules.list_all(officer, TenantName(world.tenant.slug))
    assert (rule.permission, rule.updated_by, rule.updated_at) == ("keys.destroy", str(officer), world.wall.now)
    assert await world.rules.needed((await stored(world.storage)).uid, ["keys.destroy"]) == 2


class Classed:
    """A tenant without any quorum of its own, with a key of class confidential, one without a policy, and policies."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tenant = world.tenant

    @classmethod
    async def make(cls, storage: Database, wall: Wall) -> Classed:
        made = cls(World(storage, wall, await stored(storage), default=0))
        tenant = made.tenant
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.keks.add(activated(new_kek(tenant)))
            await work.policies.add(made.policy(1, Classification.CONFIDENTIAL, approvals=3))
            for slug, policy in (("plain", ""), ("payroll", "confidential"), ("people", "people")):
                key = await work.keys.add(replace(new_key(tenant, slug), policy=policy))
                await work.key_versions.add(new_version(key))
        return made

    def policy(self, version: int, classification: Classification, approvals: int) -> NamedPolicy:
        rules = replace(Policy(), classification=classification, approvals=approvals)
        return replace(new_policy(self.tenant, "people", version), policy=rules)

    async def needed(self, resource: str, permission: str = "keys.destroy") -> int:
        return await self.world.rules.needed(self.tenant.uid, [permission], [f"{self.tenant.name}/{resource}"])

    def asked(self, resource: str, permission: str = "keys.destroy") -> Asked:
        name = f"{self.tenant.name}/{resource}"
        return Asked(self.world.caller("asker"), self.tenant, METHOD, (permission,), (name,), b"\x0a\x01k", "gone")


@pytest.fixture
async def classed(storage: Database, wall: Wall) -> Classed:
    return await Classed.make(storage, wall)


async def test_confidential_data_needs_an_approval_also_where_nothing_else_does(classed: Classed) -> None:
    needed = {
        resource: await classed.needed(resource)
        for resource in (
            *("keys/plain", "keys/payroll", "keys/payroll/versions/1", "keys/people", "keys/absent"),
            *("policies/internal", "policies/confidential", "policies/secret", "policies/people", "policies/absent"),
            "tokens/abcdefghijkl",
        )
    }
    assert needed == {
        "keys/plain": 0,
        "keys/payroll": 1,
        "keys/payroll/versions/1": 1,
        "keys/people": 3,
        "keys/absent": 0,
        "policies/internal": 0,
        "policies/confidential": 1,
        "policies/secret": 2,
        "policies/people": 3,
        "policies/absent": 0,
        "tokens/abcdefghijkl": 0,
    }
    asked = classed.asked("keys/payroll")
    standing = await classed.world.approved(asked)
    assert standing.needed == 1
    await classed.world.approvals.consume(asked, standing.name)


async def test_a_rule_raises_what_a_class_asks_for_and_does_not_lower_it(classed: Classed) -> None:
    officer, name = Principal(classed.tenant.slug, "o"), QuorumRuleName(classed.tenant.slug, "keys.destroy")
    await classed.world.rules.update(officer, name, 2, 0)
    assert [await classed.needed(f"keys/{key}") for key in ("plain", "payroll", "people")] == [2, 2, 3]
    await classed.world.rules.update(officer, name, 0, 2)
    assert [await classed.needed(f"keys/{key}") for key in ("plain", "payroll", "people")] == [0, 1, 3]
    assert await classed.world.rules.needed(classed.tenant.uid, ["keys.destroy"]) == 0


async def test_what_a_policy_asks_for_meanwhile_holds_for_what_was_asked_before(classed: Classed) -> None:
    asked = classed.asked("policies/people", "policies.update")
    standing = await classed.world.approved(asked)
    assert standing.needed == 3
    async with classed.world.storage.transaction(classed.tenant.uid, write=True) as work:
        await work.policies.add(classed.policy(2, Classification.CONFIDENTIAL, approvals=4))
    me = Principal(classed.tenant.slug, "asker")
    assert (await classed.world.approvals.get(me, standing.name)).needed == 4
    parent = TenantName(classed.tenant.slug)
    [listed] = await classed.world.approvals.list_newest(me, parent, None, 10, waiting=False)
    assert listed.needed == 4
    with pytest.raises(ApprovalUnusable, match="3 of 4 approvals count"):
        await classed.world.approvals.consume(asked, standing.name)
    await classed.world.vote(standing, "p9")
    await classed.world.approvals.consume(asked, standing.name)


async def test_what_waits_is_bounded_and_listed_by_pages(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OPEN_OF_ONE", 3)
    monkeypatch.setattr(module, "MOST_OPEN", 5)
    names = []
    for number in range(3):
        world.wall.advance(timedelta(seconds=1))
        names.append((await world.approvals.request(world.asked(bytes([number])))).name)
    with pytest.raises(LimitExceeded, match="withdraw some"):
        await world.approvals.request(world.asked(b"more"))
    for number in range(2):
        await world.approvals.request(world.asked(bytes([number]), by="other"))
    with pytest.raises(LimitExceeded, match="decide some"):
        await world.approvals.request(world.asked(by="third"))
    me = Principal(world.tenant.slug, "asker")
    await world.approvals.withdraw(me, names[2])
    await world.approvals.request(world.asked(by="third"))
    parent = TenantName(world.tenant.slug)
    everything = await world.approvals.list_newest(me, parent, None, 100, waiting=False)
    waiting = await world.approvals.list_newest(me, parent, None, 100, waiting=True)
    assert len(everything) == 6
    assert [s.name for s in waiting] == [s.name for s in everything if s.name != names[2]]
    first = everything[:2]
    last = first[-1].request
    rest = await world.approvals.list_newest(me, parent, (last.created_at, last.uid), 100, waiting=False)
    assert [*first, *rest] == everything
    world.wall.advance(core.LIFETIME)
    assert await world.approvals.list_newest(me, parent, None, 100, waiting=True) == []
    await world.approvals.request(world.asked(b"more"))


async def test_what_cannot_be_noted_stays_used(world: World) -> None:
    asked = world.asked()
    standing = await world.approved(asked)
    used = await world.approvals.consume(asked, standing.name)
    await world.approvals.settle(used, None)
    await world.approvals.settle(used, WrongKeyState("late"))  # raises nothing, gives nothing back
    assert await world.state(standing.name) is ApprovalState.EXECUTED


@pytest.fixture
async def two_files(hostile, wall: Wall) -> AsyncIterator[tuple[World, World]]:
    """Two processes' worth of connections to one SQLite file."""
    one, two = await open_sqlite(hostile.path), await open_sqlite(hostile.path)
    tenant = await stored(one)
    yield World(one, wall, tenant), World(two, wall, tenant)
    await one.close()
    await two.close()


async def test_two_connections_at_once_do_it_once(two_files: tuple[World, World]) -> None:
    one, two = two_files
    standing = await one.approved(one.asked())
    outcomes = await asyncio.gather(
        *(node.approvals.consume(node.asked(), standing.name) for node in (one, two)), return_exceptions=True
    )
    assert sum(isinstance(outcome, core.ApprovalRequest) for outcome in outcomes) == 1
