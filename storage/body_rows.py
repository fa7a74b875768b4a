"""Blobs' bodies as rows: a header that says whether the body is whole, and chunks of MAX_PIECE bytes, the last shorter."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Update, and_, delete, insert, or_, select, tuple_, update

from kms.core.body_ports import BodyName, StoredBody
from kms.core.errors import Conflict
from kms.core.names import TenantUid

from .body_tables import blob_bodies as b
from .body_tables import blob_chunks as c
from .session import Session

WRITING: Final = "writing"
WHOLE: Final = "whole"
GONE: Final = "gone"


class BodyRows:
    """Bodies on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def begin(self, name: BodyName, uid: UUID, now: datetime) -> None:
        """Add a body that nobody sees yet."""
        await self._session.change(insert(b), [_row(name, uid, WRITING, 0, now)])

    async def put(self, name: BodyName, uid: UUID, content: bytes, now: datetime) -> list[UUID]:
        """Add a whole body of at most one chunk, in place of the one of that name; returns what is gone instead."""
        before = await self.hide(name)
        await self._session.change(insert(b), [_row(name, uid, WHOLE, len(content), now)])
        if content:
            await self._add_chunk(name.tenant, uid, 0, content)
        return before

    async def add_chunk(self, tenant: TenantUid, uid: UUID, number: int, content: bytes, now: datetime) -> None:
        """Add the next chunk of a body that is being written.

        Raises:
            Conflict: somebody has taken it for one that was given up.
        """
        touched = _one(tenant, uid, WRITING).values(written_at=now)
        if await self._session.change(touched) != 1:
            raise Conflict("the body that is being written has been removed")
        await self._add_chunk(tenant, uid, number, content)

    async def _add_chunk(self, tenant: TenantUid, uid: UUID, number: int, content: bytes) -> None:
        row = {"tenant_id": tenant, "body_id": uid, "number": number, "content": content}
        await self._session.change(insert(c), [row])

    async def finish(self, name: BodyName, uid: UUID, length: int, now: datetime) -> list[UUID]:
        """Show a body as a whole, in place of the one of that name; returns what is gone instead.

        Raises:
            Conflict: somebody has taken it for one that was given up.
        """
        before = await self.hide(name)
        shown = _one(name.tenant, uid, WRITING).values(status=WHOLE, length=length, written_at=now)
        if await self._session.change(shown) != 1:
            raise Conflict("the body that is being written has been removed")
        return before

    async def find(self, name: BodyName) -> UUID | None:
        """Return the uid of a whole body."""
        rows = await self._session.rows(select(b.c.id).where(_named(name), b.c.status == WHOLE))
        return rows[0].id if rows else None

    async def chunk(self, tenant: TenantUid, uid: UUID, number: int) -> bytes | None:
        """Return one chunk."""
        query = select(c.c.content).where(c.c.tenant_id == tenant, c.c.body_id == uid, c.c.number == number)
        rows = await self._session.rows(query)
        return bytes(rows[0].content) if rows else None

    async def hide(self, name: BodyName) -> list[UUID]:
        """Let a body be seen no more; returns what is to be removed."""
        query = select(b.c.id).where(_named(name), b.c.status == WHOLE)
        found = [row.id for row in await self._session.rows(query)]
        for uid in found:
            await self._session.change(_one(name.tenant, uid, WHOLE).values(status=GONE))
        return found

    async def give_up(self, tenant: TenantUid, uid: UUID) -> None:
        """Mark a body that is being written as gone, so that its writer, where there still is one, cannot go on."""
        await self._session.change(_one(tenant, uid, WRITING).values(status=GONE))

    async def remove(self, tenant: TenantUid, uid: UUID, limit: int) -> bool:
        """Remove at most *limit* chunks of a body that is gone, and the body with the last of them; True for that."""
        chunks = select(c.c.number).where(c.c.tenant_id == tenant, c.c.body_id == uid).order_by(c.c.number)
        numbers = [row.number for row in await self._session.rows(chunks.limit(limit))]
        if numbers:
            some = delete(c).where(c.c.tenant_id == tenant, c.c.body_id == uid, c.c.number.in_(numbers))
            await self._session.change(some)
        if len(numbers) == limit:
            return False
        await self._session.change(delete(b).where(b.c.tenant_id == tenant, b.c.id == uid, b.c.status == GONE))
        return True

    async def list_whole(self, tenant: TenantUid | None, after: BodyName | None, limit: int) -> list[StoredBody]:
        """Return at most *limit* whole bodies behind *after*, by name; of one tenant, or of all for None."""
        names = (b.c.tenant_id, b.c.blob_id, b.c.generation, b.c.segment)
        query = select(*names, b.c.length, b.c.written_at).where(b.c.status == WHOLE)
        if tenant is not None:
            query = query.where(b.c.tenant_id == tenant)
        if after is not None:
            values = (after.tenant, after.blob, after.generation, after.segment)
            query = query.where(tuple_(*names) > tuple_(*values, types=[name.type for name in names]))
        return [
            StoredBody(
                BodyName(row.tenant_id, row.blob_id, int(row.generation), int(row.segment)),
                int(row.length),
                row.written_at,
            )
            for row in await self._session.rows(query.order_by(*names).limit(limit))
        ]

    async def list_left(self, before: datetime, limit: int) -> list[tuple[TenantUid, UUID]]:
        """Return at most *limit* bodies of all tenants that are gone, or whose writers added nothing since a time."""
        left = or_(b.c.status == GONE, and_(b.c.status == WRITING, b.c.written_at < before))
        query = select(b.c.tenant_id, b.c.id).where(left).order_by(b.c.written_at).limit(limit)
        return [(row.tenant_id, row.id) for row in await self._session.rows(query)]


def _row(name: BodyName, uid: UUID, status: str, length: int, now: datetime) -> dict[str, Any]:
    return {
        "tenant_id": name.tenant,
        "id": uid,
        "blob_id": name.blob,
        "generation": name.generation,
        "segment": name.segment,
        "status": status,
        "length": length,
        "written_at": now,
    }


def _named(name: BodyName) -> ColumnElement[bool]:
    return and_(
        b.c.tenant_id == name.tenant,
        b.c.blob_id == name.blob,
        b.c.generation == name.generation,
        b.c.segment == name.segment,
    )


def _one(tenant: TenantUid, uid: UUID, status: str) -> Update:
    return update(b).where(b.c.tenant_id == tenant, b.c.id == uid, b.c.status == status)
