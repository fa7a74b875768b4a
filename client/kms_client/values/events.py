"""Security events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import IntEnum


class Severity(IntEnum):
    """How soon somebody has to look, the least first."""

    INFO = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One event: `tenants/{tenant}/securityEvents/{event}` or `installation/securityEvents/{event}`."""

    name: str
    type: str  # such as `repeated_denials`; docs/security-events.md has them all
    severity: Severity | int
    category: str
    risk: float  # 0.0 to 1.0
    first_time: datetime
    last_time: datetime
    count: int  # it may grow until the event's window is over
    create_time: datetime  # when it was stored
    description: str
    indicators: tuple[str, ...]
    blocked: bool  # what it tells of had been refused
    address: str  # empty for a Unix socket
    principal: str  # empty for a caller who is not known
    credential_kind: str
    credential_id: str  # a certificate's SHA-256 or a token's prefix
    method: str
    resource: str
    request_id: str  # of the call that raised it
    answer: str  # `none`, `block_principal` or `suspend_key`
    outcome: str  # empty, `done`, `failed` or `not_available`
    notes: str
    false_alarm: bool | None  # None: nobody has said
    incident: str
    resolve_time: datetime | None
    resolver: str
    etag: str

    @property
    def resolved(self) -> bool:
        """Whether somebody has resolved it."""
        return self.resolve_time is not None


@dataclass(frozen=True, slots=True)
class SecurityEventSum:
    """The events of one day (UTC), type and severity."""

    day: date
    type: str
    severity: Severity | int
    events: int
    occurrences: int
    resolved: int
