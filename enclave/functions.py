"""What an enclave runs on sealed inputs: functions by name, registered here and so part of the measurement.

    new_key   no input;    argument [policy, associated data]           -> a sealed AES-256 key, born inside
    encrypt   a sealed key; argument [[nonce (12), associated data, data], ...]  -> [ciphertext and tag, ...]
    decrypt   a sealed key; argument [[nonce (12), associated data, ciphertext and tag], ...]
                                                                        -> [data, or nil where it does not decrypt, ...]

    seal_chunks   a sealed key; argument [stream header (58), context digest (32), first counter, whether the last of the
                  chunks ends the stream, [chunk, ...]]                -> [commitment (32), [chunk and tag, ...]]
    open_chunks   a sealed key; argument [stream header (58), context digest (32), first counter, whether the last of the
                  chunks ends the stream, [chunk and tag, ...], commitment (32)]
                                                                        -> [chunk, ...], or nil where one does not open

The last two are the stream of FORMATS section 4: the keys of its chunks are derived here and never leave; nothing of what
open_chunks is given comes out unless all of it opens. Arguments and answers are msgpack. The nonces are the caller's, who frames the ciphertexts (FORMATS section 9), and who
answers for their being used once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import InvalidParameter, UnknownFunction
from .interface import Policy

MAX_ITEMS: Final = 1000  # of one call
KEY_LENGTH: Final = 32
NONCE_LENGTH: Final = 12

# FORMATS, section 4.
STREAM_HEADER: Final = 58  # bytes that the derivation covers
STREAM_SALT: Final = slice(22, 54)
STREAM_LABEL: Final = b"kms/v1/suite-10\0"
DIGEST_LENGTH: Final = 32
COMMITMENT_LENGTH: Final = 32
MAX_CHUNKS: Final = 2**32  # of one stream

Seal: TypeAlias = Callable[[bytes, Policy, bytes], bytes]
Function: TypeAlias = Callable[[Seal, Sequence[bytes], Any], object]


def run(name: str, seal: Seal, inputs: Sequence[bytes], argument: bytes) -> bytes:
    """Run the function *name* on inputs that have been unsealed; *seal* seals what is to leave.

    Raises:
        UnknownFunction: no such function.
        InvalidParameter: the argument or the inputs are not what it takes.
    """
    function = FUNCTIONS.get(name)
    if function is None:
        raise UnknownFunction("no function of this name is registered")
    try:
        parsed = msgpack.unpackb(argument)
    except (ValueError, msgpack.UnpackException):
        raise InvalidParameter("argument: is msgpack") from None
    answer: bytes = msgpack.packb(function(seal, inputs, parsed))
    return answer


def _new_key(seal: Seal, inputs: Sequence[bytes], argument: Any) -> object:
    match argument:
        case [str(policy), bytes(associated_data)] if not inputs and policy in list(Policy):
            return seal(os.urandom(KEY_LENGTH), Policy(policy), associated_data)
    raise InvalidParameter("new_key: no input, and [policy, associated data]")


def _encrypt(_: Seal, inputs: Sequence[bytes], argument: Any) -> object:
    cipher = AESGCM(_key(inputs))
    return [cipher.encrypt(nonce, data, aad) for nonce, aad, data in _items(argument)]


def _decrypt(_: Seal, inputs: Sequence[bytes], argument: Any) -> object:
    cipher = AESGCM(_key(inputs))
    return [_opened(cipher, *item) for item in _items(argument)]


def _opened(cipher: AESGCM, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes | None:
    try:
        return cipher.decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        return None


def _seal_chunks(_: Seal, inputs: Sequence[bytes], argument: Any) -> object:
    match argument:
        case [bytes(header), bytes(digest), int(first), bool(ends), list(chunks)]:
            cipher, commitment = _stream(_key(inputs), header, digest)
            nonces = _chunk_nonces(first, chunks, ends)
            return [commitment, [cipher.encrypt(nonce, data, None) for nonce, data in nonces]]
    raise InvalidParameter("seal_chunks: [header, digest, first counter, whether it ends, [chunk, ...]]")


def _open_chunks(_: Seal, inputs: Sequence[bytes], argument: Any) -> object:
    match argument:
        case [bytes(header), bytes(digest), int(first), bool(ends), list(chunks), bytes(claimed)]:
            cipher, commitment = _stream(_key(inputs), header, digest)
            if not constant_time.bytes_eq(commitment, claimed):
                return None
            try:
                return [cipher.decrypt(nonce, data, None) for nonce, data in _chunk_nonces(first, chunks, ends)]
            except InvalidTag:
                return None
    raise InvalidParameter("open_chunks: [header, digest, first counter, whether it ends, [chunk, ...], commitment]")


def _stream(key: bytes, header: bytes, digest: bytes) -> tuple[AESGCM, bytes]:
    """Derive a stream's cipher and its commitment (RFC 5869)."""
    if len(header) != STREAM_HEADER or len(digest) != DIGEST_LENGTH:
        raise InvalidParameter("a stream has a header of 58 bytes and a context digest of 32")
    info = STREAM_LABEL + header + digest
    derived = HKDF(hashes.SHA256(), 32 + COMMITMENT_LENGTH, salt=header[STREAM_SALT], info=info).derive(key)
    return AESGCM(derived[:32]), derived[32:]


def _chunk_nonces(first: int, chunks: list[Any], ends: bool) -> list[tuple[bytes, bytes]]:
    if not 1 <= len(chunks) <= MAX_ITEMS or not 0 <= first <= MAX_CHUNKS - len(chunks):
        raise InvalidParameter(f"chunks: 1 to {MAX_ITEMS}, within the 2^32 of a stream")
    if not all(isinstance(chunk, bytes) for chunk in chunks):
        raise InvalidParameter("chunks: bytes")
    last = len(chunks) - 1
    return [
        ((first + index).to_bytes(11, "big") + (b"\x01" if ends and index == last else b"\x00"), chunk)
        for index, chunk in enumerate(chunks)
    ]


def _key(inputs: Sequence[bytes]) -> bytes:
    if len(inputs) != 1 or len(inputs[0]) != KEY_LENGTH:
        raise InvalidParameter("inputs: one sealed key of 32 bytes")
    return inputs[0]


def _items(argument: Any) -> list[tuple[bytes, bytes, bytes]]:
    if not isinstance(argument, list) or len(argument) > MAX_ITEMS:
        raise InvalidParameter(f"argument: a list of at most {MAX_ITEMS} items")
    items = []
    for item in argument:
        match item:
            case [bytes(nonce), bytes(aad), bytes(data)] if len(nonce) == NONCE_LENGTH:
                items.append((nonce, aad, data))
            case _:
                raise InvalidParameter("argument: each item is [nonce of 12 bytes, associated data, bytes]")
    return items


FUNCTIONS: Final = MappingProxyType[str, Function](
    {
        "new_key": _new_key,
        "encrypt": _encrypt,
        "decrypt": _decrypt,
        "seal_chunks": _seal_chunks,
        "open_chunks": _open_chunks,
    }
)
