"""Tenants, their KEKs and keys as values; a change makes a new value, and storage accepts it only over the one it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from .names import KekUid, KeyName, KeyUid, TenantName, TenantUid
from .suites import ProtectionLevel, Purpose, Suite
from .wrapping import DekPlace, WrapMechanism

DEFAULT_ROTATION_HOURS = 24


@dataclass(frozen=True, slots=True)
class Tenant:
    """An owner of keys; *primary_kek* is the KEK version that wraps what is new, 0 until the first is in the token."""

    uid: TenantUid
    slug: str
    display_name: str
    kek: KekUid
    primary_kek: int
    created_at: datetime
    revision: int = 0

    @property
    def name(self) -> TenantName:
        """The resource name."""
        return TenantName(self.slug)

    @property
    def ready(self) -> bool:
        """Whether the tenant exists for callers: its first KEK is in the token."""
        return self.primary_kek > 0

    def with_primary_kek(self, version: int) -> Tenant:
        """Return the tenant with another primary KEK version."""
        return replace(self, primary_kek=version)


class KekState(StrEnum):
    """A KEK version is made in two steps, since the token is outside the database's transaction."""

    PENDING = "pending"  # the intent is stored; the token may or may not hold the key
    ACTIVE = "active"  # in the token, canary known


@dataclass(frozen=True, slots=True)
class Kek:
    """One version of a tenant's KEK; mechanism, canary and hsm_key_id are known once it is active."""

    tenant: TenantUid
    uid: KekUid
    version: int
    state: KekState
    created_at: datetime
    created_by: str
    mechanism: WrapMechanism | None = None
    canary: bytes = b""
    hsm_key_id: str = ""
    revision: int = 0


class KeyState(StrEnum):
    """States of a key; the others of SP 800-57 come with the lifecycle."""

    ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Key:
    """A named lineage of DEKs."""

    uid: KeyUid
    tenant: TenantUid
    slug: str
    display_name: str
    purpose: Purpose
    suite: Suite
    level: ProtectionLevel
    state: KeyState
    primary_version: int
    rotation_hours: int | None  # None: no scheduled rotation
    created_at: datetime
    rotated_at: datetime
    created_by: str
    labels: Mapping[str, str] = field(default_factory=dict)
    revision: int = 0

    def name(self, tenant: Tenant) -> KeyName:
        """The resource name."""
        return KeyName(tenant.slug, self.slug)

    def place(self, version: int) -> DekPlace:
        """What the DEK of one version is bound to."""
        return DekPlace(self.tenant, self.uid, version, self.purpose, self.suite, self.level)

    def rotated(self, now: datetime) -> Key:
        """Return the key with the next version as its primary."""
        return replace(self, primary_version=self.primary_version + 1, rotated_at=now)

    @property
    def etag(self) -> str:
        """Changes with every change of the key."""
        return str(self.revision)


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One DEK of a key, wrapped."""

    tenant: TenantUid
    key: KeyUid
    version: int
    wrapped: bytes
    kek_version: int
    created_at: datetime
    created_by: str
    revision: int = 0
