"""Legal holds in the database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Row, func, select

from kms.core.canonical import Value
from kms.core.errors import AlreadyExists, Conflict, KmsError
from kms.core.names import TenantUid
from kms.core.retention import LegalHold

from .integrity import page
from .records import find, find_one, store
from .retention_tables import legal_holds as h
from .session import Session


def _hold(row: Row[Any]) -> LegalHold:
    return LegalHold(
        tenant=row.tenant_id,
        hold_id=row.hold_id,
        reason=row.reason,
        created_at=row.created_at,
        created_by=row.created_by,
        resource=row.resource,
        principal=row.principal,
        from_at=row.from_at,
        until_at=row.until_at,
        released_at=row.released_at,
        released_by=row.released_by,
        revision=row.revision,
    )


class LegalHolds:
    """LegalHoldRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, hold_id: str) -> LegalHold | None:
        """Return one hold."""
        query = select(h).where(h.c.tenant_id == tenant, h.c.hold_id == hold_id)
        return await find_one(
            self._session,
            h,
            query,
            _hold,
            groups=[()],
            wanted=lambda there: [one for one in there if one == (hold_id,)],
        )

    async def list_after(self, tenant: TenantUid, after: str, limit: int) -> list[LegalHold]:
        """Return at most *limit* holds of a tenant, released or not, with ids greater than *after*, ordered."""
        query = select(h).where(h.c.tenant_id == tenant, h.c.hold_id > after)
        query = query.order_by(h.c.hold_id).limit(limit)
        return await find(self._session, h, query, _hold, groups=[()], wanted=page(after, limit))

    async def list_active(self, tenant: TenantUid, limit: int) -> list[LegalHold]:
        """Return at most *limit* holds of a tenant that are not released, ordered by id."""
        # All of them are read, so that one which is missing shows.
        query = select(h).where(h.c.tenant_id == tenant).order_by(h.c.hold_id)
        found = await find(self._session, h, query, _hold, groups=[()])
        return [hold for hold in found if hold.released_at is None][:limit]

    async def count_active(self, tenant: TenantUid) -> int:
        """Return how many holds of a tenant are not released."""
        query = select(func.count()).where(h.c.tenant_id == tenant, h.c.released_at.is_(None))
        return int((await self._session.rows(query))[0][0])

    async def add(self, hold: LegalHold) -> LegalHold:
        """Store a new hold with revision 1 and return it so.

        Raises:
            AlreadyExists: the tenant has, or has had, one of that id.
        """
        return await self._store(hold, 0, AlreadyExists(f"the legal hold {hold.hold_id} exists already"))

    async def replace(self, hold: LegalHold) -> LegalHold:
        """Store a changed hold over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        return await self._store(hold, hold.revision, Conflict(f"the legal hold {hold.hold_id} was changed in between"))

    async def _store(self, hold: LegalHold, came_from: int, otherwise: KmsError) -> LegalHold:
        row: dict[str, Value] = {
            "tenant_id": hold.tenant,
            "hold_id": hold.hold_id,
            "reason": hold.reason,
            "resource": hold.resource,
            "principal": hold.principal,
            "from_at": hold.from_at,
            "until_at": hold.until_at,
            "created_at": hold.created_at,
            "created_by": hold.created_by,
            "released_at": hold.released_at,
            "released_by": hold.released_by,
        }
        return replace(hold, revision=await store(self._session, h, row, came_from, otherwise=otherwise))
