"""The rules that keys live by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of a tenant's named rules for keys: `tenants/{tenant}/policies/{policy}`."""

    name: str
    version: int
    rotation_period: timedelta  # zero: not by time
    encryption_limit: int  # of one version; 0: the suite's own
    cache_lifetime: timedelta
    quarantine_period: timedelta
    grace_period: timedelta
    automatic_retirement: bool
    create_time: datetime
    creator: str


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What holds for a key: its policy's rules, with what the key has otherwise."""

    rotation_period: timedelta  # zero: not by time
    encryption_limit: int | None  # of one version; None: the suite has no limit
    cache_lifetime: timedelta
    quarantine_period: timedelta
    grace_period: timedelta
    automatic_retirement: bool
    policy_version: int  # of the named policy; 0: the built-in one
