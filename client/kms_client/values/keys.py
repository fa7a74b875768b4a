"""Keys, their versions, and the KEKs that wrap them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from ..formats.suites import ProtectionLevel, Purpose, Suite
from .places import VersionCensus
from .policies import Classification, EffectivePolicy


class KeyState(IntEnum):
    """The state of a key or a key version (NIST SP 800-57 part 1, section 7)."""

    PENDING = 1  # not yet for use
    ACTIVE = 2  # in use; a version: the primary one, which encrypts
    ROTATING = 3  # a version: replaced, and still in its grace; a key: one of its versions is
    SUSPENDED = 4  # stopped for a while
    ARCHIVED = 5  # decrypts only
    REVOKED = 6  # compromised: only re-encryption by the rotation identity
    DESTRUCTION_SCHEDULED = 7  # waits for its destruction and can still be saved; a version: in quarantine
    DESTROYED = 8  # gone


class KekState(IntEnum):
    """The state of a KEK version."""

    ACTIVE = 1  # in the token; the primary one wraps what is new
    DESTRUCTION_SCHEDULED = 2  # nothing is wrapped by it; it waits for its destruction
    DESTROYED = 3  # gone from the token


@dataclass(frozen=True, slots=True)
class Key:
    """A named lineage of DEKs: `tenants/{tenant}/keys/{key}`.

    A purpose, suite, level or state that only a newer daemon knows is its bare number.
    """

    name: str
    uid: str
    display_name: str
    purpose: Purpose | int
    suite: Suite | int
    protection_level: ProtectionLevel | int
    primary_version: int
    state: KeyState | int
    state_reason: str
    state_time: datetime
    create_time: datetime
    rotate_time: datetime
    creator: str
    etag: str
    labels: Mapping[str, str]
    policy: str  # empty: the built-in one
    # What the key has otherwise than its policy; None: as the policy.
    rotation_period: timedelta | None
    encryption_limit: int | None
    cache_lifetime: timedelta | None
    quarantine_period: timedelta | None
    grace_period: timedelta | None
    automatic_retirement: bool | None
    effective_policy: EffectivePolicy
    destroy_time: datetime | None  # while its destruction is scheduled
    next_rotation_time: datetime | None  # None: not by time
    places_complete_time: datetime | None  # since when all places of its ciphertexts are declared; None: they are not
    classification: Classification | int  # its policy's
    leasable: bool  # whether lease_key_version may hand out its DEKs


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One DEK of a key: `tenants/{tenant}/keys/{key}/versions/{version}`."""

    name: str
    version: int
    primary: bool
    kek: str
    create_time: datetime
    encryptions_reserved: int  # never less than those made
    encryptions_limit: int | None  # None: the suite has no limit
    encryptions_rotate_at: int | None
    state: KeyState | int
    state_reason: str
    state_time: datetime
    stop_time: datetime | None  # from when on no node encrypts under it; None: the primary one
    destroy_time: datetime | None  # in quarantine
    last_use_time: datetime | None  # to the minute; None: never
    refused_uses: int  # in quarantine
    last_refused_time: datetime | None
    census: VersionCensus
    expose_time: datetime | None  # when its DEK first left the daemon; None: never


@dataclass(frozen=True, slots=True)
class Kek:
    """One version of a tenant's KEK: `tenants/{tenant}/keks/{version}`."""

    name: str
    uid: str
    version: int
    primary: bool
    hsm_key_id: str  # PKCS#11 URI (RFC 7512)
    create_time: datetime
    wrapped_key_versions: int
    wraps_reserved: int
    state: KekState | int
    destroy_time: datetime | None  # while its destruction is scheduled
    next_rotation_time: datetime | None  # of the primary one; None: not by time
