"""Tenants, their KEKs and keys as values; a change makes a new value, and storage accepts it only over the one it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from .lifecycle import ENCRYPTING, KEY_TRANSITIONS, VERSION_TRANSITIONS, KeyEvent, KeyState, advance
from .names import KekUid, KeyName, KeyUid, TenantName, TenantUid
from .policy import Overrides
from .seals import SealedBy
from .suites import ProtectionLevel, Purpose, Suite
from .wrapping import DekPlace, WrapMechanism

# After a revocation, or another stop of a key, no node encrypts any more: longer than any revocation deadline and any
# call under way.
REVOKED_GRACE: Final = timedelta(minutes=1)
# Stands where the wrapped DEK of a destroyed version was; it is no wrapped DEK of any format.
ERASED: Final = b"\0"


@dataclass(frozen=True, slots=True)
class Tenant:
    """An owner of keys; *primary_kek* is the KEK version that wraps what is new, 0 until the first is in the token."""

    uid: TenantUid
    slug: str
    display_name: str
    kek: KekUid
    primary_kek: int
    created_at: datetime
    due_at: datetime | None = None  # when the scheduler has to look at its KEK versions next
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
    """A KEK version is made, and destroyed, in two steps, since the token is outside the database's transaction."""

    PENDING = "pending"  # the intent is stored; the token may or may not hold the key
    ACTIVE = "active"  # in the token, canary known
    DESTRUCTION_SCHEDULED = "destruction_scheduled"  # quarantine: nothing is wrapped by it
    DESTROYING = "destroying"  # the intent is stored; the token may or may not hold the key
    DESTROYED = "destroyed"


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
    destroy_at: datetime | None = None  # the end of its quarantine
    revision: int = 0


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
    created_at: datetime
    rotated_at: datetime
    scheduled_from: datetime  # the next rotation by time is one period after it
    state_at: datetime
    created_by: str
    policy: str = ""  # the slug of a NamedPolicy; empty for the default one
    overrides: Overrides = field(default_factory=Overrides)
    labels: Mapping[str, str] = field(default_factory=dict)
    state_before: KeyState | None = None  # while destruction is scheduled
    state_reason: str = ""
    destroy_at: datetime | None = None  # while destruction is scheduled
    stopped_at: datetime | None = None  # from then on no node encrypts under any version; None while one may
    due_at: datetime | None = None  # when the scheduler has to look at it next
    places_complete_at: datetime | None = None  # since when all places of its ciphertexts are declared
    places_complete_by: str = ""
    forced_by: str = ""  # while destruction is scheduled: who has it done whatever the census says
    leasable: bool = False  # whether its DEKs may leave for applications; immutable
    revision: int = 0

    def name(self, tenant: Tenant) -> KeyName:
        """The resource name."""
        return KeyName(tenant.slug, self.slug)

    def place(self, version: int) -> DekPlace:
        """What the DEK of one version is bound to."""
        return DekPlace(self.tenant, self.uid, version, self.purpose, self.suite, self.level)

    def after(self, event: KeyEvent, now: datetime, reason: str = "") -> Key:
        """Return the key after *event*.

        Raises:
            WrongKeyState: its state does not allow that.
        """
        state = advance(KEY_TRANSITIONS, f"key {self.slug}", self.state, event, self.state_before)
        if state is self.state:
            if event is KeyEvent.FINISH_ROTATION and self.state_before is KeyState.ROTATING:
                return replace(self, state_before=KeyState.ACTIVE)  # what a cancellation then goes back to
            return self
        scheduled = state is KeyState.DESTRUCTION_SCHEDULED
        stopped = None if state in ENCRYPTING else self.stopped_at or now + REVOKED_GRACE
        return replace(
            self,
            state=state,
            state_at=now,
            state_reason=reason,
            state_before=self.state if scheduled else None,
            destroy_at=self.destroy_at if scheduled else None,
            forced_by=self.forced_by if scheduled else "",
            stopped_at=stopped,
        )

    def rotated(self, now: datetime, scheduled_from: datetime) -> Key:
        """Return the key with the next version as its primary.

        Raises:
            WrongKeyState: its state does not allow that.
        """
        return replace(
            self.after(KeyEvent.ROTATE, now),
            primary_version=self.primary_version + 1,
            rotated_at=now,
            scheduled_from=scheduled_from,
        )

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
    state: KeyState
    state_at: datetime
    state_before: KeyState | None = None  # while destruction is scheduled
    state_reason: str = ""
    stopped_at: datetime | None = None  # from then on no node encrypts under it
    until: datetime | None = None  # the end of its grace (rotating) or of its quarantine (destruction scheduled)
    due_at: datetime | None = None  # the scheduled time that it was made for; one version at most has it
    forced_by: str = ""  # from its retirement on: who has it destroyed whatever the census says
    exposed_at: datetime | None = None  # when its DEK first left the daemon; None: never
    sealed_by: SealedBy | None = None  # of level ENCLAVE: who has sealed it, to the signer; None: not recorded then
    revision: int = 0

    def after(self, event: KeyEvent, now: datetime, *, until: datetime | None = None, reason: str = "") -> KeyVersion:
        """Return the version after *event*, *until* being the end of the grace or quarantine that begins with it.

        Raises:
            WrongKeyState: its state does not allow that.
        """
        state = advance(VERSION_TRANSITIONS, f"version {self.version}", self.state, event, self.state_before)
        stopped = self.stopped_at
        if event is KeyEvent.ROTATE:
            stopped = until
        elif event is KeyEvent.REVOKE and (stopped is None or stopped > now + REVOKED_GRACE):
            stopped = now + REVOKED_GRACE
        destroyed = state is KeyState.DESTROYED
        return replace(
            self,
            state=state,
            state_at=now,
            state_reason=reason,
            state_before=self.state if state is KeyState.DESTRUCTION_SCHEDULED else None,
            stopped_at=stopped,
            until=until,
            forced_by=self.forced_by if state in (KeyState.DESTRUCTION_SCHEDULED, KeyState.DESTROYED) else "",
            wrapped=ERASED if destroyed else self.wrapped,
        )
