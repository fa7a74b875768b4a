"""Unsealing blobs, whole or in part, for those whom the blob's own access policy lets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from kms.acting import note_body
from kms.core.access import Access
from kms.core.blobs import Blob
from kms.core.context import Context, Pair
from kms.core.errors import Denied, NotFound, invalid
from kms.core.names import BlobName, Principal
from kms.core.ports import Storage
from kms.services.blob_segments import sealer_of
from kms.services.blob_uses import BlobUseRecorder
from kms.services.blobs import Blobs, found


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of a blob, what for, and the context that it was sealed with."""

    context: tuple[Pair, ...]
    start: int = 0
    length: int = 0  # 0: to the end
    purpose: str = ""


class BlobReading:
    """Reads blobs."""

    def __init__(
        self,
        storage: Storage,
        blobs: Blobs,
        accesses: Callable[[Principal], Awaitable[Access]],
        uses: BlobUseRecorder,
    ) -> None:
        self._storage = storage
        self._blobs = blobs
        self._accesses = accesses
        self._uses = uses

    async def unseal(self, caller: Principal, name: BlobName, wanted: Wanted) -> AsyncIterator[bytes]:
        """Yield the blob's bytes, or a part of them, each piece once it is authentic.

        Raises:
            NotFound: no such blob, or not the caller's, or it has expired.
            Denied: its access policy does not let this caller read it now for this purpose.
            InvalidRequest: a part that it does not have, or a context that breaks its rule.
            CannotDecrypt: another context, or a body that has been changed.
            CorruptRecord: the body is missing, or the key does not open.
            FailedPrecondition: there is no enclave, or it is older than the one that sealed.
            EnclaveUnavailable, HsmUnavailable, StorageUnavailable, BodyStoreUnavailable: try again.
        """
        tenant = await self._blobs.tenant(caller, name)
        context = Context.of(tenant.uid, wanted.context)
        async with self._storage.transaction(tenant.uid) as work:
            blob = await found(work, tenant, name)
        if blob.expired(self._blobs.now()):
            raise NotFound(str(name))
        await self._allow(caller, blob, wanted.purpose)
        start, end = _part(blob, wanted)
        key = await self._blobs.open_key(tenant, blob)
        sealer = sealer_of(blob, self._blobs.keys.enclave, key, context)
        store = self._blobs.stores.of(blob.store)
        self._uses.read(blob)
        note_body(blob.sealed_sha256)
        position = 0
        for segment in blob.manifest:
            first, last = max(start - position, 0), min(end - position, segment.size)
            # An empty part of a blob is looked at, too: what is answered is always authentic.
            if first < last or (start == end and 0 <= start - position <= segment.size):
                async for piece in sealer.read(store, segment, first, max(first, last)):
                    yield piece
                if start == end:
                    return
            position += segment.size

    async def _allow(self, caller: Principal, blob: Blob, purpose: str) -> None:
        now = self._blobs.now()
        roles: frozenset[str] = frozenset()
        if blob.access.roles:
            access = await self._accesses(caller)
            roles = frozenset(
                grant.role.value for grant in access.grants if grant.role is not None and not grant.expired(now)
            )
        if why := blob.access.refusal(str(caller), roles, purpose, now):
            raise Denied(f"the access policy of {blob.blob_id} does not allow this ({why})")


def _part(blob: Blob, wanted: Wanted) -> tuple[int, int]:
    if not 0 <= wanted.start <= blob.size:
        raise invalid("start", f"must be 0 to {blob.size}")
    if wanted.length < 0:
        raise invalid("length", "must not be negative")
    end = wanted.start + wanted.length if wanted.length else blob.size
    return wanted.start, min(end, blob.size)
