"""The quorum gate on a real edge: a request is done when exactly it has been approved, and once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from kms.acting import acting_under
from kms.core.approvals import ApprovalState, Decision
from kms.core.callers import Caller, Credential, CredentialKind
from kms.core.errors import HsmUnavailable, KmsError, WrongKeyState
from kms.core.names import ApprovalName, Principal, QuorumRuleName
from kms.rpc.approvals import PERMISSIONS, ApprovalServicer
from kms.rpc.methods import METHODS, Quorum
from kms.rpc.quorum import Quorums
from kms.services.approvals import Approvals
from kms.services.quorum_rules import QuorumRules
from kms.v1 import approvals_pb2 as pb
from kms.v1 import approvals_pb2_grpc, keys_pb2, keys_pb2_grpc, policies_pb2, policies_pb2_grpc
from storage.database import Database
from tests.both_databases import Wall, add_tenants
from tests.rpc_server import Serve, info_of, refused

KEY = "tenants/acme/keys/payroll"
PARENT = "tenants/acme"
DESTROY = keys_pb2.ScheduleKeyDestructionRequest(name=KEY, reason="contract ended")


class Edge:
    """A daemon's edge whose only real services are those of approvals."""

    def __init__(self, storage: Database, wall: Wall, default: int) -> None:
        self.rules = QuorumRules(storage, default, wall)
        self.approvals = Approvals(storage, self.rules, wall)
        self.quorum = Quorums(storage, self.rules, self.approvals)
        self.done: list[tuple[str, str]] = []
        self.raised: KmsError | None = None

    async def start(self, serve: Serve, *, deadline: float = 20.0) -> None:
        edge = await serve(quorum=self.quorum, deadline=deadline)
        self.keys: Any = keys_pb2_grpc.KeyServiceStub(edge.channel)
        self.policies: Any = policies_pb2_grpc.PolicyServiceStub(edge.channel)
        self.service: Any = approvals_pb2_grpc.ApprovalServiceStub(edge.channel)
        servicer = ApprovalServicer(self.approvals, self.rules)
        for name in ("GetApproval", "ListApprovals", "ApproveApproval", "RejectApproval", "WithdrawApproval"):
            edge.answers.by_name[name] = getattr(servicer, name)
        for name in ("ListQuorumRules", "UpdateQuorumRule"):
            edge.answers.by_name[name] = getattr(servicer, name)
        for name in ("ScheduleKeyDestruction", "RetireKeyVersion", "UpdatePolicy"):
            edge.answers.by_name[name] = self._answer(name)
        self.answers = edge.answers

    def _answer(self, name: str) -> Any:
        response = next(method.response for method in METHODS if method.name == name)

        async def answer(request: Any, caller: Principal) -> Any:
            del request, caller
            self.done.append((name, acting_under()))
            if self.raised is not None:
                raise self.raised
            return response._concrete_class()

        return answer

    async def asked(self, request: Any = DESTROY) -> str:
        _, status = await refused(self.keys.ScheduleKeyDestruction(request))
        assert info_of(status).reason == "APPROVAL_REQUIRED"
        return info_of(status).metadata["approval"]

    async def approve(self, name: str, *principals: str) -> None:
        parsed = ApprovalName.parse(name)
        for principal in principals or ("bob", "cyd"):
            caller = Caller(Principal("acme", principal), Credential(CredentialKind.CERTIFICATE))
            standing = await self.approvals.get(caller.principal, parsed)
            await self.approvals.decide(caller, parsed, Decision.APPROVE, "", standing.request.digest)

    async def state(self, name: str) -> ApprovalState:
        return (await self.approvals.get(Principal("acme", "app"), ApprovalName.parse(name))).state


def under(name: str) -> dict[str, Any]:
    return {"metadata": (("x-kms-approval", name),)}


async def reason(call: Any) -> str:
    return info_of((await refused(call))[1]).reason


@pytest.fixture(params=[2])
async def edge(database: Database, wall: Wall, serve: Serve, request: pytest.FixtureRequest) -> Edge:
    await add_tenants(database, "acme", "globex")
    made = Edge(database, wall, request.param)
    await made.start(serve)
    return made


alone = pytest.mark.parametrize("edge", [0], indirect=True)


async def test_a_dangerous_request_waits_is_done_once_and_says_how_to_go_on(edge: Edge) -> None:
    error, status = await refused(edge.keys.ScheduleKeyDestruction(DESTROY))
    info = info_of(status)
    name = info.metadata["approval"]
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (info.reason, info.metadata["needed"]) == ("APPROVAL_REQUIRED", "2")
    assert info.metadata["request_id"]
    assert f"needs 2 approvals: {name};" in status.message
    assert await edge.asked() == name  # the same again is the same request
    assert await reason(edge.keys.ScheduleKeyDestruction(DESTROY, **under(name))) == "APPROVAL_UNUSABLE"
    await edge.approve(name)
    assert await edge.asked() == name  # without the metadata nothing is done
    assert edge.done == []
    await edge.keys.ScheduleKeyDestruction(DESTROY, **under(name))
    assert edge.done == [("ScheduleKeyDestruction", name)]
    assert await edge.state(name) is ApprovalState.EXECUTED
    assert await reason(edge.keys.ScheduleKeyDestruction(DESTROY, **under(name))) == "APPROVAL_UNUSABLE"
    assert len(edge.done) == 1


async def test_an_approval_is_for_no_other_request(edge: Edge) -> None:
    name = await edge.asked()
    await edge.approve(name)
    changed = keys_pb2.ScheduleKeyDestructionRequest(name=KEY, reason="contract ended", force=True)
    retire = keys_pb2.RetireKeyVersionRequest(name=f"{KEY}/versions/1", force=True)
    assert await reason(edge.keys.ScheduleKeyDestruction(changed, **under(name))) == "APPROVAL_UNUSABLE"
    assert await reason(edge.keys.RetireKeyVersion(retire, **under(name))) == "APPROVAL_UNUSABLE"
    globex = name.replace("acme", "globex")
    assert await reason(edge.keys.ScheduleKeyDestruction(DESTROY, **under(globex))) == "NOT_FOUND"
    assert await reason(edge.keys.ScheduleKeyDestruction(DESTROY, **under("nonsense"))) == "INVALID_REQUEST"
    assert edge.done == []
    assert await edge.state(name) is ApprovalState.APPROVED


async def test_another_tenants_resource_is_not_found_and_nothing_is_stored(edge: Edge) -> None:
    request = keys_pb2.ScheduleKeyDestructionRequest(name="tenants/globex/keys/k1", reason="x")
    missing = keys_pb2.ScheduleKeyDestructionRequest(name="tenants/nobody/keys/k1", reason="x")
    for asked in (request, missing):
        _, status = await refused(edge.keys.ScheduleKeyDestruction(asked))
        assert (info_of(status).reason, status.message) == ("NOT_FOUND", f"{asked.name} does not exist")
    _, status = await refused(edge.keys.ScheduleKeyDestruction(keys_pb2.ScheduleKeyDestructionRequest(name="x")))
    assert info_of(status).reason == "INVALID_REQUEST"


async def test_what_is_not_forced_needs_nobody(edge: Edge) -> None:
    request = keys_pb2.RetireKeyVersionRequest(name=f"{KEY}/versions/1")
    await edge.keys.RetireKeyVersion(request)
    request.force = True
    assert await reason(edge.keys.RetireKeyVersion(request)) == "APPROVAL_REQUIRED"
    assert edge.done == [("RetireKeyVersion", "")]


async def test_fields_that_nobody_could_see_are_refused(edge: Edge) -> None:
    hidden = DESTROY.SerializeToString() + b"\xfa\x3f\x01x"  # field 1023
    unknown = keys_pb2.ScheduleKeyDestructionRequest.FromString(hidden)
    assert await reason(edge.keys.ScheduleKeyDestruction(unknown)) == "INVALID_REQUEST"


async def test_what_was_not_done_can_be_tried_again_and_what_is_unknown_cannot(edge: Edge) -> None:
    name = await edge.asked()
    await edge.approve(name)
    edge.raised = WrongKeyState("not now")
    assert await reason(edge.keys.ScheduleKeyDestruction(DESTROY, **under(name))) == "WRONG_KEY_STATE"
    assert await edge.state(name) is ApprovalState.APPROVED
    edge.raised = HsmUnavailable("away")
    assert await reason(edge.keys.ScheduleKeyDestruction(DESTROY, **under(name))) == "HSM_UNAVAILABLE"
    assert await edge.state(name) is ApprovalState.OUTCOME_UNKNOWN
    edge.raised = None
    assert await reason(edge.keys.ScheduleKeyDestruction(DESTROY, **under(name))) == "APPROVAL_UNUSABLE"


async def test_a_caller_that_goes_away_leaves_the_approval_used(edge: Edge) -> None:
    name = await edge.asked()
    await edge.approve(name)
    inside = asyncio.Event()

    async def hang(request: Any, caller: Principal) -> Any:
        inside.set()
        await asyncio.Event().wait()

    edge.answers.by_name["ScheduleKeyDestruction"] = hang
    call = edge.keys.ScheduleKeyDestruction(DESTROY, **under(name))
    async with asyncio.timeout(20):
        await inside.wait()
        call.cancel()
        while await edge.state(name) is ApprovalState.EXECUTING:  # noqa: ASYNC110  nothing announces it
            await asyncio.sleep(0.01)
    assert await edge.state(name) is ApprovalState.OUTCOME_UNKNOWN


@alone
async def test_without_a_rule_nobody_is_asked(edge: Edge) -> None:
    await edge.keys.ScheduleKeyDestruction(DESTROY)
    await edge.keys.RetireKeyVersion(keys_pb2.RetireKeyVersionRequest(name=f"{KEY}/versions/1", force=True))
    assert [name for name, _ in edge.done] == ["ScheduleKeyDestruction", "RetireKeyVersion"]


def rule(approvals: int, present: int, permission: str = "keys.destroy") -> pb.UpdateQuorumRuleRequest:
    name = f"{PARENT}/quorumRules/{permission}"
    return pb.UpdateQuorumRuleRequest(
        quorum_rule=pb.QuorumRule(name=name, approvals=approvals), present_approvals=present
    )


@alone
async def test_to_lower_a_number_takes_as_many_and_to_raise_it_those_of_the_rules(edge: Edge) -> None:
    raised = await edge.service.UpdateQuorumRule(rule(3, 0))
    assert (raised.approvals, raised.is_default, raised.updater) == (3, False, "tenants/acme/principals/app")
    _, status = await refused(edge.service.UpdateQuorumRule(rule(2, 3)))
    assert (info_of(status).reason, info_of(status).metadata["needed"]) == ("APPROVAL_REQUIRED", "3")
    name = info_of(status).metadata["approval"]
    # Who says that it is no lowering is believed no further than to where it is compared with what holds.
    assert await reason(edge.service.UpdateQuorumRule(rule(2, 1))) == "CONFLICT"
    await edge.approve(name, "bob", "cyd")
    assert await reason(edge.service.UpdateQuorumRule(rule(2, 3), **under(name))) == "APPROVAL_UNUSABLE"
    await edge.approve(name, "dan")
    assert (await edge.service.UpdateQuorumRule(rule(2, 3), **under(name))).approvals == 2
    await edge.service.UpdateQuorumRule(rule(4, 2))  # up again, by nobody's leave
    await edge.service.UpdateQuorumRule(rule(1, 0, "quorumRules.update"))
    _, status = await refused(edge.service.UpdateQuorumRule(rule(5, 4)))
    assert info_of(status).metadata["needed"] == "1"
    listed = (await edge.service.ListQuorumRules(pb.ListQuorumRulesRequest(parent=PARENT))).quorum_rules
    assert {found.name.rpartition("/")[2]: (found.approvals, found.is_default) for found in listed} == {
        permission: {"keys.destroy": (4, False), "quorumRules.update": (1, False)}.get(permission, (0, True))
        for permission in PERMISSIONS
    }


@alone
async def test_a_rule_is_for_what_can_need_approvals_and_for_a_number_that_can_be_had(edge: Edge) -> None:
    assert await reason(edge.service.UpdateQuorumRule(rule(1, 0, "keys.encrypt"))) == "INVALID_REQUEST"
    assert await reason(edge.service.UpdateQuorumRule(rule(11, 0))) == "INVALID_REQUEST"
    assert await reason(edge.service.UpdateQuorumRule(rule(1, 0, "../keys"))) == "INVALID_REQUEST"
    assert set(PERMISSIONS) == {method.permission for method in METHODS if method.quorum is not Quorum.NEVER}


async def test_approvers_see_what_they_approve(edge: Edge) -> None:
    request = policies_pb2.UpdatePolicyRequest(
        policy=policies_pb2.Policy(name=f"{PARENT}/policies/gold", creator="\u202egnp"),
        update_mask=FieldMask(paths=["automatic_retirement"]),
    )
    _, status = await refused(edge.policies.UpdatePolicy(request))
    await edge.asked()
    name = info_of(status).metadata["approval"]
    shown = await edge.service.GetApproval(pb.GetApprovalRequest(name=name))
    assert shown.request_json.isascii()
    assert json.loads(shown.request_json) == {
        "policy": {"name": f"{PARENT}/policies/gold", "creator": "\u202egnp"},
        "update_mask": "automaticRetirement",
    }
    assert (shown.requester, shown.permission) == ("tenants/acme/principals/app", "policies.update")
    assert list(shown.resources) == [f"{PARENT}/policies/gold"]
    assert (shown.state, shown.needed, len(shown.digest)) == (pb.Approval.OPEN, 2, 64)
    listed = await edge.service.ListApprovals(pb.ListApprovalsRequest(parent=PARENT, page_size=1, waiting_only=True))
    [first] = listed.approvals
    assert (first.reason, first.request_json) == ("", "") or first.reason == "contract ended"
    token = listed.next_page_token
    [second] = (await edge.service.ListApprovals(pb.ListApprovalsRequest(parent=PARENT, page_token=token))).approvals
    assert {first.name, second.name} >= {name}
    assert first.name != second.name
    assert (
        await reason(edge.service.ListApprovals(pb.ListApprovalsRequest(parent=PARENT, page_token="eHg=")))
        == "INVALID_REQUEST"
    )


async def test_votes_over_the_wire_say_by_what_they_were_given(edge: Edge) -> None:
    name = await edge.asked()
    own = await edge.service.GetApproval(pb.GetApprovalRequest(name=name))
    approve = pb.ApproveApprovalRequest(name=name, digest=own.digest)
    assert await reason(edge.service.ApproveApproval(approve)) == "SELF_APPROVAL"
    assert await reason(edge.service.RejectApproval(pb.RejectApprovalRequest(name=name))) == "SELF_APPROVAL"
    approve.digest = "zz"
    assert await reason(edge.service.ApproveApproval(approve)) == "INVALID_REQUEST"
    withdrawn = await edge.service.WithdrawApproval(pb.WithdrawApprovalRequest(name=name))
    assert withdrawn.state == pb.Approval.WITHDRAWN


async def test_the_rule_of_now_decides_who_has_to_be_asked(edge: Edge) -> None:
    await edge.rules.update(Principal("acme", "o"), QuorumRuleName("acme", "keys.destroy"), 0, 2)
    await edge.keys.ScheduleKeyDestruction(DESTROY)
    assert edge.done == [("ScheduleKeyDestruction", "")]
