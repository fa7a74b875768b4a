"""AES-GCM through PKCS#11, with an IV chosen here or, where the module insists, by the module.

Source: SP 800-38D; PKCS#11 v3.0, section 2.11.3 (CK_GCM_PARAMS). Some modules refuse an IV from outside: they want a
buffer of zeros and write their own into it.
"""

from __future__ import annotations

import ctypes
import secrets
from enum import StrEnum
from typing import Any, Final

import pkcs11

IV_LENGTH: Final = 12  # bytes
TAG_LENGTH: Final = 16


class IvSource(StrEnum):
    """Who chooses the IV; in the order in which they are tried."""

    CALLER = "caller"
    MODULE = "module"


class IvRefused(pkcs11.PKCS11Error):
    """The module was to choose an IV and has left the zeros."""


class _GcmParams(ctypes.Structure):
    _fields_ = (
        ("pIv", ctypes.c_void_p),
        ("ulIvLen", ctypes.c_ulong),
        ("ulIvBits", ctypes.c_ulong),
        ("pAAD", ctypes.c_char_p),
        ("ulAADLen", ctypes.c_ulong),
        ("ulTagBits", ctypes.c_ulong),
    )


def gcm_encrypt(key: Any, plaintext: bytes, aad: bytes, source: IvSource) -> tuple[bytes, bytes]:
    """Encrypt; returns the IV (12 bytes) and the ciphertext with its tag (16 bytes).

    Raises:
        PKCS11Error: the module's refusal.
    """
    if source is IvSource.CALLER:
        iv = secrets.token_bytes(IV_LENGTH)
        param = pkcs11.GCMParams(iv, aad, TAG_LENGTH * 8)
        return iv, key.encrypt(plaintext, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=param)
    buffer = ctypes.create_string_buffer(IV_LENGTH)
    raw = _GcmParams(ctypes.addressof(buffer), IV_LENGTH, IV_LENGTH * 8, aad, len(aad), TAG_LENGTH * 8)
    body = key.encrypt(plaintext, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=bytes(raw))
    if not any(buffer.raw):
        raise IvRefused
    return buffer.raw, body


def gcm_decrypt(key: Any, iv: bytes, body: bytes, aad: bytes) -> bytes:
    """Undo gcm_encrypt().

    Raises:
        PKCS11Error: the module's refusal; which one it is for a wrong tag differs between modules.
    """
    param = pkcs11.GCMParams(iv, aad, TAG_LENGTH * 8)
    plaintext: bytes = key.decrypt(body, mechanism=pkcs11.Mechanism.AES_GCM, mechanism_param=param)
    return plaintext
