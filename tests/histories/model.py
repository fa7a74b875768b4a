"""What keys, versions and counts must be after every step, told from the words of docs/ and proto/, without kms/core.

The model is an honest application: it holds the values that it has encrypted in places, counts them truly, and declares
the places complete only where they are.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
HORIZON = 10 * DAY  # of backups; longer than the shortest quarantine and waiting period
DEADLINE = timedelta(seconds=5)  # of revocations
KEK_PERIOD = 90 * DAY

PENDING, ACTIVE, ROTATING, SUSPENDED = "pending", "active", "rotating", "suspended"
ARCHIVED, REVOKED, LEAVING, DESTROYED = "archived", "revoked", "destruction_scheduled", "destroyed"

# What a key, and a version, may be used for in a state.
ENCRYPTING = frozenset({ACTIVE, ROTATING})
DECRYPTING = ENCRYPTING | {ARCHIVED}
RESCUING = DECRYPTING | {REVOKED}
# From which states a command goes where.
COMMANDS: dict[str, tuple[frozenset[str], str]] = {
    "activate": (frozenset({PENDING}), ACTIVE),
    "suspend": (ENCRYPTING, SUSPENDED),
    "resume": (frozenset({SUSPENDED}), ACTIVE),
    "archive": (ENCRYPTING | {SUSPENDED}, ARCHIVED),
    "revoke": (frozenset({PENDING, ACTIVE, ROTATING, SUSPENDED, ARCHIVED, LEAVING}), REVOKED),
    "schedule": (frozenset({PENDING, ACTIVE, ROTATING, SUSPENDED, ARCHIVED, REVOKED}), LEAVING),
}
REVOCABLE = frozenset({PENDING, ACTIVE, ROTATING, ARCHIVED, LEAVING})  # versions
RETIRABLE = frozenset({ARCHIVED, REVOKED})

FIELDS = frozenset({"ENCRYPT", "DETERMINISTIC"})
STORES = ("col-one", "col-two")


@dataclass(frozen=True)
class Expected:
    """What a call may answer: success, or one of these errors."""

    success: bool
    errors: frozenset[str] = frozenset()

    def __or__(self, other: Expected) -> Expected:
        return Expected(self.success or other.success, self.errors | other.errors)


YES = Expected(success=True)


def unless(errors: Iterable[str]) -> Expected:
    """Success where nothing speaks against it, otherwise one of the reasons that do."""
    found = frozenset(errors)
    return Expected(not found, found)


@dataclass
class Rules:
    """What holds for a key: the built-in policy."""

    rotation: timedelta = DAY
    encryption_limit: int = 0
    quarantine: timedelta = 7 * DAY
    grace: timedelta = 10 * MINUTE
    cache_lifetime: timedelta = 5 * MINUTE
    automatic_retirement: bool = False


@dataclass
class Policy:
    version: int
    rules: dict[str, Any]


@dataclass
class Place:
    counted: datetime | None = None
    counts: Tally[int] = field(default_factory=Tally)


@dataclass
class Version:
    number: int
    state: str
    before: str | None = None
    until: datetime | None = None
    stops: datetime | None = None  # from then on no node encrypts under it
    made: int = 0  # encryptions
    reserved: int = 0
    decrypted: datetime | None = None
    refusals: int = 0
    refused: datetime | None = None
    held: datetime | None = None  # when its destruction was due and its census did not allow it

    def revoke(self, now: datetime) -> None:
        if self.stops is None or self.stops > now + MINUTE:
            self.stops = now + MINUTE
        self.state, self.before, self.until = REVOKED, None, None

    def replaced(self, now: datetime, grace: timedelta) -> None:
        self.state = ROTATING
        self.until = self.stops = now + grace

    def retire(self, until: datetime) -> None:
        self.before, self.state, self.until, self.held = self.state, LEAVING, until, None

    def restore(self) -> None:
        assert self.before is not None
        self.state, self.before, self.until = self.before, None, None

    def destroy(self) -> None:
        self.state, self.before, self.until = DESTROYED, None, None


@dataclass
class Key:
    slug: str
    purpose: str
    state: str
    versions: dict[int, Version]
    scheduled_from: datetime
    rotated: datetime
    policy: str = ""
    overrides: dict[str, Any] = field(default_factory=dict)
    before: str | None = None
    destroy_at: datetime | None = None
    begun: bool = False  # its destruction: there is no way back but a revocation
    held: datetime | None = None
    stops: datetime | None = None
    unplanned: bool = False  # its policy has changed, and the operation that follows has not come to it
    places: dict[str, Place] = field(default_factory=dict)
    complete: bool = False

    @property
    def last(self) -> Version:
        """The primary version."""
        return self.versions[max(self.versions)]

    @property
    def live(self) -> list[Version]:
        return [version for version in self.versions.values() if version.state != DESTROYED]

    def step(self, command: str, now: datetime) -> None:
        """Go on after a command that the state allows."""
        after = COMMANDS[command][1]
        self.before = self.state if after == LEAVING else None
        if after in ENCRYPTING:
            self.stops = None
        elif self.stops is None:
            self.stops = now + MINUTE
        self.state = after
        if after != LEAVING:
            self.destroy_at, self.begun = None, False

    def cancel(self, now: datetime) -> None:
        assert self.before is not None
        self.state, self.before, self.destroy_at = self.before, None, None
        self.stops = None if self.state in ENCRYPTING else self.stops or now + MINUTE

    def replace_primary(self, now: datetime, grace: timedelta, scheduled_from: datetime, *, revoked: bool) -> None:
        """Make a new primary version; without a grace for the old one where it is *revoked*."""
        old = self.last
        if revoked:
            old.revoke(now)
        else:
            old.replaced(now, grace)
        self.versions[old.number + 1] = Version(old.number + 1, ACTIVE)
        self.rotated, self.scheduled_from = now, scheduled_from
        self.state = ROTATING
        self.settle_rotation()

    def settle_rotation(self) -> None:
        """A key is rotating as long as one of its versions is in its grace."""
        if self.state == ROTATING and not any(version.state == ROTATING for version in self.versions.values()):
            self.state = ACTIVE

    def stop_of(self, version: Version) -> datetime | None:
        """From when on no node encrypts under a version, by itself or with its key."""
        return min((time for time in (self.stops, version.stops) if time is not None), default=None)

    def zero(self, version: Version, now: datetime) -> bool | None:
        """Whether a version is known to protect nothing; None where uses, noted to the minute, leave it open."""
        stop = self.stop_of(version)
        stopped = stop is not None and stop <= now
        if version.reserved == 0 and version.refusals == 0 and (stopped or version.state == PENDING):
            return True  # it has never encrypted and never will
        if not stopped or not self.complete or not self.places:
            return False
        exact = True
        for place in self.places.values():
            if place.counted is None or place.counted < stop or place.counts[version.number]:
                return False
            for used in (version.decrypted, version.refused):
                if used is not None and place.counted < used + MINUTE:
                    return False
                exact = exact and (used is None or place.counted >= used + 2 * MINUTE)
        return True if exact else None

    def all_zero(self, now: datetime) -> bool | None:
        found = [self.zero(version, now) for version in self.live]
        return False if False in found else None if None in found else True


@dataclass
class Value:
    """A ciphertext that was returned, and where the application holds it; nowhere once it was deleted or replaced."""

    ciphertext: bytes
    plaintext: bytes
    context: tuple[tuple[str, bytes], ...]
    key: str
    version: int
    store: str | None


@dataclass
class Model:
    """A tenant as it should be."""

    now: datetime = START
    keys: dict[str, Key] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    primary_kek: int = 1
    kek_made: datetime = START
    rotating_all: datetime | None = None  # since when every key is to be rotated
    # What was held when the clock went on, newest last: an application may report later what it counted then.
    past: list[tuple[datetime, dict[tuple[str, str], Tally[int]]]] = field(default_factory=list)
    # So far: versions and keys that were destroyed.
    destroyed: set[str] = field(default_factory=set)

    def rules(self, key: Key) -> Rules:
        """What holds for a key."""
        chosen: dict[str, Any] = {}
        if key.policy:
            chosen |= self.policies[key.policy].rules
        chosen |= {name: value for name, value in key.overrides.items() if value is not None}
        rules = Rules(**chosen)
        if key.purpose == "DETERMINISTIC":  # never by itself: equal values would differ from then on
            rules.rotation, rules.encryption_limit = timedelta(0), 0
        return rules

    def slot(self, key: Key) -> datetime | None:
        """The scheduled time for which a new version is due; those that were missed before it count as this one."""
        period = self.rules(key).rotation
        if not period or key.state not in ENCRYPTING or self.now < key.scheduled_from + period:
            return None
        return key.scheduled_from + (self.now - key.scheduled_from) // period * period

    def quarantine_end(self, key: Key) -> datetime:
        return self.now + max(self.rules(key).quarantine, HORIZON)

    def held(self, key: str, store: str | None = None, version: int | None = None) -> list[Value]:
        """What the application still holds of a key: in one store or any, of one version or any."""
        return [
            value
            for value in self.values
            if value.key == key
            and value.store is not None
            and store in (None, value.store)
            and version in (None, value.version)
        ]

    def counts(self, key: str, store: str) -> Tally[int]:
        return Tally(value.version for value in self.held(key, store))

    def undeclared(self, key: Key) -> bool:
        """Whether the application holds values where no place of the key is declared."""
        return any(value.store not in key.places for value in self.held(key.slug))

    def store_for(self, key: Key, wanted: str) -> str | None:
        """Where a new value goes: an honest application uses no other place than those that it declared to be all."""
        if not key.complete or wanted in key.places:
            return wanted
        return next(iter(key.places), None)

    def wait(self, period: timedelta) -> None:
        self.past.append((self.now, {(key, store): self.counts(key, store) for key in self.keys for store in STORES}))
        self.now += period
