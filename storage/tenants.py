"""Tenants in the database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Row, Select, select

from kms.core.canonical import Value
from kms.core.errors import AlreadyExists, Conflict, KmsError
from kms.core.keyring import Tenant
from kms.core.names import TenantUid

from .records import find, find_one, store
from .session import Session
from .tables import tenants as t


def tenant(row: Row[Any]) -> Tenant:
    """Make the value of one row."""
    return Tenant(
        uid=row.tenant_id,
        slug=row.slug,
        display_name=row.display_name,
        kek=row.kek_uid,
        primary_kek=row.primary_kek,
        created_at=row.created_at,
        due_at=row.due_at,
        revision=row.revision,
    )


class Tenants:
    """TenantRepository on one transaction; one of a tenant sees that tenant only."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, slug: str) -> Tenant | None:
        """Return the tenant, also one that is not ready yet."""
        return await find_one(self._session, t, self._visible().where(t.c.slug == slug), tenant)

    async def by_uid(self, tenant_uid: TenantUid) -> Tenant | None:
        """Return the tenant, also one that is not ready yet."""
        query = select(t).where(t.c.tenant_id == tenant_uid)
        return await find_one(self._session, t, query, tenant, groups=[()])

    async def list_ready(self, after: str, limit: int) -> list[Tenant]:
        """Return at most *limit* ready tenants with slugs greater than *after*, ordered by slug."""
        query = self._visible().where(t.c.slug > after, t.c.primary_kek > 0).order_by(t.c.slug).limit(limit)
        return await find(self._session, t, query, tenant)

    def _visible(self) -> Select[Any]:
        own = self._session.tenant
        return select(t) if own is None else select(t).where(t.c.tenant_id == own)

    async def add(self, tenant: Tenant) -> Tenant:
        """Store a new tenant with revision 1 and return it so.

        Raises:
            AlreadyExists: the slug is taken.
        """
        return await self._store(tenant, 0, AlreadyExists(f"{tenant.name} exists already"))

    async def replace(self, tenant: Tenant) -> Tenant:
        """Store a changed tenant over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        return await self._store(tenant, tenant.revision, Conflict(f"{tenant.name} was changed in between"))

    async def _store(self, tenant: Tenant, came_from: int, otherwise: KmsError) -> Tenant:
        row: dict[str, Value] = {
            "tenant_id": tenant.uid,
            "slug": tenant.slug,
            "display_name": tenant.display_name,
            "kek_uid": tenant.kek,
            "primary_kek": tenant.primary_kek,
            "created_at": tenant.created_at,
            "due_at": tenant.due_at,
        }
        return replace(tenant, revision=await store(self._session, t, row, came_from, otherwise=otherwise))
