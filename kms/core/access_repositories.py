"""The repositories of who may do what, as Protocols: principals, grants, credentials, approvals."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

from .access import Grant, GrantUid, PrincipalRecord
from .approvals import ApprovalRequest, ApprovalUid, QuorumRule, Vote
from .names import Principal, TenantUid
from .tokens import ApiToken, CertificatePin, TokenUid, TokenUse


class PrincipalRepository(Protocol):
    """Principals of tenants; those of the installation are operators."""

    async def get(self, tenant: TenantUid, slug: str) -> PrincipalRecord | None:
        """Return the principal."""
        ...

    async def list_by_slug(self, tenant: TenantUid, after: str, limit: int) -> list[PrincipalRecord]:
        """Return at most *limit* principals with slugs greater than *after*, ordered by slug."""
        ...

    async def add(self, principal: PrincipalRecord) -> PrincipalRecord:
        """Store a new principal with revision 1 and return it so.

        Raises:
            AlreadyExists: the tenant has a principal of that slug.
        """
        ...

    async def replace(self, principal: PrincipalRecord) -> PrincipalRecord:
        """Store a changed principal over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...


class GrantRepository(Protocol):
    """Grants; one is never changed, only made and removed."""

    async def get(self, tenant: TenantUid, uid: GrantUid) -> Grant | None:
        """Return one grant."""
        ...

    async def list_of_principal(self, tenant: TenantUid, principal: str, after: UUID | None, limit: int) -> list[Grant]:
        """Return at most *limit* grants of a principal with uids greater than *after*, ordered by uid."""
        ...

    async def add(self, grant: Grant) -> Grant:
        """Store a new grant with revision 1 and return it so.

        Raises:
            Conflict: that uid is taken.
        """
        ...

    async def remove(self, grant: Grant) -> None:
        """Remove a grant.

        Raises:
            Conflict: the stored revision is another, or it is gone; nothing of the transaction is committed then.
        """
        ...


class TokenRepository(Protocol):
    """API tokens, by their prefixes, and their uses."""

    async def by_prefix(self, prefix: str) -> ApiToken | None:
        """Return the token of a caller of whom nothing else is known yet, in a transaction of no tenant."""
        ...

    async def get(self, tenant: TenantUid, prefix: str) -> ApiToken | None:
        """Return one token of the tenant."""
        ...

    async def list_by_prefix(self, tenant: TenantUid, after: str, limit: int) -> list[ApiToken]:
        """Return at most *limit* tokens with prefixes greater than *after*, ordered."""
        ...

    async def count_usable(self, tenant: TenantUid, now: datetime) -> int:
        """Return how many tokens of the tenant are neither revoked nor expired."""
        ...

    async def add(self, token: ApiToken) -> ApiToken:
        """Store a new token with revision 1 and return it so.

        Raises:
            AlreadyExists: its prefix is taken.
        """
        ...

    async def replace(self, token: ApiToken) -> ApiToken:
        """Store a changed token over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def uses(self, tenant: TenantUid, tokens: Collection[TokenUid]) -> Mapping[TokenUid, TokenUse]:
        """Return what is known of the use of at most 1,000 tokens; without those never used."""
        ...


class CertificatePinRepository(Protocol):
    """The certificates that principals are bound to."""

    async def list_of(self, tenant: TenantUid, principal: Principal) -> list[CertificatePin]:
        """Return all pins of one principal, ordered by fingerprint."""
        ...

    async def add(self, pin: CertificatePin) -> CertificatePin:
        """Store a new pin with revision 1 and return it so.

        Raises:
            AlreadyExists: the certificate is pinned.
        """
        ...

    async def remove(self, tenant: TenantUid, principal: Principal, fingerprint: bytes) -> bool:
        """Delete a pin; False where there is none."""
        ...


class ApprovalRepository(Protocol):
    """Requests that others have to approve, and their votes; nothing of them is ever removed."""

    async def get(self, tenant: TenantUid, uid: ApprovalUid) -> ApprovalRequest | None:
        """Return one request."""
        ...

    async def find_waiting(self, tenant: TenantUid, digest: bytes) -> ApprovalRequest | None:
        """Return the request of that digest that is stored as waiting, also where its time is over."""
        ...

    async def count_waiting(self, tenant: TenantUid, now: datetime, requester: str | None = None) -> int:
        """Return how many requests wait and have not expired, of one requester or of all."""
        ...

    async def list_newest(
        self,
        tenant: TenantUid,
        before: tuple[datetime, ApprovalUid] | None,
        limit: int,
        *,
        waiting_at: datetime | None = None,
    ) -> list[ApprovalRequest]:
        """Return at most *limit* requests stored before *before*, the newest first; with a time those that wait then."""
        ...

    async def add(self, request: ApprovalRequest) -> ApprovalRequest:
        """Store a new request with revision 1 and return it so.

        Raises:
            Conflict: a request of the same digest waits already.
        """
        ...

    async def replace(self, request: ApprovalRequest) -> ApprovalRequest:
        """Store a changed request over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def votes(self, tenant: TenantUid, uids: Collection[ApprovalUid]) -> list[Vote]:
        """Return all votes on these requests (at most 1,000), the oldest first."""
        ...

    async def add_vote(self, vote: Vote) -> Vote:
        """Store a vote with revision 1 and return it so.

        Raises:
            AlreadyExists: the principal has voted on that request.
        """
        ...


class QuorumRuleRepository(Protocol):
    """How many approvals a tenant's permissions need, where that is not the installation's default."""

    async def get(self, tenant: TenantUid, permission: str) -> QuorumRule | None:
        """Return the tenant's own rule for a permission."""
        ...

    async def list_all(self, tenant: TenantUid) -> list[QuorumRule]:
        """Return all rules of the tenant, one a permission at most, ordered by it."""
        ...

    async def put(self, rule: QuorumRule) -> QuorumRule:
        """Store a rule over the revision that it came from, 0 for a new one; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...
