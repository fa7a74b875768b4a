"""What an enclave runs on sealed inputs: functions by name, registered here and so part of the measurement.

    new_key   no input;    argument [policy, associated data]           -> a sealed AES-256 key, born inside
    encrypt   a sealed key; argument [[nonce (12), associated data, data], ...]  -> [ciphertext and tag, ...]
    decrypt   a sealed key; argument [[nonce (12), associated data, ciphertext and tag], ...]
                                                                        -> [data, or nil where it does not decrypt, ...]

Arguments and answers are msgpack. The nonces are the caller's, who frames the ciphertexts (FORMATS section 9), and who
answers for their being used once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .errors import InvalidParameter, UnknownFunction
from .interface import Policy

MAX_ITEMS: Final = 1000  # of one call
KEY_LENGTH: Final = 32
NONCE_LENGTH: Final = 12

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


FUNCTIONS: Final = MappingProxyType[str, Function]({"new_key": _new_key, "encrypt": _encrypt, "decrypt": _decrypt})
