"""The header that every ciphertext begins with, and the text form: FORMATS section 2.

header (22) = format 0x01 | suite u8 | key id, UUIDv4 (16) | key version u32, >= 1
"""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from .errors import invalid
from .names import KeyUid
from .suites import CIPHERS, MAX_PLAINTEXT, RULES, Suite

FORMAT: Final = 0x01
HEADER_LENGTH: Final = 22  # bytes
TEXT_PREFIX: Final = "kms:1:"

_HEADER = struct.Struct(">BB16sI")
_SUITES = {int(suite): suite for suite in CIPHERS}
MAX_VERSION: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Header:
    """Which DEK a ciphertext needs: suite, key and version."""

    suite: Suite
    key: KeyUid
    version: int

    def encode(self) -> bytes:
        """Return the 22 bytes."""
        return _HEADER.pack(FORMAT, self.suite, self.key.bytes, self.version)

    @classmethod
    def parse(cls, data: bytes, field: str = "ciphertext") -> Self:
        """Read the header and check that the whole has a possible length; nothing is decrypted.

        Raises:
            InvalidRequest: too short or too long, another format, an unknown suite, no UUIDv4, version 0.
        """
        header = cls.read(data, field)
        header.check_length(len(data), field)
        return header

    @classmethod
    def read(cls, data: bytes, field: str = "ciphertext") -> Self:
        """Read the first 22 bytes, which are all that is looked at.

        Raises:
            InvalidRequest: too short, another format, an unknown suite, no UUIDv4, version 0.
        """
        if len(data) < HEADER_LENGTH:
            raise invalid(field, f"must have at least {HEADER_LENGTH} bytes, has {len(data)}")
        form, number, key, version = _HEADER.unpack_from(data)
        if form != FORMAT:
            raise invalid(field, f"byte 0 (format) must be {FORMAT}")
        suite = _SUITES.get(number)
        if suite is None:
            raise invalid(field, "byte 1 (suite) must be one of " + ", ".join(map(str, _SUITES)))
        uid = UUID(bytes=key)
        if uid.version != 4:  # RFC 9562, section 5.4
            raise invalid(field, "bytes 2 to 17 (key id) must be a UUIDv4")
        if version == 0:
            raise invalid(field, "bytes 18 to 21 (key version) must be 1 or more")
        return cls(suite, KeyUid(uid), version)

    def check_length(self, length: int, field: str = "ciphertext") -> None:
        """Check that a ciphertext with this header can have *length* bytes.

        Raises:
            InvalidRequest: too short for nonce and tag, or longer than the largest plaintext allows.
        """
        least = HEADER_LENGTH + (RULES[self.suite].overhead or 0)
        if length < least:
            raise invalid(field, f"must have at least {least} bytes, has {length}")
        if length > least + MAX_PLAINTEXT:
            raise invalid(field, f"must hold at most {MAX_PLAINTEXT} bytes of plaintext")


def to_text(ciphertext: bytes) -> str:
    """Return the text form: `kms:1:` and base64url without padding."""
    return TEXT_PREFIX + base64.urlsafe_b64encode(ciphertext).rstrip(b"=").decode("ascii")


def from_text(text: str, field: str = "ciphertext") -> bytes:
    """Read the text form.

    Raises:
        InvalidRequest: another prefix, or base64url that does not encode back to the same characters.
    """
    body = text.removeprefix(TEXT_PREFIX)
    try:
        raw = body.encode("ascii")
        data = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        data = b""
    if len(body) == len(text) or to_text(data) != text:
        raise invalid(field, f"must be {TEXT_PREFIX} and canonical base64url without padding")
    return data
