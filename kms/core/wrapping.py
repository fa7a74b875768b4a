r"""Wrapped DEKs and what they are bound to: FORMATS section 5.

blob = 0x01 | mechanism u8 | KEK id (16) | KEK version u32 | iv length u8 | iv | ct | tag

A DEK of level ENCLAVE is wrapped as the enclave has sealed it (FORMATS section 9); the DEK length in its binding is that
of the DEK itself. The seal has associated data of its own, the same place without the KEK:

S = "kms/v1/dek-seal\0" || tenant (16) || key (16) || version u32 || purpose u8 || suite u8 || level u8
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self
from uuid import UUID

from .errors import CorruptRecord
from .names import KekUid, KeyUid, TenantUid
from .suites import ProtectionLevel, Purpose, Suite

FORMAT: Final = 0x01
WRAP_LABEL: Final = b"kms/v1/dek-wrap\0"
SEAL_LABEL: Final = b"kms/v1/dek-seal\0"
KW_BIND_LABEL: Final = b"kms/v1/kw-bind\0"

_BINDING = struct.Struct(">16s16sIBBB16sIBH")
_PLACE = struct.Struct(">16s16sIBBB")
_BLOB = struct.Struct(">BB16sIB")


class WrapMechanism(IntEnum):
    """How a KEK version wraps; fixed when it is made, since its attributes in the token allow nothing else."""

    AES_GCM = 1
    AES_KW = 2


@dataclass(frozen=True, slots=True)
class DekPlace:
    """Where a DEK belongs: the part of the binding that does not depend on the KEK."""

    tenant: TenantUid
    key: KeyUid
    version: int
    purpose: Purpose
    suite: Suite
    level: ProtectionLevel


def binding(place: DekPlace, kek: KekUid, kek_version: int, mechanism: WrapMechanism, dek_length: int) -> bytes:
    """Return B, the associated data of a wrap: 16 + 62 bytes."""
    kind = (place.purpose, place.suite, place.level)
    return bound_bytes(place.tenant, place.key, place.version, kind, (kek, kek_version, mechanism), dek_length)


def bound_bytes(
    tenant: TenantUid,
    key: UUID,
    version: int,
    kind: tuple[int, int, int],
    kek: tuple[KekUid, int, WrapMechanism],
    length: int,
) -> bytes:
    """Return B by its numbers: *kind* is purpose, suite and level; *kek* is uid, version and mechanism; *length* in bytes."""
    return WRAP_LABEL + _BINDING.pack(tenant.bytes, key.bytes, version, *kind, kek[0].bytes, *kek[1:], length)


def seal_binding(place: DekPlace) -> bytes:
    """Return S, the associated data of a DEK's seal: 16 + 39 bytes, which stay the same when the KEK is rotated."""
    return SEAL_LABEL + _PLACE.pack(
        place.tenant.bytes, place.key.bytes, place.version, place.purpose, place.suite, place.level
    )


def kw_bind_input(bound: bytes, wrapped: bytes) -> bytes:
    """Return what the bind key signs for mechanism 2: label, B, u16 length of the wrapped key, wrapped key."""
    return b"".join((KW_BIND_LABEL, bound, len(wrapped).to_bytes(2, "big"), wrapped))


@dataclass(frozen=True, slots=True)
class WrappedDek:
    """A wrapped DEK as it is stored; *body* is ciphertext and tag."""

    mechanism: WrapMechanism
    kek: KekUid
    kek_version: int
    iv: bytes
    body: bytes

    def encode(self) -> bytes:
        """Return the blob."""
        head = _BLOB.pack(FORMAT, self.mechanism, self.kek.bytes, self.kek_version, len(self.iv))
        return head + self.iv + self.body

    @classmethod
    def parse(cls, blob: bytes) -> Self:
        """Read a stored blob.

        Raises:
            CorruptRecord: it is not one.
        """
        try:
            form, mechanism, kek, version, iv_length = _BLOB.unpack_from(blob)
            iv, body = blob[_BLOB.size : _BLOB.size + iv_length], blob[_BLOB.size + iv_length :]
            if form != FORMAT or version == 0 or len(iv) != iv_length or len(body) < 16:
                raise CorruptRecord("a wrapped DEK has another format")
            return cls(WrapMechanism(mechanism), KekUid(UUID(bytes=kek)), version, iv, body)
        except (struct.error, ValueError) as error:
            raise CorruptRecord("a wrapped DEK has another format") from error
