"""From messages to values: approvals and quorum rules."""

from __future__ import annotations

from ..v1 import approvals_pb2
from ..values import Approval, ApprovalState, ApprovalVote, QuorumRule
from .reading import known, time, time_if


def approval(message: approvals_pb2.Approval) -> Approval:
    """Read an Approval."""
    return Approval(
        name=message.name,
        state=known(ApprovalState, message.state),
        method=message.method,
        permission=message.permission,
        resources=tuple(message.resources),
        requester=message.requester,
        reason=message.reason,
        request_json=message.request_json,
        digest=message.digest,
        needed=message.needed,
        votes=tuple(map(_vote, message.votes)),
        create_time=time(message.create_time),
        expire_time=time(message.expire_time),
        state_time=time(message.state_time),
    )


def _vote(message: approvals_pb2.ApprovalVote) -> ApprovalVote:
    return ApprovalVote(
        principal=message.principal,
        approved=message.approved,
        comment=message.comment,
        vote_time=time(message.vote_time),
        credential=message.credential,
    )


def quorum_rule(message: approvals_pb2.QuorumRule) -> QuorumRule:
    """Read a QuorumRule."""
    return QuorumRule(
        name=message.name,
        approvals=message.approvals,
        is_default=message.is_default,
        update_time=time_if(message, "update_time"),
        updater=message.updater,
    )


def quorum_rules(message: approvals_pb2.ListQuorumRulesResponse) -> tuple[QuorumRule, ...]:
    """Read a ListQuorumRulesResponse."""
    return tuple(map(quorum_rule, message.quorum_rules))
