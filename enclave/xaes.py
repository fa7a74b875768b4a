"""XAES-256-GCM: the first half of a nonce of 24 bytes derives an AES-256-GCM key, the second is that key's nonce.

The derivation is written here a second time on purpose, since the package imports nothing of the daemon's.

Source: C2SP XAES-256-GCM; SP 800-108r1, section 4.1 over AES-CMAC (SP 800-38B), whose every input is one full block.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_LENGTH: Final = 24  # bytes
PREFIX_LENGTH: Final = 12  # bytes

_BLOCK: Final = 16  # bytes
_MESSAGES: Final = (b"\x00\x01X\x00", b"\x00\x02X\x00")  # counter u16 | label "X" | 0x00; the prefix follows


class Xaes256Gcm:
    """A cipher of one key, 32 bytes; the subkey of the last prefix is kept, since neighbours mostly share one."""

    def __init__(self, key: bytes) -> None:
        # One block at a time, each under a mask: ECB is the bare block cipher here, not a mode for data.
        self._aes = Cipher(algorithms.AES256(key), modes.ECB())  # noqa: S305
        doubled = int.from_bytes(self._blocks(bytes(_BLOCK)), "big") << 1
        if doubled >> 128:
            doubled ^= (1 << 128) | 0b10000111
        self._k1 = doubled  # SP 800-38B, section 6.1
        self._prefix = b""
        self._subkey: AESGCM | None = None

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """Return ciphertext and tag; the nonce has 24 bytes."""
        return self._of(nonce).encrypt(nonce[PREFIX_LENGTH:], data, associated_data)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """Undo encrypt().

        Raises:
            InvalidTag: it is not what encrypt() made of this nonce and associated data.
        """
        return self._of(nonce).decrypt(nonce[PREFIX_LENGTH:], data, associated_data)

    def _of(self, nonce: bytes) -> AESGCM:
        prefix = nonce[:PREFIX_LENGTH]
        if self._subkey is None or prefix != self._prefix:
            masked = (int.from_bytes(message + prefix, "big") ^ self._k1 for message in _MESSAGES)
            self._subkey = AESGCM(self._blocks(b"".join(block.to_bytes(_BLOCK, "big") for block in masked)))
            self._prefix = prefix
        return self._subkey

    def _blocks(self, blocks: bytes) -> bytes:
        encryptor = self._aes.encryptor()
        return encryptor.update(blocks) + encryptor.finalize()
