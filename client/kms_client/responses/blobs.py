"""From messages to values: sealed blobs."""

from __future__ import annotations

from ..v1 import blobs_pb2
from ..values import Blob, BlobAccess, BlobUpload, Compression, SealingPolicy
from .reading import known, time, time_if


def blob(message: blobs_pb2.Blob) -> Blob:
    """Read a Blob."""
    return Blob(
        name=message.name,
        uid=message.uid,
        generation=message.generation,
        content_type=message.content_type,
        description=message.description,
        labels=dict(message.labels),
        access=_access(message.access_policy),
        expire_time=time_if(message, "expire_time"),
        legal_hold=message.legal_hold,
        sealing_policy=known(SealingPolicy, message.sealing_policy),
        mrenclave=message.mrenclave,
        mrsigner=message.mrsigner,
        isv_svn=message.isv_svn,
        simulated=message.simulated,
        store=message.store,
        compression=known(Compression, message.compression),
        size=message.size,
        sealed_size=message.sealed_size,
        sha256=message.sha256,
        sealed_sha256=message.sealed_sha256,
        create_time=time(message.create_time),
        creator=message.creator,
        access_count=message.access_count,
        last_access_time=time_if(message, "last_access_time"),
        etag=message.etag,
    )


def _access(message: blobs_pb2.AccessPolicy) -> BlobAccess:
    return BlobAccess(
        principals=tuple(message.principals),
        roles=tuple(message.roles),
        purposes=tuple(message.purposes),
        start_time=time_if(message, "start_time"),
        end_time=time_if(message, "end_time"),
    )


def upload(message: blobs_pb2.Upload) -> BlobUpload:
    """Read an Upload."""
    return BlobUpload(message.committed_size, time(message.create_time))


def deleted(_: blobs_pb2.DeleteBlobResponse) -> None:
    """Read an answer that says only that it is done."""


def chunk(message: blobs_pb2.UnsealBlobResponse) -> bytes:
    """Read a piece of a blob."""
    return message.chunk
