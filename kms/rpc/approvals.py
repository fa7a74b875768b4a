"""ApprovalService: parse, call, format."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError

from kms.acting import present_caller
from kms.core.approvals import (
    LONGEST_COMMENT,
    MOST_APPROVALS,
    ApprovalRequest,
    ApprovalState,
    ApprovalUid,
    Decision,
    QuorumRule,
)
from kms.core.errors import invalid
from kms.core.keyring import Tenant
from kms.core.names import ApprovalName, Principal, QuorumRuleName, TenantName
from kms.rpc.fields import parse_text
from kms.rpc.messages import timestamp
from kms.rpc.methods import METHODS, Quorum
from kms.rpc.paging import Page, cut, parse_page
from kms.services.approvals import Approvals, Standing
from kms.services.quorum_rules import QuorumRules
from kms.v1 import approvals_pb2 as pb

# The permissions that can need approvals.
PERMISSIONS: Final = tuple(sorted({method.permission for method in METHODS if method.quorum is not Quorum.NEVER}))
LARGEST_PAGE: Final = 100  # requests are read whole, up to 64 KiB each

_DIGEST = re.compile(r"[0-9a-f]{64}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_REQUESTS: Final = {method.full_name: method.request for method in METHODS}


class ApprovalServicer:
    """Serves kms.v1.ApprovalService."""

    def __init__(self, approvals: Approvals, rules: QuorumRules) -> None:
        self._approvals = approvals
        self._rules = rules

    async def GetApproval(self, request: pb.GetApprovalRequest, caller: Principal) -> pb.Approval:
        """Return a request with its votes."""
        return approval_message(await self._approvals.get(caller, ApprovalName.parse(request.name)))

    async def ListApprovals(self, request: pb.ListApprovalsRequest, caller: Principal) -> pb.ListApprovalsResponse:
        """List a tenant's requests."""
        parent, page = TenantName.parse(request.parent, "parent"), parse_page(request)
        page = Page(min(page.size, LARGEST_PAGE), page.after)
        found = await self._approvals.list_newest(
            caller, parent, _before(page), page.size + 1, waiting=request.waiting_only
        )
        shown, token = cut(found, page, lambda standing: _entry(standing.request))
        return pb.ListApprovalsResponse(
            approvals=[approval_message(standing, whole=False) for standing in shown], next_page_token=token
        )

    async def ApproveApproval(self, request: pb.ApproveApprovalRequest, caller: Principal) -> pb.Approval:
        """Approve a request."""
        del caller  # known whole, with its credential
        name, comment = ApprovalName.parse(request.name), parse_text(request.comment, "comment", LONGEST_COMMENT)
        seen = _parse_digest(request.digest)
        return approval_message(await self._approvals.decide(present_caller(), name, Decision.APPROVE, comment, seen))

    async def RejectApproval(self, request: pb.RejectApprovalRequest, caller: Principal) -> pb.Approval:
        """Reject a request."""
        del caller
        name, comment = ApprovalName.parse(request.name), parse_text(request.comment, "comment", LONGEST_COMMENT)
        return approval_message(await self._approvals.decide(present_caller(), name, Decision.REJECT, comment, None))

    async def WithdrawApproval(self, request: pb.WithdrawApprovalRequest, caller: Principal) -> pb.Approval:
        """Take back what the caller has asked for."""
        return approval_message(await self._approvals.withdraw(caller, ApprovalName.parse(request.name)))

    async def ListQuorumRules(
        self, request: pb.ListQuorumRulesRequest, caller: Principal
    ) -> pb.ListQuorumRulesResponse:
        """List how many approvals each permission needs."""
        tenant, own = await self._rules.list_all(caller, TenantName.parse(request.parent, "parent"))
        by_permission = {rule.permission: rule for rule in own}
        return pb.ListQuorumRulesResponse(
            quorum_rules=[
                self._default(tenant, permission) if rule is None else rule_message(tenant, rule)
                for permission in PERMISSIONS
                for rule in [by_permission.get(permission)]
            ]
        )

    async def UpdateQuorumRule(self, request: pb.UpdateQuorumRuleRequest, caller: Principal) -> pb.QuorumRule:
        """Set how many approvals a permission needs."""
        name = QuorumRuleName.parse(request.quorum_rule.name, "quorum_rule.name")
        if name.permission not in PERMISSIONS:
            raise invalid("quorum_rule.name", f"must end in one of {', '.join(PERMISSIONS)}")
        approvals = request.quorum_rule.approvals
        if approvals > MOST_APPROVALS:
            raise invalid("quorum_rule.approvals", f"must be 0 to {MOST_APPROVALS}")
        return rule_message(*await self._rules.update(caller, name, approvals, request.present_approvals))

    def _default(self, tenant: Tenant, permission: str) -> pb.QuorumRule:
        return pb.QuorumRule(
            name=str(QuorumRuleName(tenant.slug, permission)), approvals=self._rules.default, is_default=True
        )


def _parse_digest(text: str) -> bytes:
    if _DIGEST.fullmatch(text) is None:
        raise invalid("digest", "must be 64 hexadecimal digits in lower case")
    return bytes.fromhex(text)


def _entry(request: ApprovalRequest) -> str:
    return f"{(request.created_at - _EPOCH) // _MICROSECOND}/{request.uid}"


def _before(page: Page) -> tuple[datetime, ApprovalUid] | None:
    if not page.after:
        return None
    stored, _, uid = page.after.partition("/")
    try:
        return _EPOCH + int(stored) * _MICROSECOND, ApprovalUid(UUID(uid))
    except (ValueError, OverflowError) as error:
        raise invalid("page_token", "must be the next_page_token of the same list") from error


def approval_message(standing: Standing, *, whole: bool = True) -> pb.Approval:
    """Format a request; *whole* with what stands in it."""
    request = standing.request
    return pb.Approval(
        name=str(standing.name),
        state=standing.state.name,
        method=request.method,
        permission=request.permission,
        resources=request.resources,
        requester=request.requester,
        reason=request.reason,
        request_json=_readable(request) if whole else "",
        digest=request.digest.hex(),
        needed=standing.needed,
        votes=[
            pb.ApprovalVote(
                principal=vote.principal,
                approved=vote.decision is Decision.APPROVE,
                comment=vote.comment,
                vote_time=timestamp(vote.at),
                credential=vote.credential.value,
            )
            for vote in standing.votes
        ],
        create_time=timestamp(request.created_at),
        expire_time=timestamp(request.expires_at),
        state_time=timestamp(request.expires_at if standing.state is ApprovalState.EXPIRED else request.state_at),
    )


def rule_message(tenant: Tenant, rule: QuorumRule) -> pb.QuorumRule:
    """Format a tenant's own rule."""
    return pb.QuorumRule(
        name=str(QuorumRuleName(tenant.slug, rule.permission)),
        approvals=rule.approvals,
        update_time=timestamp(rule.updated_at),
        updater=rule.updated_by,
    )


def _readable(request: ApprovalRequest) -> str:
    descriptor = _REQUESTS.get(request.method)
    if descriptor is None:  # of another release
        return ""
    try:
        message = descriptor._concrete_class.FromString(request.request)  # noqa: SLF001  as kms/rpc/calls.py
    except DecodeError:
        return ""
    # In ASCII: what could steer a terminal or turn the direction of text is written as an escape.
    return MessageToJson(message, preserving_proto_field_name=True, ensure_ascii=True)
