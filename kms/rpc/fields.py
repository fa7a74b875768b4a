"""Fields of requests parsed once into typed values; each rule stands beside its field in the .proto."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from kms.core.classification import Classification
from kms.core.context import Pair, check_key
from kms.core.errors import InvalidRequest, NotSupported, Violation, invalid
from kms.core.names import KeyName, PolicyName, QuorumRuleName, TenantName
from kms.core.policy import (
    DEFAULT,
    LONGEST_CACHE,
    LONGEST_GRACE,
    LONGEST_QUARANTINE,
    LONGEST_ROTATION,
    LONGEST_WAITING,
    MOST_APPROVALS,
    MOST_REQUIRED,
    NEVER,
    SHORTEST_CACHE,
    SHORTEST_GRACE,
    SHORTEST_QUARANTINE,
    SHORTEST_ROTATION,
    SHORTEST_WAITING,
    SMALLEST_LIMIT,
    AuditContext,
    Policy,
)
from kms.core.roles import ALL_PERMISSIONS
from kms.core.suites import ROTATED_BY_HAND, ProtectionLevel, Purpose, Suite
from kms.services.contexts import Varying
from kms.v1 import crypto_pb2, keys_pb2, policies_pb2

MOST_LABELS: Final = 32
LONGEST_DISPLAY_NAME: Final = 128
LONGEST_ETAG: Final = 64
LONGEST_REASON: Final = 256
LARGEST_LIMIT: Final = 2**63 - 1  # what the database stores
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")
_KEYS_SEGMENT: Final = "/keys/"
_HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)

# The rules of a policy: their names in the API, and in Policy and Overrides.
RULE_FIELDS: Final = MappingProxyType(
    {
        "rotation_period": "rotation",
        "encryption_limit": "encryption_limit",
        "cache_lifetime": "cache_lifetime",
        "quarantine_period": "quarantine",
        "grace_period": "grace",
        "automatic_retirement": "automatic_retirement",
    }
)
# What a policy alone may demand beyond its class: their names in the API, and in Policy.
PROTECTIONS: Final = ("classification", "required_context", "log_data_access", "approvals", "audit_context")
POLICY_FIELDS: Final = (*RULE_FIELDS, *PROTECTIONS)
_PERIODS: Final = MappingProxyType(
    {
        "rotation_period": (_HOUR, SHORTEST_ROTATION, LONGEST_ROTATION),
        "cache_lifetime": (_SECOND, SHORTEST_CACHE, LONGEST_CACHE),
        "quarantine_period": (_HOUR, SHORTEST_QUARANTINE, LONGEST_QUARANTINE),
        "grace_period": (_SECOND, SHORTEST_GRACE, LONGEST_GRACE),
    }
)
# Of no use to a key that is never rotated by itself.
_ROTATING_FIELDS: Final = frozenset({"rotation_period", "encryption_limit"})


def parse_display_name(text: str, field: str) -> str:
    """Check a text for people: at most 128 characters, none of them a control character."""
    return parse_text(text, field, LONGEST_DISPLAY_NAME)


def parse_text(text: str, field: str, longest: int) -> str:
    """Check a text for people: at most *longest* characters, none of them a control character."""
    if len(text) > longest:
        raise invalid(field, f"must have at most {longest} characters")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise invalid(field, "must not contain control characters")
    return text


def parse_labels(labels: Mapping[str, str], field: str) -> dict[str, str]:
    """Check labels: at most 32 pairs."""
    if len(labels) > MOST_LABELS:
        raise invalid(field, f"must have at most {MOST_LABELS} pairs")
    violations = []
    for key, value in labels.items():
        if _LABEL_KEY.fullmatch(key) is None:
            violations.append(Violation(field, "each key must match [a-z][a-z0-9_-]{0,62}"))
        if _LABEL_VALUE.fullmatch(value) is None:
            violations.append(Violation(field, "each value must match [A-Za-z0-9_.-]{0,63}"))
    if violations:
        raise InvalidRequest(*dict.fromkeys(violations))
    return dict(labels)


def parse_purpose(number: int) -> Purpose:
    """Read the purpose of a new key, which must be given."""
    try:
        return Purpose(number)
    except ValueError as error:
        names = ", ".join(purpose.name for purpose in Purpose)
        raise invalid("key.purpose", f"must be one of {names}") from error


def parse_suite(number: int) -> Suite | None:
    """Read the suite of a new key; None where it is left to the purpose."""
    if number == 0:
        return None
    try:
        return Suite(number)
    except ValueError as error:
        names = ", ".join(suite.name for suite in Suite)
        raise invalid("key.suite", f"must be one of {names}") from error


def parse_level(number: int) -> ProtectionLevel | None:
    """Read the protection level of a new key; None where it is left to its class.

    Raises:
        NotSupported: a level of a later release.
    """
    if number == 0:
        return None
    try:
        level = ProtectionLevel(number)
    except ValueError as error:
        raise invalid("key.protection_level", "must be SOFTWARE or ENCLAVE") from error
    if level is ProtectionLevel.HSM:
        raise NotSupported(f"protection level {level.name} is not in this release")
    return level


def parse_reason(text: str, field: str = "reason") -> str:
    """Check why something is done: 1 to 256 characters, none of them a control character."""
    if not 1 <= len(text) <= LONGEST_REASON:
        raise invalid(field, f"must have 1 to {LONGEST_REASON} characters")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise invalid(field, "must not contain control characters")
    return text


def parse_waiting(present: bool, period: Duration) -> timedelta | None:
    """Read the waiting period before a destruction; None where it is left to the daemon."""
    return parse_hours(period, "waiting_period", SHORTEST_WAITING, LONGEST_WAITING) if present else None


def parse_owner(text: str, field: str) -> KeyName | TenantName:
    """Read the name of a key, or of a tenant."""
    return KeyName.parse(text, field) if _KEYS_SEGMENT in text else TenantName.parse(text, field)


def parse_quorum_rule(text: str, field: str) -> QuorumRuleName:
    """Read the name of a quorum rule, of a permission that there is: others are not asked to approve nonsense."""
    name = QuorumRuleName.parse(text, field)
    if name.permission not in ALL_PERMISSIONS:
        raise invalid(field, "must end in a permission, such as keys.destroy")
    return name


def parse_policy_of(text: str, parent: TenantName) -> str:
    """Read the policy of a key as its slug; empty for the built-in one."""
    if not text:
        return ""
    name = PolicyName.parse(text, "key.policy")
    if name.parent != parent:
        raise invalid("key.policy", "must be a policy of the key's tenant")
    return name.policy


def parse_overrides(key: keys_pb2.Key, paths: Iterable[str], purpose: Purpose) -> dict[str, Any]:
    """Read what a key has otherwise than its policy, by the names of Overrides; None where the key lacks it."""
    overrides: dict[str, Any] = {}
    for path in paths:
        if not key.HasField(path):
            overrides[RULE_FIELDS[path]] = None
            continue
        if purpose in ROTATED_BY_HAND and path in _ROTATING_FIELDS:
            raise invalid(f"key.{path}", f"must be absent for a key of purpose {purpose.name}")
        overrides[RULE_FIELDS[path]] = _parse_rule(key, path, "key")
    return overrides


def parse_rules(policy: policies_pb2.Policy, paths: Iterable[str], default: Policy = DEFAULT) -> dict[str, Any]:
    """Read rules of a policy, by the names of Policy; those of *default* where the message lacks one."""
    rules: dict[str, Any] = {}
    for path in paths:
        if path in PROTECTIONS:
            rules[path] = _PROTECTIONS[path](policy)
            continue
        name = RULE_FIELDS[path]
        if path in _PERIODS and not policy.HasField(path):
            rules[name] = getattr(default, name)
        elif path == "rotation_period" and policy.rotation_period == Duration():
            rules[name] = NEVER
        elif path == "encryption_limit" and policy.encryption_limit == 0:
            rules[name] = 0
        else:
            rules[name] = _parse_rule(policy, path, "policy")
    return rules


def parse_classification(number: int) -> Classification:
    """Read the class of a policy; INTERNAL where it is left to the daemon."""
    try:
        return Classification(number or Classification.INTERNAL)
    except ValueError as error:
        names = ", ".join(classification.name for classification in Classification)
        raise invalid("policy.classification", f"must be one of {names}") from error


def _parse_required(policy: policies_pb2.Policy) -> tuple[str, ...]:
    keys, field = policy.required_context, "policy.required_context"
    if len(keys) > MOST_REQUIRED:
        raise invalid(field, f"must have at most {MOST_REQUIRED} keys")
    if len(set(keys)) < len(keys):
        raise invalid(field, "must name each key once")
    return tuple(sorted(check_key(key, f"{field}[{index}]") for index, key in enumerate(keys)))


def _parse_approvals(policy: policies_pb2.Policy) -> int:
    if policy.approvals > MOST_APPROVALS:
        raise invalid("policy.approvals", f"must be 0 to {MOST_APPROVALS}")
    return int(policy.approvals)


def _parse_audit_context(policy: policies_pb2.Policy) -> AuditContext:
    shown = {0: AuditContext.HASHED, 1: AuditContext.HASHED, 2: AuditContext.PLAIN, 3: AuditContext.NONE}
    try:
        return shown[policy.audit_context]
    except KeyError as error:
        names = ", ".join(f"AUDIT_CONTEXT_{context.name}" for context in AuditContext)
        raise invalid("policy.audit_context", f"must be one of {names}") from error


_PROTECTIONS: Final[Mapping[str, Callable[[policies_pb2.Policy], Any]]] = MappingProxyType(
    {
        "classification": lambda policy: parse_classification(policy.classification),
        "required_context": _parse_required,
        "log_data_access": lambda policy: bool(policy.log_data_access),
        "approvals": _parse_approvals,
        "audit_context": _parse_audit_context,
    }
)


def parse_mask(paths: Sequence[str], known: Sequence[str]) -> list[str]:
    """Read the paths of an update_mask that is not empty; `*` stands for all (AIP-134)."""
    if list(paths) == ["*"]:
        return list(known)
    if unknown := [path for path in paths if path not in known]:
        raise invalid("update_mask", f"{unknown[0][:64]!r} must be one of {', '.join(known)}")
    if not paths:
        raise invalid("update_mask", f"must name at least one of {', '.join(known)}")
    return list(paths)


def _parse_rule(message: keys_pb2.Key | policies_pb2.Policy, path: str, prefix: str) -> Any:
    value, field = getattr(message, path), f"{prefix}.{path}"
    if path in _PERIODS:
        return _parse_period(value, field, *_PERIODS[path])
    if path == "encryption_limit":
        if not SMALLEST_LIMIT <= value <= LARGEST_LIMIT:
            least = SMALLEST_LIMIT if prefix == "key" else f"0, or {SMALLEST_LIMIT}"
            raise invalid(field, f"must be {least} to {LARGEST_LIMIT}")
        return value
    return bool(value)


def parse_hours(period: Duration, field: str, shortest: timedelta, longest: timedelta) -> timedelta:
    """Read a period of whole hours."""
    return _parse_period(period, field, _HOUR, shortest, longest)


def parse_seconds(period: Duration, field: str, shortest: timedelta, longest: timedelta) -> timedelta:
    """Read a period of whole seconds."""
    return _parse_period(period, field, _SECOND, shortest, longest)


def _parse_period(period: Duration, field: str, unit: timedelta, shortest: timedelta, longest: timedelta) -> timedelta:
    name = "hours" if unit == _HOUR else "seconds"
    least, most = shortest // unit, longest // unit
    number, rest = divmod(period.seconds, unit // _SECOND)
    if rest or period.nanos or not least <= number <= most:
        raise invalid(field, f"must be whole {name}, {least} to {most}")
    return number * unit


def parse_etag(text: str, field: str = "etag") -> str:
    """Check an etag; empty for none."""
    if len(text) > LONGEST_ETAG:
        raise invalid(field, f"must have at most {LONGEST_ETAG} characters")
    return text


def pairs_of(context: Iterable[crypto_pb2.ContextPair]) -> list[Pair]:
    """Return the pairs as given; the core checks them."""
    return [(pair.key, pair.value) for pair in context]


def varying_of(request: Any) -> Varying | None:
    """Return the varying pair of a batch, None where there is none."""
    if not request.HasField("varying"):
        return None
    return Varying(request.varying.key, request.varying.values[:])
