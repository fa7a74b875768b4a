"""Records of the archives of the audit log; all of them are the installation's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Row, select

from kms.core.audit_archives import ArchiveBody, ArchiveState, AuditArchive
from kms.core.canonical import Value
from kms.core.errors import Conflict, KmsError
from kms.core.names import TenantUid
from kms.core.retention import Month

from .integrity import Identity
from .records import find, find_one, store
from .retention_tables import audit_archives as a
from .session import Session


def _archive(row: Row[Any]) -> AuditArchive:
    archive = AuditArchive(
        tenant=row.tenant_id,
        month=Month.parse(row.month),
        body=row.body,
        signature=row.signature,
        state=ArchiveState(row.status),
        file_name=row.file_name,
        file_sha256=row.file_sha256,
        file_size=row.file_size,
        created_at=row.created_at,
        verified_at=row.verified_at,
        detached_at=row.detached_at,
        deleted_at=row.deleted_at,
        deleted_by=row.deleted_by,
        revision=row.revision,
    )
    body: ArchiveBody = archive.content
    if (body.month, body.serial) != (archive.month, row.serial):
        raise ValueError("the archive of another month")
    return archive


class AuditArchives:
    """AuditArchiveRepository on one transaction of the installation."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, month: Month) -> AuditArchive | None:
        """Return the archive of a month."""
        query = select(a).where(a.c.tenant_id == tenant, a.c.month == str(month))
        return await find_one(
            self._session,
            a,
            query,
            _archive,
            groups=[()],
            wanted=lambda there: [one for one in there if one[0] == str(month)],
        )

    async def list_after(self, tenant: TenantUid, month: str, limit: int) -> list[AuditArchive]:
        """Return at most *limit* archives beyond a month (text, empty: from the first), in their order."""
        query = select(a).where(a.c.tenant_id == tenant, a.c.month > month).order_by(a.c.month).limit(limit)

        def wanted(there: list[Identity]) -> list[Identity]:
            return [one for one in sorted(there, key=lambda one: str(one[0])) if str(one[0]) > month][:limit]

        return await find(self._session, a, query, _archive, groups=[()], wanted=wanted)

    async def add(self, archive: AuditArchive) -> AuditArchive:
        """Store a new archive with revision 1 and return it so.

        Raises:
            Conflict: the month has one, or another month has its serial.
        """
        return await self._store(archive, 0, Conflict(f"{archive.month} is archived already"))

    async def replace(self, archive: AuditArchive) -> AuditArchive:
        """Store a changed archive over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        otherwise = Conflict(f"the archive of {archive.month} was changed in between")
        return await self._store(archive, archive.revision, otherwise)

    async def _store(self, archive: AuditArchive, came_from: int, otherwise: KmsError) -> AuditArchive:
        row: dict[str, Value] = {
            "tenant_id": archive.tenant,
            "month": str(archive.month),
            "serial": archive.content.serial,
            "body": archive.body,
            "signature": archive.signature,
            "status": archive.state.value,
            "file_name": archive.file_name,
            "file_sha256": archive.file_sha256,
            "file_size": archive.file_size,
            "created_at": archive.created_at,
            "verified_at": archive.verified_at,
            "detached_at": archive.detached_at,
            "deleted_at": archive.deleted_at,
            "deleted_by": archive.deleted_by,
        }
        return replace(archive, revision=await store(self._session, a, row, came_from, otherwise=otherwise))
