"""Requests to KeyService: the states of keys and versions, and what their destruction leaves."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from ..methods import KEYS
from ..responses import keys, receipts
from ..responses.reading import page
from ..v1 import keys_pb2
from ..values import Key, KeyVersion, SigningKey, StoppedKey, StoppedKeyVersion
from .messages import Listing, Request, build, duration

# A stop that is waited for is answered within the revocation deadline, a setting of the daemon (5 seconds); this leaves
# room for one that is set to be longer.
STOP_WAITS: Final = 30.0


def activate_key(name: str, etag: str) -> Request[Key]:
    """KeyService.ActivateKey."""
    return Request(f"{KEYS}/ActivateKey", build(keys_pb2.ActivateKeyRequest, name=name, etag=etag), keys.key)


def suspend_key(name: str, reason: str, etag: str, wait: bool) -> Request[StoppedKey]:
    """KeyService.SuspendKey."""
    message = build(keys_pb2.SuspendKeyRequest, name=name, reason=reason, etag=etag, wait=wait)
    return Request(f"{KEYS}/SuspendKey", message, keys.stopped_key, STOP_WAITS if wait else 0)


def resume_key(name: str, etag: str) -> Request[Key]:
    """KeyService.ResumeKey."""
    return Request(f"{KEYS}/ResumeKey", build(keys_pb2.ResumeKeyRequest, name=name, etag=etag), keys.key)


def archive_key(name: str, etag: str) -> Request[Key]:
    """KeyService.ArchiveKey."""
    return Request(f"{KEYS}/ArchiveKey", build(keys_pb2.ArchiveKeyRequest, name=name, etag=etag), keys.key)


def revoke_key(name: str, reason: str, etag: str, wait: bool) -> Request[StoppedKey]:
    """KeyService.RevokeKey."""
    message = build(keys_pb2.RevokeKeyRequest, name=name, reason=reason, etag=etag, wait=wait)
    return Request(f"{KEYS}/RevokeKey", message, keys.stopped_key, STOP_WAITS if wait else 0)


def revoke_key_version(name: str, reason: str, etag: str, wait: bool) -> Request[StoppedKeyVersion]:
    """KeyService.RevokeKeyVersion."""
    message = build(keys_pb2.RevokeKeyVersionRequest, name=name, reason=reason, etag=etag, wait=wait)
    return Request(f"{KEYS}/RevokeKeyVersion", message, keys.stopped_key_version, STOP_WAITS if wait else 0)


def schedule_key_destruction(
    name: str, reason: str, waiting_period: timedelta | None, etag: str, force: bool
) -> Request[Key]:
    """KeyService.ScheduleKeyDestruction."""
    message = build(keys_pb2.ScheduleKeyDestructionRequest, name=name, reason=reason, etag=etag, force=force)
    if waiting_period is not None:
        message.waiting_period.CopyFrom(duration(waiting_period))
    return Request(f"{KEYS}/ScheduleKeyDestruction", message, keys.key)


def cancel_key_destruction(name: str, etag: str) -> Request[Key]:
    """KeyService.CancelKeyDestruction."""
    message = build(keys_pb2.CancelKeyDestructionRequest, name=name, etag=etag)
    return Request(f"{KEYS}/CancelKeyDestruction", message, keys.key)


def retire_key_version(name: str, force: bool) -> Request[KeyVersion]:
    """KeyService.RetireKeyVersion."""
    message = build(keys_pb2.RetireKeyVersionRequest, name=name, force=force)
    return Request(f"{KEYS}/RetireKeyVersion", message, keys.key_version)


def cancel_key_version_retirement(name: str) -> Request[KeyVersion]:
    """KeyService.CancelKeyVersionRetirement."""
    message = build(keys_pb2.CancelKeyVersionRetirementRequest, name=name)
    return Request(f"{KEYS}/CancelKeyVersionRetirement", message, keys.key_version)


def list_destruction_receipts(parent: str, page_size: int) -> Listing:
    """KeyService.ListDestructionReceipts."""
    read = page("receipts", receipts.receipt)
    return lambda token: Request(
        f"{KEYS}/ListDestructionReceipts",
        build(keys_pb2.ListDestructionReceiptsRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def get_signing_key() -> Request[SigningKey]:
    """KeyService.GetSigningKey."""
    return Request(f"{KEYS}/GetSigningKey", keys_pb2.GetSigningKeyRequest(), receipts.signing_key)
