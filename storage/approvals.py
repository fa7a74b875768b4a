"""Requests for approval, their votes and quorum rules in the database."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, or_, select

from kms.core.approvals import WAITING, ApprovalRequest, ApprovalState, ApprovalUid, Decision, QuorumRule, Vote
from kms.core.callers import CredentialKind
from kms.core.canonical import Value
from kms.core.errors import AlreadyExists, Conflict, KmsError
from kms.core.names import TenantUid

from .approval_tables import approval_votes as v
from .approval_tables import approvals as a
from .approval_tables import quorum_rules as q
from .records import find, find_one, store
from .session import Session

_WAITING = tuple(state.value for state in WAITING)


def _resources(text: str) -> tuple[str, ...]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("resources are names")
    return tuple(names)


def _request(row: Row[Any]) -> ApprovalRequest:
    return ApprovalRequest(
        uid=row.id,
        tenant=row.tenant_id,
        requester=row.requester,
        credential=CredentialKind(row.credential_kind),
        credential_id=row.credential_id,
        method=row.method,
        permission=row.permission,
        resources=_resources(row.resources),
        request=row.request,
        digest=row.digest,
        reason=row.reason,
        needed=row.needed,
        created_at=row.created_at,
        expires_at=row.expires_at,
        state=ApprovalState(row.status),
        state_at=row.status_at,
        revision=row.revision,
    )


def _vote(row: Row[Any]) -> Vote:
    return Vote(
        tenant=row.tenant_id,
        approval=row.approval_id,
        principal=row.principal,
        decision=Decision(row.vote),
        at=row.voted_at,
        credential=CredentialKind(row.credential_kind),
        credential_id=row.credential_id,
        comment=row.comment,
        revision=row.revision,
    )


def _rule(row: Row[Any]) -> QuorumRule:
    return QuorumRule(
        tenant=row.tenant_id,
        permission=row.permission,
        approvals=row.approvals,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
        revision=row.revision,
    )


class Approvals:
    """ApprovalRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, uid: ApprovalUid) -> ApprovalRequest | None:
        """Return one request."""
        query = select(a).where(a.c.tenant_id == tenant, a.c.id == uid)
        return await find_one(self._session, a, query, _request, groups=[(uid,)])

    async def find_waiting(self, tenant: TenantUid, digest: bytes) -> ApprovalRequest | None:
        """Return the request of that digest that is stored as waiting, also where its time is over."""
        query = select(a).where(a.c.tenant_id == tenant, a.c.digest == digest, a.c.status.in_(_WAITING))
        return await find_one(self._session, a, query, _request)

    async def count_waiting(self, tenant: TenantUid, now: datetime, requester: str | None = None) -> int:
        """Return how many requests wait and have not expired, of one requester or of all."""
        query = (
            select(func.count().label("waiting"))
            .select_from(a)
            .where(a.c.tenant_id == tenant, a.c.status.in_(_WAITING), a.c.expires_at > now)
        )
        if requester is not None:
            query = query.where(a.c.requester == requester)
        return int((await self._session.rows(query))[0].waiting)

    async def list_newest(
        self,
        tenant: TenantUid,
        before: tuple[datetime, ApprovalUid] | None,
        limit: int,
        *,
        waiting_at: datetime | None = None,
    ) -> list[ApprovalRequest]:
        """Return at most *limit* requests stored before *before*, the newest first; with a time those that wait then."""
        query = select(a).where(a.c.tenant_id == tenant)
        if waiting_at is not None:
            query = query.where(a.c.status.in_(_WAITING), a.c.expires_at > waiting_at)
        if before is not None:
            stored, uid = before
            query = query.where(or_(a.c.created_at < stored, (a.c.created_at == stored) & (a.c.id < uid)))
        return await find(self._session, a, query.order_by(a.c.created_at.desc(), a.c.id.desc()).limit(limit), _request)

    async def add(self, request: ApprovalRequest) -> ApprovalRequest:
        """Store a new request with revision 1 and return it so.

        Raises:
            Conflict: a request of the same digest waits already.
        """
        return await self._store(request, 0, Conflict("the same request was stored in between"))

    async def replace(self, request: ApprovalRequest) -> ApprovalRequest:
        """Store a changed request over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        otherwise = Conflict(f"approval {request.uid} was changed in between")
        return await self._store(request, request.revision, otherwise)

    async def votes(self, tenant: TenantUid, uids: Collection[ApprovalUid]) -> list[Vote]:
        """Return all votes on these requests (at most 1,000), the oldest first."""
        query = select(v).where(v.c.tenant_id == tenant, v.c.approval_id.in_(list(uids)))
        return await find(
            self._session,
            v,
            query.order_by(v.c.voted_at, v.c.principal),
            _vote,
            groups=[(uid,) for uid in uids],
        )

    async def add_vote(self, vote: Vote) -> Vote:
        """Store a vote with revision 1 and return it so.

        Raises:
            AlreadyExists: the principal has voted on that request.
        """
        row: dict[str, Value] = {
            "tenant_id": vote.tenant,
            "approval_id": vote.approval,
            "principal": vote.principal,
            "vote": vote.decision.value,
            "voted_at": vote.at,
            "credential_kind": vote.credential.value,
            "credential_id": vote.credential_id,
            "comment": vote.comment,
        }
        otherwise = AlreadyExists(f"{vote.principal} has voted on approval {vote.approval}")
        return replace(vote, revision=await store(self._session, v, row, 0, otherwise=otherwise))

    async def _store(self, request: ApprovalRequest, came_from: int, otherwise: KmsError) -> ApprovalRequest:
        row: dict[str, Value] = {
            "tenant_id": request.tenant,
            "id": request.uid,
            "requester": request.requester,
            "credential_kind": request.credential.value,
            "credential_id": request.credential_id,
            "method": request.method,
            "permission": request.permission,
            "resources": json.dumps(list(request.resources), separators=(",", ":"), ensure_ascii=False),
            "request": request.request,
            "digest": request.digest,
            "reason": request.reason,
            "needed": request.needed,
            "created_at": request.created_at,
            "expires_at": request.expires_at,
            "status": request.state.value,
            "status_at": request.state_at,
        }
        return replace(request, revision=await store(self._session, a, row, came_from, otherwise=otherwise))


class QuorumRules:
    """QuorumRuleRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, permission: str) -> QuorumRule | None:
        """Return the tenant's own rule for a permission."""
        query = select(q).where(q.c.tenant_id == tenant, q.c.permission == permission)
        return await find_one(
            self._session,
            q,
            query,
            _rule,
            groups=[()],
            wanted=lambda there: [identity for identity in there if identity == (permission,)],
        )

    async def list_all(self, tenant: TenantUid) -> list[QuorumRule]:
        """Return all rules of the tenant, one a permission at most, ordered by it."""
        query = select(q).where(q.c.tenant_id == tenant).order_by(q.c.permission)
        return await find(self._session, q, query, _rule, groups=[()])

    async def put(self, rule: QuorumRule) -> QuorumRule:
        """Store a rule over the revision that it came from, 0 for a new one; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        row: dict[str, Value] = {
            "tenant_id": rule.tenant,
            "permission": rule.permission,
            "approvals": rule.approvals,
            "updated_at": rule.updated_at,
            "updated_by": rule.updated_by,
        }
        otherwise = Conflict(f"the quorum rule of {rule.permission} was changed in between")
        return replace(rule, revision=await store(self._session, q, row, rule.revision, otherwise=otherwise))
