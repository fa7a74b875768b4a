"""Grants of a tenant: made and deleted, never changed. Nobody changes their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import structlog

from kms.core.access import MOST_GRANTS, Conditions, Effect, Grant, GrantUid, parse_permission
from kms.core.errors import Denied, FailedPrecondition, NotFound, invalid
from kms.core.names import GrantName, Principal, TenantName, TenantUid
from kms.core.patterns import Pattern
from kms.core.ports import Storage
from kms.core.roles import Role
from kms.services.principals import Principals, stored_principal

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewGrant:
    """What is asked for a new grant: a role or permissions; without a resource, all of the tenant."""

    effect: Effect
    role: Role | None
    permissions: frozenset[str]
    resource: Pattern | None
    conditions: Conditions
    expires_at: datetime | None
    reason: str


class Grants:
    """The grants of all tenants."""

    def __init__(
        self,
        storage: Storage,
        principals: Principals,
        drop: Callable[[TenantUid], None],
        changed: Callable[[AbstractSet[TenantUid]], None],
        now: Callable[[], datetime],
    ) -> None:
        """Prepare.

        Args:
            storage: the database.
            principals: finds whose grants are meant.
            drop: lets this node drop what it holds of a tenant.
            changed: lets this node read again what principals of tenants may do.
            now: the wall clock.
        """
        self._storage = storage
        self._principals = principals
        self._drop = drop
        self._changed = changed
        self._now = now

    async def create(self, caller: Principal, parent: Principal, wish: NewGrant) -> Grant:
        """Grant something to a principal, or deny it.

        Raises:
            Denied: it would be the caller's own.
            InvalidRequest: it reaches beyond the tenant, is over already, or names what is no permission.
            FailedPrecondition: the principal has as many grants as it may have.
            Conflict: the principal was changed meanwhile.
        """
        _not_own(caller, parent)
        for permission in sorted(wish.permissions):
            parse_permission(permission, "grant.permissions")
        if parent.tenant is None:
            raise invalid("parent", "must be a principal of a tenant")
        everything = str(TenantName(parent.tenant))
        resource = wish.resource or Pattern(f"{everything}/**")
        if not resource.within(everything):
            raise invalid("grant.resource", f"must begin with {everything}")
        now = self._now()
        if wish.expires_at is not None and wish.expires_at <= now:
            raise invalid("grant.expire_time", "must be in the future")
        tenant = await self._principals.owner(caller, parent)
        grant = Grant(
            uid=GrantUid(uuid4()),
            tenant=tenant,
            principal=parent.name,
            effect=wish.effect,
            resource=resource,
            created_at=now,
            created_by=str(caller),
            role=wish.role,
            permissions=wish.permissions,
            conditions=wish.conditions,
            expires_at=wish.expires_at,
            reason=wish.reason,
        )
        async with self._storage.transaction(tenant, write=True) as work:
            # The principal's new revision lets two grants not be made at once, so that the bound holds.
            await work.principals.replace(await stored_principal(work, tenant, parent))
            if len(await work.grants.list_of_principal(tenant, parent.name, None, MOST_GRANTS)) >= MOST_GRANTS:
                raise FailedPrecondition(f"{parent} has {MOST_GRANTS} grants, which is the limit")
            grant = await work.grants.add(grant)
            if grant.effect is Effect.DENY:
                await work.epochs.revoked(tenant)
            else:
                await work.epochs.changed(tenant)
        if grant.effect is Effect.DENY:
            self._drop(tenant)
        else:
            self._changed({tenant})
        _log.info("grant.created", name=str(GrantName(parent, grant.uid)), effect=grant.effect, by=str(caller))
        return grant

    async def list_by_uid(
        self, caller: Principal, parent: Principal, after: UUID | None, limit: int
    ) -> Sequence[Grant]:
        """Return at most *limit* grants of a principal with uids greater than *after*, ordered."""
        tenant = await self._principals.owner(caller, parent)
        async with self._storage.transaction(tenant) as work:
            await stored_principal(work, tenant, parent)
            return await work.grants.list_of_principal(tenant, parent.name, after, limit)

    async def delete(self, caller: Principal, name: GrantName) -> None:
        """Delete a grant; what it allowed stops on every node within the revocation deadline.

        Raises:
            Denied: it is the caller's own.
            NotFound: no such grant of that principal.
        """
        _not_own(caller, name.principal)
        try:
            tenant = await self._principals.owner(caller, name.principal)
        except NotFound as error:
            raise NotFound(str(name)) from error
        async with self._storage.transaction(tenant, write=True) as work:
            grant = await work.grants.get(tenant, GrantUid(name.grant))
            if grant is None or grant.principal != name.principal.name:
                raise NotFound(str(name))
            await work.grants.remove(grant)
            await work.epochs.revoked(tenant)
        self._drop(tenant)
        _log.info("grant.deleted", name=str(name), effect=grant.effect, by=str(caller))


def _not_own(caller: Principal, principal: Principal) -> None:
    if caller == principal:
        raise Denied("nobody changes their own grants")
