"""AccessService over real services: what is read, what is refused, what is answered."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.errors import InvalidRequest, NotFound
from kms.core.names import Principal
from kms.core.roles import PERMISSIONS, Role
from kms.rpc.access import AccessServicer
from kms.rpc.access_messages import parse_founders
from kms.v1 import access_pb2 as pb
from kms.v1 import crypto_pb2, tenants_pb2
from tests.both_databases import add_tenants
from tests.node import Node

ALICE, ROOT = Principal("acme", "alice"), Principal(None, "root")
BOB = "tenants/acme/principals/bob"
KEY = "tenants/acme/keys/payroll"


def stamp(moment):
    message = Timestamp()
    message.FromDatetime(moment)
    return message


@pytest.fixture
async def access(database, wall):
    await add_tenants(database, "acme", "globex")
    node = Node(database, None, wall=wall)

    async def classify(name):
        return {"payroll": "confidential"}.get(name.key)

    servicer = AccessServicer(node.principals, node.grants, node.accesses, wall, classify)
    await servicer.CreatePrincipal(pb.CreatePrincipalRequest(parent="tenants/acme", principal_id="bob"), ALICE)
    return servicer


async def granted(access, **fields):
    return await access.CreateGrant(pb.CreateGrantRequest(parent=BOB, grant=pb.Grant(**fields)), ALICE)


async def explained(access, permission="keys.encrypt", resource=KEY, principal=BOB, caller=ALICE, **known):
    request = pb.ExplainAccessRequest(principal=principal, permission=permission, resource=resource, **known)
    return await access.ExplainAccess(request, caller)


async def test_a_new_principal_is_a_service_unless_it_is_said_to_be_a_person(access, wall):
    bob = await access.GetPrincipal(pb.GetPrincipalRequest(name=BOB), ALICE)
    assert bob == pb.Principal(
        name=BOB, kind=pb.Principal.SERVICE, create_time=stamp(wall.now), creator=str(ALICE), etag="1"
    )
    wish = pb.Principal(kind=pb.Principal.PERSON, display_name="Carol")
    request = pb.CreatePrincipalRequest(parent="tenants/acme", principal_id="carol", principal=wish)
    carol = await access.CreatePrincipal(request, ALICE)
    assert (carol.kind, carol.display_name) == (pb.Principal.PERSON, "Carol")
    with pytest.raises(InvalidRequest, match=r"principal\.kind: must be SERVICE or PERSON"):
        await access.CreatePrincipal(
            pb.CreatePrincipalRequest(parent="tenants/acme", principal_id="dave", principal=pb.Principal(kind=9)), ALICE
        )


async def test_principals_and_grants_come_in_pages(access):
    for slug in ("ann", "zoe"):
        await access.CreatePrincipal(pb.CreatePrincipalRequest(parent="tenants/acme", principal_id=slug), ALICE)
    first = await access.ListPrincipals(pb.ListPrincipalsRequest(parent="tenants/acme", page_size=2), ALICE)
    rest = await access.ListPrincipals(
        pb.ListPrincipalsRequest(parent="tenants/acme", page_token=first.next_page_token), ALICE
    )
    assert [p.name.rpartition("/")[2] for p in (*first.principals, *rest.principals)] == ["ann", "bob", "zoe"]
    made = sorted([(await granted(access, role="auditor")).name for _ in range(3)])
    seen, token = [], ""
    while True:
        page = await access.ListGrants(pb.ListGrantsRequest(parent=BOB, page_size=1, page_token=token), ALICE)
        seen += [grant.name for grant in page.grants]
        token = page.next_page_token
        if not token:
            break
    assert seen == made
    with pytest.raises(InvalidRequest, match="page_token"):
        await access.ListGrants(pb.ListGrantsRequest(parent=BOB, page_token=first.next_page_token), ALICE)


async def test_a_block_that_has_ended_is_not_shown_as_one(access, wall):
    end = stamp(wall.now + timedelta(hours=1))
    blocked = await access.BlockPrincipal(pb.BlockPrincipalRequest(name=BOB, reason="lost", end_time=end), ALICE)
    assert (blocked.blocked, blocked.block_reason, blocked.block_end_time) == (True, "lost", end)
    wall.advance(timedelta(hours=1))
    over = await access.GetPrincipal(pb.GetPrincipalRequest(name=BOB), ALICE)
    assert (over.blocked, over.block_reason, over.HasField("block_end_time")) == (False, "", False)


async def test_a_grant_is_answered_as_it_was_given(access, wall):
    grant = pb.Grant(
        effect=pb.Grant.DENY,
        permissions=["keys.decrypt", "keys.encrypt"],
        resource="tenants/acme/keys/*",
        conditions=pb.Conditions(
            context=[pb.ContextCondition(key="table", values=["roles", "users"])],
            classes=["secret"],
            networks=["192.0.2.0/24", "2001:db8::/32"],
        ),
        expire_time=stamp(wall.now + timedelta(days=1)),
        reason="audit",
    )
    made = await access.CreateGrant(pb.CreateGrantRequest(parent=BOB, grant=grant), ALICE)
    grant.MergeFrom(pb.Grant(name=made.name, create_time=stamp(wall.now), creator=str(ALICE)))
    assert made == grant
    listed = await access.ListGrants(pb.ListGrantsRequest(parent=BOB), ALICE)
    assert list(listed.grants) == [grant]
    await access.DeleteGrant(pb.DeleteGrantRequest(name=made.name), ALICE)
    assert not (await access.ListGrants(pb.ListGrantsRequest(parent=BOB), ALICE)).grants


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "grant"),
        ({"role": "application", "permissions": ["keys.get"]}, "grant"),
        ({"role": "root"}, "grant.role"),
        ({"role": "operator"}, "grant.role"),
        ({"role": "Application"}, "grant.role"),
        ({"permissions": ["keys.*"]}, "grant.permissions"),
        ({"role": "auditor", "effect": 7}, "grant.effect"),
        ({"role": "auditor", "resource": "keys/payroll"}, "grant.resource"),
        ({"role": "auditor", "resource": "tenants/acme/keys/p*"}, "grant.resource"),
        ({"role": "auditor", "resource": "tenants/globex/**"}, "grant.resource"),
        ({"role": "auditor", "reason": "x" * 257}, "grant.reason"),
        ({"role": "auditor", "expire_time": Timestamp(seconds=1)}, "grant.expire_time"),
        ({"role": "auditor", "expire_time": Timestamp(seconds=2**60)}, "grant.expire_time"),
        ({"role": "auditor", "conditions": pb.Conditions(networks=["10.0.0.1/8"])}, "conditions.networks"),
        (
            {
                "role": "auditor",
                "conditions": pb.Conditions(
                    context=[pb.ContextCondition(key="t", values=["a"]), pb.ContextCondition(key="t", values=["b"])]
                ),
            },
            "grant.conditions.context",
        ),
    ],
)
async def test_what_is_no_grant_names_its_field(access, fields, field):
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        await granted(access, **fields)
    assert not (await access.ListGrants(pb.ListGrantsRequest(parent=BOB), ALICE)).grants


async def test_operators_get_no_grants(access):
    with pytest.raises(InvalidRequest, match=r"^parent: must have the form tenants/"):
        await access.CreateGrant(
            pb.CreateGrantRequest(parent="operators/bob", grant=pb.Grant(role="auditor")), Principal(None, "root")
        )


async def test_every_role_is_listed_with_its_permissions(access):
    roles = (await access.ListRoles(pb.ListRolesRequest(), ALICE)).roles
    assert {role.name: frozenset(role.permissions) for role in roles} == dict(PERMISSIONS)


async def test_an_explanation_says_which_rule_decides(access, wall):
    rules = pb.AccessExplanation
    assert (await explained(access)).rule == rules.DEFAULT
    allow = await granted(access, role="application")
    told = await explained(access)
    assert (told.allowed, told.rule, told.grant) == (True, rules.GRANT, allow.name)
    deny = await granted(
        access,
        effect=pb.Grant.DENY,
        permissions=["keys.encrypt"],
        conditions=pb.Conditions(
            context=[pb.ContextCondition(key="table", values=["salaries"])],
            classes=["confidential"],
            networks=["192.0.2.0/24"],
        ),
    )
    known = {"context": [crypto_pb2.ContextPair(key="table", value=b"users")], "address": "192.0.2.7"}
    assert (await explained(access, **known)).allowed
    for facts in (known | {"context": [crypto_pb2.ContextPair(key="table", value=b"salaries")]}, {}):
        told = await explained(access, **facts)
        assert (told.allowed, told.grant) == (False, deny.name)
        assert {look.grant.name: look.applies for look in told.looks} == {allow.name: True, deny.name: True}
    # Of this key no class is known, so that all depends on the rest.
    salaries = known | {"context": [crypto_pb2.ContextPair(key="table", value=b"salaries")]}
    assert not (await explained(access, resource="tenants/acme/keys/other", **salaries)).allowed
    await access.BlockPrincipal(pb.BlockPrincipalRequest(name=BOB, reason="lost"), ALICE)
    assert (await explained(access, **known)).rule == rules.BLOCKED


async def test_an_explanation_keeps_to_the_callers_tenant(access):
    await granted(access, role="application")
    told = await explained(access, resource="tenants/globex/keys/payroll")
    assert (told.allowed, told.rule) == (False, pb.AccessExplanation.OTHER_TENANT)
    assert (await explained(access, resource="tenants/acmeco")).rule == pb.AccessExplanation.OTHER_TENANT
    for caller, principal in (
        (ALICE, "tenants/globex/principals/eve"),
        (ALICE, "operators/root"),
        (ROOT, BOB),
        (Principal("globex", "eve"), BOB),
    ):
        with pytest.raises(NotFound, match=f"^{principal} does not exist$"):
            await explained(access, principal=principal, caller=caller)


async def test_an_operator_is_told_why_an_operator_may(access):
    told = await explained(access, "tenants.create", "tenants/new", "operators/bob", ROOT)
    assert (told.allowed, told.rule) == (True, pb.AccessExplanation.BUILT_IN)
    assert not (await explained(access, "keys.decrypt", KEY, "operators/bob", ROOT)).allowed


@pytest.mark.parametrize(
    ("known", "field"),
    [
        ({"permission": "keys.fly"}, "permission"),
        ({"resource": "tenants/acme/**"}, "resource"),
        ({"resource": ""}, "resource"),
        ({"principal": "bob"}, "principal"),
        ({"address": "example.org"}, "address"),
    ],
)
async def test_an_explanation_of_nothing_names_its_field(access, known, field):
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        await explained(access, **known)


@pytest.mark.parametrize(
    ("founders", "field"),
    [
        ([tenants_pb2.Founder(principal_id="A", roles=["auditor"])], r"founders\[0\]\.principal_id"),
        ([tenants_pb2.Founder(principal_id="alice")], r"founders\[0\]\.roles"),
        ([tenants_pb2.Founder(principal_id="alice", roles=["operator"])], r"founders\[0\]\.roles"),
        ([tenants_pb2.Founder(principal_id="alice", roles=["auditor"], kind=9)], r"founders\[0\]\.kind"),
        ([tenants_pb2.Founder(principal_id="alice", roles=["auditor"])] * 2, "founders"),
        ([tenants_pb2.Founder(principal_id=f"p{n}", roles=["auditor"]) for n in range(17)], "founders"),
    ],
)
def test_founders_that_make_no_sense_name_their_field(founders, field):
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        parse_founders(founders)


def test_founders_are_persons_unless_they_are_said_to_be_services():
    given = [
        tenants_pb2.Founder(principal_id="alice", roles=["auditor", "auditor"]),
        tenants_pb2.Founder(principal_id="app", roles=["application"], kind=pb.Principal.SERVICE),
    ]
    assert [(f.slug, f.kind.value, f.roles) for f in parse_founders(given)] == [
        ("alice", "person", {Role.AUDITOR}),
        ("app", "service", {Role.APPLICATION}),
    ]
