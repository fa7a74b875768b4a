"""Sealing a blob, step by step.

1. the enclave makes its key, which the KEK wraps;
2. segment by segment, its body becomes durable; of an upload that can be resumed, so does each segment's place in it;
3. the record, which has key, manifest and hashes, is stored in one transaction, together with those of the tenant's other
   blobs that are ready at the same moment. Before that nobody sees anything.

What a failure leaves in the store is removed at once where that is sure to be right, and else swept.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID, uuid4

import structlog

from kms.acting import note_body, note_changes, noting
from kms.core.audit_ports import RecordChange
from kms.core.blobs import (
    MAX_SEGMENTS,
    SEGMENT,
    Blob,
    BlobAccess,
    BlobKey,
    BlobUid,
    BlobUpload,
    Compression,
    Manifest,
    Segment,
)
from kms.core.context import Context
from kms.core.enclave_ports import SealedInput
from kms.core.errors import AlreadyExists, Conflict, FailedPrecondition, LimitExceeded, NotFound
from kms.core.keyring import Tenant
from kms.core.names import BlobName, Principal, TenantUid
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.core.seals import Sealing
from kms.failpoints import reach
from kms.services.blob_segments import Sealer, Source, framed
from kms.services.blobs import Blobs, ShownBlob
from kms.services.gathering import Gathering
from kms.services.wrapping import hold_kek

_log = structlog.get_logger(__name__)

MOST_UPLOADS: Final = 100  # of one tenant, under way

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NewBlob:
    """What the first message says."""

    name: BlobName
    content_type: str
    description: str
    labels: Mapping[str, str]
    sealing: Sealing
    context: tuple[tuple[str, bytes], ...]
    access: BlobAccess
    expires_at: datetime | None
    compression: Compression
    store: str
    upload: UUID | None
    expected_sha256: bytes  # empty: not compared

    def digest(self, caller: Principal, context: Context) -> bytes:
        """Return the SHA-256 of all that has to be the same where an upload is resumed."""
        said = (
            self.name,
            self.content_type,
            self.description,
            sorted(self.labels.items()),
            self.sealing,
            context.digest(),
            self.access.encode(),
            self.expires_at,
            self.compression,
            self.store,
            self.expected_sha256,
            str(caller),
        )
        return hashlib.sha256(repr(said).encode()).digest()


@dataclass(slots=True)
class _Begun:
    """A blob that is being sealed, and what of it is durable."""

    tenant: Tenant
    sealer: Sealer
    upload: BlobUpload
    first_number: int  # of the segments that this call makes
    plain: hashlib._Hash
    sealed: hashlib._Hash

    @property
    def manifest(self) -> Manifest:
        return self.upload.manifest


@dataclass(frozen=True, slots=True)
class _Ready:
    """A blob whose body is durable."""

    tenant: Tenant
    blob: Blob
    upload: BlobUpload

    def own(self, changes: Sequence[RecordChange]) -> Sequence[RecordChange]:
        """Return what of these changes is this blob's."""
        identities = ({"blob_id": self.blob.blob_id}, {"id": self.upload.uid})
        return [change for change in changes if change.identity in identities]


_Stored = tuple[Blob, Sequence[RecordChange]]


class BlobSealing:
    """Makes blobs."""

    def __init__(self, storage: Storage, blobs: Blobs, segment: int = SEGMENT) -> None:
        """*segment*: bytes of a blob in each segment but the last."""
        self._storage = storage
        self._blobs = blobs
        self._segment = segment
        # A transaction writes the path in the tenant's tree and waits for the disk, for one blob as for many.
        self._records: Gathering[TenantUid, _Ready, _Stored] = Gathering(self._store)

    async def seal(self, caller: Principal, wanted: NewBlob, pieces: AsyncIterator[bytes]) -> ShownBlob:
        """Seal what *pieces* brings, to its end.

        Raises:
            NotFound: no such tenant, or not the caller's.
            AlreadyExists: there is a blob of this name.
            InvalidRequest: no such store, or a context that breaks its rule.
            FailedPrecondition: no enclave or no store; another hash than was expected; an upload of something else.
            LimitExceeded: it is too large, or too many uploads are under way.
            Conflict: another call carries on the same upload, or the KEK was replaced meanwhile.
            EnclaveUnavailable, HsmUnavailable, StorageUnavailable, BodyStoreUnavailable: nothing has been made.
        """
        tenant = await self._blobs.tenant(caller, wanted.name)
        context = Context.of(tenant.uid, wanted.context)
        store = self._blobs.stores.choose(wanted.store)
        async with self._storage.transaction(tenant.uid) as work:
            if await work.blobs.get(tenant.uid, wanted.name.blob) is not None:
                raise AlreadyExists(f"{wanted.name} exists already")
        begun = await self._begin(caller, tenant, wanted, store, context)
        kept = wanted.upload is not None
        try:
            source = Source(pieces)
            while await source.more() or not begun.manifest:
                await self._segment_of(begun, wanted.compression, source, kept)
            reach("seal_blob.body_written")
        except BaseException:
            if not kept:
                await self._give_up(begun)
            raise
        if wanted.expected_sha256 not in (b"", begun.plain.digest()):
            await self._give_up(begun)
            raise FailedPrecondition("the bytes that came are not those of expected_sha256")
        return ShownBlob(tenant, await self._commit(caller, wanted, begun))

    async def progress(self, caller: Principal, name: BlobName, upload: UUID) -> BlobUpload:
        """Return an upload under way.

        Raises:
            NotFound: there is none for this blob, or not the caller's.
        """
        tenant = await self._blobs.tenant(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            found = await work.blobs.upload(tenant.uid, upload)
        if found is None or found.blob_id != name.blob or found.created_by != str(caller):
            raise NotFound(f"an upload {upload} of {name} does not exist")
        return found

    async def _begin(self, caller: Principal, tenant: Tenant, wanted: NewBlob, store: str, context: Context) -> _Begun:
        digest = wanted.digest(caller, context)
        if wanted.upload is not None:
            async with self._storage.transaction(tenant.uid) as work:
                before = await work.blobs.upload(tenant.uid, wanted.upload)
                if before is None and await work.blobs.count_uploads(tenant.uid) >= MOST_UPLOADS:
                    raise LimitExceeded(f"{tenant.name} has {MOST_UPLOADS} uploads under way")
            if before is not None:
                if before.request != digest:
                    raise FailedPrecondition("upload_id: the upload of this id is of something else")
                key = await self._blobs.keys.open(tenant, before.blob, 1, before.key)
                return await self._resume(tenant, before, self._sealer(tenant, before, key, context, wanted))
        uid = BlobUid(uuid4())
        stored, key = await self._blobs.keys.new(tenant, uid, 1, wanted.sealing)
        upload = BlobUpload(
            uid=wanted.upload or uuid4(),
            tenant=tenant.uid,
            blob_id=wanted.name.blob,
            blob=uid,
            key=stored,
            store=store,
            request=digest,
            manifest=(),
            created_at=self._blobs.now(),
            created_by=str(caller),
        )
        if wanted.upload is not None:
            new = upload
            upload = await self._store_key(tenant, new, lambda work, key: work.blobs.put_upload(replace(new, key=key)))
        sealer = self._sealer(tenant, upload, key, context, wanted)
        return _Begun(tenant, sealer, upload, upload.revision * MAX_SEGMENTS, hashlib.sha256(), hashlib.sha256())

    def _sealer(
        self, tenant: Tenant, upload: BlobUpload, key: SealedInput, context: Context, wanted: NewBlob
    ) -> Sealer:
        enclave = self._blobs.keys.enclave
        return Sealer(enclave, key, tenant.uid, upload.blob, 1, context, wanted.compression)

    async def _resume(self, tenant: Tenant, before: BlobUpload, sealer: Sealer) -> _Begun:
        """Take over an upload and hash again what is durable of it."""
        # The revision is this call's: another one that goes on with the same upload finds it changed, and the numbers of
        # the segments that it has made are never used again.
        upload = await self._put(before)
        begun = _Begun(tenant, sealer, upload, upload.revision * MAX_SEGMENTS, hashlib.sha256(), hashlib.sha256())
        store = self._blobs.stores.of(upload.store)
        for segment in upload.manifest:
            async for body in store.read(sealer.body(segment.number), 0, segment.sealed):
                begun.sealed.update(body)
            async for piece in sealer.read(store, segment):
                begun.plain.update(piece)
        return begun

    async def _segment_of(self, begun: _Begun, compression: Compression, source: Source, kept: bool) -> None:
        """Make the next segment durable."""
        if len(begun.manifest) == MAX_SEGMENTS:
            raise LimitExceeded(f"a blob has at most {MAX_SEGMENTS * self._segment} bytes")
        number = begun.first_number + len(begun.manifest)
        lengths = {"size": 0, "data": 0}

        async def taken() -> AsyncIterator[bytes]:
            async for piece in source.part(self._segment):
                begun.plain.update(piece)
                lengths["size"] += len(piece)
                yield piece

        async def data() -> AsyncIterator[bytes]:
            part: AsyncIterable[bytes] = taken() if compression is Compression.NONE else framed(taken())
            async for piece in part:
                lengths["data"] += len(piece)
                yield piece

        async def body() -> AsyncIterator[bytes]:
            async for piece in begun.sealer.seal(number, data()):
                begun.sealed.update(piece)
                yield piece

        await self._blobs.stores.of(begun.upload.store).write(begun.sealer.body(number), body())
        begun.upload = begun.upload.with_segment(Segment(number, **lengths))
        if kept:
            reach("seal_blob.segment_written")
            begun.upload = await self._put(begun.upload)

    async def _store_key(
        self, tenant: Tenant, upload: BlobUpload, put: Callable[[UnitOfWork, BlobKey], Awaitable[T]]
    ) -> T:
        return await self._blobs.keys.store(tenant, upload.blob, 1, upload.key, put)

    async def _put(self, upload: BlobUpload) -> BlobUpload:
        """Store an upload as far as it is.

        Raises:
            Conflict: another call carries it on.
        """
        async with self._storage.transaction(upload.tenant, write=True) as work:
            return await work.blobs.put_upload(await _over(work, upload))

    async def _commit(self, caller: Principal, wanted: NewBlob, begun: _Begun) -> Blob:
        upload = begun.upload
        blob = Blob(
            uid=upload.blob,
            tenant=upload.tenant,
            blob_id=upload.blob_id,
            generation=1,
            key=upload.key,
            store=upload.store,
            compression=wanted.compression,
            manifest=upload.manifest,
            sha256=begun.plain.digest(),
            sealed_sha256=begun.sealed.digest(),
            created_at=self._blobs.now(),
            created_by=str(caller),
            content_type=wanted.content_type,
            description=wanted.description,
            labels=wanted.labels,
            access=wanted.access,
            expires_at=wanted.expires_at,
        )
        try:
            blob, changes = await self._records.ask(upload.tenant, _Ready(begun.tenant, blob, upload))
        except (AlreadyExists, Conflict):
            await self._give_up(begun)
            raise
        note_changes(changes)
        reach("seal_blob.committed")
        note_body(blob.sealed_sha256)
        _log.info("blob.sealed", blob=str(wanted.name), uid=str(blob.uid), size=blob.size, store=blob.store)
        return blob

    async def _store(self, _: TenantUid, ready: Sequence[_Ready]) -> Sequence[_Stored | Exception]:
        """Store the records of blobs in one transaction, or, where one of them cannot be stored, each in its own."""
        if len(ready) > 1:
            with suppress(AlreadyExists, Conflict):  # and nothing is stored; whatever else happens, some may be
                return await self._stored_together(ready)
        each: list[_Stored | Exception] = []
        for one in ready:
            try:
                each.append(await self._stored(one))
            except Exception as error:  # noqa: BLE001  its caller gets it
                each.append(error)
        return each

    async def _stored_together(self, ready: Sequence[_Ready]) -> list[_Stored]:
        tenant, keys = ready[0].tenant, [one.upload.key for one in ready]
        with noting() as noted:
            async with self._storage.transaction(tenant.uid, write=True) as work:
                if not await self._blobs.keys.fit(work, tenant, keys):
                    raise Conflict("one of them has to be sealed anew first")
                blobs = [await _whole(work, one, one.upload.key) for one in ready]
                for version in sorted({key.kek_version for key in keys}):
                    await hold_kek(work, tenant, version)
                reach("seal_blob.before_commit")
        return [(blob, one.own(noted.changes)) for blob, one in zip(blobs, ready, strict=True)]

    async def _stored(self, one: _Ready) -> _Stored:
        async def put(work: UnitOfWork, key: BlobKey) -> Blob:
            blob = await _whole(work, one, key)
            await hold_kek(work, one.tenant, key.kek_version)
            reach("seal_blob.before_commit")
            return blob

        with noting() as noted:
            blob = await self._store_key(one.tenant, one.upload, put)
        return blob, one.own(noted.changes)

    async def _give_up(self, begun: _Begun) -> None:
        """Remove what has been made; whatever stays is swept."""
        upload = begun.upload
        if upload.revision:
            async with self._storage.transaction(upload.tenant, write=True) as work:
                await work.blobs.remove_upload(await _over(work, upload))
        await self._blobs.drop(upload.store, [begun.sealer.body(one.number) for one in upload.manifest])


async def _whole(work: UnitOfWork, ready: _Ready, key: BlobKey) -> Blob:
    """Store a blob, with its key as it is to be, in the place of its upload."""
    blob = await work.blobs.add(replace(ready.blob, key=key))
    if ready.upload.revision:
        await work.blobs.remove_upload(await _over(work, ready.upload))
    return blob


async def _over(work: UnitOfWork, upload: BlobUpload) -> BlobUpload:
    """Return an upload over the stored revision where since its own only its key was sealed anew, by an upgrade."""
    stored = await work.blobs.upload(upload.tenant, upload.uid)
    if stored is None or stored.key == upload.key:
        return upload
    before = upload.manifest[: len(stored.manifest)]
    at_most_one_more = len(upload.manifest) - len(stored.manifest) <= 1
    if at_most_one_more and stored == replace(upload, key=stored.key, revision=stored.revision, manifest=before):
        return replace(upload, key=stored.key, revision=stored.revision)
    return upload
