"""Requests that others have to approve: stored, voted on, used once, and what came of it.

The steps are those of kms/core/approvals.py. What two nodes do at once is decided by the request's revision, which
every vote and every step counts up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import uuid4

import structlog

from kms.core.approvals import (
    LIFETIME,
    MOST_OPEN,
    MOST_OPEN_OF_ONE,
    ApprovalEvent,
    ApprovalRequest,
    ApprovalState,
    ApprovalUid,
    Decision,
    Use,
    Vote,
    digest_of,
    outcome_of,
    usable,
    vote,
)
from kms.core.callers import Caller
from kms.core.errors import ApprovalUnusable, Conflict, Denied, KmsError, LimitExceeded, NotFound, invalid
from kms.core.keyring import Tenant
from kms.core.names import ApprovalName, Principal, TenantName
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.failpoints import reach
from kms.services.quorum_rules import QuorumRules
from kms.services.uninterrupted import Uninterrupted
from kms.services.visibility import visible_tenant

_log = structlog.get_logger(__name__)

# Votes on one request that come at the same moment go one after another; more than so many lose their turn.
TRIES: Final = 8


class Notifier(Protocol):
    """Tells approvers what waits for them."""

    async def approval_requested(self, work: UnitOfWork, tenant: Tenant, request: ApprovalRequest) -> None:
        """A request has been stored; part of the transaction that stores it, so what is told is durable with it."""
        ...

    def committed(self) -> None:
        """That transaction has been committed."""
        ...


class NoNotifier:
    """Tells nobody: approvers look for themselves."""

    async def approval_requested(self, work: UnitOfWork, tenant: Tenant, request: ApprovalRequest) -> None:
        """A request has been stored."""

    def committed(self) -> None:
        """That transaction has been committed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that needs a quorum, as it came in; it needs what the strictest of *permissions* does."""

    caller: Caller
    tenant: Tenant
    method: str
    permissions: tuple[str, ...]  # the method's own, then others that it touches
    resources: tuple[str, ...]
    request: bytes
    reason: str

    @property
    def requester(self) -> str:
        """Who asks."""
        return str(self.caller.principal)

    @property
    def digest(self) -> bytes:
        """What approvers approve."""
        return digest_of(self.method, self.tenant.uid, self.requester, self.request)


@dataclass(frozen=True, slots=True)
class Standing:
    """A request with its votes, as it is now."""

    tenant: Tenant
    request: ApprovalRequest
    votes: tuple[Vote, ...]
    state: ApprovalState
    needed: int  # the higher number of when it was asked and of now

    @property
    def name(self) -> ApprovalName:
        """The resource name."""
        return self.request.name(self.tenant.slug)


async def anybody_may(principal: Principal, name: ApprovalName) -> bool:
    """Count every vote, whoever gave it."""
    del principal, name
    return True


class Approvals:
    """The requests for approval of all tenants."""

    def __init__(
        self,
        storage: Storage,
        rules: QuorumRules,
        now: Callable[[], datetime],
        *,
        may_approve: Callable[[Principal, ApprovalName], Awaitable[bool]] = anybody_may,
        notifier: Notifier | None = None,
    ) -> None:
        """*may_approve* says whether a vote still counts when the request is executed."""
        self._storage = storage
        self._rules = rules
        self._now = now
        self._may_approve = may_approve
        self._notifier = notifier or NoNotifier()
        self._acts = Uninterrupted()

    async def request(self, asked: Asked) -> Standing:
        """Store a request, or find it where the same requester has asked the very same and it still waits.

        Raises:
            InvalidRequest: it is larger than LARGEST_REQUEST.
            LimitExceeded: too many requests wait, of this requester or of the tenant.
        """
        for _ in range(TRIES):
            try:
                return await self._request(asked)
            except Conflict:  # somebody stored, or ended, the same one at this moment
                continue
        raise Conflict("the same request is being changed by others again and again")

    async def get(self, caller: Principal, name: ApprovalName) -> Standing:
        """Return a request with its votes.

        Raises:
            NotFound: no such request, or another tenant's.
        """
        tenant = await self._owner(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            return await self._standing(work, tenant, await _found(work, tenant, name))

    async def list_newest(
        self,
        caller: Principal,
        parent: TenantName,
        before: tuple[datetime, ApprovalUid] | None,
        limit: int,
        *,
        waiting: bool,
    ) -> list[Standing]:
        """Return at most *limit* requests stored before *before*, the newest first; all, or those that still wait."""
        tenant = await visible_tenant(self._storage, caller, parent)
        now = self._now()
        async with self._storage.transaction(tenant.uid) as work:
            found = await work.approvals.list_newest(tenant.uid, before, limit, waiting_at=now if waiting else None)
            votes: dict[ApprovalUid, list[Vote]] = {}
            for given in await work.approvals.votes(tenant.uid, [request.uid for request in found]):
                votes.setdefault(given.approval, []).append(given)
            now_needed = {
                (permission, resources): await self._rules.needed_in(work, tenant.uid, [permission], resources)
                for permission, resources in sorted({(request.permission, request.resources) for request in found})
            }
        return [
            Standing(
                tenant,
                request,
                tuple(votes.get(request.uid, ())),
                request.standing(now),
                max(request.needed, now_needed[request.permission, request.resources]),
            )
            for request in found
        ]

    async def decide(
        self, caller: Caller, name: ApprovalName, decision: Decision, comment: str, seen: bytes | None
    ) -> Standing:
        """Approve or reject a request; *seen* is the digest of what the voter looked at, None where that is no matter.

        Raises:
            NotFound: no such request, or another tenant's.
            InvalidRequest: *seen* is another digest than the request's.
            SelfApproval, AlreadyExists, WrongApprovalState: as kms.core.approvals.vote().
        """
        tenant = await self._owner(caller.principal, name)
        principal = str(caller.principal)

        async def turn() -> Standing:
            async with self._storage.transaction(tenant.uid, write=True) as work:
                request = await _found(work, tenant, name)
                if seen is not None and seen != request.digest:
                    raise invalid("digest", f"must be that of {name}: what was looked at is another request")
                given = await work.approvals.votes(tenant.uid, [request.uid])
                request, new = vote(request, given, principal, decision, self._now(), caller.credential, comment)
                await work.approvals.add_vote(new)
                request = await work.approvals.replace(request)
                return await self._standing(work, tenant, request)

        standing = await self._in_turn(turn)
        reach("approval.voted")
        _log.info(
            "approval.voted", name=str(name), decision=decision.value, caller=principal, state=standing.state.value
        )
        return standing

    async def withdraw(self, caller: Principal, name: ApprovalName) -> Standing:
        """Take a request back.

        Raises:
            NotFound: no such request, or another tenant's.
            Denied: somebody else has asked for it.
            WrongApprovalState: it has ended, or is being executed.
        """
        tenant = await self._owner(caller, name)

        async def turn() -> Standing:
            async with self._storage.transaction(tenant.uid, write=True) as work:
                request = await _found(work, tenant, name)
                if request.requester != str(caller):
                    raise Denied(f"{name} was asked for by somebody else, who alone may withdraw it; reject it instead")
                request = await work.approvals.replace(request.after(ApprovalEvent.WITHDRAW, self._now()))
                return await self._standing(work, tenant, request)

        standing = await self._in_turn(turn)
        _log.info("approval.withdrawn", name=str(name), caller=str(caller))
        return standing

    async def consume(self, asked: Asked, name: ApprovalName) -> ApprovalRequest:
        """Use an approval for the very request that it is for; it serves nobody else from here on. Call settle() after.

        Raises:
            NotFound: no such request, or another tenant's.
            Denied: somebody else has asked for it.
            ApprovalUnusable: it is for another request, not given, over or used; also where another node is faster.
        """
        if name.tenant != asked.tenant.slug:
            raise NotFound(str(name))
        return await self._acts.run(self._consume(asked, name))

    async def settle(self, used: ApprovalRequest, error: BaseException | None) -> None:
        """Note what a request has come to; *error* is what its work raised.

        An error that says that nothing was done gives the approval back. This raises nothing: what cannot be noted
        stays used.
        """
        await self._acts.run(self._settle(used, outcome_of(error)))

    async def _request(self, asked: Asked) -> Standing:
        tenant, now = asked.tenant, self._now()
        async with self._storage.transaction(tenant.uid, write=True) as work:
            # Whoever came here was told that it needs some, whatever has been lowered since.
            needed = max(1, await self._rules.needed_in(work, tenant.uid, asked.permissions, asked.resources))
            found = await work.approvals.find_waiting(tenant.uid, asked.digest)
            if found is not None:
                if found.standing(now) is not ApprovalState.EXPIRED:
                    return await self._standing(work, tenant, found, needed)
                await work.approvals.replace(found.after(ApprovalEvent.EXPIRE, now))
            if await work.approvals.count_waiting(tenant.uid, now, asked.requester) >= MOST_OPEN_OF_ONE:
                raise LimitExceeded(f"{asked.requester} has {MOST_OPEN_OF_ONE} requests that wait: withdraw some")
            if await work.approvals.count_waiting(tenant.uid, now) >= MOST_OPEN:
                raise LimitExceeded(f"{tenant.name} has {MOST_OPEN} requests that wait: decide some")
            request = await work.approvals.add(
                ApprovalRequest(
                    uid=ApprovalUid(uuid4()),
                    tenant=tenant.uid,
                    requester=asked.requester,
                    credential=asked.caller.credential.kind,
                    credential_id=asked.caller.credential.id,
                    method=asked.method,
                    permission=asked.permissions[0],
                    resources=asked.resources,
                    request=asked.request,
                    digest=asked.digest,
                    reason=asked.reason,
                    needed=needed,
                    created_at=now,
                    expires_at=now + LIFETIME,
                    state=ApprovalState.OPEN,
                    state_at=now,
                )
            )
            await self._notifier.approval_requested(work, tenant, request)
        self._notifier.committed()
        reach("approval.stored")
        _log.info(
            "approval.requested",
            name=str(request.name(tenant.slug)),
            method=request.method,
            caller=asked.requester,
            needed=needed,
        )
        return Standing(tenant, request, (), ApprovalState.OPEN, needed)

    async def _consume(self, asked: Asked, name: ApprovalName) -> ApprovalRequest:
        tenant = asked.tenant
        async with self._storage.transaction(tenant.uid) as work:
            before = await work.approvals.votes(tenant.uid, [ApprovalUid(name.approval)])
        # Asked outside the transaction that writes; a vote that comes meanwhile does not count this time.
        counting = {
            given.principal for given in before if await self._may_approve(Principal.parse(given.principal), name)
        }
        now, use = self._now(), Use(asked.method, asked.requester, asked.digest)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            request = await _found(work, tenant, name)
            votes = [
                given for given in await work.approvals.votes(tenant.uid, [request.uid]) if given.principal in counting
            ]
            needed = await self._rules.needed_in(work, tenant.uid, asked.permissions, asked.resources)
            refusal = usable(request, votes, now, use, needed)
            if refusal is not None:
                raise refusal
            try:
                used = await work.approvals.replace(request.after(ApprovalEvent.EXECUTE, now))
            except Conflict as error:
                raise ApprovalUnusable(f"{name} was used or changed at this very moment") from error
        reach("approval.consumed")
        _log.info(
            "approval.consumed",
            name=str(name),
            method=request.method,
            caller=asked.requester,
            approvers=sorted({given.principal for given in votes}),
        )
        return used

    async def _settle(self, used: ApprovalRequest, event: ApprovalEvent) -> None:
        try:
            async with self._storage.transaction(used.tenant, write=True) as work:
                settled = await work.approvals.replace(used.after(event, self._now()))
        except KmsError as error:
            _log.error("approval.not_settled", approval=str(used.uid), outcome=event.value, reason=str(error))
            return
        reach("approval.settled")
        tell = _log.error if event is ApprovalEvent.LOSE else _log.info
        tell("approval.settled", approval=str(used.uid), state=settled.state.value)

    async def _in_turn(self, turn: Callable[[], Awaitable[Standing]]) -> Standing:
        for _ in range(TRIES - 1):
            try:
                return await turn()
            except Conflict:  # another vote came at this moment
                continue
        return await turn()

    async def _owner(self, caller: Principal, name: ApprovalName) -> Tenant:
        try:
            return await visible_tenant(self._storage, caller, name.parent)
        except NotFound as error:
            raise NotFound(str(name)) from error

    async def _standing(
        self, work: UnitOfWork, tenant: Tenant, request: ApprovalRequest, needed: int | None = None
    ) -> Standing:
        votes: Sequence[Vote] = await work.approvals.votes(tenant.uid, [request.uid])
        if needed is None:
            needed = await self._rules.needed_in(work, tenant.uid, [request.permission], request.resources)
        return Standing(tenant, request, tuple(votes), request.standing(self._now()), max(request.needed, needed))


async def _found(work: UnitOfWork, tenant: Tenant, name: ApprovalName) -> ApprovalRequest:
    request = await work.approvals.get(tenant.uid, ApprovalUid(name.approval))
    if request is None:
        raise NotFound(str(name))
    return request
