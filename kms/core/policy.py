"""The rules that a key lives by, as one immutable value: named and versioned for a tenant, and narrowed for a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from .classification import CLASSES, Classification, rule
from .context import DETERMINISTIC_KEYS
from .errors import Violation
from .names import TenantUid
from .suites import ROTATED_BY_HAND, RULES, ProtectionLevel, Purpose, Suite

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

MOST_REQUIRED: Final = 16  # keys of a context
MOST_APPROVALS: Final = 10

# The one suite whose keys are leasable: its random 192-bit nonces are distinct whoever draws them, and however many do.
LEASABLE_SUITE: Final = Suite.XAES_256_GCM

# No step that needs no approval may take one of these from a key.
_NO_LOWERING: Final = "rule no_lowering"


class AuditContext(StrEnum):
    """How the audit trail shows the values of contexts."""

    HASHED = "hashed"  # under a key that the token guards: equal values look equal
    PLAIN = "plain"
    NONE = "none"  # neither values, nor keys, nor a digest


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for a key."""

    rotation: timedelta = timedelta(hours=24)  # NEVER: not by time
    encryption_limit: int = 0  # encryptions under one version; 0: the suite's own limit
    cache_lifetime: timedelta = timedelta(minutes=5)  # of a DEK in a daemon's memory
    quarantine: timedelta = SHORTEST_QUARANTINE  # between retirement and destruction of a version
    grace: timedelta = timedelta(minutes=10)  # in which a replaced version may still encrypt
    automatic_retirement: bool = False  # a version whose census is zero goes to quarantine by itself
    classification: Classification = Classification.INTERNAL
    # The rest is demanded beyond what the class demands.
    required_context: tuple[str, ...] = ()  # keys that every context must have, ordered, each once
    log_data_access: bool = False  # each use of a key is logged on its own
    approvals: int = 0  # at least so many for dangerous operations
    audit_context: AuditContext = AuditContext.HASHED


DEFAULT: Final = Policy()

# For every tenant, and stored for none: each class as a policy, by its slug.
BUILT_IN: Final = MappingProxyType(
    {
        classification.slug: Policy(
            classification=classification, cache_lifetime=min(DEFAULT.cache_lifetime, rules.longest_cache)
        )
        for classification, rules in CLASSES.items()
    }
)


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

    A deterministic or index key is never rotated by itself, neither by time nor by count: equal values would differ from
    then on.
    """
    own = {f.name: value for f in fields(overrides) if (value := getattr(overrides, f.name)) is not None}
    result = replace(policy, **own)
    return replace(result, rotation=NEVER, encryption_limit=0) if purpose in ROTATED_BY_HAND else result


def stop_at(policy: Policy, suite: Suite) -> int | None:
    """Return how many encryptions one version may ever make; None for no limit."""
    limits = [limit for limit in (RULES[suite].stop_at, policy.encryption_limit or None) if limit is not None]
    return min(limits) if limits else None


def rotate_at(policy: Policy, suite: Suite) -> int | None:
    """Return at how many encryptions a version is replaced; None for a version without a limit."""
    own = policy.encryption_limit // ROTATE_BEFORE_LIMIT or None
    limits = [limit for limit in (RULES[suite].rotate_at, own) if limit is not None]
    return min(limits) if limits else None


def required_context(policy: Policy) -> frozenset[str]:
    """Return the keys that every context must have: its class's and its own."""
    return frozenset(CLASSES[policy.classification].required_context).union(policy.required_context)


def logs_data_access(policy: Policy) -> bool:
    """Whether each use of a key is logged on its own: its class says so, or the policy itself."""
    return CLASSES[policy.classification].log_data_access or policy.log_data_access


def least_quorum(policy: Policy) -> int:
    """Return how many approvals a dangerous operation needs at least, by its class and by itself."""
    return max(CLASSES[policy.classification].least_approvals, policy.approvals)


def policy_violations(policy: Policy) -> tuple[Violation, ...]:
    """Return which rules of its class a policy breaks, whatever key names it; fields bear their names in the API."""
    return (*_rotation_violations(policy), *_cache_violations(policy))


def violations(
    policy: Policy, purpose: Purpose, suite: Suite, level: ProtectionLevel, *, leasable: bool
) -> tuple[Violation, ...]:
    """Return which rules of its class a key breaks that lives by *policy*, its own overrides in it."""
    classification, rules = policy.classification, CLASSES[policy.classification]
    broken = list(_cache_violations(policy))
    if purpose not in ROTATED_BY_HAND:  # whatever the class
        broken += _rotation_violations(policy)
    for field, chosen, allowed in (
        ("purpose", purpose, rules.purposes),
        ("suite", suite, rules.suites),
        ("protection_level", level, rules.levels),
    ):
        if chosen not in allowed:
            names = " or ".join(choice.name for choice in allowed)
            broken.append(Violation(field, f"must be {names} ({rule(classification, field)})"))
    if purpose is Purpose.DETERMINISTIC and not required_context(policy) <= DETERMINISTIC_KEYS:
        beyond = ", ".join(sorted(required_context(policy) - DETERMINISTIC_KEYS))
        must = f"must not require {beyond} in the context of a DETERMINISTIC key"
        broken.append(Violation("policy", f"{must} ({rule(classification, 'required_context')})"))
    if leasable:
        broken += _lease_violations(policy, purpose, suite)
    return tuple(broken)


def level_violations(level: ProtectionLevel, purpose: Purpose, *, leasable: bool) -> tuple[Violation, ...]:
    """Return what a new key of a level cannot be, whatever its class."""
    if level is not ProtectionLevel.ENCLAVE:
        return ()
    broken = []
    if purpose is not Purpose.ENCRYPT:
        broken.append(Violation("purpose", "must be ENCRYPT for protection level ENCLAVE: nothing else runs in one"))
    if leasable:
        broken.append(Violation("leasable", "must be false for protection level ENCLAVE: its DEKs do not leave it"))
    return tuple(broken)


def lowered(old: Policy, new: Policy) -> tuple[Violation, ...]:
    """Return what a key that goes from one policy to another would lose of the protection that its class is for."""
    lost: list[str] = []
    if new.classification < old.classification:
        lost.append(f"must not bring the key from class {old.classification.name} to {new.classification.name}")
    if missing := required_context(old) - required_context(new):
        lost.append(f"must still require {', '.join(sorted(missing))} in the context")
    if logs_data_access(old) and not logs_data_access(new):
        lost.append("must still log each data access")
    if least_quorum(new) < least_quorum(old):
        lost.append(f"must still need {least_quorum(old)} approvals")
    return tuple(Violation("policy", f"{must} ({_NO_LOWERING})") for must in lost)


def _lease_violations(policy: Policy, purpose: Purpose, suite: Suite) -> Iterator[Violation]:
    """Say why DEKs under such rules may not be leased: nobody counts, logs or looks at what applications do with them."""
    if purpose is not Purpose.ENCRYPT:
        yield Violation("leasable", f"must be false for purpose {purpose.name}: only ENCRYPT keys are leased")
    elif suite is not LEASABLE_SUITE:
        yield Violation("leasable", f"must be false for suite {suite.name}: only {LEASABLE_SUITE.name} keys are leased")
    if logs_data_access(policy):
        by_class = CLASSES[policy.classification].log_data_access
        of = rule(policy.classification, "log_data_access") if by_class else "log_data_access of the policy"
        yield Violation("leasable", f"must be false where each data access is logged ({of})")
    if required_context(policy):
        pairs = ", ".join(sorted(required_context(policy)))
        yield Violation(
            "leasable", f"must be false where contexts must have {pairs}: no daemon sees those of applications"
        )
    if policy.encryption_limit:
        yield Violation("leasable", "must be false with an encryption_limit: what applications encrypt is not counted")


def _rotation_violations(policy: Policy) -> tuple[Violation, ...]:
    longest = CLASSES[policy.classification].longest_rotation
    if longest is None or NEVER < policy.rotation <= longest:
        return ()
    must = f"must be at most {longest.days} days, and not never"
    return (Violation("rotation_period", f"{must} ({rule(policy.classification, 'rotation_period')})"),)


def _cache_violations(policy: Policy) -> tuple[Violation, ...]:
    longest = CLASSES[policy.classification].longest_cache
    if policy.cache_lifetime <= longest:
        return ()
    must = f"must be at most {longest // timedelta(seconds=1)} seconds"
    return (Violation("cache_lifetime", f"{must} ({rule(policy.classification, 'cache_lifetime')})"),)
