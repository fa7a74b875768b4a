"""A tenant begins with its founders, whoever finishes making it."""

from __future__ import annotations

import pytest

from kms.core.access import Facts, PrincipalKind, decide
from kms.core.errors import AlreadyExists, HsmUnavailable
from kms.core.names import Principal, TenantName
from kms.core.roles import Role
from kms.services.principals import Founder
from tests.keyrings import NOW
from tests.node import OPERATOR, Node

pytestmark = pytest.mark.softhsm

ALICE = Founder("alice", PrincipalKind.PERSON, frozenset({Role.TENANT_ADMIN, Role.SECURITY_OFFICER}))
APP = Founder("app", PrincipalKind.SERVICE, frozenset({Role.APPLICATION}))


class DeadVault:
    """A token that is away."""

    async def create_kek(self, uid, version):
        raise HsmUnavailable("the token is away")


async def granted(node, slug):
    principal = Principal("acme", slug)
    return {grant.role for grant in await node.grants.list_by_uid(Principal("acme", "other"), principal, None, 9)}


async def test_founders_hold_their_roles_in_all_of_the_tenant(node):
    await node.tenants.create(OPERATOR, "acme", "", [APP, ALICE])
    assert await granted(node, "alice") == ALICE.roles
    assert await granted(node, "app") == APP.roles
    access = await node.accesses.of(Principal("acme", "alice"))
    assert decide(access, "grants.create", "tenants/acme/principals/bob", Facts(NOW)).allowed
    assert decide(access, "keys.rotate", "tenants/acme/keys/payroll", Facts(NOW)).allowed
    assert not decide(access, "keys.decrypt", "tenants/acme/keys/payroll", Facts(NOW)).allowed


async def test_a_retry_finishes_the_tenant_with_the_same_founders_and_makes_none_twice(node):
    broken = Node(node.storage, DeadVault())
    with pytest.raises(HsmUnavailable):
        await broken.tenants.create(OPERATOR, "acme", "", [ALICE, APP])
    for others in ([], [ALICE], [ALICE, Founder("app", PrincipalKind.SERVICE, frozenset({Role.AUDITOR}))]):
        with pytest.raises(AlreadyExists, match="begun with other founders"):
            await node.tenants.create(OPERATOR, "acme", "", others)
    await node.tenants.create(OPERATOR, "acme", "", [APP, ALICE])
    assert await granted(node, "alice") == ALICE.roles
    found = await node.principals.list_by_slug(Principal("acme", "x1"), TenantName("acme"), "", 9)
    assert [principal.slug for principal in found] == ["alice", "app"]


async def test_a_tenant_that_exists_gets_no_founders(node):
    await node.tenants.create(OPERATOR, "acme", "", [ALICE])
    with pytest.raises(AlreadyExists, match=r"^tenants/acme exists$"):
        await node.tenants.create(OPERATOR, "acme", "", [APP])
    found = await node.principals.list_by_slug(Principal("acme", "x1"), TenantName("acme"), "", 9)
    assert [principal.slug for principal in found] == ["alice"]
