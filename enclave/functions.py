"""What an enclave runs on sealed inputs: functions by name, registered here and so part of the measurement.

    new_key   no input;    argument [policy, associated data]           -> a sealed key of 32 bytes, born inside
                           argument [policy, associated data, suite]    -> the same, for that suite alone
    encrypt   a sealed key; argument [[nonce, associated data, data], ...]  -> [ciphertext and tag, ...]
    decrypt   a sealed key; argument [[nonce, associated data, ciphertext and tag], ...]
                                                                        -> [data, or nil where it does not decrypt, ...]

    reseal    a sealed key; argument [policy]           -> the same key, sealed by this enclave under that policy

    seal_chunks, open_chunks   a sealed key of suite 0x10: streams.py

    sealed    32 bytes: a key of suite 0x01        suite u8 | 32 bytes: a key of suite 0x02 or 0x10
    suite     0x01 AES-256-GCM, nonce of 12 bytes; 0x02 XAES-256-GCM, nonce of 24 bytes; 0x10 streams (FORMATS section 1)

Arguments and answers are msgpack. The nonces are the caller's, who frames the ciphertexts (FORMATS section 9), and who
answers for their being used once. The suite is sealed with the key, so that no caller gets one key used by two
algorithms. A key that is sealed anew keeps its associated data, which no caller can exchange: it stays in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from . import streams
from .errors import InvalidParameter, UnknownFunction
from .interface import Policy
from .xaes import NONCE_LENGTH as XAES_NONCE_LENGTH
from .xaes import Xaes256Gcm

MAX_ITEMS: Final = 1000  # of one call
KEY_LENGTH: Final = 32
AES_256_GCM: Final = 0x01
XAES_256_GCM: Final = 0x02
STREAM: Final = 0x10
NONCE_LENGTH: Final = 12
# Before a key of each suite, in what is sealed.
_MARKS: Final = MappingProxyType({AES_256_GCM: b"", XAES_256_GCM: bytes([XAES_256_GCM]), STREAM: bytes([STREAM])})

Aead: TypeAlias = AESGCM | Xaes256Gcm
Seal: TypeAlias = Callable[[bytes, Policy, bytes], bytes]


@dataclass(frozen=True, slots=True, repr=False)
class Unsealed:
    """What an input holds, and the associated data that it was sealed with."""

    data: bytes
    associated_data: bytes


Function: TypeAlias = Callable[[Seal, Sequence[Unsealed], Any], object]


def run(name: str, seal: Seal, inputs: Sequence[Unsealed], argument: bytes) -> bytes:
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


def _new_key(seal: Seal, inputs: Sequence[Unsealed], argument: Any) -> object:
    match argument:
        case [str(policy), bytes(associated_data)]:
            suite = AES_256_GCM
        case [str(policy), bytes(associated_data), int(suite)]:
            pass
        case _:
            raise InvalidParameter("new_key: [policy, associated data] or [policy, associated data, suite]")
    if inputs or policy not in list(Policy) or suite not in _MARKS:
        raise InvalidParameter("new_key: no input, a policy that there is, and suite 1, 2 or 16")
    return seal(_MARKS[suite] + os.urandom(KEY_LENGTH), Policy(policy), associated_data)


def _reseal(seal: Seal, inputs: Sequence[Unsealed], argument: Any) -> object:
    match argument:
        case [str(policy)] if policy in list(Policy):
            _key(inputs)
            return seal(inputs[0].data, Policy(policy), inputs[0].associated_data)
    raise InvalidParameter("reseal: [policy], one that there is")


def _encrypt(_: Seal, inputs: Sequence[Unsealed], argument: Any) -> object:
    cipher, nonce_length = _cipher(inputs)
    return [cipher.encrypt(nonce, data, aad) for nonce, aad, data in _items(argument, nonce_length)]


def _decrypt(_: Seal, inputs: Sequence[Unsealed], argument: Any) -> object:
    cipher, nonce_length = _cipher(inputs)
    return [_opened(cipher, *item) for item in _items(argument, nonce_length)]


def _opened(cipher: Aead, nonce: bytes, aad: bytes, ciphertext: bytes) -> bytes | None:
    try:
        return cipher.decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        return None


def _cipher(inputs: Sequence[Unsealed]) -> tuple[Aead, int]:
    """Return the cipher of the sealed key, and how long its nonces are."""
    suite, key = _key(inputs)
    if suite == AES_256_GCM:
        return AESGCM(key), NONCE_LENGTH
    if suite == XAES_256_GCM:
        return Xaes256Gcm(key), XAES_NONCE_LENGTH
    raise InvalidParameter("inputs: one sealed key of suite 1 or 2")


def _seal_chunks(_: Seal, inputs: Sequence[Unsealed], argument: Any) -> object:
    return streams.seal_chunks(_stream_key(inputs), argument)


def _open_chunks(_: Seal, inputs: Sequence[Unsealed], argument: Any) -> object:
    return streams.open_chunks(_stream_key(inputs), argument)


def _stream_key(inputs: Sequence[Unsealed]) -> bytes:
    suite, key = _key(inputs)
    if suite != STREAM:
        raise InvalidParameter("inputs: one sealed key of suite 16")
    return key


def _key(inputs: Sequence[Unsealed]) -> tuple[int, bytes]:
    """Return the suite of the sealed key, and the key."""
    if len(inputs) == 1:
        data = inputs[0].data
        for suite, mark in _MARKS.items():
            if len(data) == len(mark) + KEY_LENGTH and data.startswith(mark):
                return suite, data[len(mark) :]
    raise InvalidParameter("inputs: one sealed key, as new_key makes it")


def _items(argument: Any, nonce_length: int) -> list[tuple[bytes, bytes, bytes]]:
    if not isinstance(argument, list) or len(argument) > MAX_ITEMS:
        raise InvalidParameter(f"argument: a list of at most {MAX_ITEMS} items")
    items = []
    for item in argument:
        match item:
            case [bytes(nonce), bytes(aad), bytes(data)] if len(nonce) == nonce_length:
                items.append((nonce, aad, data))
            case _:
                raise InvalidParameter(
                    f"argument: each item is [nonce of {nonce_length} bytes, associated data, bytes]"
                )
    return items


FUNCTIONS: Final = MappingProxyType[str, Function](
    {
        "new_key": _new_key,
        "encrypt": _encrypt,
        "decrypt": _decrypt,
        "reseal": _reseal,
        "seal_chunks": _seal_chunks,
        "open_chunks": _open_chunks,
    }
)
