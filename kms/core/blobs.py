"""Sealed blobs as values: what is recorded of one, its segments, and who may read it. FORMATS sections 4, 5, 7 and 9.

A blob's key is born in the enclave for one generation of one blob and stored as KEK-wrap(seal(key)). Its body is a row of
segments, each a stream of FORMATS section 4 with a salt of its own. The manifest, which the record's MAC covers, lists
them; so a body is neither cut off nor put together anew without that being seen.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID

from .context import Context
from .errors import CorruptRecord, invalid
from .names import BlobName, KekUid, KeyUid, TenantName, TenantUid
from .seals import SealedBy, Sealing
from .stream import CHUNK_BITS, HEADER_LENGTH, KEY_LENGTH, StreamHeader, sealed_length
from .wrapping import WrapMechanism, bound_bytes

BlobUid = NewType("BlobUid", UUID)

SEGMENT: Final = 64 << 20  # bytes of a blob in each segment but the last
MAX_SEGMENTS: Final = 1024
MAX_SIZE: Final = SEGMENT * MAX_SEGMENTS  # bytes of a blob: 64 GiB
MAX_CONTEXT_PAIRS: Final = 60  # of the caller's; four are the daemon's
LONGEST_CONTENT_TYPE: Final = 255  # characters
LONGEST_DESCRIPTION: Final = 1_024  # characters
MOST_LISTED: Final = 64  # entries of each list of an access policy

# FORMATS, section 1 and section 5: the numbers of a stream's key at level enclave.
_PURPOSE: Final = 3
_SUITE: Final = 0x10
_LEVEL: Final = 2
_SEAL_LABEL: Final = b"kms/v1/blob-seal\0"
_SEALED_FOR: Final = struct.Struct(">16s16sIBBB")

_PURPOSE_RULE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


class Compression(StrEnum):
    """What is done to a segment before it is encrypted."""

    NONE = "none"
    ZSTD = "zstd"  # RFC 8878, one frame for each MiB


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a blob, in a body of its own.

    *number* is no other segment's of the same generation; the manifest tells their order. Lengths in bytes: *size* of the
    blob's part, *data* of what is encrypted, which is as long, or compressed.
    """

    number: int
    size: int
    data: int

    def __post_init__(self) -> None:
        if not (0 <= self.number < 2**32 and 0 <= self.size <= SEGMENT and 0 <= self.data <= 2 * SEGMENT):
            raise ValueError("a segment has a number below 2^32 and at most 64 MiB")

    @property
    def sealed(self) -> int:
        """The length of the body in bytes."""
        return HEADER_LENGTH + sealed_length(self.data, CHUNK_BITS)

    @property
    def chunks(self) -> int:
        """How many chunks it has."""
        return max(1, -(-self.data >> CHUNK_BITS))


Manifest = tuple[Segment, ...]


def manifest_text(manifest: Manifest) -> str:
    """Return the one text of a manifest."""
    return json.dumps([[one.number, one.size, one.data] for one in manifest], separators=(",", ":"))


def parse_manifest(text: str) -> Manifest:
    """Read a stored manifest.

    Raises:
        ValueError: it is none.
    """
    read = json.loads(text)
    if not isinstance(read, list) or len(read) > MAX_SEGMENTS:
        raise ValueError("a manifest is a list of at most 1,024 segments")
    return tuple(Segment(number, size, data) for number, size, data in read)


def size_of(manifest: Manifest) -> int:
    """Return the length of the blob in bytes."""
    return sum(one.size for one in manifest)


def sealed_size_of(manifest: Manifest) -> int:
    """Return the length of all bodies in bytes."""
    return sum(one.sealed for one in manifest)


@dataclass(frozen=True, slots=True)
class BlobAccess:
    """Who may read a blob, beside what grants say: every list that is not empty, and both times, have to be met."""

    principals: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    purposes: frozenset[str] = frozenset()
    start: datetime | None = None
    end: datetime | None = None

    def refusal(self, principal: str, roles: frozenset[str], purpose: str, now: datetime) -> str:
        """Return why this caller may not read it now; empty: it may."""
        if self.principals and principal not in self.principals:
            return "principals"
        if self.roles and not self.roles & roles:
            return "roles"
        if self.purposes and purpose not in self.purposes:
            return "purposes"
        if self.start is not None and now < self.start:
            return "start_time"
        if self.end is not None and now >= self.end:
            return "end_time"
        return ""

    def encode(self) -> str:
        """Return the one text that is stored."""
        fields = {
            "principals": sorted(self.principals),
            "roles": sorted(self.roles),
            "purposes": sorted(self.purposes),
            "start": None if self.start is None else self.start.isoformat(),
            "end": None if self.end is None else self.end.isoformat(),
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> BlobAccess:
        """Read what encode() has returned.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        read = json.loads(text)
        return cls(
            frozenset(read["principals"]),
            frozenset(read["roles"]),
            frozenset(read["purposes"]),
            None if read["start"] is None else datetime.fromisoformat(read["start"]),
            None if read["end"] is None else datetime.fromisoformat(read["end"]),
        )


ANYBODY: Final = BlobAccess()


@dataclass(frozen=True, slots=True)
class BlobKey:
    """The key of one generation as it is stored: KEK-wrap(seal(key)), and who has sealed it."""

    wrapped: bytes
    kek_version: int
    sealing: Sealing  # as it is wanted
    by: SealedBy
    present: Sealing | None = None  # as it is, where an upgrade of the enclave has made it another for a time

    @property
    def policy(self) -> Sealing:
        """Which enclaves open it now."""
        return self.present or self.sealing

    def sealed_anew(self, wrapped: tuple[bytes, int], policy: Sealing, by: SealedBy) -> BlobKey:
        """Return the same key under another seal; *wrapped* is the seal wrapped, and the version of the KEK."""
        return BlobKey(*wrapped, self.sealing, by, None if policy is self.sealing else policy)


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that is whole: all that is recorded of it."""

    uid: BlobUid
    tenant: TenantUid
    blob_id: str
    generation: int
    key: BlobKey
    store: str
    compression: Compression
    manifest: Manifest
    sha256: bytes  # of the blob
    sealed_sha256: bytes  # of its bodies, one after the other
    created_at: datetime
    created_by: str
    content_type: str = ""
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    access: BlobAccess = ANYBODY
    expires_at: datetime | None = None
    legal_hold: bool = False
    revision: int = 0

    def name(self, tenant: TenantName) -> BlobName:
        """Return the resource name."""
        return BlobName(tenant.tenant, self.blob_id)

    @property
    def size(self) -> int:
        """The length in bytes."""
        return size_of(self.manifest)

    @property
    def sealed_size(self) -> int:
        """The length of all bodies in bytes."""
        return sealed_size_of(self.manifest)

    @property
    def etag(self) -> str:
        """Changes with every change."""
        return f"{self.uid.hex[:8]}-{self.revision}"

    def expired(self, now: datetime) -> bool:
        """Whether nobody reads it any more."""
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class BlobUpload:
    """A blob that is not whole yet: what of it is durable, under the key that it will have."""

    uid: UUID
    tenant: TenantUid
    blob_id: str
    blob: BlobUid
    key: BlobKey
    store: str
    request: bytes  # SHA-256 of what the first message said
    manifest: Manifest
    created_at: datetime
    created_by: str
    revision: int = 0

    @property
    def committed(self) -> int:
        """How many bytes of the blob are durable."""
        return size_of(self.manifest)

    def with_segment(self, segment: Segment) -> BlobUpload:
        """Return it with one more durable segment."""
        return replace(self, manifest=(*self.manifest, segment))


@dataclass(frozen=True, slots=True)
class BlobUse:
    """How often a blob was read, and when last."""

    count: int = 0
    last_at: datetime | None = None


NEVER: Final = BlobUse()


def binding_of(tenant: TenantUid, blob: UUID, generation: int, kek: tuple[KekUid, int, WrapMechanism]) -> bytes:
    """Return B of FORMATS section 5 for a blob's key: the blob's uid stands for the key's, its generation for the version."""
    return bound_bytes(tenant, blob, generation, (_PURPOSE, _SUITE, _LEVEL), kek, KEY_LENGTH)


def sealed_for(tenant: TenantUid, blob: UUID, generation: int) -> bytes:
    """Return what a blob's key is sealed with: B without the KEK, under a label of its own."""
    return _SEAL_LABEL + _SEALED_FOR.pack(tenant.bytes, blob.bytes, generation, _PURPOSE, _SUITE, _LEVEL)


def segment_context(context: Context, blob: UUID, generation: int, segment: int) -> Context:
    """Return the context of a segment: the caller's, and which segment it is."""
    return context.with_own(
        ("kms.blob", str(blob).encode()),
        ("kms.generation", str(generation).encode()),
        ("kms.segment", str(segment).encode()),
    )


def segment_header(blob: UUID, generation: int, salt: bytes, compression: Compression) -> StreamHeader:
    """Return the header of a segment's stream."""
    return StreamHeader(KeyUid(blob), generation, salt, CHUNK_BITS, compressed=compression is Compression.ZSTD)


def check_header(found: StreamHeader, wanted: StreamHeader) -> None:
    """Compare the header in a body with what the record says.

    Raises:
        CorruptRecord: it is of something else.
    """
    if found != wanted:
        raise CorruptRecord("the body of a blob is of another one")


def check_purposes(purposes: Sequence[str], where: str) -> frozenset[str]:
    """Check the purposes of an access policy, or that of a request.

    Raises:
        InvalidRequest: too many, or one breaks its rule.
    """
    if len(purposes) > MOST_LISTED:
        raise invalid(where, f"must have at most {MOST_LISTED} entries")
    for purpose in purposes:
        if _PURPOSE_RULE.fullmatch(purpose) is None:
            raise invalid(where, f"must match {_PURPOSE_RULE.pattern}")
    return frozenset(purposes)
