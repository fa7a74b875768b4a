"""From arguments to requests. A request knows its RPC, its message and how its answer is read; a client only sends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue

from . import responses
from .formats.errors import invalid
from .formats.suites import MAX_PLAINTEXT, ProtectionLevel, Purpose, Suite
from .methods import CRYPTO, HEALTH, KEYS, TENANTS
from .responses import Page
from .v1 import crypto_pb2, keys_pb2, tenants_pb2
from .values import (
    DataKey,
    Decrypted,
    DecryptedDataKey,
    Encrypted,
    HealthStatus,
    Kek,
    Key,
    ReEncrypted,
    Tenant,
)

T = TypeVar("T")
M = TypeVar("M", bound=Message)

Context = Mapping[str, str | bytes]


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One call: `service/method`, its message (which may hold plaintext) and the reader of its answer."""

    method: str
    message: Message = field(repr=False)
    read: Callable[[Any], T]


# The request for the page that a token stands for; the first has the empty token.
Listing = Callable[[str], Request[Page]]


def build(kind: type[M], **fields: Any) -> M:
    """Make a message; protobuf would refuse numbers and text without naming the field, and takes None for absent.

    Raises:
        InvalidRequest: a number out of range, or text that is no UTF-8.
        TypeError: a field has another type.
    """
    for name, value in fields.items():
        if isinstance(value, str):
            _encoded(value, name)
        elif isinstance(value, int) and not 0 <= value < 2**31:
            raise invalid(name, "must be 0 to 2147483647")
        elif value is None:
            raise TypeError(f"{name} must not be None")
    return kind(**fields)


def _encoded(text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise invalid(name, "must be UTF-8") from error


def context_value(value: str | bytes, name: str) -> bytes:
    """Return the bytes of a context value.

    Raises:
        InvalidRequest: text that is no UTF-8.
        TypeError: neither str nor bytes; numbers have no form of their own, the caller chooses one.
    """
    if isinstance(value, str):
        return _encoded(value, name)
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


def create_tenant(tenant_id: str, display_name: str) -> Request[Tenant]:
    """TenantService.CreateTenant."""
    message = build(
        tenants_pb2.CreateTenantRequest,
        tenant_id=tenant_id,
        tenant=build(tenants_pb2.Tenant, display_name=display_name),
    )
    return Request(f"{TENANTS}/CreateTenant", message, responses.tenant)


def get_tenant(name: str) -> Request[Tenant]:
    """TenantService.GetTenant."""
    return Request(f"{TENANTS}/GetTenant", build(tenants_pb2.GetTenantRequest, name=name), responses.tenant)


def list_tenants(page_size: int) -> Listing:
    """TenantService.ListTenants."""
    read = responses.page("tenants", responses.tenant)
    return lambda token: Request(
        f"{TENANTS}/ListTenants",
        build(tenants_pb2.ListTenantsRequest, page_size=page_size, page_token=token),
        read,
    )


def _duration(period: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(period)
    return duration


def create_key(
    parent: str,
    key_id: str,
    purpose: Purpose,
    *,
    suite: Suite | None,
    protection_level: ProtectionLevel | None,
    display_name: str,
    labels: Mapping[str, str] | None,
    rotation_period: timedelta | None,
) -> Request[Key]:
    """KeyService.CreateKey."""
    key = build(
        keys_pb2.Key,
        purpose=int(purpose),
        suite=int(suite or 0),
        protection_level=int(protection_level or 0),
        display_name=display_name,
        labels=dict(labels or {}),
    )
    if rotation_period is not None:
        key.rotation_period.CopyFrom(_duration(rotation_period))
    message = build(keys_pb2.CreateKeyRequest, parent=parent, key_id=key_id, key=key)
    return Request(f"{KEYS}/CreateKey", message, responses.key)


def get_key(name: str) -> Request[Key]:
    """KeyService.GetKey."""
    return Request(f"{KEYS}/GetKey", build(keys_pb2.GetKeyRequest, name=name), responses.key)


def list_keys(parent: str, page_size: int) -> Listing:
    """KeyService.ListKeys."""
    read = responses.page("keys", responses.key)
    return lambda token: Request(
        f"{KEYS}/ListKeys",
        build(keys_pb2.ListKeysRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def update_key(
    name: str,
    display_name: str | None,
    labels: Mapping[str, str] | None,
    rotation_period: timedelta | None,
    etag: str,
) -> Request[Key]:
    """KeyService.UpdateKey; what is None stays as it is.

    Raises:
        InvalidRequest: everything is None.
    """
    key = build(keys_pb2.Key, name=name, etag=etag)
    paths = []
    if display_name is not None:
        _encoded(display_name, "display_name")
        key.display_name = display_name
        paths.append("display_name")
    if labels is not None:
        key.labels.update(labels)
        paths.append("labels")
    if rotation_period is not None:
        key.rotation_period.CopyFrom(_duration(rotation_period))
        paths.append("rotation_period")
    if not paths:
        raise invalid("update_mask", "there must be something to change: display_name, labels or rotation_period")
    message = build(keys_pb2.UpdateKeyRequest, key=key, update_mask=FieldMask(paths=paths))
    return Request(f"{KEYS}/UpdateKey", message, responses.key)


def rotate_key(name: str, etag: str) -> Request[Key]:
    """KeyService.RotateKey."""
    return Request(f"{KEYS}/RotateKey", build(keys_pb2.RotateKeyRequest, name=name, etag=etag), responses.key)


def list_key_versions(parent: str, page_size: int) -> Listing:
    """KeyService.ListKeyVersions."""
    read = responses.page("key_versions", responses.key_version)
    return lambda token: Request(
        f"{KEYS}/ListKeyVersions",
        build(keys_pb2.ListKeyVersionsRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def list_keks(parent: str, page_size: int) -> Listing:
    """KeyService.ListKeks."""
    read = responses.page("keks", responses.kek)
    return lambda token: Request(
        f"{KEYS}/ListKeks",
        build(keys_pb2.ListKeksRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def rotate_kek(parent: str, primary_version: int) -> Request[Kek]:
    """KeyService.RotateKek."""
    message = build(keys_pb2.RotateKekRequest, parent=parent, primary_version=primary_version)
    return Request(f"{KEYS}/RotateKek", message, responses.kek)


def encrypt(name: str, plaintext: bytes, context: Context | None) -> Request[Encrypted]:
    """CryptoService.Encrypt."""
    message = build(
        crypto_pb2.EncryptRequest, name=name, plaintext=single(plaintext, "plaintext"), context=pairs(context)
    )
    return Request(f"{CRYPTO}/Encrypt", message, responses.encrypted)


def decrypt(name: str, ciphertext: bytes, context: Context | None) -> Request[Decrypted]:
    """CryptoService.Decrypt."""
    message = build(
        crypto_pb2.DecryptRequest, name=name, ciphertext=single(ciphertext, "ciphertext"), context=pairs(context)
    )
    return Request(f"{CRYPTO}/Decrypt", message, responses.decrypted)


def reencrypt(name: str, ciphertext: bytes, context: Context | None) -> Request[ReEncrypted]:
    """CryptoService.ReEncrypt."""
    message = build(
        crypto_pb2.ReEncryptRequest, name=name, ciphertext=single(ciphertext, "ciphertext"), context=pairs(context)
    )
    return Request(f"{CRYPTO}/ReEncrypt", message, responses.reencrypted)


def generate_data_key(name: str, length: int, context: Context | None) -> Request[DataKey]:
    """CryptoService.GenerateDataKey."""
    message = build(crypto_pb2.GenerateDataKeyRequest, name=name, length=length, context=pairs(context))
    return Request(f"{CRYPTO}/GenerateDataKey", message, responses.data_key)


def decrypt_data_key(name: str, ciphertext: bytes, context: Context | None) -> Request[DecryptedDataKey]:
    """CryptoService.DecryptDataKey."""
    message = build(
        crypto_pb2.DecryptDataKeyRequest, name=name, ciphertext=single(ciphertext, "ciphertext"), context=pairs(context)
    )
    return Request(f"{CRYPTO}/DecryptDataKey", message, responses.decrypted_data_key)


def generate_random_bytes(length: int) -> Request[bytes]:
    """CryptoService.GenerateRandomBytes."""
    message = build(crypto_pb2.GenerateRandomBytesRequest, length=length)
    return Request(f"{CRYPTO}/GenerateRandomBytes", message, responses.random_bytes(length))


def health(service: str) -> Request[HealthStatus]:
    """Health.Check of grpc.health.v1."""
    return Request(f"{HEALTH}/Check", StringValue(value=service), responses.health)
