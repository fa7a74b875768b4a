"""BlobService: parse, call, format."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from kms.core.blobs import (
    LONGEST_CONTENT_TYPE,
    LONGEST_DESCRIPTION,
    MAX_CONTEXT_PAIRS,
    MOST_LISTED,
    BlobAccess,
    Compression,
    check_purposes,
)
from kms.core.context import Pair
from kms.core.errors import InvalidRequest, invalid
from kms.core.names import BlobName, Principal, TenantName, parse_blob_id
from kms.core.roles import Role
from kms.core.seals import Sealing
from kms.rpc.fields import pairs_of, parse_etag, parse_labels, parse_text
from kms.rpc.messages import timestamp
from kms.rpc.paging import cut, parse_page
from kms.services.blob_reading import BlobReading, Wanted
from kms.services.blob_sealing import BlobSealing, NewBlob
from kms.services.blob_upkeep import BlobUpkeep
from kms.services.blobs import BlobChanges, Blobs, ShownBlob
from kms.v1 import blobs_pb2 as pb

MAX_CHUNK: Final = 1 << 20  # bytes of one message
_SEALINGS: Final[Mapping[int, Sealing | None]] = MappingProxyType(
    {
        pb.SEALING_POLICY_UNSPECIFIED: None,
        pb.SEALING_POLICY_MRENCLAVE: Sealing.MRENCLAVE,
        pb.SEALING_POLICY_MRSIGNER: Sealing.MRSIGNER,
        pb.SEALING_POLICY_HYBRID: Sealing.HYBRID,
    }
)
_COMPRESSIONS: Final[Mapping[int, Compression]] = MappingProxyType(
    {
        pb.COMPRESSION_UNSPECIFIED: Compression.NONE,
        pb.COMPRESSION_NONE: Compression.NONE,
        pb.COMPRESSION_ZSTD: Compression.ZSTD,
    }
)
_CONTENT_TYPE: Final = re.compile(r"[ -~]*")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class BlobServicer:
    """Serves kms.v1.BlobService."""

    def __init__(self, blobs: Blobs, sealing: BlobSealing, reading: BlobReading, upkeep: BlobUpkeep) -> None:
        self._blobs = blobs
        self._sealing = sealing
        self._reading = reading
        self._upkeep = upkeep

    async def SealBlob(
        self, request: pb.SealBlobRequest, rest: AsyncIterator[pb.SealBlobRequest], caller: Principal
    ) -> pb.Blob:
        """Seal a blob."""
        return blob_message(await self._sealing.seal(caller, _new_blob(request), _chunks(rest)))

    async def UnsealBlob(
        self, request: pb.UnsealBlobRequest, caller: Principal
    ) -> AsyncIterator[pb.UnsealBlobResponse]:
        """Return a blob's bytes."""
        name, wanted = BlobName.parse(request.name), _wanted(request)
        async for piece in self._reading.unseal(caller, name, wanted):
            yield pb.UnsealBlobResponse(chunk=piece)

    async def GetBlob(self, request: pb.GetBlobRequest, caller: Principal) -> pb.Blob:
        """Show a blob."""
        return blob_message(await self._blobs.get(caller, BlobName.parse(request.name)))

    async def ListBlobs(self, request: pb.ListBlobsRequest, caller: Principal) -> pb.ListBlobsResponse:
        """List blobs."""
        parent, page = TenantName.parse(request.parent, "parent"), parse_page(request)
        if page.after:
            try:
                parse_blob_id(page.after, "page_token")
            except InvalidRequest as error:
                raise invalid("page_token", "must be the next_page_token of the same list") from error
        found = await self._blobs.list_after(caller, parent, page.after, page.size + 1)
        shown, token = cut(found, page, lambda one: one.blob.blob_id)
        return pb.ListBlobsResponse(blobs=[blob_message(one) for one in shown], next_page_token=token)

    async def UpdateBlob(self, request: pb.UpdateBlobRequest, caller: Principal) -> pb.Blob:
        """Change a blob's description, labels, access policy, expiry and legal hold."""
        given = request.blob
        name, etag = BlobName.parse(given.name, "blob.name"), parse_etag(given.etag, "blob.etag")
        changes = BlobChanges(
            parse_text(given.description, "blob.description", LONGEST_DESCRIPTION),
            parse_labels(given.labels, "blob.labels"),
            _access(given.access_policy, name.tenant, "blob.access_policy"),
            _moment(given, "expire_time", "blob.expire_time"),
            given.legal_hold,
        )
        return blob_message(await self._blobs.update(caller, name, changes, etag))

    async def ResealBlob(self, request: pb.ResealBlobRequest, caller: Principal) -> pb.Blob:
        """Encrypt a blob anew."""
        name, etag = BlobName.parse(request.name), parse_etag(request.etag)
        sealing = _choice(_SEALINGS, request.sealing_policy, "sealing_policy")
        return blob_message(await self._upkeep.reseal(caller, name, _context(request), sealing, etag))

    async def MoveBlob(self, request: pb.MoveBlobRequest, caller: Principal) -> pb.Blob:
        """Move a blob's body."""
        if not request.store:
            raise invalid("store", "is required")
        return blob_message(await self._upkeep.move(caller, BlobName.parse(request.name), request.store))

    async def DeleteBlob(self, request: pb.DeleteBlobRequest, caller: Principal) -> pb.DeleteBlobResponse:
        """Destroy a blob's key, and then its body."""
        await self._blobs.delete(caller, BlobName.parse(request.name), parse_etag(request.etag))
        return pb.DeleteBlobResponse()

    async def GetUpload(self, request: pb.GetUploadRequest, caller: Principal) -> pb.Upload:
        """Tell how far an upload is."""
        name, upload = BlobName.parse(request.name), _upload(request.upload_id)
        if upload is None:
            raise invalid("upload_id", "is required")
        found = await self._sealing.progress(caller, name, upload)
        return pb.Upload(committed_size=found.committed, create_time=timestamp(found.created_at))


async def _chunks(rest: AsyncIterator[pb.SealBlobRequest]) -> AsyncIterator[bytes]:
    nothing = pb.SealBlobRequest()
    async for message in rest:
        chunk = message.chunk
        if not 1 <= len(chunk) <= MAX_CHUNK:
            raise invalid("chunk", f"must have 1 to {MAX_CHUNK} bytes in each message but the first")
        message.ClearField("chunk")
        if message != nothing:
            raise invalid("request", "must have nothing but a chunk in each message but the first")
        yield chunk


def _new_blob(request: pb.SealBlobRequest) -> NewBlob:
    if request.chunk:
        raise invalid("chunk", "must be empty in the first message")
    parent = TenantName.parse(request.parent, "parent")
    if len(request.content_type) > LONGEST_CONTENT_TYPE or _CONTENT_TYPE.fullmatch(request.content_type) is None:
        raise invalid("content_type", f"must have at most {LONGEST_CONTENT_TYPE} printable ASCII characters")
    if request.expected_sha256 and _SHA256.fullmatch(request.expected_sha256) is None:
        raise invalid("expected_sha256", "must be 64 hexadecimal digits in lower case")
    return NewBlob(
        name=BlobName(parent.tenant, parse_blob_id(request.blob_id, "blob_id")),
        content_type=request.content_type,
        description=parse_text(request.description, "description", LONGEST_DESCRIPTION),
        labels=parse_labels(request.labels, "labels"),
        sealing=_choice(_SEALINGS, request.sealing_policy, "sealing_policy") or Sealing.MRENCLAVE,
        context=_context(request),
        access=_access(request.access_policy, parent.tenant, "access_policy"),
        expires_at=_moment(request, "expire_time", "expire_time"),
        compression=_choice(_COMPRESSIONS, request.compression, "compression"),
        store=request.store,
        upload=_upload(request.upload_id),
        expected_sha256=bytes.fromhex(request.expected_sha256),
    )


def _wanted(request: pb.UnsealBlobRequest) -> Wanted:
    if request.purpose:
        check_purposes([request.purpose], "purpose")
    return Wanted(_context(request), request.start, request.length, request.purpose)


def _context(request: Any) -> tuple[Pair, ...]:
    if len(request.context) > MAX_CONTEXT_PAIRS:
        raise invalid("context", f"must have at most {MAX_CONTEXT_PAIRS} pairs")
    return tuple(pairs_of(request.context))


def _choice(choices: Mapping[int, Any], number: int, field: str) -> Any:
    try:
        return choices[number]
    except KeyError:
        raise invalid(field, "must be one of the enum's values") from None


def _upload(text: str) -> UUID | None:
    if not text:
        return None
    try:
        uid = UUID(text)
    except ValueError:
        uid = UUID(int=0)
    if uid.version != 4 or str(uid) != text:
        raise invalid("upload_id", "must be a UUIDv4 in lower case with hyphens")
    return uid


def _moment(message: Any, field: str, where: str) -> datetime | None:
    if not message.HasField(field):
        return None
    try:
        moment: datetime = getattr(message, field).ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(where, "must be a time in the years 1 to 9999") from error
    return moment


def _access(given: pb.AccessPolicy, tenant: str, where: str) -> BlobAccess:
    for field in ("principals", "roles"):
        if len(getattr(given, field)) > MOST_LISTED:
            raise invalid(f"{where}.{field}", f"must have at most {MOST_LISTED} entries")
    for text in given.principals:
        if Principal.parse_of_tenant(text, f"{where}.principals").tenant != tenant:
            raise invalid(f"{where}.principals", "must be principals of the blob's tenant")
    if unknown := sorted(set(given.roles) - set(Role)):
        raise invalid(f"{where}.roles", f"{unknown[0][:64]!r} is no role")
    start = _moment(given, "start_time", f"{where}.start_time")
    end = _moment(given, "end_time", f"{where}.end_time")
    if start is not None and end is not None and end <= start:
        raise invalid(f"{where}.end_time", "must be after start_time")
    purposes = check_purposes(given.purposes, f"{where}.purposes")
    return BlobAccess(frozenset(given.principals), frozenset(given.roles), purposes, start, end)


def blob_message(shown: ShownBlob) -> pb.Blob:
    """Format a blob."""
    blob, key, access = shown.blob, shown.blob.key, shown.blob.access
    return pb.Blob(
        name=str(blob.name(shown.tenant.name)),
        uid=str(blob.uid),
        generation=blob.generation,
        content_type=blob.content_type,
        description=blob.description,
        labels=blob.labels,
        access_policy=pb.AccessPolicy(
            principals=sorted(access.principals),
            roles=sorted(access.roles),
            purposes=sorted(access.purposes),
            start_time=timestamp(access.start),
            end_time=timestamp(access.end),
        ),
        expire_time=timestamp(blob.expires_at),
        legal_hold=blob.legal_hold,
        sealing_policy=f"SEALING_POLICY_{key.sealing.name}",
        mrenclave=key.by.mrenclave.hex(),
        mrsigner=key.by.mrsigner.hex(),
        isv_svn=key.by.isv_svn,
        simulated=key.by.simulated,
        store=blob.store,
        compression=f"COMPRESSION_{blob.compression.name}",
        size=blob.size,
        sealed_size=blob.sealed_size,
        sha256=blob.sha256.hex(),
        sealed_sha256=blob.sealed_sha256.hex(),
        create_time=timestamp(blob.created_at),
        creator=blob.created_by,
        access_count=shown.use.count,
        last_access_time=timestamp(shown.use.last_at),
        etag=blob.etag,
    )
