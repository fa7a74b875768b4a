"""The rules that keys live by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from ..formats.suites import ProtectionLevel, Purpose, Suite


class Classification(IntEnum):
    """How much harm follows when data is disclosed, in rising order."""

    PUBLIC = 1
    INTERNAL = 2
    CONFIDENTIAL = 3
    SECRET = 4  # for daemons with an enclave


class AuditContext(IntEnum):
    """How the audit trail shows the values of contexts."""

    HASHED = 1  # under a key that the token guards
    PLAIN = 2
    NONE = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of a tenant's named rules for keys: `tenants/{tenant}/policies/{policy}`."""

    name: str
    version: int  # 0: built in
    rotation_period: timedelta  # zero: not by time
    encryption_limit: int  # of one version; 0: the suite's own
    cache_lifetime: timedelta
    quarantine_period: timedelta
    grace_period: timedelta
    automatic_retirement: bool
    create_time: datetime
    creator: str
    classification: Classification | int
    # What is demanded beyond what the class demands.
    required_context: tuple[str, ...]
    log_data_access: bool
    approvals: int
    audit_context: AuditContext | int


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What holds for a key: its policy's rules, with what the key has otherwise."""

    rotation_period: timedelta  # zero: not by time
    encryption_limit: int | None  # of one version; None: the suite has no limit
    cache_lifetime: timedelta
    quarantine_period: timedelta
    grace_period: timedelta
    automatic_retirement: bool
    policy_version: int  # of the named policy; 0: a built-in one
    required_context: tuple[str, ...]  # keys that every context must have, by class and policy
    log_data_access: bool
    approvals: int  # that a dangerous operation needs at least
    audit_context: AuditContext | int


@dataclass(frozen=True, slots=True)
class ClassRules:
    """What a class demands of its keys; a policy of the class may demand more and never less."""

    classification: Classification | int
    available: bool  # whether keys of the class can be made on this daemon
    encryption_required: bool
    protection_levels: tuple[ProtectionLevel | int, ...]
    purposes: tuple[Purpose | int, ...]
    suites: tuple[Suite | int, ...]
    required_context: tuple[str, ...]
    longest_rotation_period: timedelta | None  # None: no limit, and not by time is allowed
    longest_cache_lifetime: timedelta
    log_data_access: bool
    approvals: int
