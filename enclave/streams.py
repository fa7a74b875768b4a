"""The chunks of a stream: FORMATS section 4, with everything that is derived from its key inside.

    seal_chunks   [stream header (58), context digest (32), first counter, whether the last of the chunks ends the stream,
                  [chunk, ...]]                          -> [commitment (32), [chunk and tag, ...]]
    open_chunks   [stream header (58), context digest (32), first counter, whether the last of the chunks ends the stream,
                  [chunk and tag, ...], commitment (32)] -> [chunk, ...], or nil where one does not open

The keys of the chunks never leave; nothing of what open_chunks is given comes out unless all of it opens. That a counter is
used once for a salt is the caller's to see to, who frames the stream and chooses salts.
"""

from __future__ import annotations

from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import InvalidParameter

HEADER_LENGTH: Final = 58  # bytes that the derivation covers
_SALT: Final = slice(22, 54)
_LABEL: Final = b"kms/v1/suite-10\0"
DIGEST_LENGTH: Final = 32
COMMITMENT_LENGTH: Final = 32
MAX_CHUNKS: Final = 2**32  # of one stream
MAX_AT_ONCE: Final = 1000  # of one call


def seal_chunks(key: bytes, argument: Any) -> object:
    """Encrypt chunks; the module has the words.

    Raises:
        InvalidParameter: the argument is another one.
    """
    match argument:
        case [bytes(header), bytes(digest), int(first), bool(ends), list(chunks)]:
            cipher, commitment = _stream(key, header, digest)
            nonces = _chunk_nonces(first, chunks, ends)
            return [commitment, [cipher.encrypt(nonce, data, None) for nonce, data in nonces]]
    raise InvalidParameter("seal_chunks: [header, digest, first counter, whether it ends, [chunk, ...]]")


def open_chunks(key: bytes, argument: Any) -> object:
    """Decrypt chunks, all or none; the module has the words.

    Raises:
        InvalidParameter: the argument is another one.
    """
    match argument:
        case [bytes(header), bytes(digest), int(first), bool(ends), list(chunks), bytes(claimed)]:
            cipher, commitment = _stream(key, header, digest)
            if not constant_time.bytes_eq(commitment, claimed):
                return None
            try:
                return [cipher.decrypt(nonce, data, None) for nonce, data in _chunk_nonces(first, chunks, ends)]
            except InvalidTag:
                return None
    raise InvalidParameter("open_chunks: [header, digest, first counter, whether it ends, [chunk, ...], commitment]")


def _stream(key: bytes, header: bytes, digest: bytes) -> tuple[AESGCM, bytes]:
    """Derive a stream's cipher and its commitment (RFC 5869)."""
    if len(header) != HEADER_LENGTH or len(digest) != DIGEST_LENGTH:
        raise InvalidParameter("a stream has a header of 58 bytes and a context digest of 32")
    info = _LABEL + header + digest
    derived = HKDF(hashes.SHA256(), 32 + COMMITMENT_LENGTH, salt=header[_SALT], info=info).derive(key)
    return AESGCM(derived[:32]), derived[32:]


def _chunk_nonces(first: int, chunks: list[Any], ends: bool) -> list[tuple[bytes, bytes]]:
    if not 1 <= len(chunks) <= MAX_AT_ONCE or not 0 <= first <= MAX_CHUNKS - len(chunks):
        raise InvalidParameter(f"chunks: 1 to {MAX_AT_ONCE}, within the 2^32 of a stream")
    if not all(isinstance(chunk, bytes) for chunk in chunks):
        raise InvalidParameter("chunks: bytes")
    last = len(chunks) - 1
    return [
        ((first + index).to_bytes(11, "big") + (b"\x01" if ends and index == last else b"\x00"), chunk)
        for index, chunk in enumerate(chunks)
    ]
