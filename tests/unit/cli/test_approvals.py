import json
from itertools import islice

import pytest
from kms_client import Approval, ApprovalState
from kms_client.formats.errors import approval_required
from kms_client.v1 import approvals_pb2

from kms.cli.approvals import new_ones
from kms.cli.exit_codes import ExitCode
from kms.cli.main import run
from tests.cli_fixtures import MOMENT, TIME, complaint, key, printed, stamped
from tests.client_methods import APPROVAL, DIGEST, KEY, RULE
from tests.client_peer import refuse

UUID = APPROVAL.rpartition("/")[2]
DANGEROUS = {
    "keys destroy payroll --reason gone --yes": "ScheduleKeyDestruction",
    "keys retire payroll 3 --force --yes": "RetireKeyVersion",
    "policies update gold --grace 1h": "UpdatePolicy",
    "quorum set keys.destroy 1": "UpdateQuorumRule",
}


def approval(name=APPROVAL, state=1, request=""):
    return stamped(
        approvals_pb2.Approval(
            name=name,
            state=state,
            method="/kms.v1.KeyService/ScheduleKeyDestruction",
            permission="keys.destroy",
            resources=[KEY],
            requester="tenants/acme/principals/a",
            reason="gone\x1b[31m",
            request_json=request,
            digest=DIGEST,
            needed=2,
            votes=[
                stamped(
                    approvals_pb2.ApprovalVote(
                        principal="tenants/acme/principals/b", approved=True, comment="ok", credential="token"
                    ),
                    "vote_time",
                )
            ],
        ),
        "create_time",
        "expire_time",
        "state_time",
    )


def rules(request, context):
    return approvals_pb2.ListQuorumRulesResponse(quorum_rules=[approvals_pb2.QuorumRule(name=RULE, approvals=2)])


@pytest.mark.parametrize("line", DANGEROUS)
def test_a_dangerous_command_says_what_is_needed_and_is_repeated_under_it(peer, kms_acme, capsys, line):
    peer.answer("ListQuorumRules", rules)
    peer.answer(DANGEROUS[line], lambda _, context: refuse(context, approval_required("needs", APPROVAL, 2)))
    assert run(line.split()) == ExitCode.APPROVAL
    assert complaint(capsys) == (
        f"kms: needs 2 approvals: {APPROVAL}; then repeat the command with --approval {APPROVAL}\n"
    )
    assert run([*line.split(), "--approval", UUID]) == ExitCode.APPROVAL
    calls = [call for call in peer.calls if call.method.endswith(DANGEROUS[line])]
    assert [call.metadata.get("x-kms-approval") for call in calls] == [None, APPROVAL]


def test_force_is_sent(peer, kms_acme):
    peer.answer("ScheduleKeyDestruction", lambda r, _: key(r.name))
    assert run(["keys", "destroy", "payroll", "--reason", "gone", "--force", "--yes"]) == 0
    assert peer.calls[0].request.force


def test_requests_are_listed_and_shown(peer, kms_acme, capsys):
    peer.answer("ListApprovals", lambda *_: approvals_pb2.ListApprovalsResponse(approvals=[approval()]))
    peer.answer("GetApproval", lambda *_: approval(request='{\n  "name": "k"\n}'))
    assert run(["approvals", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == [
        APPROVAL,
        "open",
        "/kms.v1.KeyService/ScheduleKeyDestruction",
        KEY,
    ]
    assert run(["approvals", "list", "--all"]) == 0
    assert [call.request.waiting_only for call in peer.calls] == [True, False]
    capsys.readouterr()
    assert run(["approvals", "show", UUID]) == 0
    out = capsys.readouterr().out
    assert '  "name": "k"\n' in out
    assert "approved by tenants/acme/principals/b: ok\n" in out
    assert "\x1b" not in out
    assert run(["approvals", "show", UUID, "--output", "json"]) == 0
    shown = printed(capsys)
    assert (shown["digest"], shown["needed"], shown["approvals"], shown["create_time"]) == (DIGEST, 2, 1, TIME)
    assert shown["votes"][0]["credential"] == "token"


def test_a_vote_names_the_digest_that_was_looked_at(peer, kms_acme, capsys):
    for method in ("ApproveApproval", "RejectApproval", "WithdrawApproval"):
        peer.answer(method, lambda *_: approval(state=2))
    assert run(["approvals", "approve", UUID]) == ExitCode.USAGE  # no terminal to ask on
    assert "--digest" in complaint(capsys)
    assert peer.calls == []
    assert run(["approvals", "approve", UUID, "--digest", DIGEST, "--comment", "ok"]) == 0
    assert run(["approvals", "reject", UUID, "--comment", "no"]) == 0
    assert run(["approvals", "withdraw", APPROVAL]) == 0
    assert [call.request for call in peer.calls] == [
        approvals_pb2.ApproveApprovalRequest(name=APPROVAL, digest=DIGEST, comment="ok"),
        approvals_pb2.RejectApprovalRequest(name=APPROVAL, comment="no"),
        approvals_pb2.WithdrawApprovalRequest(name=APPROVAL),
    ]


def test_a_rule_is_changed_over_the_number_that_was_seen(peer, kms_acme, capsys):
    peer.answer("ListQuorumRules", rules)
    peer.answer("UpdateQuorumRule", lambda r, _: r.quorum_rule)
    assert run(["quorum", "list", "--output", "json"]) == 0
    assert [(rule["permission"], rule["approvals"]) for rule in printed(capsys)] == [("keys.destroy", 2)]
    assert run(["quorum", "set", "keys.destroy", "3"]) == 0
    assert peer.calls[-1].request == approvals_pb2.UpdateQuorumRuleRequest(
        quorum_rule=approvals_pb2.QuorumRule(name=RULE, approvals=3), present_approvals=2
    )
    capsys.readouterr()
    assert run(["quorum", "set", "keys.eat", "3"]) == ExitCode.USAGE
    assert "must be one of keys.destroy" in complaint(capsys)


def value(name):
    return Approval(name, ApprovalState.OPEN, "m", "p", (), "r", "", "", "", 1, (), MOMENT, MOMENT, MOMENT)


def test_a_watch_shows_each_request_once_and_pauses_between_looks():
    looks = iter([["a"], ["a", "b"], [], ["b", "c"]])
    pauses = []
    shown = new_ones(lambda: iter(map(value, next(looks))), 5, pauses.append)
    assert [found.name for found in islice(shown, 3)] == ["a", "b", "c"]
    assert pauses == [5, 5, 5]


def test_a_watch_ends_with_an_error_of_the_daemon(peer, kms_acme, capsys):
    answers = iter([approvals_pb2.ListApprovalsResponse(approvals=[approval()])])

    def answer(request, context):
        found = next(answers, None)
        return found if found is not None else refuse(context, approval_required("over", "", 0))

    peer.answer("ListApprovals", answer)
    assert run(["approvals", "list", "--watch", "--interval", "1", "--output", "json"]) == ExitCode.APPROVAL
    assert json.loads(capsys.readouterr().out)["name"] == APPROVAL
    assert run(["approvals", "list", "--watch", "--all"]) == ExitCode.USAGE
