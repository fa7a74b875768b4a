import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from kms_client.v1 import policies_pb2

from kms.cli.main import run
from tests.cli_fixtures import TIME, printed, stamped
from tests.client_methods import RULES_SENT, period

POLICY = "tenants/acme/policies/gold"
RULES = "--rotation-period 90d --encryption-limit 1099511627776 --cache-lifetime 2m --quarantine 14d --grace 1h"


def test_a_new_policy_gets_what_was_given(peer, kms_acme):
    peer.answer("CreatePolicy", lambda r, _: policies_pb2.Policy(name=f"{r.parent}/policies/{r.policy_id}"))
    assert run(["policies", "create", "gold", *RULES.split(), "--automatic-retirement"]) == 0
    assert run(["policies", "create", "plain", "--rotation-period", "never"]) == 0
    protections = (
        "--classification confidential --required-context row --log-data-access --approvals 2 --audit-context plain"
    )
    assert run(["policies", "create", "people", *protections.split()]) == 0
    first, second, third = (call.request for call in peer.calls)
    assert third.policy == policies_pb2.Policy(
        classification=3, required_context=["row"], log_data_access=True, approvals=2, audit_context=2
    )
    assert first == policies_pb2.CreatePolicyRequest(
        parent="tenants/acme", policy_id="gold", policy=policies_pb2.Policy(**RULES_SENT)
    )
    assert second.policy == policies_pb2.Policy(rotation_period=period())


@pytest.mark.parametrize(
    ("line", "policy", "paths"),
    [
        ("--rotation-period never --version 4", {"rotation_period": period(), "version": 4}, ["rotation_period"]),
        ("--encryption-limit 0", {}, ["encryption_limit"]),
        ("--no-automatic-retirement", {}, ["automatic_retirement"]),
        ("--classification confidential", {"classification": 3}, ["classification"]),
        (
            "--required-context row --required-context tenant",
            {"required_context": ["row", "tenant"]},
            ["required_context"],
        ),
        ("--no-required-context", {}, ["required_context"]),
        ("--no-log-data-access --approvals 0", {}, ["log_data_access", "approvals"]),
        ("--audit-context none", {"audit_context": 3}, ["audit_context"]),
    ],
)
def test_an_update_names_what_it_changes(peer, kms_acme, line, policy, paths):
    peer.answer("UpdatePolicy", lambda r, _: r.policy)
    assert run(["policies", "update", "gold", *line.split()]) == 0
    assert peer.calls[0].request == policies_pb2.UpdatePolicyRequest(
        policy=policies_pb2.Policy(name=POLICY, **policy), update_mask=FieldMask(paths=paths)
    )


def policy(version):
    return stamped(
        policies_pb2.Policy(
            name=POLICY,
            version=version,
            creator="operators/root",
            classification=3,
            required_context=["row"],
            log_data_access=True,
            approvals=2,
            audit_context=1,
            **RULES_SENT,
        ),
        "create_time",
    )


def test_a_policy_as_json_has_these_fields(peer, kms_acme, capsys):
    peer.answer("GetPolicy", lambda *_: policy(4))
    assert run(["policies", "show", "gold", "--output", "json"]) == 0
    assert printed(capsys) == {
        "name": POLICY,
        "version": 4,
        "classification": "confidential",
        "rotation_period_seconds": 90 * 86400,
        "encryption_limit": 2**40,
        "cache_lifetime_seconds": 120,
        "quarantine_period_seconds": 14 * 86400,
        "grace_period_seconds": 3600,
        "automatic_retirement": True,
        "required_context": ["row"],
        "log_data_access": True,
        "approvals": 2,
        "audit_context": "hashed",
        "create_time": TIME,
        "creator": "operators/root",
    }
    assert peer.calls[0].request.name == POLICY


def test_policies_and_their_versions_are_listed(peer, kms_acme, capsys):
    peer.answer("ListPolicies", lambda *_: policies_pb2.ListPoliciesResponse(policies=[policy(4)]))
    peer.answer(
        "ListPolicyVersions", lambda *_: policies_pb2.ListPolicyVersionsResponse(policies=[policy(3), policy(4)])
    )
    assert run(["policies", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == [POLICY, "4", "confidential", str(90 * 86400)]
    assert run(["policies", "versions", "gold", "--output", "json"]) == 0
    assert [version["version"] for version in printed(capsys)] == [3, 4]
    assert run(["policies", "versions", "gold"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["VERSION", "3", "4"]
    assert [call.request.parent for call in peer.calls] == ["tenants/acme", POLICY, POLICY]


def test_keys_of_a_context_are_given_or_taken_away_but_not_both(peer, kms_acme, capsys):
    assert run(["policies", "update", "gold", "--required-context", "row", "--no-required-context"]) == 2
    assert "cannot be used with --required-context" in capsys.readouterr().err
    assert peer.calls == []


def test_classes_are_listed_with_all_that_they_demand(peer, kms_acme, capsys):
    confidential = policies_pb2.ClassRules(
        classification=3,
        available=True,
        encryption_required=True,
        protection_levels=[1, 2],
        purposes=[1, 2],
        suites=[1],
        required_context=["table", "column"],
        longest_rotation_period=period(days=90),
        longest_cache_lifetime=period(minutes=5),
        log_data_access=True,
        approvals=1,
    )
    public = policies_pb2.ClassRules(classification=1, longest_cache_lifetime=period(days=1))
    peer.answer("ListClasses", lambda *_: policies_pb2.ListClassesResponse(classes=[public, confidential]))
    assert run(["classes", "list", "--output", "json"]) == 0
    first, second = printed(capsys)
    assert (first["classification"], first["longest_rotation_period_seconds"]) == ("public", None)
    assert second == {
        "classification": "confidential",
        "available": True,
        "encryption_required": True,
        "protection_levels": ["software", "enclave"],
        "purposes": ["encrypt", "deterministic"],
        "suites": ["aes-256-gcm"],
        "longest_rotation_period_seconds": 90 * 86400,
        "longest_cache_lifetime_seconds": 300,
        "required_context": ["table", "column"],
        "log_data_access": True,
        "approvals": 1,
    }
    assert run(["classes", "list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["CLASSIFICATION", "AVAILABLE"]
    assert [line.split()[0] for line in lines] == ["public", "confidential"]
    assert "table, column" in lines[1]
