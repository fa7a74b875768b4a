"""Requests to CryptoService, batches excepted."""

from __future__ import annotations

from collections.abc import Mapping

from ..formats.errors import invalid
from ..formats.suites import MAX_PLAINTEXT
from ..methods import CRYPTO
from ..responses import crypto
from ..v1 import crypto_pb2
from ..values import DataKey, Decrypted, DecryptedDataKey, Encrypted, Lease, ReEncrypted
from .messages import Request, build, encoded

Context = Mapping[str, str | bytes]


def context_value(value: str | bytes, name: str) -> bytes:
    """Return the bytes of a context value.

    Raises:
        InvalidRequest: text that is no UTF-8.
        TypeError: neither str nor bytes; numbers have no form of their own, the caller chooses one.
    """
    if isinstance(value, str):
        return encoded(value, name)
    if isinstance(value, bytes):
        return value
    raise TypeError(f"{name} must be str or bytes, not {type(value).__name__}")


def single(value: bytes, name: str) -> bytes:
    """Return a plaintext or ciphertext that a message can hold; the daemon judges its exact length.

    Raises:
        InvalidRequest: far more than any suite takes; gRPC would refuse to send it and name no field.
    """
    if len(value) > 2 * MAX_PLAINTEXT:
        raise invalid(name, f"must hold at most {MAX_PLAINTEXT} bytes of plaintext, has {len(value)}")
    return value


def pairs(context: Context | None) -> list[crypto_pb2.ContextPair]:
    """Return the pairs of a context, in its order; the daemon sorts them."""
    return [
        build(crypto_pb2.ContextPair, key=key, value=context_value(value, f"context[{index}].value"))
        for index, (key, value) in enumerate((context or {}).items())
    ]


def encrypt(name: str, plaintext: bytes, context: Context | None) -> Request[Encrypted]:
    """CryptoService.Encrypt."""
    message = build(
        crypto_pb2.EncryptRequest, name=name, plaintext=single(plaintext, "plaintext"), context=pairs(context)
    )
    return Request(f"{CRYPTO}/Encrypt", message, crypto.encrypted)


def decrypt(name: str, ciphertext: bytes, context: Context | None) -> Request[Decrypted]:
    """CryptoService.Decrypt."""
    message = build(
        crypto_pb2.DecryptRequest, name=name, ciphertext=single(ciphertext, "ciphertext"), context=pairs(context)
    )
    return Request(f"{CRYPTO}/Decrypt", message, crypto.decrypted)


def reencrypt(name: str, ciphertext: bytes, context: Context | None, destination: str) -> Request[ReEncrypted]:
    """CryptoService.ReEncrypt."""
    message = build(
        crypto_pb2.ReEncryptRequest,
        name=name,
        ciphertext=single(ciphertext, "ciphertext"),
        context=pairs(context),
        destination=destination,
    )
    return Request(f"{CRYPTO}/ReEncrypt", message, crypto.reencrypted)


def generate_data_key(name: str, length: int, context: Context | None) -> Request[DataKey]:
    """CryptoService.GenerateDataKey."""
    message = build(crypto_pb2.GenerateDataKeyRequest, name=name, length=length, context=pairs(context))
    return Request(f"{CRYPTO}/GenerateDataKey", message, crypto.data_key)


def decrypt_data_key(name: str, ciphertext: bytes, context: Context | None) -> Request[DecryptedDataKey]:
    """CryptoService.DecryptDataKey."""
    message = build(
        crypto_pb2.DecryptDataKeyRequest, name=name, ciphertext=single(ciphertext, "ciphertext"), context=pairs(context)
    )
    return Request(f"{CRYPTO}/DecryptDataKey", message, crypto.decrypted_data_key)


def lease_key_version(name: str, version: int) -> Request[Lease]:
    """CryptoService.LeaseKeyVersion."""
    message = build(crypto_pb2.LeaseKeyVersionRequest, name=name, version=version)
    return Request(f"{CRYPTO}/LeaseKeyVersion", message, crypto.lease)


def generate_random_bytes(length: int) -> Request[bytes]:
    """CryptoService.GenerateRandomBytes."""
    message = build(crypto_pb2.GenerateRandomBytesRequest, length=length)
    return Request(f"{CRYPTO}/GenerateRandomBytes", message, crypto.random_bytes(length))
