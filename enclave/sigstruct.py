"""The structure that says whose an enclave is, after SGX's SIGSTRUCT; 1,808 bytes, little endian.

    0     header (128): "SIMULATED" padded to 12 | type u32 | vendor u32 | date u32, yyyymmdd
                        | "kmsd sigstruct" padded to 16 | zero
    128   modulus (384) | exponent u32 = 3 | signature (384)
    900   body (128): MISCSELECT u32 | mask u32 | zero (4) | ISVFAMILYID (16) | ATTRIBUTES (16) | mask (16)
                      | ENCLAVEHASH (32) | zero (16) | ISVEXTPRODID (16) | ISVPRODID u16 | ISVSVN u16
    1028  zero (780), where SGX has reserved bytes and two aids to arithmetic

The signature is RSA-3072, PKCS #1 v1.5 with SHA-256, over header and body; MRSIGNER is SHA-256 of the modulus. No
processor takes this structure for its own: the header is not Intel's.

Source: intel/linux-sgx common/inc/internal/arch.h; Intel SDM vol. 3D, EINIT.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature as SignatureDoesNotVerify
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .errors import InvalidParameter, InvalidSignature
from .identity import INIT, Identity

LENGTH: Final = 1808
KEY_BITS: Final = 3072
EXPONENT: Final = 3
_HEADER: Final = struct.Struct("<12sIII16s88s")
_BODY: Final = struct.Struct("<II4s16sQQQQ32s16s16sHH")
_MODULUS: Final = slice(128, 512)
_EXPONENT: Final = slice(512, 516)
_SIGNATURE: Final = slice(516, 900)
_BODY_AT: Final = slice(900, 1028)
_MAGIC: Final = b"SIMULATED".ljust(12, b"\0")
_SECOND_MAGIC: Final = b"kmsd sigstruct".ljust(16, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What a signer says of one enclave; lengths in bytes, numbers unsigned."""

    mrenclave: bytes  # 32
    isv_prod_id: int  # 16 bits
    isv_svn: int  # 16 bits
    date: int  # yyyymmdd
    flags: int  # 64 bits, of those in the mask
    flags_mask: int  # 64 bits: which flags must be as here
    xfrm: int = 0  # 64 bits
    xfrm_mask: int = 0
    misc_select: int = 0  # 32 bits
    misc_mask: int = 0xFFFFFFFF
    isv_family_id: bytes = bytes(16)
    isv_ext_prod_id: bytes = bytes(16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What whoever starts the enclave chooses, within what the signer allows."""

    cpu_svn: bytes  # 16: of the platform
    flags: int  # 64 bits; INIT is set by the start
    xfrm: int = 0
    misc_select: int = 0
    config_id: bytes = bytes(64)
    config_svn: int = 0


def sign(release: Release, key: rsa.RSAPrivateKey) -> bytes:
    """Return the signed structure, 1,808 bytes.

    Raises:
        InvalidParameter: a key other than RSA-3072 with exponent 3, or a field that does not fit.
    """
    public = key.public_key().public_numbers()
    if key.key_size != KEY_BITS or public.e != EXPONENT:
        raise InvalidParameter("signing key: RSA of 3,072 bits with exponent 3")
    lengths = (len(release.mrenclave), len(release.isv_family_id), len(release.isv_ext_prod_id))
    if lengths != (32, 16, 16):
        raise InvalidParameter("release: mrenclave has 32 bytes, isv_family_id and isv_ext_prod_id 16")
    try:
        header = _HEADER.pack(_MAGIC, 0, 0, release.date, _SECOND_MAGIC, bytes(88))
        body = _BODY.pack(
            release.misc_select,
            release.misc_mask,
            bytes(4),
            release.isv_family_id,
            release.flags,
            release.xfrm,
            release.flags_mask,
            release.xfrm_mask,
            release.mrenclave,
            bytes(16),
            release.isv_ext_prod_id,
            release.isv_prod_id,
            release.isv_svn,
        )
    except struct.error as error:
        raise InvalidParameter("release: a number does not fit its field") from error
    signature = key.sign(header + body, padding.PKCS1v15(), hashes.SHA256())
    signed = header + public.n.to_bytes(384, "little") + EXPONENT.to_bytes(4, "little") + signature[::-1] + body
    return signed.ljust(LENGTH, b"\0")


def start(data: bytes, mrenclave: bytes, chosen: Start) -> Identity:
    """Return the identity with which the measured enclave runs, as EINIT decides it.

    Args:
        data: the signed structure.
        mrenclave: what has been measured, 32 bytes.
        chosen: what whoever starts it has chosen.

    Raises:
        InvalidSignature: the structure is not signed, is of another enclave, or does not allow what was chosen.
        InvalidIdentity: a chosen field has another length or range.
    """
    release, signer = verified(data)
    if release.mrenclave != mrenclave:
        raise InvalidSignature("ENCLAVEHASH: the structure was signed for other code")
    if chosen.flags & INIT:
        raise InvalidSignature("ATTRIBUTES: INIT is set by the start alone")
    if (chosen.flags ^ release.flags) & release.flags_mask or (chosen.xfrm ^ release.xfrm) & release.xfrm_mask:
        raise InvalidSignature("ATTRIBUTES: not what the signer allows")
    if (chosen.misc_select ^ release.misc_select) & release.misc_mask:
        raise InvalidSignature("MISCSELECT: not what the signer allows")
    return Identity(
        mrenclave=mrenclave,
        mrsigner=signer,
        isv_prod_id=release.isv_prod_id,
        isv_svn=release.isv_svn,
        cpu_svn=chosen.cpu_svn,
        flags=chosen.flags | INIT,
        xfrm=chosen.xfrm,
        misc_select=chosen.misc_select,
        config_id=chosen.config_id,
        config_svn=chosen.config_svn,
        isv_family_id=release.isv_family_id,
        isv_ext_prod_id=release.isv_ext_prod_id,
    )


def mrsigner(key: rsa.RSAPublicKey) -> bytes:
    """Return MRSIGNER of a signer's key: SHA-256 of its modulus, 32 bytes."""
    return hashlib.sha256(key.public_numbers().n.to_bytes(KEY_BITS // 8, "little")).digest()


def verified(data: bytes) -> tuple[Release, bytes]:
    """Return what is signed and MRSIGNER, 32 bytes.

    Raises:
        InvalidSignature: it is no signed structure, or its signature does not verify.
    """
    if len(data) != LENGTH or any(data[_BODY_AT.stop :]):
        raise InvalidSignature("signature structure: has 1,808 bytes, the last 780 zero")
    magic, kind, vendor, date, second, zeros = _HEADER.unpack_from(data)
    if magic != _MAGIC or second != _SECOND_MAGIC or kind or vendor or any(zeros):
        raise InvalidSignature("signature structure: is not one of this format")
    modulus = int.from_bytes(data[_MODULUS], "little")
    if modulus.bit_length() != KEY_BITS or int.from_bytes(data[_EXPONENT], "little") != EXPONENT:
        raise InvalidSignature("signature structure: the key is RSA of 3,072 bits with exponent 3")
    try:
        key = rsa.RSAPublicNumbers(EXPONENT, modulus).public_key()
        key.verify(data[_SIGNATURE][::-1], data[:128] + data[_BODY_AT], padding.PKCS1v15(), hashes.SHA256())
    except (SignatureDoesNotVerify, ValueError):
        raise InvalidSignature("signature structure: the signature does not verify") from None
    misc, misc_mask, gap, family, flags, xfrm, flags_mask, xfrm_mask, code, gap_2, ext, product, svn = _BODY.unpack(
        data[_BODY_AT]
    )
    if any(gap) or any(gap_2):
        raise InvalidSignature("signature structure: reserved bytes are zero")
    release = Release(
        mrenclave=code,
        isv_prod_id=product,
        isv_svn=svn,
        date=date,
        flags=flags,
        flags_mask=flags_mask,
        xfrm=xfrm,
        xfrm_mask=xfrm_mask,
        misc_select=misc,
        misc_mask=misc_mask,
        isv_family_id=family,
        isv_ext_prod_id=ext,
    )
    return release, hashlib.sha256(data[_MODULUS]).digest()
