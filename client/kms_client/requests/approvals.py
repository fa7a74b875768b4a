"""Requests to ApprovalService."""

from __future__ import annotations

from ..methods import APPROVALS
from ..responses import approvals
from ..responses.reading import page
from ..v1 import approvals_pb2
from ..values import Approval, QuorumRule
from .messages import Listing, Request, build


def get_approval(name: str) -> Request[Approval]:
    """ApprovalService.GetApproval."""
    message = build(approvals_pb2.GetApprovalRequest, name=name)
    return Request(f"{APPROVALS}/GetApproval", message, approvals.approval)


def list_approvals(parent: str, waiting_only: bool, page_size: int) -> Listing:
    """ApprovalService.ListApprovals."""
    read = page("approvals", approvals.approval)
    return lambda token: Request(
        f"{APPROVALS}/ListApprovals",
        build(
            approvals_pb2.ListApprovalsRequest,
            parent=parent,
            page_size=page_size,
            page_token=token,
            waiting_only=waiting_only,
        ),
        read,
    )


def approve(name: str, digest: str, comment: str) -> Request[Approval]:
    """ApprovalService.ApproveApproval."""
    message = build(approvals_pb2.ApproveApprovalRequest, name=name, digest=digest, comment=comment)
    return Request(f"{APPROVALS}/ApproveApproval", message, approvals.approval)


def reject(name: str, comment: str) -> Request[Approval]:
    """ApprovalService.RejectApproval."""
    message = build(approvals_pb2.RejectApprovalRequest, name=name, comment=comment)
    return Request(f"{APPROVALS}/RejectApproval", message, approvals.approval)


def withdraw(name: str) -> Request[Approval]:
    """ApprovalService.WithdrawApproval."""
    message = build(approvals_pb2.WithdrawApprovalRequest, name=name)
    return Request(f"{APPROVALS}/WithdrawApproval", message, approvals.approval)


def list_quorum_rules(parent: str) -> Request[tuple[QuorumRule, ...]]:
    """ApprovalService.ListQuorumRules."""
    message = build(approvals_pb2.ListQuorumRulesRequest, parent=parent)
    return Request(f"{APPROVALS}/ListQuorumRules", message, approvals.quorum_rules)


def update_quorum_rule(name: str, wanted: int, present: int) -> Request[QuorumRule]:
    """ApprovalService.UpdateQuorumRule."""
    message = build(
        approvals_pb2.UpdateQuorumRuleRequest,
        quorum_rule=build(approvals_pb2.QuorumRule, name=name, approvals=wanted),
        present_approvals=present,
    )
    return Request(f"{APPROVALS}/UpdateQuorumRule", message, approvals.quorum_rule)
