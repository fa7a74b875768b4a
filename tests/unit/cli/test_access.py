"""`kms principals`, `kms grants`, `kms access`, and the founders of a tenant."""

from __future__ import annotations

import pytest
from google.protobuf.empty_pb2 import Empty
from kms_client.v1 import access_pb2, crypto_pb2, tenants_pb2

from kms.cli.main import run
from tests.cli_fixtures import MOMENT, TIME, complaint, printed, stamped
from tests.client_methods import BILLING, GRANT, GRANT_SENT, KEY, stamp


def principal(**fields):
    given = {"name": BILLING, "kind": 1, "display_name": "Billing", "creator": "operators/root", "etag": "2"}
    return stamped(access_pb2.Principal(**{**given, **fields}), "create_time")


def grant():
    message = access_pb2.Grant(name=GRANT, creator="operators/root")
    message.MergeFrom(GRANT_SENT)
    return stamped(message, "create_time")


GRANT_SHOWN = {
    "name": GRANT,
    "effect": "deny",
    "role": "",
    "permissions": ["keys.decrypt"],
    "resource": "tenants/acme/keys/*",
    "conditions": {"context": {"table": ["users", "roles"]}, "classes": ["secret"], "networks": ["192.0.2.0/24"]},
    "expire_time": TIME,
    "reason": "audit",
    "create_time": TIME,
    "creator": "operators/root",
}


def test_founders_are_named_with_their_roles(peer, kms_profile):
    peer.answer("CreateTenant", lambda r, _: tenants_pb2.Tenant(name=f"tenants/{r.tenant_id}"))
    line = "tenants create acme --founder alice=tenant-admin,security-officer --founder app=application"
    assert run(line.split()) == 0
    assert [(f.principal_id, f.kind, list(f.roles)) for f in peer.calls[0].request.founders] == [
        ("alice", 2, ["tenant-admin", "security-officer"]),
        ("app", 2, ["application"]),
    ]


@pytest.mark.parametrize("text", ["alice", "alice=", "=auditor", "alice=auditor,", "alice=,auditor"])
def test_a_founder_without_a_role_is_refused(kms_profile, capsys, text):
    assert run(["tenants", "create", "acme", "--founder", text]) == 2
    assert "PRINCIPAL=ROLE" in complaint(capsys)


def test_a_principal_as_json_has_these_fields(peer, kms_acme, capsys):
    peer.answer("GetPrincipal", lambda *_: principal(blocked=True, block_end_time=stamp(), block_reason="lost"))
    assert run(["principals", "show", "billing", "--output", "json"]) == 0
    assert printed(capsys) == {
        "name": BILLING,
        "kind": "service",
        "display_name": "Billing",
        "blocked": True,
        "block_end_time": TIME,
        "block_reason": "lost",
        "create_time": TIME,
        "creator": "operators/root",
        "etag": "2",
    }
    assert peer.calls[0].request.name == BILLING


def test_principals_are_created_listed_changed_blocked_and_freed(peer, kms_acme, capsys):
    peer.answer("CreatePrincipal", lambda *_: principal())
    peer.answer("ListPrincipals", lambda *_: access_pb2.ListPrincipalsResponse(principals=[principal()]))
    for method in ("UpdatePrincipal", "BlockPrincipal", "UnblockPrincipal"):
        peer.answer(method, lambda *_: principal())
    assert run(["principals", "create", "billing", "--kind", "person", "--display-name", "Billing"]) == 0
    assert run(["principals", "list"]) == 0
    assert BILLING in capsys.readouterr().out
    assert run(["principals", "update", "billing", "--display-name", "New", "--etag", "2"]) == 0
    assert run(["principals", "block", "billing", "--reason", "lost", "--until", MOMENT.isoformat()]) == 0
    assert run(["principals", "block", "operators/bob", "--reason", "gone"]) == 0
    assert run(["principals", "unblock", "billing"]) == 0
    created, _, updated, blocked, operator, freed = (call.request for call in peer.calls)
    assert (created.parent, created.principal_id, created.principal.kind) == ("tenants/acme", "billing", 2)
    assert (updated.principal.display_name, updated.principal.etag) == ("New", "2")
    assert blocked == access_pb2.BlockPrincipalRequest(name=BILLING, reason="lost", end_time=stamp())
    assert operator == access_pb2.BlockPrincipalRequest(name="operators/bob", reason="gone")
    assert freed.name == BILLING


def test_a_grant_gets_what_was_given_and_is_shown_whole(peer, kms_acme, capsys):
    peer.answer("CreateGrant", lambda *_: grant())
    line = (
        "grants create billing --deny --permission keys.decrypt --resource tenants/acme/keys/* --context table=users"
        f" --context table=roles --class secret --network 192.0.2.0/24 --expires {MOMENT.isoformat()} --reason audit"
    )
    assert run([*line.split(), "--output", "json"]) == 0
    assert printed(capsys) == GRANT_SHOWN
    assert peer.calls[0].request == access_pb2.CreateGrantRequest(parent=BILLING, grant=GRANT_SENT)


@pytest.mark.parametrize("line", ["", "--role auditor --permission keys.get"])
def test_a_grant_is_of_a_role_or_of_permissions(kms_acme, capsys, line):
    assert run(["grants", "create", "billing", *line.split()]) == 2
    assert "either --role or --permission" in complaint(capsys)


def test_grants_are_listed_and_deleted(peer, kms_acme, capsys):
    peer.answer("ListGrants", lambda *_: access_pb2.ListGrantsResponse(grants=[grant()]))
    peer.answer("DeleteGrant", lambda *_: Empty())
    assert run(["grants", "list", "billing", "--output", "json"]) == 0
    assert printed(capsys) == [GRANT_SHOWN]
    assert run(["grants", "list", "billing"]) == 0
    assert "keys.decrypt" in capsys.readouterr().out
    assert run(["grants", "delete", GRANT]) == 0
    assert capsys.readouterr().out == f"deleted {GRANT}\n"
    assert peer.calls[-1].request.name == GRANT


def test_roles_are_listed_a_permission_a_line(peer, kms_profile, capsys):
    peer.answer(
        "ListRoles",
        lambda *_: access_pb2.ListRolesResponse(
            roles=[access_pb2.Role(name="application", permissions=["keys.decrypt", "keys.encrypt"])]
        ),
    )
    assert run(["access", "roles"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ROLE", "PERMISSION"],
        ["application", "keys.decrypt"],
        ["application", "keys.encrypt"],
    ]
    assert run(["access", "roles", "--output", "json"]) == 0
    assert printed(capsys) == [{"name": "application", "permissions": ["keys.decrypt", "keys.encrypt"]}]


@pytest.mark.parametrize(
    ("answer", "code", "verdict"),
    [
        ({"allowed": True, "rule": 1, "grant": GRANT}, 0, f"allowed: by {GRANT}"),
        ({"rule": 1, "grant": GRANT}, 8, f"denied: by {GRANT}"),
        ({"allowed": True, "rule": 2}, 0, "allowed: by what everybody of this kind may do"),
        ({"rule": 3}, 8, "denied: the principal is blocked"),
        ({"rule": 4}, 8, "denied: no grant allows it"),
        ({"rule": 5}, 8, "denied: the resource is not of the principal's tenant"),
        ({"rule": 99}, 8, "denied: 99"),
    ],
)
def test_an_explanation_ends_as_it_decides(peer, kms_acme, capsys, answer, code, verdict):
    look = access_pb2.GrantLook(grant=grant(), applies=True, reason="all of it matches")
    peer.answer("ExplainAccess", lambda *_: access_pb2.AccessExplanation(looks=[look], **answer))
    line = f"access explain billing keys.decrypt {KEY} --context table=users --address 192.0.2.7"
    assert run(line.split()) == code
    out = capsys.readouterr().out
    assert out.splitlines()[0] == verdict
    assert "all of it matches" in out
    assert peer.calls[0].request == access_pb2.ExplainAccessRequest(
        principal=BILLING,
        permission="keys.decrypt",
        resource=KEY,
        context=[crypto_pb2.ContextPair(key="table", value=b"users")],
        address="192.0.2.7",
    )


def test_an_explanation_as_json_has_every_grant(peer, kms_acme, capsys):
    look = access_pb2.GrantLook(grant=grant(), reason="it has expired")
    peer.answer("ExplainAccess", lambda *_: access_pb2.AccessExplanation(rule=4, looks=[look]))
    assert run(["access", "explain", "billing", "keys.decrypt", KEY, "--output", "json"]) == 8
    assert printed(capsys) == {
        "allowed": False,
        "rule": "default",
        "grant": None,
        "looks": [{"grant": GRANT_SHOWN, "applies": False, "reason": "it has expired"}],
    }
