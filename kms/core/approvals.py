"""Requests that others have to approve, as values: what exactly was asked, who has voted, and whether it may be done now.

Step by step: (1) a request is stored with its digest; (2) distinct principals, never the requester, approve it, or one
rejects it; (3) the requester repeats the very same request under the approval, which serves once; (4) what came of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NewType
from uuid import UUID

from .callers import Credential, CredentialKind
from .errors import (
    AlreadyExists,
    ApprovalUnusable,
    Conflict,
    Denied,
    FailedPrecondition,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    NotSupported,
    SelfApproval,
    Unauthenticated,
    WrongApprovalState,
    invalid,
)
from .names import ApprovalName, TenantUid

ApprovalUid = NewType("ApprovalUid", UUID)

LIFETIME: Final = timedelta(hours=24)  # of a request, from its storing to its execution
LARGEST_REQUEST: Final = 64 << 10  # bytes
MOST_OPEN: Final = 1_000  # requests of one tenant that wait, so that a reader of all of them comes to an end
MOST_OPEN_OF_ONE: Final = 100  # of them by one requester, so that nobody keeps the others from asking
LONGEST_COMMENT: Final = 256  # characters
MOST_APPROVALS: Final = 10  # that a rule may ask for

_DOMAIN: Final = b"kms approval v1"


class ApprovalState(StrEnum):
    """How a request stands, as stored; one whose time is over counts as expired, whatever is stored."""

    OPEN = "open"
    APPROVED = "approved"
    EXECUTING = "executing"  # used; a node that dies meanwhile leaves it so
    EXECUTED = "executed"
    OUTCOME_UNKNOWN = "outcome_unknown"  # used; whether the act was done is not known
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class ApprovalEvent(StrEnum):
    """What may happen to a request."""

    APPROVE = "approve"  # one approval that is not enough yet, or one more
    COMPLETE = "complete"  # the approval that makes them enough
    REJECT = "reject"
    WITHDRAW = "withdraw"
    EXPIRE = "expire"
    EXECUTE = "execute"
    SUCCEED = "succeed"
    GIVE_BACK = "give back"  # nothing was done
    LOSE = "lose"  # nobody knows whether it was done


_S = ApprovalState
_E = ApprovalEvent

TRANSITIONS: Final = MappingProxyType(
    {
        (_S.OPEN, _E.APPROVE): _S.OPEN,
        (_S.OPEN, _E.COMPLETE): _S.APPROVED,
        # More than were needed are no harm: the rule may be raised, and an approver may lose the permission.
        (_S.APPROVED, _E.APPROVE): _S.APPROVED,
        (_S.APPROVED, _E.COMPLETE): _S.APPROVED,
        (_S.OPEN, _E.REJECT): _S.REJECTED,
        (_S.APPROVED, _E.REJECT): _S.REJECTED,
        (_S.OPEN, _E.WITHDRAW): _S.WITHDRAWN,
        (_S.APPROVED, _E.WITHDRAW): _S.WITHDRAWN,
        (_S.OPEN, _E.EXPIRE): _S.EXPIRED,
        (_S.APPROVED, _E.EXPIRE): _S.EXPIRED,
        (_S.APPROVED, _E.EXECUTE): _S.EXECUTING,
        (_S.EXECUTING, _E.SUCCEED): _S.EXECUTED,
        (_S.EXECUTING, _E.GIVE_BACK): _S.APPROVED,
        (_S.EXECUTING, _E.LOSE): _S.OUTCOME_UNKNOWN,
    }
)
# Whoever raises one of these has done nothing; after any other error nobody knows.
NOTHING_DONE: Final = (
    InvalidRequest,
    Unauthenticated,
    Denied,
    NotFound,
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    NotSupported,
    LimitExceeded,
)
WAITING: Final = (_S.OPEN, _S.APPROVED)  # in these states it may still be voted on, withdrawn, and in time executed


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """One request as it was asked, and how it stands."""

    uid: ApprovalUid
    tenant: TenantUid
    requester: str  # a principal
    credential: CredentialKind
    credential_id: str
    method: str  # `/package.Service/Method`
    permission: str
    resources: tuple[str, ...]
    request: bytes  # serialized deterministically, at most LARGEST_REQUEST bytes
    digest: bytes  # 32 bytes, see digest_of
    reason: str
    needed: int  # approvals, as the rule was when it was asked
    created_at: datetime
    expires_at: datetime
    state: ApprovalState
    state_at: datetime
    revision: int = 0

    def __post_init__(self) -> None:
        if len(self.request) > LARGEST_REQUEST:
            raise invalid("request", f"must have at most {LARGEST_REQUEST} bytes, since others have to read it")

    def name(self, tenant_slug: str) -> ApprovalName:
        """The resource name."""
        return ApprovalName(tenant_slug, self.uid)

    def standing(self, now: datetime) -> ApprovalState:
        """Return the state as it is at this time."""
        over = self.state in WAITING and now >= self.expires_at
        return ApprovalState.EXPIRED if over else self.state

    def after(self, event: ApprovalEvent, now: datetime) -> ApprovalRequest:
        """Return the request after *event*.

        Raises:
            WrongApprovalState: its state does not allow that.
        """
        state = self.standing(now) if event is not ApprovalEvent.EXPIRE else self.state
        following = TRANSITIONS.get((state, event))
        if following is None:
            raise WrongApprovalState(f"approval {self.uid} is {spoken(state)}: it cannot {event}")
        return replace(self, state=following, state_at=self.state_at if following is self.state else now)


class Decision(StrEnum):
    """What a vote says."""

    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Vote:
    """The vote of one principal on one request; a principal has one, whatever it has shown who it is by."""

    tenant: TenantUid
    approval: ApprovalUid
    principal: str
    decision: Decision
    at: datetime
    credential: CredentialKind
    credential_id: str
    comment: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class QuorumRule:
    """How many approvals one permission needs in one tenant."""

    tenant: TenantUid
    permission: str
    approvals: int
    updated_at: datetime
    updated_by: str
    revision: int = 0


def spoken(state: ApprovalState) -> str:
    """The state in words."""
    return state.value.replace("_", " ")


def digest_of(method: str, tenant: TenantUid, requester: str, request: bytes) -> bytes:
    """Return what approvers approve: SHA-256 (FIPS 180-4) of method, tenant, requester and request, 32 bytes.

    Each part is preceded by its length (4 bytes, big-endian), so that no two requests have the same encoding.
    """
    parts = (_DOMAIN, method.encode(), tenant.bytes, requester.encode(), request)
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def vote(
    request: ApprovalRequest,
    votes: Sequence[Vote],
    principal: str,
    decision: Decision,
    now: datetime,
    credential: Credential,
    comment: str = "",
) -> tuple[ApprovalRequest, Vote]:
    """Return the request after one more vote, and the vote; *votes* are those it has.

    Raises:
        SelfApproval: the principal asked for it itself.
        AlreadyExists: it has voted.
        WrongApprovalState: the request has ended, or its time is over.
    """
    if principal == request.requester:
        raise SelfApproval(f"{principal} has asked for this itself: others have to decide")
    if any(given.principal == principal for given in votes):
        raise AlreadyExists(f"{principal} has voted on approval {request.uid}")
    if decision is Decision.REJECT:
        event = ApprovalEvent.REJECT
    else:
        enough = len(approvers(request, votes)) + 1 >= request.needed
        event = ApprovalEvent.COMPLETE if enough else ApprovalEvent.APPROVE
    given = Vote(request.tenant, request.uid, principal, decision, now, credential.kind, credential.id, comment)
    return request.after(event, now), given


def approvers(request: ApprovalRequest, votes: Sequence[Vote]) -> frozenset[str]:
    """Return who has approved: distinct principals, never the requester, whatever is stored."""
    found = {given.principal for given in votes if given.decision is Decision.APPROVE}
    return frozenset(found - {request.requester})


@dataclass(frozen=True, slots=True)
class Use:
    """A request that is made under an approval: what must be the same as what was approved."""

    method: str
    requester: str
    digest: bytes


def usable(
    request: ApprovalRequest, votes: Sequence[Vote], now: datetime, use: Use, needed: int
) -> Denied | ApprovalUnusable | None:
    """Return why a request may not be made under an approval; None where it may.

    *votes* are those that count, *needed* what the rule asks for now: the higher number of then and now counts.
    """
    if use.requester != request.requester:
        return Denied(f"approval {request.uid} was asked for by somebody else")
    if use.method != request.method or use.digest != request.digest:
        return ApprovalUnusable(f"approval {request.uid} is for another request: this one differs from what was asked")
    state = request.standing(now)
    if state is ApprovalState.OPEN:
        return ApprovalUnusable(f"approval {request.uid} is not given yet: {counted(request, votes, needed)}")
    if state is not ApprovalState.APPROVED:
        return ApprovalUnusable(f"approval {request.uid} is {spoken(state)}{_hint(state)}")
    if len(approvers(request, votes)) < max(needed, request.needed):
        return ApprovalUnusable(f"approval {request.uid} is not enough any more: {counted(request, votes, needed)}")
    return None


def outcome_of(error: BaseException | None) -> ApprovalEvent:
    """Return what a request that was executed has come to; None where its work ended well."""
    if error is None:
        return ApprovalEvent.SUCCEED
    return ApprovalEvent.GIVE_BACK if isinstance(error, NOTHING_DONE) else ApprovalEvent.LOSE


def counted(request: ApprovalRequest, votes: Sequence[Vote], needed: int) -> str:
    """Say how many approvals there are of how many."""
    return f"{len(approvers(request, votes))} of {max(needed, request.needed)} approvals count"


def _hint(state: ApprovalState) -> str:
    if state is ApprovalState.EXECUTED:
        return ": an approval serves once"
    if state in (ApprovalState.EXECUTING, ApprovalState.OUTCOME_UNKNOWN):
        return ": it has been used, and whether the act was done is not known; look, then ask anew"
    return ": ask anew"
