"""Leases as a daemon would give them, made here: for tests of what a client does with them."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256

from kms_client.values import Lease

KEY_UID = "5f0c3c3e-6c3b-4bb8-9d3b-0c1f6f3d2a11"
OTHER_UID = "0b7c0d52-6f0e-4b55-8a46-2f6f7d7b0c02"
TENANT_UID = "b6f7f2a4-3c0f-4a53-9a43-0f4e2d2a7c77"


def dek_of(uid: str, version: int) -> bytes:
    """The DEK of a version: always the same, and nobody's."""
    return sha256(f"{uid} {version}".encode()).digest()


def lease_of(version: int = 1, *, encrypts: bool = True, seconds: float = 5.0, uid: str = KEY_UID) -> Lease:
    return Lease(dek_of(uid, version), version, encrypts, uid, TENANT_UID, timedelta(seconds=seconds))
