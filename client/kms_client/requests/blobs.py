"""Requests to BlobService."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ..formats.errors import invalid
from ..methods import BLOBS
from ..responses import blobs
from ..responses.reading import page
from ..v1 import blobs_pb2
from ..values import Blob, BlobAccess, BlobUpload, Compression, SealingPolicy
from .crypto import Context, pairs
from .messages import Listing, Request, build, timestamp


def _access(access: BlobAccess) -> blobs_pb2.AccessPolicy:
    message = build(
        blobs_pb2.AccessPolicy,
        principals=list(access.principals),
        roles=list(access.roles),
        purposes=list(access.purposes),
    )
    if access.start_time is not None:
        message.start_time.CopyFrom(timestamp(access.start_time, "access.start_time"))
    if access.end_time is not None:
        message.end_time.CopyFrom(timestamp(access.end_time, "access.end_time"))
    return message


def seal_blob(
    parent: str,
    blob_id: str,
    *,
    content_type: str,
    description: str,
    labels: Mapping[str, str] | None,
    context: Context | None,
    sealing_policy: SealingPolicy,
    access: BlobAccess | None,
    expire_time: datetime | None,
    compression: Compression,
    store: str,
    upload_id: str,
    expected_sha256: str,
) -> Request[Blob]:
    """BlobService.SealBlob, its first message."""
    message = build(
        blobs_pb2.SealBlobRequest,
        parent=parent,
        blob_id=blob_id,
        content_type=content_type,
        description=description,
        labels=dict(labels or {}),
        context=pairs(context),
        sealing_policy=int(sealing_policy),
        compression=int(compression),
        store=store,
        upload_id=upload_id,
        expected_sha256=expected_sha256,
    )
    if access is not None:
        message.access_policy.CopyFrom(_access(access))
    if expire_time is not None:
        message.expire_time.CopyFrom(timestamp(expire_time, "expire_time"))
    return Request(f"{BLOBS}/SealBlob", message, blobs.blob)


def chunk(content: bytes) -> blobs_pb2.SealBlobRequest:
    """BlobService.SealBlob, each of the other messages."""
    return blobs_pb2.SealBlobRequest(chunk=content)


def unseal_blob(name: str, context: Context | None, start: int, length: int | None, purpose: str) -> Request[bytes]:
    """BlobService.UnsealBlob."""
    if length is not None and length < 1:
        raise invalid("length", "must be at least 1; without it, all to the end is meant")
    message = build(
        blobs_pb2.UnsealBlobRequest, name=name, context=pairs(context), start=start, length=length or 0, purpose=purpose
    )
    return Request(f"{BLOBS}/UnsealBlob", message, blobs.chunk)


def get_blob(name: str) -> Request[Blob]:
    """BlobService.GetBlob."""
    return Request(f"{BLOBS}/GetBlob", build(blobs_pb2.GetBlobRequest, name=name), blobs.blob)


def list_blobs(parent: str, page_size: int) -> Listing:
    """BlobService.ListBlobs."""
    read = page("blobs", blobs.blob)
    return lambda token: Request(
        f"{BLOBS}/ListBlobs",
        build(blobs_pb2.ListBlobsRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def update_blob(
    name: str,
    *,
    description: str,
    labels: Mapping[str, str] | None,
    access: BlobAccess | None,
    expire_time: datetime | None,
    legal_hold: bool,
    etag: str,
) -> Request[Blob]:
    """BlobService.UpdateBlob."""
    wanted = build(
        blobs_pb2.Blob,
        name=name,
        description=description,
        labels=dict(labels or {}),
        legal_hold=legal_hold,
        etag=etag,
    )
    if access is not None:
        wanted.access_policy.CopyFrom(_access(access))
    if expire_time is not None:
        wanted.expire_time.CopyFrom(timestamp(expire_time, "expire_time"))
    return Request(f"{BLOBS}/UpdateBlob", build(blobs_pb2.UpdateBlobRequest, blob=wanted), blobs.blob)


def reseal_blob(name: str, context: Context | None, sealing_policy: SealingPolicy | None, etag: str) -> Request[Blob]:
    """BlobService.ResealBlob."""
    message = build(
        blobs_pb2.ResealBlobRequest,
        name=name,
        context=pairs(context),
        sealing_policy=int(sealing_policy or 0),
        etag=etag,
    )
    return Request(f"{BLOBS}/ResealBlob", message, blobs.blob)


def move_blob(name: str, store: str) -> Request[Blob]:
    """BlobService.MoveBlob."""
    return Request(f"{BLOBS}/MoveBlob", build(blobs_pb2.MoveBlobRequest, name=name, store=store), blobs.blob)


def delete_blob(name: str, etag: str) -> Request[None]:
    """BlobService.DeleteBlob."""
    return Request(f"{BLOBS}/DeleteBlob", build(blobs_pb2.DeleteBlobRequest, name=name, etag=etag), blobs.deleted)


def get_upload(name: str, upload_id: str) -> Request[BlobUpload]:
    """BlobService.GetUpload."""
    message = build(blobs_pb2.GetUploadRequest, name=name, upload_id=upload_id)
    return Request(f"{BLOBS}/GetUpload", message, blobs.upload)
