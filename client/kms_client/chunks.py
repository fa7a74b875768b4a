"""Sealing and opening the chunks of a stream with AES-256-GCM: FORMATS section 4.

key (32) || commitment (32) = HKDF-SHA-256(IKM = data key, salt, info = label || header[0:58] || SHA-256(context), 64)
Chunk nonce = counter (11 bytes) || 00, or 01 for the last; no associated data.
"""

from __future__ import annotations

import hmac
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .formats.context import Context
from .formats.errors import CannotDecrypt, invalid
from .formats.names import KeyUid
from .formats.stream import (
    COMMITMENT_LENGTH,
    KEY_LENGTH,
    SALT_LENGTH,
    TAG_LENGTH,
    StreamHeader,
    check_chunk_bits,
    nonce,
)

_AES_KEY_LENGTH: Final = 32  # bytes


def _derive(data_key: bytes, header: StreamHeader, context: Context) -> tuple[AESGCM, bytes]:
    if len(data_key) != KEY_LENGTH:
        raise invalid("data key", f"must have {KEY_LENGTH} bytes, has {len(data_key)}")
    length = _AES_KEY_LENGTH + COMMITMENT_LENGTH
    derived = HKDF(SHA256(), length, header.salt, header.info(context)).derive(data_key)
    return AESGCM(derived[:_AES_KEY_LENGTH]), derived[_AES_KEY_LENGTH:]


class Sealer:
    """Seals the chunks of one stream, each once: the salt is fresh, and the numbers are counted here."""

    def __init__(self, data_key: bytes, key: KeyUid, version: int, context: Context, chunk_bits: int) -> None:
        header = StreamHeader(key, version, os.urandom(SALT_LENGTH), check_chunk_bits(chunk_bits, "chunk_bits"))
        self._cipher, commitment = _derive(data_key, header, context)
        self._counter = 0
        self._ended = False
        self.chunk_length = header.chunk_length
        self.head = header.encode() + commitment

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def seal(self, plain: bytes, last: bool) -> bytes:
        """Seal the next chunk, which is full unless it is the last, and empty only if it is the only one.

        Raises:
            InvalidRequest: the chunk has another length, the stream has ended, or it has too many chunks.
        """
        full = len(plain) == self.chunk_length
        short = last and len(plain) < self.chunk_length and (len(plain) > 0 or self._counter == 0)
        if self._ended or not (full or short):
            raise invalid("stream", "must have full chunks but the last, and none after it")
        sealed = self._cipher.encrypt(nonce(self._counter, last), plain, None)
        self._counter += 1
        self._ended = last
        return sealed


class Opener:
    """Opens the chunks of one stream, in any order; made only if the data key is the one that the stream commits to."""

    def __init__(self, data_key: bytes, header: StreamHeader, commitment: bytes, context: Context) -> None:
        """Derive the stream's key and compare the commitment.

        Raises:
            CannotDecrypt: the commitment is another: another data key, context or header.
        """
        self._cipher, expected = _derive(data_key, header, context)
        if not hmac.compare_digest(expected, commitment):
            raise CannotDecrypt("the stream is not of this data key and context, or its header is altered")
        self.chunk_bits = header.chunk_bits
        self.chunk_length = header.chunk_length
        self.sealed_length = header.chunk_length + TAG_LENGTH

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def open(self, counter: int, sealed: bytes, last: bool) -> bytes:
        """Return the plaintext of the chunk with this number, from 0 on.

        Raises:
            CannotDecrypt: altered, of another place or stream, or not (or wrongly) the last.
            InvalidRequest: a stream has no chunk with this number.
        """
        # The last chunk is empty only where it is the only one, so that a stream has one form.
        whole = len(sealed) == self.sealed_length
        short = last and TAG_LENGTH + (counter > 0) <= len(sealed) < self.sealed_length
        if whole or short:
            try:
                return self._cipher.decrypt(nonce(counter, last), sealed, None)
            except InvalidTag:
                pass
        raise CannotDecrypt(f"chunk {counter} does not decrypt: the stream is altered, cut off or put together anew")
