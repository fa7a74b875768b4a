"""Security events as values: what they are, how bad each kind is, and what may be answered without a human being."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NewType
from uuid import UUID

from .names import SecurityEventName, TenantUid
from .receipts import JsonValue, body_of, moment

EventUid = NewType("EventUid", UUID)

LONGEST_NOTES: Final = 4_096  # characters
LONGEST_INCIDENT: Final = 128
RISKIEST: Final = 100  # hundredths: 1.00


class Severity(StrEnum):
    """How soon somebody has to look, the least first."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def and_above(self) -> tuple[Severity, ...]:
        """This one and all that are worse."""
        every = tuple(Severity)
        return every[every.index(self) :]


class Category(StrEnum):
    """What an event belongs to."""

    THREAT_DETECTION = "threat_detection"
    ACCESS_VIOLATION = "access_violation"
    POLICY_VIOLATION = "policy_violation"
    ANOMALY = "anomaly"
    INCIDENT = "incident"
    VULNERABILITY = "vulnerability"


class EventType(StrEnum):
    """What has been noticed."""

    REPEATED_DENIALS = "repeated_denials"
    TOKEN_BRUTE_FORCE = "token_brute_force"  # noqa: S105  a kind, not a secret
    UNAUTHORIZED_ACCESS = "unauthorized_access"
    RATE_EXCEEDED = "rate_exceeded"
    DECRYPT_VOLUME = "decrypt_volume"
    DECRYPT_FAILURES = "decrypt_failures"
    QUARANTINED_KEY_USED = "quarantined_key_used"
    REVOKED_KEY_USED = "revoked_key_used"
    CANARY_TOUCHED = "canary_touched"
    TAMPERED_RECORD = "tampered_record"
    ROLLED_BACK_RECORD = "rolled_back_record"


class Answer(StrEnum):
    """What the daemon may do by itself."""

    NONE = "none"
    BLOCK_PRINCIPAL = "block_principal"
    SUSPEND_KEY = "suspend_key"


class Outcome(StrEnum):
    """What has come of an answer."""

    NOT_ASKED = ""
    DONE = "done"
    FAILED = "failed"
    NOT_AVAILABLE = "not_available"


@dataclass(frozen=True, slots=True)
class Kind:
    """What holds for all events of one type; *risk* is in hundredths."""

    severity: Severity
    category: Category
    risk: int
    blocked: bool  # whether what was noticed had been refused
    description: str
    answers: frozenset[Answer] = frozenset()


_BLOCK: Final = frozenset({Answer.BLOCK_PRINCIPAL})
_BOTH: Final = _BLOCK | {Answer.SUSPEND_KEY}
# A key is suspended only on what those do who may use it: nobody stops another's key by asking for it in vain.
KINDS: Final[Mapping[EventType, Kind]] = MappingProxyType(
    {
        EventType.REPEATED_DENIALS: Kind(
            Severity.MEDIUM, Category.ACCESS_VIOLATION, 50, True, "a caller was denied again and again", _BLOCK
        ),
        EventType.TOKEN_BRUTE_FORCE: Kind(
            Severity.HIGH, Category.THREAT_DETECTION, 70, True, "credentials that are none were tried again and again"
        ),
        EventType.UNAUTHORIZED_ACCESS: Kind(
            Severity.HIGH, Category.ACCESS_VIOLATION, 70, True, "a caller asked for what is another tenant's", _BLOCK
        ),
        EventType.RATE_EXCEEDED: Kind(
            Severity.LOW,
            Category.POLICY_VIOLATION,
            30,
            True,
            "a caller asked for more than its limits, repeatedly",
            _BLOCK,
        ),
        EventType.DECRYPT_VOLUME: Kind(
            Severity.HIGH, Category.ANOMALY, 70, False, "a caller decrypts far more than it used to", _BLOCK
        ),
        EventType.DECRYPT_FAILURES: Kind(
            Severity.MEDIUM, Category.ANOMALY, 50, True, "decryptions under one key failed, one after the other", _BOTH
        ),
        EventType.QUARANTINED_KEY_USED: Kind(
            Severity.MEDIUM,
            Category.POLICY_VIOLATION,
            40,
            True,
            "a key or version that waits for its destruction was used",
        ),
        EventType.REVOKED_KEY_USED: Kind(
            Severity.HIGH, Category.POLICY_VIOLATION, 60, True, "a revoked key or version was used", _BLOCK
        ),
        EventType.CANARY_TOUCHED: Kind(
            Severity.CRITICAL, Category.INCIDENT, 90, False, "a key that nobody has a reason to use was used", _BOTH
        ),
        EventType.TAMPERED_RECORD: Kind(
            Severity.CRITICAL, Category.INCIDENT, 90, True, "a stored record contradicts itself or does not unwrap"
        ),
        EventType.ROLLED_BACK_RECORD: Kind(
            Severity.CRITICAL, Category.INCIDENT, 100, True, "the database shows an older state than was stored before"
        ),
    }
)


def risk_of(kind: EventType, count: int, threshold: int) -> int:
    """Return a score in hundredths: that of the type, and 5 more with each doubling of *count* above *threshold*."""
    doublings = max(count // max(threshold, 1), 1).bit_length() - 1
    return min(KINDS[kind].risk + 5 * doublings, RISKIEST)


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One event: what was noticed, how it was answered, and its investigation."""

    uid: EventUid
    tenant: TenantUid  # INSTALLATION_UID where it is nobody's
    type: EventType
    severity: Severity
    category: Category
    risk: int  # hundredths, 0 to 100
    first_at: datetime
    last_at: datetime
    count: int
    threshold: int  # the count at which it was raised
    created_at: datetime  # when it was stored, on whose node's clock
    description: str
    blocked: bool
    address: str = ""  # empty for a Unix socket
    principal: str = ""  # empty where it is not known
    credential_kind: str = ""
    credential_id: str = ""  # a certificate's SHA-256 or a token's prefix; never a secret
    method: str = ""
    resource: str = ""
    request_id: str = ""  # of the call that raised it
    indicators: tuple[str, ...] = ()
    answer: Answer = Answer.NONE
    outcome: Outcome = Outcome.NOT_ASKED
    notes: str = ""
    false_alarm: bool | None = None  # None: nobody has said
    incident: str = ""
    resolved_at: datetime | None = None
    resolved_by: str = ""
    revision: int = 0

    def name(self, tenant: str | None) -> SecurityEventName:
        """The resource name; *tenant* is the owner's slug, None for the installation."""
        return SecurityEventName(tenant, self.uid)

    @property
    def etag(self) -> str:
        """Changes with every change of the event."""
        return str(self.revision)

    @property
    def day(self) -> int:
        """The day on which it began, in UTC, as the number of days since 1970-01-01."""
        return (self.first_at.date() - EPOCH_DAY).days


EPOCH_DAY: Final = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class DaySum:
    """The events of one day, type and severity: how many, how often what they tell of occurred, how many are resolved."""

    day: date
    type: EventType
    severity: Severity
    events: int
    occurrences: int
    resolved: int


def event_body(event: SecurityEvent, tenant: str | None) -> str:
    """Return what a sink is told of an event, as canonical JSON."""
    fields: dict[str, JsonValue] = {
        "name": str(event.name(tenant)),
        "type": event.type.value,
        "severity": event.severity.value,
        "category": event.category.value,
        "risk": event.risk,
        "first_time": moment(event.first_at),
        "last_time": moment(event.last_at),
        "count": event.count,
        "description": event.description,
        "blocked": event.blocked,
        "address": event.address,
        "principal": event.principal,
        "credential_kind": event.credential_kind,
        "credential_id": event.credential_id,
        "method": event.method,
        "resource": event.resource,
        "request_id": event.request_id,
        "indicators": list(event.indicators),
        "answer": event.answer.value,
        "outcome": event.outcome.value,
    }
    return body_of(fields)
