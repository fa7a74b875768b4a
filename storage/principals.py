"""Principals in the database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Row, select

from kms.core.access import PrincipalKind, PrincipalRecord
from kms.core.canonical import Value
from kms.core.errors import AlreadyExists, Conflict, KmsError
from kms.core.names import TenantUid

from .access_tables import principals as p
from .records import find, find_one, store
from .session import Session


def _principal(row: Row[Any]) -> PrincipalRecord:
    return PrincipalRecord(
        tenant=row.tenant_id,
        slug=row.principal_id,
        kind=PrincipalKind(row.kind),
        display_name=row.display_name,
        created_at=row.created_at,
        created_by=row.created_by,
        blocked=bool(row.blocked),
        blocked_until=row.blocked_until,
        blocked_reason=row.blocked_reason,
        revision=row.revision,
    )


class Principals:
    """PrincipalRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, slug: str) -> PrincipalRecord | None:
        """Return the principal."""
        query = select(p).where(p.c.tenant_id == tenant, p.c.principal_id == slug)
        return await find_one(self._session, p, query, _principal, groups=[(slug,)])

    async def list_by_slug(self, tenant: TenantUid, after: str, limit: int) -> list[PrincipalRecord]:
        """Return at most *limit* principals with slugs greater than *after*, ordered by slug."""
        query = select(p).where(p.c.tenant_id == tenant, p.c.principal_id > after)
        return await find(self._session, p, query.order_by(p.c.principal_id).limit(limit), _principal)

    async def add(self, principal: PrincipalRecord) -> PrincipalRecord:
        """Store a new principal with revision 1 and return it so.

        Raises:
            AlreadyExists: the tenant has a principal of that slug.
        """
        return await self._store(principal, 0, AlreadyExists(f"principal {principal.slug} exists already"))

    async def replace(self, principal: PrincipalRecord) -> PrincipalRecord:
        """Store a changed principal over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        changed = Conflict(f"principal {principal.slug} was changed in between")
        return await self._store(principal, principal.revision, changed)

    async def _store(self, principal: PrincipalRecord, came_from: int, otherwise: KmsError) -> PrincipalRecord:
        row: dict[str, Value] = {
            "tenant_id": principal.tenant,
            "principal_id": principal.slug,
            "kind": principal.kind.value,
            "display_name": principal.display_name,
            "blocked": int(principal.blocked),
            "blocked_until": principal.blocked_until,
            "blocked_reason": principal.blocked_reason,
            "created_at": principal.created_at,
            "created_by": principal.created_by,
        }
        return replace(principal, revision=await store(self._session, p, row, came_from, otherwise=otherwise))
