"""The rules that a key lives by, as one immutable value: named and versioned for a tenant, and narrowed for a key."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Final

from .names import TenantUid
from .suites import RULES, Purpose, Suite

NEVER: Final = timedelta(0)

# A replaced version may be in use by nodes that have not heard, for as long as their records live and a call lasts.
SHORTEST_GRACE: Final = timedelta(minutes=1)
LONGEST_GRACE: Final = timedelta(days=30)
SHORTEST_ROTATION: Final = timedelta(hours=1)
LONGEST_ROTATION: Final = timedelta(days=3653)
SHORTEST_CACHE: Final = timedelta(seconds=1)
LONGEST_CACHE: Final = timedelta(days=1)
SHORTEST_QUARANTINE: Final = timedelta(days=7)
LONGEST_QUARANTINE: Final = timedelta(days=3653)
# Below this a key would rotate faster than its rotations can be carried out.
SMALLEST_LIMIT: Final = 1_000
# How far before its own limit a version is replaced: half of it is left for what is encrypted meanwhile.
ROTATE_BEFORE_LIMIT: Final = 2

DEFAULT_WAITING: Final = timedelta(days=30)  # before a key is destroyed
SHORTEST_WAITING: Final = timedelta(days=7)
LONGEST_WAITING: Final = timedelta(days=3653)


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for a key."""

    rotation: timedelta = timedelta(hours=24)  # NEVER: not by time
    encryption_limit: int = 0  # encryptions under one version; 0: the suite's own limit
    cache_lifetime: timedelta = timedelta(minutes=5)  # of a DEK in a daemon's memory
    quarantine: timedelta = SHORTEST_QUARANTINE  # between retirement and destruction of a version
    grace: timedelta = timedelta(minutes=10)  # in which a replaced version may still encrypt
    automatic_retirement: bool = False  # a version whose census is zero goes to quarantine by itself


DEFAULT: Final = Policy()


@dataclass(frozen=True, slots=True)
class Overrides:
    """What one key has otherwise than its policy; None: as the policy."""

    rotation: timedelta | None = None
    encryption_limit: int | None = None
    cache_lifetime: timedelta | None = None
    quarantine: timedelta | None = None
    grace: timedelta | None = None
    automatic_retirement: bool | None = None


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A tenant's policy under a name; a change makes the next version and leaves the older ones as they are."""

    tenant: TenantUid
    slug: str
    version: int
    policy: Policy
    created_at: datetime
    created_by: str
    revision: int = 0


def effective(policy: Policy, overrides: Overrides, purpose: Purpose) -> Policy:
    """Return what holds for a key with these overrides.

    A deterministic key is never rotated by itself, neither by time nor by count: equal values would differ from then on.
    """
    own = {f.name: value for f in fields(overrides) if (value := getattr(overrides, f.name)) is not None}
    result = replace(policy, **own)
    return replace(result, rotation=NEVER, encryption_limit=0) if purpose is Purpose.DETERMINISTIC else result


def stop_at(policy: Policy, suite: Suite) -> int | None:
    """Return how many encryptions one version may ever make; None for no limit."""
    limits = [limit for limit in (RULES[suite].stop_at, policy.encryption_limit or None) if limit is not None]
    return min(limits) if limits else None


def rotate_at(policy: Policy, suite: Suite) -> int | None:
    """Return at how many encryptions a version is replaced; None for a version without a limit."""
    own = policy.encryption_limit // ROTATE_BEFORE_LIMIT or None
    limits = [limit for limit in (RULES[suite].rotate_at, own) if limit is not None]
    return min(limits) if limits else None
