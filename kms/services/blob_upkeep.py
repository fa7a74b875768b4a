"""What is done to whole blobs: encrypted anew, moved, and what is over or left behind swept.

Both acts write new bodies first, then change the record over the revision that they read, and remove the old bodies last;
so at every moment the record names bodies that are whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from kms.acting import note_body
from kms.core.blobs import MAX_SEGMENTS, Blob, BlobKey, BlobUpload, Segment
from kms.core.body_ports import BodyName, StoredBody
from kms.core.context import Context, Pair
from kms.core.errors import Conflict, CorruptRecord, FailedPrecondition, KmsError, NotFound
from kms.core.keyring import Tenant
from kms.core.names import BlobName, Principal, TenantUid
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.core.seals import Sealing
from kms.failpoints import reach
from kms.services.blob_segments import Sealer, sealer_of
from kms.services.blobs import Blobs, ShownBlob, bodies_of, found
from kms.services.wrapping import hold_kek

_log = structlog.get_logger(__name__)

INTERVAL: Final = 900.0  # seconds between two sweeps
# What is younger may belong to a call under way.
STALE: Final = timedelta(days=1)
AT_ONCE: Final = 100  # blobs, uploads or bodies in one step
LAST_GENERATION: Final = 2**32 - 1


class BlobUpkeep:
    """Looks after blobs."""

    def __init__(self, storage: Storage, blobs: Blobs, interval: float = INTERVAL) -> None:
        self._storage = storage
        self._blobs = blobs
        self._interval = interval

    async def reseal(
        self, caller: Principal, name: BlobName, pairs: Sequence[Pair], sealing: Sealing | None, etag: str
    ) -> ShownBlob:
        """Encrypt a blob under a new key of the enclave that runs now, as its next generation.

        Raises:
            NotFound, Conflict: as Blobs.get(); or it was changed meanwhile.
            CannotDecrypt, CorruptRecord: as BlobReading.unseal(); the blob stays as it is.
        """
        tenant = await self._blobs.tenant(caller, name)
        context = Context.of(tenant.uid, pairs)
        blob = await self._live(tenant, name, etag)
        if blob.generation == LAST_GENERATION:
            raise FailedPrecondition(f"{name} has as many generations as it can")
        old = sealer_of(blob, self._blobs.keys.enclave, await self._blobs.open_key(tenant, blob), context)
        generation = blob.generation + 1
        stored, key = await self._blobs.keys.new(tenant, blob.uid, generation, sealing or blob.key.sealing)
        new = Sealer(old.enclave, key, blob.tenant, blob.uid, generation, context, blob.compression)
        store, digest = self._blobs.stores.of(blob.store), hashlib.sha256()
        manifest: list[Segment] = []

        async def body(segment: Segment, number: int) -> AsyncIterator[bytes]:
            async for piece in new.seal(number, old.open(store, segment)):
                digest.update(piece)
                yield piece

        # Two calls at once, or one after a crash, do not write over each other's bodies.
        first = secrets.randbelow(2**32 // MAX_SEGMENTS) * MAX_SEGMENTS
        try:
            for number, segment in enumerate(blob.manifest, first):
                await store.write(new.body(number), body(segment, number))
                manifest.append(replace(segment, number=number))
        except BaseException:
            await self._blobs.drop(blob.store, [new.body(one.number) for one in manifest])
            raise
        reach("reseal_blob.body_written")
        changed = replace(blob, generation=generation, manifest=tuple(manifest), sealed_sha256=digest.digest())

        async def put(work: UnitOfWork, key: BlobKey) -> None:
            await self._put(work, tenant, replace(changed, key=key), "reseal_blob.before_commit")

        await self._blobs.keys.store(tenant, blob.uid, generation, stored, put)
        reach("reseal_blob.committed")
        note_body(blob.sealed_sha256)
        note_body(changed.sealed_sha256)
        await self._blobs.drop(blob.store, bodies_of(blob))
        return await self._blobs.get(caller, name)

    async def move(self, caller: Principal, name: BlobName, to: str) -> ShownBlob:
        """Move a blob's body, as it is, to another store.

        Raises:
            NotFound, Conflict: as reseal().
            InvalidRequest: there is no such store.
        """
        tenant = await self._blobs.tenant(caller, name)
        to = self._blobs.stores.choose(to)
        blob = await self._live(tenant, name)
        if blob.store == to:
            return await self._blobs.get(caller, name)
        source, target, digest = self._blobs.stores.of(blob.store), self._blobs.stores.of(to), hashlib.sha256()

        async def body(segment: Segment, place: BodyName) -> AsyncIterator[bytes]:
            async for piece in source.read(place, 0, segment.sealed):
                digest.update(piece)
                yield piece

        for segment, place in zip(blob.manifest, bodies_of(blob), strict=True):
            await target.write(place, body(segment, place))
        reach("move_blob.body_written")
        if digest.digest() != blob.sealed_sha256:
            await self._blobs.drop(to, bodies_of(blob))
            raise CorruptRecord(f"{name}: its body is not what was recorded; it has not been moved")
        async with self._storage.transaction(tenant.uid, write=True) as work:
            await self._put(work, tenant, replace(blob, store=to), "move_blob.before_commit")
        reach("move_blob.committed")
        await self._blobs.drop(blob.store, bodies_of(blob))
        return await self._blobs.get(caller, name)

    async def run(self) -> None:
        """Sweep again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.sweep()
            except KmsError as error:
                _log.warning("blob.not_swept", reason=str(error))

    async def sweep(self) -> int:
        """Delete blobs that have expired, uploads that nobody went on with, and bodies that no record names.

        Returns how many blobs, uploads and bodies went.
        """
        now, gone, after = self._blobs.now(), 0, ""
        while tenants := await self._tenants(after):
            after = tenants[-1].slug
            for tenant in tenants:
                gone += await self._expired(tenant, now)
                gone += await self._uploads(tenant, now - STALE)
        for name, store in self._blobs.stores.stores.items():
            gone += await store.sweep(now - STALE)
            gone += await self._orphans(name, now - STALE)
        return gone

    async def _live(self, tenant: Tenant, name: BlobName, etag: str = "") -> Blob:
        async with self._storage.transaction(tenant.uid) as work:
            blob = await found(work, tenant, name, etag)
        if blob.expired(self._blobs.now()):
            raise NotFound(str(name))
        return blob

    async def _put(self, work: UnitOfWork, tenant: Tenant, blob: Blob, failpoint: str) -> None:
        await work.blobs.replace(blob)
        await hold_kek(work, tenant, blob.key.kek_version)
        reach(failpoint)

    async def _tenants(self, after: str) -> list[Tenant]:
        async with self._storage.transaction() as work:
            return await work.tenants.list_ready(after, AT_ONCE)

    async def _expired(self, tenant: Tenant, now: datetime) -> int:
        async with self._storage.transaction(tenant.uid) as work:
            blobs = await work.blobs.list_expired(tenant.uid, now, AT_ONCE)
        gone = 0
        for blob in blobs:
            try:
                await self._blobs.shred(tenant, blob, "expired")
            except Conflict:  # changed meanwhile, or another node was quicker
                continue
            gone += 1
        return gone

    async def _uploads(self, tenant: Tenant, before: datetime) -> int:
        async with self._storage.transaction(tenant.uid, write=True) as work:
            uploads = await work.blobs.list_stale(tenant.uid, before, AT_ONCE)
            for upload in uploads:
                await work.blobs.remove_upload(upload)
        return len(uploads)

    async def _orphans(self, store: str, before: datetime) -> int:
        """Remove bodies that are old and that no record names."""
        gone, after = 0, None
        while bodies := await self._blobs.stores.stores[store].list(None, after, AT_ONCE):
            after = bodies[-1].name
            by_tenant: dict[TenantUid, list[StoredBody]] = {}
            for body in bodies:
                if body.written_at < before:
                    by_tenant.setdefault(body.name.tenant, []).append(body)
            for tenant, old in by_tenant.items():
                async with self._storage.transaction(tenant) as work:
                    known = await work.blobs.known(tenant, {body.name.blob for body in old})
                for body in old:
                    if not _names(known.get(body.name.blob), store, body.name):
                        await self._blobs.stores.stores[store].delete(body.name)
                        _log.info("blob.orphan_removed", store=store, body=str(body.name))
                        gone += 1
        return gone


def _names(record: Blob | BlobUpload | None, store: str, body: BodyName) -> bool:
    """Whether a record names this body in this store."""
    if record is None or record.store != store:
        return False
    generation = record.generation if isinstance(record, Blob) else 1
    return generation == body.generation and any(segment.number == body.segment for segment in record.manifest)
