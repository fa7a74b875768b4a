"""What an upgrade of the enclave seals anew: key versions of level ENCLAVE, blobs, and uploads under way.

A shelf gives its entries page by page in a fixed order, has one sealed anew, and stores what was, but for what somebody else
has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from kms.core.blobs import Blob, BlobUpload
from kms.core.errors import Conflict
from kms.core.keyring import KeyVersion, Tenant
from kms.core.names import BlobName, KeyUid
from kms.core.repositories import UnitOfWork
from kms.core.seals import SealedBy, Sealing, SealKind
from kms.services.blob_keys import BlobKeys
from kms.services.wrapping import DekWrapping

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Entry(Generic[R]):
    """One sealed key."""

    name: str  # for the log
    place: str  # in the order of its shelf
    wanted: Sealing
    policy: Sealing
    by: SealedBy | None
    anew: Callable[[Sealing], Awaitable[R]]  # returns the record with the key sealed under that policy


class Shelf(Protocol[R]):
    """All sealed keys of one kind."""

    kind: SealKind
    event: str  # in the log, of one that does not open

    async def page(self, work: UnitOfWork, tenant: Tenant, after: str, limit: int) -> list[Entry[R]]:
        """Return at most *limit* entries beyond the place *after*, ordered; empty: from the first."""
        ...

    def kek_version(self, record: R) -> int:
        """Return the KEK version that wraps a record's key."""
        ...

    async def store(self, work: UnitOfWork, records: Sequence[R]) -> int:
        """Store records but for those that were changed meanwhile; returns how many were stored."""
        ...


class KeyVersions:
    """The versions of keys of level ENCLAVE, which are always sealed to the signer."""

    kind = SealKind.KEY_VERSION
    event = "key_version.unopened"

    def __init__(self, wrapping: DekWrapping) -> None:
        self._wrapping = wrapping

    async def page(self, work: UnitOfWork, tenant: Tenant, after: str, limit: int) -> list[Entry[KeyVersion]]:
        """Return entries; Shelf has the words."""
        uid, _, number = after.partition("/")
        versions = await work.key_versions.list_sealed(
            tenant.uid, (KeyUid(UUID(uid)), int(number)) if after else None, limit
        )
        keys = {key.uid: key for key in await work.keys.list_by_uid(tenant.uid, {one.key for one in versions})}

        def entry(version: KeyVersion) -> Entry[KeyVersion]:
            key = keys[version.key]

            async def anew(_: Sealing) -> KeyVersion:
                return await self._wrapping.sealed_anew(tenant, key, version)

            name, place = key.name(tenant).version(version.version), f"{version.key}/{version.version}"
            return Entry(name, place, Sealing.MRSIGNER, Sealing.MRSIGNER, version.sealed_by, anew)

        return [entry(version) for version in versions]

    def kek_version(self, record: KeyVersion) -> int:
        """Return the KEK version; Shelf has the words."""
        return record.kek_version

    async def store(self, work: UnitOfWork, records: Sequence[KeyVersion]) -> int:
        """Store versions; Shelf has the words."""
        return await work.key_versions.replace_unchanged(records)


class Blobs:
    """The keys of blobs that are whole."""

    kind = SealKind.BLOB
    event = "blob.unopened"

    def __init__(self, keys: BlobKeys) -> None:
        self._keys = keys

    async def page(self, work: UnitOfWork, tenant: Tenant, after: str, limit: int) -> list[Entry[Blob]]:
        """Return entries; Shelf has the words."""

        def entry(blob: Blob) -> Entry[Blob]:
            async def anew(policy: Sealing) -> Blob:
                key = await self._keys.sealed_anew(tenant, blob.uid, blob.generation, blob.key, policy)
                return replace(blob, key=key)

            key, name = blob.key, str(blob.name(tenant.name))
            return Entry(name, blob.blob_id, key.sealing, key.policy, key.by, anew)

        return [entry(blob) for blob in await work.blobs.list_after(tenant.uid, after, limit)]

    def kek_version(self, record: Blob) -> int:
        """Return the KEK version; Shelf has the words."""
        return record.key.kek_version

    async def store(self, work: UnitOfWork, records: Sequence[Blob]) -> int:
        """Store blobs; Shelf has the words."""
        return await work.blobs.replace_unchanged(records)


class Uploads:
    """The keys of blobs that are not whole yet, which are of the first generation."""

    kind = SealKind.UPLOAD
    event = "blob.unopened"

    def __init__(self, keys: BlobKeys) -> None:
        self._keys = keys

    async def page(self, work: UnitOfWork, tenant: Tenant, after: str, limit: int) -> list[Entry[BlobUpload]]:
        """Return entries; Shelf has the words."""

        def entry(upload: BlobUpload) -> Entry[BlobUpload]:
            async def anew(policy: Sealing) -> BlobUpload:
                return replace(upload, key=await self._keys.sealed_anew(tenant, upload.blob, 1, upload.key, policy))

            key, name = upload.key, f"{BlobName(tenant.slug, upload.blob_id)} (upload {upload.uid})"
            return Entry(name, str(upload.uid), key.sealing, key.policy, key.by, anew)

        uploads = await work.blobs.list_uploads_after(tenant.uid, UUID(after) if after else None, limit)
        return [entry(upload) for upload in uploads]

    def kek_version(self, record: BlobUpload) -> int:
        """Return the KEK version; Shelf has the words."""
        return record.key.kek_version

    async def store(self, work: UnitOfWork, records: Sequence[BlobUpload]) -> int:
        """Store uploads one by one, since they are no part of the tenant's tree; Shelf has the words."""
        stored = 0
        for upload in records:
            try:
                await work.blobs.put_upload(upload)
            except Conflict:
                continue
            stored += 1
        return stored
