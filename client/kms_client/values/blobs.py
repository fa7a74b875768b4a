"""Sealed blobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum


class SealingPolicy(IntEnum):
    """Which enclaves open a blob's key."""

    MRENCLAVE = 1  # the same code, whoever signed it
    MRSIGNER = 2  # the same signer's same product, of the same or a newer security version
    HYBRID = 3  # the same code by the same signer


class Compression(IntEnum):
    """What is done to a blob's bytes before they are encrypted."""

    NONE = 1
    ZSTD = 2  # lengths then tell something of the bytes


@dataclass(frozen=True, slots=True)
class BlobAccess:
    """Who may read a blob, beside what grants say: each tuple that is not empty has to be met."""

    principals: tuple[str, ...] = ()  # `tenants/{tenant}/principals/{principal}`
    roles: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()
    start_time: datetime | None = None
    end_time: datetime | None = None  # not any more


@dataclass(frozen=True, slots=True)
class Blob:
    """One sealed blob without its bytes: `tenants/{tenant}/blobs/{blob}`."""

    name: str
    uid: str
    generation: int  # 1, and one more with each resealing
    content_type: str
    description: str
    labels: dict[str, str] = field(hash=False)
    access: BlobAccess
    expire_time: datetime | None
    legal_hold: bool
    sealing_policy: SealingPolicy | int
    mrenclave: str  # of the enclave in which its key was born, as mrsigner and isv_svn
    mrsigner: str
    isv_svn: int
    simulated: bool  # that enclave protects nothing against the machine that it runs on
    store: str
    compression: Compression | int
    size: int  # bytes, as given
    sealed_size: int  # bytes, as stored
    sha256: str
    sealed_sha256: str
    create_time: datetime
    creator: str
    access_count: int
    last_access_time: datetime | None
    etag: str


@dataclass(frozen=True, slots=True)
class BlobUpload:
    """How far an unfinished upload has come."""

    committed_size: int
    create_time: datetime
