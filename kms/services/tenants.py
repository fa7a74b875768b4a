"""Creating and finding tenants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import uuid4

from kms.core.errors import AlreadyExists
from kms.core.keyring import Kek, KekState, Tenant
from kms.core.names import KekUid, Principal, TenantName, TenantUid
from kms.core.ports import Storage
from kms.failpoints import reach
from kms.services.keks import Keks
from kms.services.principals import Founder, found, founders_of
from kms.services.visibility import visible_tenant

MOST_FOUNDERS: Final = 16


class Tenants:
    """The owners of keys."""

    def __init__(self, storage: Storage, keks: Keks, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self._keks = keks
        self._now = now

    async def create(self, caller: Principal, slug: str, display_name: str, founders: Sequence[Founder] = ()) -> Tenant:
        """Create a tenant, its first principals with their grants, and version 1 of its KEK.

        Raises:
            AlreadyExists: the slug is taken, or an earlier call began the tenant with other founders.
        """
        async with self._storage.transaction() as work:
            tenant = await work.tenants.get(slug)
        if tenant is None:
            tenant = await self._store_intent(caller, slug, display_name, founders)
            reach("create_tenant.intent_stored")
        elif tenant.ready:
            raise AlreadyExists(f"{tenant.name} exists")
        elif await self._founders(tenant) != sorted(founders, key=lambda founder: founder.slug):
            raise AlreadyExists(f"{tenant.name} was begun with other founders; repeat that request")
        # Also where an earlier call stored the tenant but could not reach the token: a retry finishes it.
        tenant, _ = await self._keks.activate(tenant, 1)
        return tenant

    async def get(self, caller: Principal, name: TenantName) -> Tenant:
        """Return a tenant to an operator or to one of its own principals.

        Raises:
            NotFound: no such tenant, or not the caller's.
        """
        return await visible_tenant(self._storage, caller, name)

    async def list_by_slug(self, after: str, limit: int) -> list[Tenant]:
        """Return at most *limit* tenants with slugs greater than *after*, ordered."""
        async with self._storage.transaction() as work:
            return await work.tenants.list_ready(after, limit)

    async def _founders(self, tenant: Tenant) -> list[Founder]:
        async with self._storage.transaction(tenant.uid) as work:
            return await founders_of(work, tenant, MOST_FOUNDERS)

    async def _store_intent(
        self, caller: Principal, slug: str, display_name: str, founders: Sequence[Founder]
    ) -> Tenant:
        now = self._now()
        tenant = Tenant(TenantUid(uuid4()), slug, display_name, KekUid(uuid4()), primary_kek=0, created_at=now)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            tenant = await work.tenants.add(tenant)
            await work.keks.add(Kek(tenant.uid, tenant.kek, 1, KekState.PENDING, now, created_by=str(caller)))
            await found(work, tenant, founders, now, str(caller))
        return tenant
