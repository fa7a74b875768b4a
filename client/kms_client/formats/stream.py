"""The stream: a header and chunks that open in their order and as a whole only: FORMATS section 4.

header (90) = format 0x01 | suite 0x10 | key id, UUIDv4 (16) | key version u32, >= 1
            | salt (32) | log2 chunk u8 (12..22) | flags u8 | 0x0000 | commitment (32)

The lengths and the bytes that go into the derivation and into nonces are here; the cipher is not.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from .ciphertext import FORMAT
from .context import Context
from .errors import NotSupported, invalid
from .names import KeyUid

SUITE: Final = 0x10
KEY_LENGTH: Final = 32  # bytes of the key that a stream's keys are derived from
HEADER_LENGTH: Final = 90  # bytes
SALT_LENGTH: Final = 32  # bytes
COMMITMENT_LENGTH: Final = 32  # bytes
TAG_LENGTH: Final = 16  # bytes that a sealed chunk has beyond its plaintext
LEAST_CHUNK_BITS: Final = 12
MOST_CHUNK_BITS: Final = 22
CHUNK_BITS: Final = 16  # 64 KiB
MAX_CHUNKS: Final = 2**32

_COMMON = struct.Struct(">BB16sI32sBBH")  # what the derivation covers: all but the commitment
_COMPRESSED: Final = 0x01  # the flag: zstd
_LABEL: Final = b"kms/v1/suite-10\0"


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """Under which key version a stream was made, its salt (32 bytes), and log2 of the length of its chunks in bytes.

    *compressed*: what the chunks hold is frames of zstd (RFC 8878).
    """

    key: KeyUid
    version: int
    salt: bytes
    chunk_bits: int = CHUNK_BITS
    compressed: bool = False

    @property
    def chunk_length(self) -> int:
        """How many bytes of plaintext all chunks but the last have."""
        return 1 << self.chunk_bits

    def encode(self) -> bytes:
        """Return the first 58 bytes; the commitment follows."""
        flags = _COMPRESSED if self.compressed else 0
        return _COMMON.pack(FORMAT, SUITE, self.key.bytes, self.version, self.salt, self.chunk_bits, flags, 0)

    def info(self, context: Context) -> bytes:
        """Return what HKDF takes as `info`: label, the first 58 bytes, and the SHA-256 of the context."""
        return _LABEL + self.encode() + context.digest()

    @classmethod
    def parse(cls, data: bytes, field: str = "stream", *, compressed: bool = False) -> tuple[Self, bytes]:
        """Read 90 bytes; returns the header and the commitment (32 bytes), which proves nothing before it is compared.

        *compressed*: the caller can undo that.

        Raises:
            InvalidRequest: another length, format or suite, no UUIDv4, version 0, an impossible length of chunks, or bits
                that are reserved.
            NotSupported: it is compressed.
        """
        if len(data) != HEADER_LENGTH:
            raise invalid(field, f"must have a header of {HEADER_LENGTH} bytes, has {len(data)}")
        form, suite, key, version, salt, chunk_bits, flags, reserved = _COMMON.unpack_from(data)
        if form != FORMAT:
            raise invalid(field, f"byte 0 (format) must be {FORMAT}")
        if suite != SUITE:
            raise invalid(field, f"byte 1 (suite) must be {SUITE}")
        uid = UUID(bytes=key)
        if uid.version != 4:  # RFC 9562, section 5.4
            raise invalid(field, "bytes 2 to 17 (key id) must be a UUIDv4")
        if version == 0:
            raise invalid(field, "bytes 18 to 21 (key version) must be 1 or more")
        check_chunk_bits(chunk_bits, f"{field}: byte 54 (log2 of the chunk's length)")
        if flags == _COMPRESSED and not compressed:
            raise NotSupported(f"{field}: compressed streams (zstd) are not in this release")
        if flags & ~_COMPRESSED or reserved:
            raise invalid(field, "bytes 55 to 57 (flags and reserved) must be 0")
        return cls(KeyUid(uid), version, salt, chunk_bits, flags == _COMPRESSED), data[_COMMON.size :]


def check_chunk_bits(bits: int, field: str) -> int:
    """Check log2 of the length of a chunk.

    Raises:
        InvalidRequest: it is not 12 to 22.
    """
    if not LEAST_CHUNK_BITS <= bits <= MOST_CHUNK_BITS:
        raise invalid(field, f"must be {LEAST_CHUNK_BITS} to {MOST_CHUNK_BITS}")
    return bits


def nonce(counter: int, last: bool) -> bytes:
    """Return the nonce (12 bytes) of the chunk with this number, from 0 on.

    Raises:
        InvalidRequest: a stream has no chunk with this number.
    """
    if not 0 <= counter < MAX_CHUNKS:
        raise invalid("stream", f"must have at most {MAX_CHUNKS} chunks")
    return counter.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def sealed_length(plain: int, chunk_bits: int) -> int:
    """Return the length of all sealed chunks together, for a plaintext of *plain* bytes."""
    return plain + TAG_LENGTH * max(1, -(-plain >> chunk_bits))


def plain_length(sealed: int, chunk_bits: int, field: str = "stream") -> int:
    """Return the length of the plaintext of chunks that have *sealed* bytes together.

    Raises:
        InvalidRequest: no plaintext gives that length, or there are too many chunks.
    """
    chunks = max(1, -(-sealed // ((1 << chunk_bits) + TAG_LENGTH)))
    plain = sealed - chunks * TAG_LENGTH
    if plain < 0 or sealed_length(plain, chunk_bits) != sealed:
        raise invalid(field, f"is cut off: no stream has {sealed} bytes after its header")
    if chunks > MAX_CHUNKS:
        raise invalid(field, f"must have at most {MAX_CHUNKS} chunks")
    return plain
