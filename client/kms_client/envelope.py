"""What stands in front of a stream in a file: which format this is, and the encrypted data key.

magic (7) = "kmsfile" | version u8 = 1 | length of the data key's ciphertext u32 | the ciphertext | stream
docs/wire-format.md, section "Encrypted file".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from .formats.ciphertext import HEADER_LENGTH as CIPHERTEXT_HEADER_LENGTH
from .formats.ciphertext import Header
from .formats.errors import NotSupported, invalid
from .formats.stream import HEADER_LENGTH, KEY_LENGTH, StreamHeader
from .formats.suites import ALLOWED, RULES, Purpose
from .pieces import Reader, read_full

MAGIC: Final = b"kmsfile"
VERSION: Final = 1
# A data key of 32 bytes under each suite that may encrypt one: 82 and 94.
WRAPPED_LENGTHS: Final = tuple(
    CIPHERTEXT_HEADER_LENGTH + (RULES[suite].overhead or 0) + KEY_LENGTH for suite in ALLOWED[Purpose.DATA_KEY]
)

_FIXED = struct.Struct(">7sBI")


def encode(wrapped: bytes) -> bytes:
    """Return what stands before the stream, for a data key's ciphertext.

    Raises:
        InvalidRequest: it is not the ciphertext of a data key of 32 bytes.
    """
    _check_wrapped(wrapped, "data key")
    return _FIXED.pack(MAGIC, VERSION, len(wrapped)) + wrapped


def _check_wrapped(wrapped: bytes, field: str) -> None:
    suite = Header.parse(wrapped, field).suite
    least = CIPHERTEXT_HEADER_LENGTH + (RULES[suite].overhead or 0)
    if suite not in ALLOWED[Purpose.DATA_KEY] or len(wrapped) != least + KEY_LENGTH:
        raise invalid(field, f"must be the ciphertext of a data key of {KEY_LENGTH} bytes")


@dataclass(frozen=True, slots=True)
class Envelope:
    """All that stands before the first chunk; the commitment (32 bytes) proves nothing before it is compared."""

    wrapped: bytes
    header: StreamHeader
    commitment: bytes

    @classmethod
    def read(cls, reader: Reader, field: str = "file") -> Self:
        """Read it from the beginning of a file, at most 196 bytes, and nothing beyond.

        Raises:
            InvalidRequest: another format, a data key of an impossible length, or an impossible header.
            NotSupported: another version of the format, or a compressed stream.
        """
        fixed = read_full(reader, _FIXED.size)
        if not fixed.startswith(MAGIC) or len(fixed) < _FIXED.size:
            raise invalid(field, f"must begin with {MAGIC.decode()}: it is not an encrypted file, or is cut off")
        _, version, length = _FIXED.unpack(fixed)
        if version != VERSION:
            raise NotSupported(f"{field}: version {version} of the format is not in this release")
        if length not in WRAPPED_LENGTHS:
            raise invalid(field, f"bytes 8 to 11 (length of the data key) must be {WRAPPED_LENGTHS}")
        wrapped = read_full(reader, length)
        _check_wrapped(wrapped, f"{field}: data key")
        header, commitment = StreamHeader.parse(read_full(reader, HEADER_LENGTH), field)
        return cls(wrapped, header, commitment)
