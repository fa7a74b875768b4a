"""Long work in the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, or_, select

from kms.core.canonical import Value
from kms.core.errors import Conflict, KmsError
from kms.core.names import TenantUid
from kms.core.operations import Operation, OperationKind, OperationState, OperationUid

from .integrity import columns_of
from .records import find, find_one, readable, remove, store
from .session import Session
from .tables import operations as o


def _operation(row: Row[Any]) -> Operation:
    return Operation(
        uid=row.id,
        tenant=row.tenant_id,
        kind=OperationKind(row.kind),
        target=row.target,
        state=OperationState(row.status),
        requested_by=row.requested_by,
        created_at=row.created_at,
        updated_at=row.updated_at,
        cursor=row.resume_after,
        done=row.done,
        total=row.total,
        error=row.error,
        ended_at=row.ended_at,
        node=row.node_id,
        leased_until=row.leased_until,
        revision=row.revision,
    )


class Operations:
    """OperationRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, uid: OperationUid) -> Operation | None:
        """Return one operation."""
        query = select(o).where(o.c.tenant_id == tenant, o.c.id == uid)
        return await find_one(self._session, o, query, _operation)

    async def list_newest(
        self, tenant: TenantUid, before: tuple[datetime, OperationUid] | None, limit: int
    ) -> list[Operation]:
        """Return at most *limit* operations of a tenant that began before *before*, the newest first."""
        query = select(o).where(o.c.tenant_id == tenant)
        if before is not None:
            began, uid = before
            query = query.where(or_(o.c.created_at < began, (o.c.created_at == began) & (o.c.id < uid)))
        return await find(
            self._session, o, query.order_by(o.c.created_at.desc(), o.c.id.desc()).limit(limit), _operation
        )

    async def find(self, tenant: TenantUid, kind: str, target: str, state: OperationState) -> Operation | None:
        """Return an operation of that kind and target in that state, the newest if there are several."""
        query = select(o).where(
            o.c.tenant_id == tenant, o.c.kind == kind, o.c.target == target, o.c.status == state.value
        )
        return await find_one(self._session, o, query.order_by(o.c.created_at.desc()).limit(1), _operation)

    async def list_free(self, now: datetime, limit: int) -> list[Operation]:
        """Return at most *limit* running operations of all tenants that no node carries on now, the oldest first."""
        query = select(o).where(
            o.c.status == OperationState.RUNNING.value, or_(o.c.leased_until.is_(None), o.c.leased_until <= now)
        )
        rows = await self._session.rows(query.order_by(o.c.created_at).limit(limit))
        return readable(self._session, o, rows, _operation)

    async def add(self, operation: Operation) -> Operation:
        """Store a new operation with revision 1 and return it so.

        Raises:
            Conflict: the tenant has a running operation of that kind and target.
        """
        otherwise = Conflict(f"{operation.target} has a running operation {operation.kind} already")
        return await self._store(operation, 0, otherwise)

    async def replace(self, operation: Operation) -> Operation:
        """Store a changed operation over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        otherwise = Conflict(f"operation {operation.uid} was changed in between")
        return await self._store(operation, operation.revision, otherwise)

    async def remove_ended(self, before: datetime, limit: int) -> int:
        """Remove at most *limit* operations of all tenants that ended before *before*; returns how many."""
        ended = select(o.c.tenant_id, o.c.id, o.c.revision).where(o.c.ended_at < before).limit(limit)
        return await remove(self._session, o, [columns_of(row) for row in await self._session.rows(ended)])

    async def _store(self, operation: Operation, came_from: int, otherwise: KmsError) -> Operation:
        row: dict[str, Value] = {
            "tenant_id": operation.tenant,
            "id": operation.uid,
            "kind": operation.kind.value,
            "target": operation.target,
            "status": operation.state.value,
            "requested_by": operation.requested_by,
            "created_at": operation.created_at,
            "updated_at": operation.updated_at,
            "resume_after": operation.cursor,
            "done": operation.done,
            "total": operation.total,
            "error": operation.error,
            "ended_at": operation.ended_at,
            "node_id": operation.node,
            "leased_until": operation.leased_until,
        }
        return replace(operation, revision=await store(self._session, o, row, came_from, otherwise=otherwise))
