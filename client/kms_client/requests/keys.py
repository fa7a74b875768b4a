"""Requests to KeyService: keys, their versions and KEKs. Their states are in lifecycle."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from google.protobuf.field_mask_pb2 import FieldMask

from ..formats.errors import invalid
from ..formats.suites import ProtectionLevel, Purpose, Suite
from ..methods import KEYS
from ..responses import keys, operations
from ..responses.reading import page
from ..v1 import keys_pb2
from ..values import Kek, Key, Operation
from .messages import Listing, Request, build
from .rules import Rule, Rules


def create_key(
    parent: str,
    key_id: str,
    purpose: Purpose,
    *,
    suite: Suite | None,
    protection_level: ProtectionLevel | None,
    display_name: str,
    labels: Mapping[str, str] | None,
    policy: str,
    rules: Rules,
    leasable: bool,
    pending: bool,
) -> Request[Key]:
    """KeyService.CreateKey."""
    key = build(
        keys_pb2.Key,
        purpose=int(purpose),
        suite=int(suite or 0),
        protection_level=int(protection_level or 0),
        display_name=display_name,
        labels=dict(labels or {}),
        policy=policy,
        leasable=leasable,
        **rules.given(),
    )
    message = build(keys_pb2.CreateKeyRequest, parent=parent, key_id=key_id, key=key, pending=pending)
    return Request(f"{KEYS}/CreateKey", message, keys.key)


def get_key(name: str) -> Request[Key]:
    """KeyService.GetKey."""
    return Request(f"{KEYS}/GetKey", build(keys_pb2.GetKeyRequest, name=name), keys.key)


def list_keys(parent: str, page_size: int) -> Listing:
    """KeyService.ListKeys."""
    read = page("keys", keys.key)
    return lambda token: Request(
        f"{KEYS}/ListKeys",
        build(keys_pb2.ListKeysRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def update_key(
    name: str,
    *,
    display_name: str | None,
    labels: Mapping[str, str] | None,
    policy: str | None,
    rules: Rules,
    clear: Collection[Rule],
    etag: str,
) -> Request[Key]:
    """KeyService.UpdateKey; what is None stays as it is, and what *clear* names goes back to the policy.

    Raises:
        InvalidRequest: there is nothing to change, or *clear* contradicts a value.
    """
    said = {"display_name": display_name, "labels": None if labels is None else dict(labels), "policy": policy}
    fields = {field: value for field, value in said.items() if value is not None} | rules.given()
    paths = [*fields, *rules.cleared(clear)]
    if not paths:
        raise invalid("update_mask", "there must be something to change")
    message = build(
        keys_pb2.UpdateKeyRequest,
        key=build(keys_pb2.Key, name=name, etag=etag, **fields),
        update_mask=FieldMask(paths=paths),
    )
    return Request(f"{KEYS}/UpdateKey", message, keys.key)


def rotate_key(name: str, etag: str) -> Request[Key]:
    """KeyService.RotateKey."""
    return Request(f"{KEYS}/RotateKey", build(keys_pb2.RotateKeyRequest, name=name, etag=etag), keys.key)


def rotate_keys(parent: str) -> Request[Operation]:
    """KeyService.RotateKeys."""
    return Request(f"{KEYS}/RotateKeys", build(keys_pb2.RotateKeysRequest, parent=parent), operations.operation)


def list_key_versions(parent: str, page_size: int) -> Listing:
    """KeyService.ListKeyVersions."""
    read = page("key_versions", keys.key_version)
    return lambda token: Request(
        f"{KEYS}/ListKeyVersions",
        build(keys_pb2.ListKeyVersionsRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def list_keks(parent: str, page_size: int) -> Listing:
    """KeyService.ListKeks."""
    read = page("keks", keys.kek)
    return lambda token: Request(
        f"{KEYS}/ListKeks",
        build(keys_pb2.ListKeksRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def rotate_kek(parent: str, primary_version: int) -> Request[Kek]:
    """KeyService.RotateKek."""
    message = build(keys_pb2.RotateKekRequest, parent=parent, primary_version=primary_version)
    return Request(f"{KEYS}/RotateKek", message, keys.kek)
