"""The repository of sealed blobs, as a Protocol."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from .blobs import Blob, BlobUid, BlobUpload, BlobUse
from .names import TenantUid


class BlobRepository(Protocol):
    """Blobs that are whole, uploads under way, and how often blobs were read."""

    async def get(self, tenant: TenantUid, blob_id: str) -> Blob | None:
        """Return one blob."""
        ...

    async def list_after(self, tenant: TenantUid, after: str, limit: int) -> list[Blob]:
        """Return at most *limit* blobs with ids greater than *after*, ordered."""
        ...

    async def list_expired(self, tenant: TenantUid, now: datetime, limit: int) -> list[Blob]:
        """Return at most *limit* blobs that have expired and are under no legal hold, the longest expired first."""
        ...

    async def list_wrapped_by(self, tenant: TenantUid, kek_version: int, after: str, limit: int) -> list[Blob]:
        """Return at most *limit* blobs whose keys one KEK version wraps, with ids greater than *after*, ordered."""
        ...

    async def count_by_kek(self, tenant: TenantUid) -> dict[int, int]:
        """Return how many blobs' keys each KEK version of the tenant wraps; without those that wrap none."""
        ...

    async def known(self, tenant: TenantUid, uids: Collection[UUID]) -> Mapping[UUID, Blob | BlobUpload]:
        """Return the blobs and the uploads under way among at most 100 uids."""
        ...

    async def add(self, blob: Blob) -> Blob:
        """Store a new blob with revision 1 and return it so.

        Raises:
            AlreadyExists: its id is taken.
        """
        ...

    async def replace(self, blob: Blob) -> Blob:
        """Store a changed blob over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def replace_unchanged(self, blobs: Sequence[Blob]) -> int:
        """Store changed blobs, but for those whose stored revision is another; returns how many were stored."""
        ...

    async def remove(self, blob: Blob) -> None:
        """Remove a blob, its key with it, and what is known of its uses.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def upload(self, tenant: TenantUid, uid: UUID) -> BlobUpload | None:
        """Return one upload under way."""
        ...

    async def list_stale(self, tenant: TenantUid, before: datetime, limit: int) -> list[BlobUpload]:
        """Return at most *limit* uploads that were begun before a time, the oldest first."""
        ...

    async def list_uploads_after(self, tenant: TenantUid, after: UUID | None, limit: int) -> list[BlobUpload]:
        """Return at most *limit* uploads with uids greater than *after*, ordered."""
        ...

    async def count_uploads(self, tenant: TenantUid) -> int:
        """Return how many uploads are under way."""
        ...

    async def put_upload(self, upload: BlobUpload) -> BlobUpload:
        """Store an upload, a new one or over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: there is one, or the stored revision is another.
        """
        ...

    async def remove_upload(self, upload: BlobUpload) -> None:
        """Remove an upload, its key with it.

        Raises:
            Conflict: the stored revision is another.
        """
        ...

    async def uses(self, tenant: TenantUid, blobs: Collection[BlobUid]) -> Mapping[BlobUid, BlobUse]:
        """Return what is known of the use of at most 1,000 blobs; without those never read."""
        ...

    async def add_uses(self, tenant: TenantUid, uses: Mapping[BlobUid, BlobUse]) -> None:
        """Merge what a node has seen of at most 1,000 blobs: the sum of the counts, the later of two times."""
        ...
