r"""Sealing: data under a key that only the right enclave gets; the blob says SIMULATED.

    blob   = header (556) | ciphertext | tag (16)
    header = "SIMULATED SGX\0\0\0" (16) | version u16 = 1 | 0x0000 | KEYREQUEST (512)
             | length of the data u32 | length of the associated data u32 | zero (16)
    AES-256-GCM, nonce of 12 zero bytes, AAD = header | associated data

Integers of the header are big endian; KEYREQUEST is little endian, as SGX has it. The zero nonce is sound because each
seal has a key of its own, from a fresh random KEYID of 32 bytes; there is no way to choose it from outside. Unlike
sgx_seal_data, the whole header is authenticated, and the associated data are not in the blob.

Source: intel/linux-sgx sgx_tseal.h and sdk/tseal; NIST SP 800-38D.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .domains import MAX_BOUND
from .errors import EnclaveError, InvalidCpuSvn, InvalidIsvSvn, InvalidKeyName, InvalidParameter, MacMismatch
from .identity import DEBUG, INIT, Identity
from .interface import MAX_ASSOCIATED_DATA, MAX_SEALED, Policy
from .sgx_keys import (
    KEY_ID_LENGTH,
    KEY_REQUEST_LENGTH,
    KeyName,
    KeyPolicy,
    KeyRequest,
    Platform,
    egetkey,
    parse_key_request,
)

LABEL: Final = b"SIMULATED SGX\0\0\0"
VERSION: Final = 1
TAG_LENGTH: Final = 16
_HEADER: Final = struct.Struct(f">16sHH{KEY_REQUEST_LENGTH}sII16s")
HEADER_LENGTH: Final = _HEADER.size
_NONCE: Final = bytes(12)

# The masks of sgx_seal_data: attributes that are declared free of security meaning stay out of the key.
DEFAULT_FLAGS_MASK: Final = 0xFF0000000000000B
DEFAULT_XFRM_MASK: Final = 0
DEFAULT_MISC_MASK: Final = 0xF0000000

_BITS: Final = MappingProxyType(
    {
        Policy.MRENCLAVE: KeyPolicy.MRENCLAVE,
        Policy.MRSIGNER: KeyPolicy.MRSIGNER,
        Policy.HYBRID: KeyPolicy.MRENCLAVE | KeyPolicy.MRSIGNER,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealOptions:
    """What sgx_seal_data_ex lets its caller choose."""

    policy: KeyPolicy
    flags_mask: int = DEFAULT_FLAGS_MASK
    xfrm_mask: int = DEFAULT_XFRM_MASK
    misc_mask: int = DEFAULT_MISC_MASK
    isv_svn: int | None = None  # the sealer's own unless said, never above it


def options_for(policy: Policy) -> SealOptions:
    """Return the options that *policy* stands for."""
    return SealOptions(policy=_BITS[policy])


def seal(
    platform: Platform, identity: Identity, options: SealOptions, data: bytes | bytearray, associated_data: bytes
) -> bytes:
    """Return a blob; data of 1 to 65,536 bytes, associated data (domains.py has them) of at most 16,400.

    Raises:
        InvalidParameter: a length, no identity in the policy, or masks without INIT and DEBUG.
        InvalidIsvSvn: a security version above the sealer's own was asked for.
    """
    if not 1 <= len(data) <= MAX_SEALED:
        raise InvalidParameter(f"data: 1 to {MAX_SEALED} bytes are sealed")
    if len(associated_data) > MAX_BOUND:
        raise InvalidParameter(f"associated data: at most {MAX_ASSOCIATED_DATA} bytes")
    if not options.policy & (KeyPolicy.MRENCLAVE | KeyPolicy.MRSIGNER):
        # EGETKEY itself would give every enclave with this product id and these versions the same key.
        raise InvalidParameter("policy: names MRENCLAVE, MRSIGNER or both")
    if options.flags_mask & (INIT | DEBUG) != INIT | DEBUG:
        raise InvalidParameter("flags_mask: covers INIT and DEBUG")
    request = KeyRequest(
        key_name=KeyName.SEAL,
        policy=options.policy,
        isv_svn=identity.isv_svn if options.isv_svn is None else options.isv_svn,
        cpu_svn=identity.cpu_svn,
        flags_mask=options.flags_mask,
        xfrm_mask=options.xfrm_mask,
        key_id=os.urandom(KEY_ID_LENGTH),
        misc_mask=options.misc_mask,
        config_svn=identity.config_svn,
    )
    header = _HEADER.pack(LABEL, VERSION, 0, request.encode(), len(data), len(associated_data), bytes(16))
    key = egetkey(platform, identity, request)
    return header + AESGCM(key).encrypt(_NONCE, data, header + associated_data)


def unseal(platform: Platform, identity: Identity, blob: bytes, associated_data: bytes) -> bytes:
    """Undo seal().

    Raises:
        InvalidCpuSvn: sealed on a platform newer than this one.
        InvalidIsvSvn: sealed by a newer version of the enclave or its configuration.
        MacMismatch: anything else; which part is wrong is not told.
    """
    header = blob[:HEADER_LENGTH]
    try:
        request = parse_header(blob, associated_data)
        key = egetkey(platform, identity, request)
    except (InvalidCpuSvn, InvalidIsvSvn):
        raise
    except EnclaveError as error:
        raise MacMismatch("the blob does not open in this enclave") from error
    try:
        return AESGCM(key).decrypt(_NONCE, blob[HEADER_LENGTH:], header + associated_data)
    except InvalidTag:
        raise MacMismatch("the blob does not open in this enclave") from None


def parse_header(blob: bytes, associated_data: bytes) -> KeyRequest:
    """Return the request of a blob, checked in all that needs no key.

    Raises:
        InvalidParameter: no blob of this format, or lengths that do not agree.
    """
    if len(blob) < HEADER_LENGTH + TAG_LENGTH:
        raise InvalidParameter("blob: too short")
    label, version, zero, request, length, associated_length, reserved = _HEADER.unpack_from(blob)
    if label != LABEL or version != VERSION:
        raise InvalidParameter("blob: no sealed blob of this format")
    if zero or any(reserved):
        raise InvalidParameter("blob: reserved bytes are zero")
    if not 1 <= length <= MAX_SEALED or len(blob) != HEADER_LENGTH + length + TAG_LENGTH:
        raise InvalidParameter("blob: its length is not what its header says")
    if associated_length != len(associated_data) or associated_length > MAX_BOUND:
        raise InvalidParameter("associated data: not of the length that was sealed")
    parsed = parse_key_request(request)
    if parsed.key_name != KeyName.SEAL:
        raise InvalidKeyName("blob: is sealed under SEAL_KEY alone")
    if (
        not parsed.policy & (KeyPolicy.MRENCLAVE | KeyPolicy.MRSIGNER)
        or parsed.flags_mask & (INIT | DEBUG) != INIT | DEBUG
    ):
        raise InvalidParameter("blob: its policy is none that seals")
    return parsed
