"""The SDK's values as records of plain JSON types: times as RFC 3339 in UTC, periods in seconds, choices by name."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum

from kms_client import Kek, Key, KeyVersion, Tenant

from .output import Record


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _choice(value: int) -> str:
    """Name a purpose, suite or level as options of this command do; an unknown one is its number."""
    return value.name.lower().replace("_", "-") if isinstance(value, IntEnum) else str(value)


def of_tenant(tenant: Tenant) -> Record:
    """Return all fields of a tenant."""
    return {
        "name": tenant.name,
        "uid": tenant.uid,
        "display_name": tenant.display_name,
        "create_time": _time(tenant.create_time),
    }


def of_key(key: Key) -> Record:
    """Return all fields of a key."""
    return {
        "name": key.name,
        "uid": key.uid,
        "display_name": key.display_name,
        "purpose": _choice(key.purpose),
        "suite": _choice(key.suite),
        "protection_level": _choice(key.protection_level),
        "primary_version": key.primary_version,
        "rotation_period_seconds": None if key.rotation_period is None else int(key.rotation_period.total_seconds()),
        "labels": dict(sorted(key.labels.items())),
        "create_time": _time(key.create_time),
        "rotate_time": _time(key.rotate_time),
        "creator": key.creator,
        "etag": key.etag,
    }


def of_key_version(version: KeyVersion) -> Record:
    """Return all fields of a key version."""
    return {
        "name": version.name,
        "version": version.version,
        "primary": version.primary,
        "kek": version.kek,
        "create_time": _time(version.create_time),
        "encryptions_reserved": version.encryptions_reserved,
        "encryptions_limit": version.encryptions_limit,
    }


def of_kek(kek: Kek) -> Record:
    """Return all fields of a KEK version."""
    return {
        "name": kek.name,
        "uid": kek.uid,
        "version": kek.version,
        "primary": kek.primary,
        "hsm_key_id": kek.hsm_key_id,
        "create_time": _time(kek.create_time),
        "wrapped_key_versions": kek.wrapped_key_versions,
        "wraps_reserved": kek.wraps_reserved,
    }
