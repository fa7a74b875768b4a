"""Subkeys of XAES-256-GCM: a nonce of 24 bytes is a prefix, which derives an AES-256-GCM key, and that key's nonce.

Source: C2SP XAES-256-GCM; the derivation is the counter KDF of SP 800-108r1, section 4.1, over AES-CMAC
(SP 800-38B), whose every input is one full block.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .dek import Dek

NONCE_LENGTH: Final = 24  # bytes
PREFIX_LENGTH: Final = 12  # bytes: the part of the nonce that derives the subkey
# With 2^20 random suffixes of 96 bits under one subkey, two are equal with a chance of 2^-57.
MESSAGES_PER_PREFIX: Final = 2**20
# A column written by many processes has many prefixes; one that is not kept costs a derivation, about 4 us.
SUBKEYS_KEPT: Final = 64

_BLOCK: Final = 16  # bytes
_MESSAGES: Final = (b"\x00\x01X\x00", b"\x00\x02X\x00")  # counter u16 | label "X" | 0x00; the prefix follows


class Subkeys:
    """Derives the subkey of a prefix; the work that does not depend on the prefix is done once."""

    def __init__(self, dek: Dek) -> None:
        # One block at a time, each under a fresh mask: ECB is the bare block cipher here, not a mode for data.
        self._aes = Cipher(algorithms.AES256(dek.expose_secret_dek_material()), modes.ECB())  # noqa: S305
        doubled = int.from_bytes(self._encrypt(bytes(_BLOCK)), "big") << 1
        if doubled >> 128:
            doubled ^= (1 << 128) | 0b10000111
        self._k1 = doubled  # SP 800-38B, section 6.1

    def derive(self, prefix: bytes) -> bytes:
        """Return the 32 bytes of the key for a prefix of 12 bytes."""
        masked = (int.from_bytes(message + prefix, "big") ^ self._k1 for message in _MESSAGES)
        return self._encrypt(b"".join(block.to_bytes(_BLOCK, "big") for block in masked))

    def _encrypt(self, blocks: bytes) -> bytes:
        encryptor = self._aes.encryptor()
        return encryptor.update(blocks) + encryptor.finalize()


class SubkeyCache:
    """The AES-256-GCM objects of the prefixes used last."""

    def __init__(self, dek: Dek) -> None:
        derive = Subkeys(dek).derive

        def make(prefix: bytes) -> AESGCM:
            return AESGCM(derive(prefix))

        self._find = lru_cache(maxsize=SUBKEYS_KEPT)(make)

    def find(self, prefix: bytes) -> AESGCM:
        """Return the object of a prefix.

        Raises:
            ValueError: the prefix has not 12 bytes.
        """
        if len(prefix) != PREFIX_LENGTH:
            raise ValueError(f"a prefix has {PREFIX_LENGTH} bytes")
        return self._find(prefix)


class SubkeyLease:
    """The prefix that this process encrypts with; it is made at the start and changed after 2^20 messages."""

    def __init__(self, subkeys: SubkeyCache) -> None:
        self._subkeys = subkeys
        self._lock = threading.Lock()
        self._renew()

    def take(self, count: int) -> tuple[bytes, AESGCM]:
        """Count *count* messages and return the prefix and the object to encrypt them with.

        Raises:
            ValueError: more than 2^20 at once.
        """
        if count > MESSAGES_PER_PREFIX:
            raise ValueError(f"at most {MESSAGES_PER_PREFIX} messages have one prefix")
        with self._lock:
            if count > self._left:
                self._renew()
            self._left -= count
            return self._prefix, self._aead

    def _renew(self) -> None:
        self._prefix = os.urandom(PREFIX_LENGTH)
        self._aead = self._subkeys.find(self._prefix)
        self._left = MESSAGES_PER_PREFIX
