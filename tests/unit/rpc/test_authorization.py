"""The gate that decides: every method, both kinds of callers, all resources of a call, and what is known of it."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from kms.core.access import Conditions, Effect, PrincipalKind, parse_network
from kms.core.callers import Caller, Credential, CredentialKind, Scope
from kms.core.errors import Denied, InvalidRequest, NotFound
from kms.core.names import Principal, TenantName
from kms.core.patterns import Pattern
from kms.core.roles import FREE, GRANTABLE, OVER_TENANTS, PERMISSIONS, Role
from kms.rpc.authorization import GrantAuthorizer, known_context
from kms.rpc.identity import check_caller
from kms.rpc.methods import METHODS, Callers, Method
from kms.rpc.resources import Named, NewTenant
from kms.services.grants import NewGrant
from kms.v1 import access_pb2, census_pb2, crypto_pb2, keys_pb2, policies_pb2, tenants_pb2
from tests.node import Node, RecordingStorage, with_tenants

ALICE, BOB = Principal("acme", "alice"), Principal("acme", "bob")
ROOT = Principal(None, "root")
BY_NAME = {method.name: method for method in METHODS}
KEY, OTHER = "tenants/acme/keys/payroll", "tenants/globex/keys/payroll"
UUID_TEXT = "7b0f3c1e-52a0-4b39-8d35-0a3a53a9c1de"

pair = crypto_pb2.ContextPair


def called_by(
    principal: Principal, address: str | None = "192.0.2.7", scopes: frozenset[Scope] = frozenset(Scope)
) -> Caller:
    credential = Credential(CredentialKind.CERTIFICATE, "", scopes)
    return Caller(principal, credential, None if address is None else ip_address(address))


async def node_over(storage, wall):
    """A node over a database with two tenants, and the principal bob of the first."""
    await with_tenants(storage, "acme", "globex")
    made = Node(RecordingStorage(storage), None, wall=wall)
    await made.principals.create(ALICE, TenantName("acme"), "bob", PrincipalKind.SERVICE, "")
    return made


@pytest.fixture
async def node(database, wall):
    return await node_over(database, wall)


@pytest.fixture
def gate(node):
    return GrantAuthorizer(node.accesses, node.wall)


async def give(node, role=None, *, permissions=(), effect=Effect.ALLOW, resource="tenants/acme/**", **conditions):
    wish = NewGrant(effect, role, frozenset(permissions), Pattern.parse(resource), Conditions(**conditions), None, "")
    return await node.grants.create(ALICE, BOB, wish)


async def refused(gate, method, caller, request):
    with pytest.raises(Denied) as caught:
        await gate.check(BY_NAME[method], caller, request)
    return str(caught.value)


def example(method: Method, tenant: str) -> Any:
    """A request of any method whose resources are of this tenant."""
    request = method.request._concrete_class()
    for field in method.resources:
        if isinstance(field, NewTenant):
            setattr(request, field.id_field, tenant)
            continue
        owner = request
        *path, last = field.field.split(".")
        for name in path:
            owner = getattr(owner, name)
        setattr(owner, last, example_name(field, tenant))
        if field.collection:
            setattr(request, field.id_field, "new-one")
    return request


def example_name(field: Named, tenant: str) -> str:
    candidates = (
        "tenants/{0}",
        "tenants/{0}/keys/payroll",
        "tenants/{0}/keys/payroll/versions/3",
        "tenants/{0}/keys/payroll/places/crm",
        "tenants/{0}/policies/gold",
        f"tenants/{{0}}/operations/{UUID_TEXT}",
        "tenants/{0}/principals/carol",
        f"tenants/{{0}}/principals/carol/grants/{UUID_TEXT}",
        "tenants/{0}/tokens/0a1b2c3d4e5f",
        f"tenants/{{0}}/approvals/{UUID_TEXT}",
        "tenants/{0}/quorumRules/keys.destroy",
        f"tenants/{{0}}/securityEvents/{UUID_TEXT}",
        f"tenants/{{0}}/auditEvents/{UUID_TEXT}-7",
        f"tenants/{{0}}/reports/{UUID_TEXT}",
        "tenants/{0}/legalHolds/matter-7",
        "tenants/{0}/blobs/ledger.tar",
        f"tenants/{{0}}/enclaveUpgrades/{UUID_TEXT}",
    )
    for candidate in candidates:
        try:
            field.parse(candidate.format(tenant), "name")
        except InvalidRequest:
            continue
        return candidate.format(tenant)
    raise AssertionError(f"no example of {field}: add one")


OF_TENANTS = [method for method in METHODS if method.callers is not Callers.OPERATOR]


async def test_every_method_needs_its_permission_and_no_other_helps(storage, wall):
    node = await node_over(storage, wall)
    gate = GrantAuthorizer(node.accesses, wall)
    holders = {None: called_by(BOB)}
    for role in GRANTABLE:
        holder = Principal("acme", f"the-{role}")
        await node.principals.create(ALICE, TenantName("acme"), holder.name, PrincipalKind.PERSON, "")
        everywhere = NewGrant(Effect.ALLOW, role, frozenset(), None, Conditions(), None, "")
        await node.grants.create(ALICE, holder, everywhere)
        holders[role] = called_by(holder)
    checked = 0
    for method in OF_TENANTS:
        request = example(method, "acme")
        for role, caller in holders.items():
            if method.permission in FREE or (role is not None and method.permission in PERMISSIONS[role]):
                await gate.check(method, caller, request)
            else:
                message = await refused(gate, method.name, caller, request)
                assert message.startswith(f"{method.permission} on tenants/acme")
            checked += 1
    assert checked == len(OF_TENANTS) * (len(GRANTABLE) + 1) > 300


async def test_resources_of_another_tenant_do_not_exist_whatever_is_granted(database, node, gate):
    opened = GrantAuthorizer(Node(database, None, open_tenants=True).accesses, node.wall)
    named = [method for method in OF_TENANTS if method.resources]
    assert len(named) > 40
    for method in named:
        for each in (gate, opened):
            messages = []
            for tenant in ("globex", "nobody"):
                with pytest.raises(NotFound) as caught:
                    await each.check(method, called_by(BOB), example(method, tenant))
                messages.append(str(caught.value).replace(tenant, "T"))
            assert messages[0] == messages[1]
            assert messages[0].startswith("tenants/T")
            assert messages[0].endswith(" does not exist")


async def test_operators_do_to_tenants_what_their_role_has_for_that_alone(gate):
    for method in METHODS:
        if method.callers is Callers.TENANT:
            with pytest.raises(Denied):
                check_caller(method, ROOT)
        request = example(method, "acme")
        if method.permission in OVER_TENANTS:
            await gate.check(method, called_by(ROOT), request)
        else:
            await refused(gate, method.name, called_by(ROOT), request)


async def test_operators_block_operators_and_no_principal_of_a_tenant(gate):
    await gate.check(BY_NAME["BlockPrincipal"], called_by(ROOT), access_pb2.BlockPrincipalRequest(name="operators/bob"))
    theirs = access_pb2.BlockPrincipalRequest(name="tenants/acme/principals/bob")
    await refused(gate, "BlockPrincipal", called_by(ROOT), theirs)
    with pytest.raises(NotFound, match=r"^operators/bob does not exist$"):
        await gate.check(
            BY_NAME["BlockPrincipal"], called_by(BOB), access_pb2.BlockPrincipalRequest(name="operators/bob")
        )


@pytest.mark.parametrize(
    ("method", "request_", "missing"),
    [
        ("GetKey", keys_pb2.GetKeyRequest(name=OTHER), OTHER),
        ("CreateKey", keys_pb2.CreateKeyRequest(parent="tenants/globex", key_id="k1"), "tenants/globex"),
        ("RevokeKeyVersion", keys_pb2.RevokeKeyVersionRequest(name=f"{OTHER}/versions/3"), OTHER),
        ("DeletePlace", census_pb2.DeletePlaceRequest(name=f"{OTHER}/places/crm"), OTHER),
        ("CreatePlace", census_pb2.CreatePlaceRequest(parent=OTHER, place_id="crm"), OTHER),
        (
            "UpdatePolicy",
            policies_pb2.UpdatePolicyRequest(policy=policies_pb2.Policy(name="tenants/globex/policies/gold")),
            "tenants/globex/policies/gold",
        ),
        ("GetTenant", tenants_pb2.GetTenantRequest(name="tenants/globex"), "tenants/globex"),
    ],
)
async def test_the_answer_is_that_of_a_service_which_does_not_find_it(gate, method, request_, missing):
    with pytest.raises(NotFound, match=f"^{missing} does not exist$"):
        await gate.check(BY_NAME[method], called_by(BOB), request_)


async def test_a_destination_must_be_allowed_too_and_may_not_be_anothers(node, gate):
    await give(node, permissions=["keys.reEncrypt"], resource=KEY)
    method, caller = BY_NAME["ReEncrypt"], called_by(BOB)
    await gate.check(method, caller, crypto_pb2.ReEncryptRequest(name=KEY))
    await gate.check(method, caller, crypto_pb2.ReEncryptRequest(name=KEY, destination=KEY))
    there = "tenants/acme/keys/there"
    message = await refused(gate, "ReEncrypt", caller, crypto_pb2.ReEncryptRequest(name=KEY, destination=there))
    assert message == f"keys.reEncrypt on {there} is not allowed"
    for name in (KEY, "tenants/acme/keys/unallowed"):
        with pytest.raises(NotFound, match=f"^{OTHER} does not exist$"):
            await gate.check(method, caller, crypto_pb2.ReEncryptRequest(name=name, destination=OTHER))


async def test_the_source_of_an_index_must_be_allowed_too_and_may_not_be_anothers(node, gate):
    await give(node, permissions=["keys.reIndex"], resource=KEY)
    method, caller = BY_NAME["ReIndexBatch"], called_by(BOB)
    await gate.check(method, caller, crypto_pb2.ReIndexBatchRequest(name=KEY, source=KEY))
    there = "tenants/acme/keys/there"
    for names in ({"name": KEY, "source": there}, {"name": there, "source": KEY}):
        message = await refused(gate, "ReIndexBatch", caller, crypto_pb2.ReIndexBatchRequest(**names))
        assert message == f"keys.reIndex on {there} is not allowed"
    with pytest.raises(NotFound, match=f"^{OTHER} does not exist$"):
        await gate.check(method, caller, crypto_pb2.ReIndexBatchRequest(name=KEY, source=OTHER))
    message = await refused(gate, "ComputeIndexBatch", caller, crypto_pb2.ComputeIndexBatchRequest(name=KEY))
    assert message == f"keys.computeIndex on {KEY} is not allowed"


async def test_to_pseudonymize_to_encrypt_and_to_decrypt_formatted_values_are_three_permissions(node, gate):
    methods = {
        "keys.pseudonymize": "PseudonymizeBatch",
        "keys.encryptFormat": "EncryptFormatBatch",
        "keys.decryptFormat": "DecryptFormatBatch",
    }
    caller = called_by(BOB)
    for number, (permission, name) in enumerate(methods.items(), start=1):
        await give(node, permissions=[permission], resource=KEY)
        for other, (needed, method) in enumerate(methods.items(), start=1):
            request = BY_NAME[method].request._concrete_class(name=KEY)
            if other <= number:
                await gate.check(BY_NAME[method], caller, request)
            else:
                assert await refused(gate, method, caller, request) == f"{needed} on {KEY} is not allowed"
        assert await refused(gate, "Decrypt", caller, crypto_pb2.DecryptRequest(name=KEY))
        assert await refused(gate, name, caller, BY_NAME[name].request._concrete_class(name=f"{KEY}-2"))


async def test_a_refusal_names_permission_and_resource_and_nothing_else(node, gate):
    request = crypto_pb2.EncryptRequest(name=KEY, plaintext=b"secret")
    told = await refused(gate, "Encrypt", called_by(BOB), request)
    await give(node, Role.APPLICATION)
    await give(node, permissions=["keys.encrypt"], effect=Effect.DENY)
    assert await refused(gate, "Encrypt", called_by(BOB), request) == told
    await node.principals.block(ALICE, BOB, None, "a secret reason")
    assert await refused(gate, "Encrypt", called_by(BOB), request) == told == f"keys.encrypt on {KEY} is not allowed"


@pytest.mark.parametrize("scope", Scope)
async def test_a_credential_does_what_its_scopes_are_for(node, gate, scope):
    for role in (Role.APPLICATION, Role.SECURITY_OFFICER):
        await give(node, role)
    caller = called_by(BOB, scopes=frozenset({scope}))
    for method, needed in (("GetKey", Scope.READ), ("Encrypt", Scope.USE), ("RotateKey", Scope.MANAGE)):
        request = example(BY_NAME[method], "acme")
        if needed is scope:
            await gate.check(BY_NAME[method], caller, request)
        else:
            assert "is not allowed to this credential" in await refused(gate, method, caller, request)


async def test_a_block_ends_at_its_time(node, gate, wall):
    await give(node, Role.APPLICATION)
    request = crypto_pb2.EncryptRequest(name=KEY)
    await node.principals.block(ALICE, BOB, wall.now + timedelta(hours=1), "x")
    await refused(gate, "Encrypt", called_by(BOB), request)
    wall.advance(timedelta(hours=1))
    await gate.check(BY_NAME["Encrypt"], called_by(BOB), request)


@pytest.mark.parametrize(
    ("context", "allowed"),
    [
        ([pair(key="table", value=b"users"), pair(key="row", value=b"1")], True),
        ([pair(key="table", value=b"salaries")], False),
        ([pair(key="row", value=b"users")], False),
        ([], False),
        ([pair(key="table", value=b"users"), pair(key="table", value=b"users")], False),
        ([pair(key="table", value=b"users"), pair(key="table", value=b"salaries")], False),
        ([pair(key="table", value=b"\xff")], False),
    ],
)
async def test_a_condition_on_the_context_reads_what_the_request_gives(node, gate, context, allowed):
    await give(node, Role.APPLICATION, context={"table": frozenset({"users"})})
    requests = {
        "Encrypt": crypto_pb2.EncryptRequest(name=KEY, context=context),
        "DecryptBatch": crypto_pb2.DecryptBatchRequest(name=KEY, context=context),
        "GenerateDataKey": crypto_pb2.GenerateDataKeyRequest(name=KEY, context=context),
    }
    for method, request in requests.items():
        if allowed:
            await gate.check(BY_NAME[method], called_by(BOB), request)
        else:
            await refused(gate, method, called_by(BOB), request)
    # Metadata has no context, so that it is not known.
    await refused(gate, "GetKey", called_by(BOB), keys_pb2.GetKeyRequest(name=KEY))


async def test_what_varies_in_a_batch_is_not_known(node, gate):
    await give(node, Role.APPLICATION, context={"row": frozenset({"1"})})
    varying = crypto_pb2.VaryingContext(key="row", values=[b"1"])
    await refused(gate, "EncryptBatch", called_by(BOB), crypto_pb2.EncryptBatchRequest(name=KEY, varying=varying))
    both = crypto_pb2.EncryptBatchRequest(name=KEY, varying=varying, context=[pair(key="row", value=b"1")])
    await refused(gate, "EncryptBatch", called_by(BOB), both)


async def test_a_network_is_that_of_the_call_and_a_socket_has_none(node, gate):
    await give(node, Role.APPLICATION, networks=(parse_network("192.0.2.0/24"),))
    request = crypto_pb2.EncryptRequest(name=KEY)
    for address in ("192.0.2.7", "::ffff:192.0.2.7"):
        await gate.check(BY_NAME["Encrypt"], called_by(BOB, address), request)
    for address in ("198.51.100.1", "2001:db8::1", None):
        await refused(gate, "Encrypt", called_by(BOB, address), request)


async def test_the_class_of_a_key_is_asked_for_only_where_a_grant_needs_it(node):
    asked = []

    async def classify(name):
        asked.append(str(name))
        return {"payroll": "confidential"}.get(name.key)

    gate = GrantAuthorizer(node.accesses, node.wall, classify)
    await give(node, permissions=["keys.encrypt", "places.list"], classes=frozenset({"confidential"}))
    await give(node, permissions=["keys.get"])
    await gate.check(BY_NAME["GetKey"], called_by(BOB), keys_pb2.GetKeyRequest(name=KEY))
    assert asked == []
    await gate.check(BY_NAME["Encrypt"], called_by(BOB), crypto_pb2.EncryptRequest(name=KEY))
    await gate.check(BY_NAME["ListPlaces"], called_by(BOB), census_pb2.ListPlacesRequest(parent=KEY))
    other = "tenants/acme/keys/other"
    await refused(gate, "Encrypt", called_by(BOB), crypto_pb2.EncryptRequest(name=other))
    assert asked == [KEY, KEY, other]


async def test_a_name_that_breaks_its_rule_is_told_before_anything_else(gate):
    with pytest.raises(InvalidRequest, match=r"^name: must have the form"):
        await gate.check(BY_NAME["GetKey"], called_by(BOB), keys_pb2.GetKeyRequest(name="payroll"))


async def test_a_hit_asks_the_database_nothing(node, gate):
    await give(node, Role.APPLICATION)
    request = crypto_pb2.EncryptRequest(name=KEY)
    await gate.check(BY_NAME["Encrypt"], called_by(BOB), request)
    node.storage.calls.clear()
    for _ in range(3):
        await gate.check(BY_NAME["Encrypt"], called_by(BOB), request)
    assert node.storage.calls == []


def test_only_text_that_is_given_once_is_known():
    pairs = [("a", b"1"), ("b", b"\xff"), ("c", b"1"), ("c", b"2"), ("d", b"\xff"), ("d", b"1"), ("e", b"")]
    assert known_context([pair(key=key, value=value) for key, value in pairs]) == {"a": "1", "e": ""}
