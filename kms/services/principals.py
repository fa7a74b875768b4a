"""The principals of tenants: who they are, and who of them is blocked; operators can be blocked, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import uuid4

import structlog

from kms.core.access import Effect, Grant, GrantUid, PrincipalKind, PrincipalRecord
from kms.core.errors import Conflict, Denied, NotFound
from kms.core.keyring import Tenant
from kms.core.names import INSTALLATION_UID, Principal, TenantName, TenantUid
from kms.core.patterns import Pattern
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.core.roles import Role
from kms.services.visibility import visible_tenant

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Founder:
    """One of the first principals of a new tenant, and its roles."""

    slug: str
    kind: PrincipalKind
    roles: frozenset[Role]


class Principals:
    """The principals of all tenants."""

    def __init__(self, storage: Storage, drop: Callable[[TenantUid], None], now: Callable[[], datetime]) -> None:
        """*drop* lets this node drop what it holds of a tenant."""
        self._storage = storage
        self._drop = drop
        self._now = now

    async def create(
        self, caller: Principal, parent: TenantName, slug: str, kind: PrincipalKind, display_name: str
    ) -> PrincipalRecord:
        """Create a principal, without any grant.

        Raises:
            AlreadyExists: the slug is taken.
        """
        tenant = await visible_tenant(self._storage, caller, parent)
        principal = PrincipalRecord(tenant.uid, slug, kind, display_name, self._now(), str(caller))
        async with self._storage.transaction(tenant.uid, write=True) as work:
            return await work.principals.add(principal)

    async def get(self, caller: Principal, name: Principal) -> PrincipalRecord:
        """Return a principal.

        Raises:
            NotFound: no such principal, or another tenant's.
        """
        tenant = await self.owner(caller, name)
        async with self._storage.transaction(tenant) as work:
            return await stored_principal(work, tenant, name)

    async def list_by_slug(
        self, caller: Principal, parent: TenantName, after: str, limit: int
    ) -> list[PrincipalRecord]:
        """Return at most *limit* principals with slugs greater than *after*, ordered."""
        tenant = await visible_tenant(self._storage, caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            return await work.principals.list_by_slug(tenant.uid, after, limit)

    async def update(self, caller: Principal, name: Principal, etag: str, display_name: str) -> PrincipalRecord:
        """Change the text for people.

        Raises:
            Conflict: its etag is not *etag* (where that is not empty).
        """
        tenant = await self.owner(caller, name)
        async with self._storage.transaction(tenant, write=True) as work:
            principal = await stored_principal(work, tenant, name)
            if etag not in ("", principal.etag):
                raise Conflict(f"{name} has the etag {principal.etag}, not {etag}")
            return await work.principals.replace(replace(principal, display_name=display_name))

    async def block(self, caller: Principal, name: Principal, until: datetime | None, reason: str) -> PrincipalRecord:
        """Let a principal do nothing more, anywhere, *until* then (None: until it is unblocked).

        One of which nothing is stored is stored: it may have a certificate all the same.

        Raises:
            Denied: it is the caller itself.
        """
        if caller == name:
            raise Denied("nobody blocks themself")
        tenant = await self.owner(caller, name)
        blocked = {"blocked": True, "blocked_until": until, "blocked_reason": reason}
        async with self._storage.transaction(tenant, write=True) as work:
            principal = await work.principals.get(tenant, name.name)
            if principal is None:
                kind = PrincipalKind.PERSON if name.tenant is None else PrincipalKind.SERVICE
                new = PrincipalRecord(tenant, name.name, kind, "", self._now(), str(caller))
                principal = await work.principals.add(replace(new, **blocked))  # type: ignore[arg-type]
            else:
                principal = await work.principals.replace(replace(principal, **blocked))  # type: ignore[arg-type]
            await work.epochs.revoked(tenant)
        self._drop(tenant)
        _log.info(
            "principal.blocked", name=str(name), until=None if until is None else until.isoformat(), by=str(caller)
        )
        return principal

    async def unblock(self, caller: Principal, name: Principal) -> PrincipalRecord:
        """Let a principal do again what it is granted."""
        tenant = await self.owner(caller, name)
        async with self._storage.transaction(tenant, write=True) as work:
            principal = await stored_principal(work, tenant, name)
            free = replace(principal, blocked=False, blocked_until=None, blocked_reason="")
            principal = await work.principals.replace(free)
            await work.epochs.changed(tenant)
        self._drop(tenant)
        _log.info("principal.unblocked", name=str(name), by=str(caller))
        return principal

    async def owner(self, caller: Principal, name: Principal) -> TenantUid:
        """Return whose records those of a principal are.

        Raises:
            NotFound: it is no principal of the caller's tenant, nor, for an operator, an operator.
        """
        if caller.tenant != name.tenant:
            raise NotFound(str(name))
        if name.tenant is None:
            return INSTALLATION_UID
        try:
            return (await visible_tenant(self._storage, caller, TenantName(name.tenant))).uid
        except NotFound as error:
            raise NotFound(str(name)) from error


async def stored_principal(work: UnitOfWork, tenant: TenantUid, name: Principal) -> PrincipalRecord:
    """Return a principal of one tenant.

    Raises:
        NotFound: there is none of that name.
    """
    principal = await work.principals.get(tenant, name.name)
    if principal is None:
        raise NotFound(str(name))
    return principal


async def found(work: UnitOfWork, tenant: Tenant, founders: Sequence[Founder], now: datetime, by: str) -> None:
    """Store the founders of a new tenant and their grants, in the transaction that stores the tenant."""
    everything = Pattern(f"{tenant.name}/**")
    for founder in founders:
        await work.principals.add(PrincipalRecord(tenant.uid, founder.slug, founder.kind, "", now, by))
        for role in sorted(founder.roles):
            await work.grants.add(
                Grant(
                    uid=GrantUid(uuid4()),
                    tenant=tenant.uid,
                    principal=founder.slug,
                    effect=Effect.ALLOW,
                    resource=everything,
                    created_at=now,
                    created_by=by,
                    role=role,
                    reason="founder",
                )
            )


async def founders_of(work: UnitOfWork, tenant: Tenant, most: int) -> list[Founder]:
    """Return the founders of a tenant that nobody can use yet, at most *most*, ordered."""
    founders = []
    for principal in await work.principals.list_by_slug(tenant.uid, "", most):
        grants = await work.grants.list_of_principal(tenant.uid, principal.slug, None, len(Role))
        roles = frozenset(grant.role for grant in grants if grant.role is not None)
        founders.append(Founder(principal.slug, principal.kind, roles))
    return founders
