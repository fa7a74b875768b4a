"""Requests that others have to approve, and how many have to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


class ApprovalState(IntEnum):
    """How a request for approval stands."""

    OPEN = 1
    APPROVED = 2  # the requester may repeat the request under it
    EXECUTING = 3  # where that lasts, a node has died meanwhile: the approval is used, look whether the act was done
    EXECUTED = 4
    OUTCOME_UNKNOWN = 5  # the approval is used; look whether the act was done
    REJECTED = 6
    WITHDRAWN = 7
    EXPIRED = 8


@dataclass(frozen=True, slots=True)
class ApprovalVote:
    """The vote of one principal."""

    principal: str
    approved: bool  # otherwise it is a rejection
    comment: str
    vote_time: datetime
    credential: str  # `certificate`, `token` or `socket`


@dataclass(frozen=True, slots=True)
class Approval:
    """One request that needs a quorum: `tenants/{tenant}/approvals/{approval}`."""

    name: str
    state: ApprovalState | int
    method: str  # `/package.Service/Method`
    permission: str
    resources: tuple[str, ...]
    requester: str
    reason: str
    request_json: str  # empty in lists
    digest: str  # of what is approved, 64 hexadecimal digits
    needed: int  # principals other than the requester that have to approve
    votes: tuple[ApprovalVote, ...]
    create_time: datetime
    expire_time: datetime
    state_time: datetime

    @property
    def waiting(self) -> bool:
        """Whether it waits: for approvals, or for its requester."""
        return self.state in (ApprovalState.OPEN, ApprovalState.APPROVED)


@dataclass(frozen=True, slots=True)
class QuorumRule:
    """How many approvals a permission needs: `tenants/{tenant}/quorumRules/{permission}`."""

    name: str
    approvals: int
    is_default: bool  # the tenant has no rule of its own: the installation's setting holds
    update_time: datetime | None
    updater: str

    @property
    def permission(self) -> str:
        """The permission, such as `keys.destroy`."""
        return self.name.rpartition("/")[2]
