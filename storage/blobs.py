"""Sealed blobs in the database, uploads under way, and their uses."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, delete, func, select

from kms.core.blobs import (
    Blob,
    BlobAccess,
    BlobKey,
    BlobUid,
    BlobUpload,
    BlobUse,
    Compression,
    manifest_text,
    parse_manifest,
)
from kms.core.canonical import Value
from kms.core.errors import AlreadyExists, Conflict, KmsError
from kms.core.names import TenantUid
from kms.core.seals import SealedBy, Sealing

from .blob_tables import blob_uploads as p
from .blob_tables import blob_uses as u
from .blob_tables import blobs as b
from .epochs import later
from .records import find, find_one, remove, require_own, store, store_unchanged
from .session import Session, insertion

MOST_AT_ONCE: Final = 1_000  # blobs in one query
MOST_KNOWN: Final = 100  # whole records, whose manifests are long


def _key(row: Row[Any]) -> BlobKey:
    return BlobKey(
        row.wrapped_dek,
        row.kek_version,
        Sealing(row.sealing_policy),
        SealedBy(row.mrenclave, row.mrsigner, row.isv_svn, bool(row.simulated)),
        Sealing(row.present_policy) if row.present_policy else None,
    )


def _key_columns(key: BlobKey) -> dict[str, Value]:
    return {
        "wrapped_dek": key.wrapped,
        "kek_version": key.kek_version,
        "sealing_policy": key.sealing.value,
        "present_policy": "" if key.present is None else key.present.value,
        "mrenclave": key.by.mrenclave,
        "mrsigner": key.by.mrsigner,
        "isv_svn": key.by.isv_svn,
        "simulated": int(key.by.simulated),
    }


def _blob(row: Row[Any]) -> Blob:
    return Blob(
        uid=BlobUid(row.id),
        tenant=row.tenant_id,
        blob_id=row.blob_id,
        generation=row.generation,
        key=_key(row),
        store=row.store,
        compression=Compression(row.compression),
        manifest=parse_manifest(row.manifest),
        sha256=row.content_hash,
        sealed_sha256=row.integrity_hash,
        created_at=row.created_at,
        created_by=row.created_by,
        content_type=row.content_type,
        description=row.description,
        labels=json.loads(row.labels),
        access=BlobAccess.parse(row.access_policy),
        expires_at=row.expires_at,
        legal_hold=bool(row.legal_hold),
        revision=row.revision,
    )


def _row(blob: Blob) -> dict[str, Value]:
    return {
        "tenant_id": blob.tenant,
        "blob_id": blob.blob_id,
        "id": blob.uid,
        "generation": blob.generation,
        "content_type": blob.content_type,
        "description": blob.description,
        "labels": json.dumps(dict(blob.labels), sort_keys=True, separators=(",", ":")),
        "access_policy": blob.access.encode(),
        "expires_at": blob.expires_at,
        "legal_hold": int(blob.legal_hold),
        "store": blob.store,
        "compression": blob.compression.value,
        "manifest": manifest_text(blob.manifest),
        "size": blob.size,
        "sealed_size": blob.sealed_size,
        "content_hash": blob.sha256,
        "integrity_hash": blob.sealed_sha256,
        "created_at": blob.created_at,
        "created_by": blob.created_by,
        **_key_columns(blob.key),
    }


def _upload(row: Row[Any]) -> BlobUpload:
    return BlobUpload(
        uid=row.id,
        tenant=row.tenant_id,
        blob_id=row.blob_id,
        blob=BlobUid(row.blob_uid),
        key=_key(row),
        store=row.store,
        request=row.request_hash,
        manifest=parse_manifest(row.manifest),
        created_at=row.created_at,
        created_by=row.created_by,
        revision=row.revision,
    )


class Blobs:
    """BlobRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, blob_id: str) -> Blob | None:
        """Return one blob."""
        query = select(b).where(b.c.tenant_id == tenant, b.c.blob_id == blob_id)
        return await find_one(self._session, b, query, _blob, groups=[(blob_id,)])

    async def list_after(self, tenant: TenantUid, after: str, limit: int) -> list[Blob]:
        """Return at most *limit* blobs with ids greater than *after*, ordered."""
        query = select(b).where(b.c.tenant_id == tenant, b.c.blob_id > after).order_by(b.c.blob_id).limit(limit)
        return await find(self._session, b, query, _blob)

    async def list_expired(self, tenant: TenantUid, now: datetime, limit: int) -> list[Blob]:
        """Return at most *limit* blobs that have expired and are under no legal hold, the longest expired first."""
        query = select(b).where(b.c.tenant_id == tenant, b.c.expires_at <= now, b.c.legal_hold == 0)
        return await find(self._session, b, query.order_by(b.c.expires_at).limit(limit), _blob)

    async def list_wrapped_by(self, tenant: TenantUid, kek_version: int, after: str, limit: int) -> list[Blob]:
        """Return at most *limit* blobs whose keys one KEK version wraps, with ids greater than *after*, ordered."""
        query = select(b).where(b.c.tenant_id == tenant, b.c.kek_version == kek_version, b.c.blob_id > after)
        return await find(self._session, b, query.order_by(b.c.blob_id).limit(limit), _blob)

    async def count_by_kek(self, tenant: TenantUid) -> dict[int, int]:
        """Return how many blobs' keys each KEK version of the tenant wraps; without those that wrap none."""
        wraps = func.count().label("wraps")
        query = select(b.c.kek_version, wraps).where(b.c.tenant_id == tenant).group_by(b.c.kek_version)
        return {row.kek_version: row.wraps for row in await self._session.rows(query)}

    async def known(self, tenant: TenantUid, uids: Collection[UUID]) -> Mapping[UUID, Blob | BlobUpload]:
        """Return the blobs and the uploads under way among at most 100 uids."""
        if len(uids) > MOST_KNOWN:
            raise ValueError(f"at most {MOST_KNOWN} blobs at once")
        whole = select(b).where(b.c.tenant_id == tenant, b.c.id.in_(uids))
        begun = select(p).where(p.c.tenant_id == tenant, p.c.blob_uid.in_(uids))
        found: dict[UUID, Blob | BlobUpload] = {one.blob: one for one in await find(self._session, p, begun, _upload)}
        return found | {one.uid: one for one in await find(self._session, b, whole, _blob)}

    async def add(self, blob: Blob) -> Blob:
        """Store a new blob with revision 1 and return it so.

        Raises:
            AlreadyExists: its id is taken.
        """
        return await self._store(blob, 0, AlreadyExists(f"the blob {blob.blob_id} exists already"))

    async def replace(self, blob: Blob) -> Blob:
        """Store a changed blob over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        return await self._store(blob, blob.revision, _changed(blob.blob_id))

    async def replace_unchanged(self, blobs: Sequence[Blob]) -> int:
        """Store changed blobs, but for those whose stored revision is another; returns how many were stored."""
        return await store_unchanged(self._session, b, [(_row(blob), blob.revision) for blob in blobs])

    async def remove(self, blob: Blob) -> None:
        """Remove a blob, its key with it, and what is known of its uses.

        Raises:
            Conflict: the stored revision is another.
        """
        row: dict[str, Value] = {"tenant_id": blob.tenant, "blob_id": blob.blob_id, "revision": blob.revision}
        if await remove(self._session, b, [row]) != 1:
            raise _changed(blob.blob_id)
        await self._session.change(delete(u).where(u.c.tenant_id == blob.tenant, u.c.blob_uid == blob.uid))

    async def upload(self, tenant: TenantUid, uid: UUID) -> BlobUpload | None:
        """Return one upload under way."""
        return await find_one(self._session, p, select(p).where(p.c.tenant_id == tenant, p.c.id == uid), _upload)

    async def list_stale(self, tenant: TenantUid, before: datetime, limit: int) -> list[BlobUpload]:
        """Return at most *limit* uploads that were begun before a time, the oldest first."""
        query = select(p).where(p.c.tenant_id == tenant, p.c.created_at < before)
        return await find(self._session, p, query.order_by(p.c.created_at, p.c.id).limit(limit), _upload)

    async def list_uploads_after(self, tenant: TenantUid, after: UUID | None, limit: int) -> list[BlobUpload]:
        """Return at most *limit* uploads with uids greater than *after*, ordered."""
        query = select(p).where(p.c.tenant_id == tenant)
        if after is not None:
            query = query.where(p.c.id > after)
        return await find(self._session, p, query.order_by(p.c.id).limit(limit), _upload)

    async def count_uploads(self, tenant: TenantUid) -> int:
        """Return how many uploads are under way."""
        query = select(func.count()).where(p.c.tenant_id == tenant)
        [[count]] = await self._session.rows(query)
        return int(count)

    async def put_upload(self, upload: BlobUpload) -> BlobUpload:
        """Store an upload, a new one or over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: there is one, or the stored revision is another.
        """
        row: dict[str, Value] = {
            "tenant_id": upload.tenant,
            "id": upload.uid,
            "blob_id": upload.blob_id,
            "blob_uid": upload.blob,
            "request_hash": upload.request,
            "store": upload.store,
            "manifest": manifest_text(upload.manifest),
            "created_at": upload.created_at,
            "created_by": upload.created_by,
            **_key_columns(upload.key),
        }
        otherwise = _upload_changed(upload)
        return replace(upload, revision=await store(self._session, p, row, upload.revision, otherwise=otherwise))

    async def remove_upload(self, upload: BlobUpload) -> None:
        """Remove an upload, its key with it.

        Raises:
            Conflict: the stored revision is another.
        """
        row: dict[str, Value] = {"tenant_id": upload.tenant, "id": upload.uid, "revision": upload.revision}
        if await remove(self._session, p, [row]) != 1:
            raise _upload_changed(upload)

    async def uses(self, tenant: TenantUid, blobs: Collection[BlobUid]) -> Mapping[BlobUid, BlobUse]:
        """Return what is known of the use of at most 1,000 blobs; without those never read."""
        if len(blobs) > MOST_AT_ONCE:
            raise ValueError(f"at most {MOST_AT_ONCE} blobs at once")
        query = select(u.c.blob_uid, u.c.use_count, u.c.last_used_at)
        rows = await self._session.rows(query.where(u.c.tenant_id == tenant, u.c.blob_uid.in_(blobs)))
        return {BlobUid(row.blob_uid): BlobUse(row.use_count, row.last_used_at) for row in rows}

    async def add_uses(self, tenant: TenantUid, uses: Mapping[BlobUid, BlobUse]) -> None:
        """Merge what a node has seen of at most 1,000 blobs: the sum of the counts, the later of two times."""
        require_own(self._session, tenant)
        if len(uses) > MOST_AT_ONCE:
            raise ValueError(f"at most {MOST_AT_ONCE} blobs at once")
        # In one order for all nodes, so that no two wait for each other.
        rows = [
            {"tenant_id": tenant, "blob_uid": uid, "use_count": use.count, "last_used_at": use.last_at}
            for uid, use in sorted(uses.items())
        ]
        first = insertion(self._session, u)
        await self._session.change(
            first.on_conflict_do_update(
                index_elements=[u.c.tenant_id, u.c.blob_uid],
                set_={
                    "use_count": u.c.use_count + first.excluded.use_count,
                    "last_used_at": later(u, "last_used_at", first.excluded.last_used_at),
                },
            ),
            rows,
        )

    async def _store(self, blob: Blob, came_from: int, otherwise: KmsError) -> Blob:
        return replace(blob, revision=await store(self._session, b, _row(blob), came_from, otherwise=otherwise))


def _changed(blob_id: str) -> Conflict:
    return Conflict(f"the blob {blob_id} was changed in between")


def _upload_changed(upload: BlobUpload) -> Conflict:
    return Conflict(f"the upload {upload.uid} of {upload.blob_id} is carried on by another call")
