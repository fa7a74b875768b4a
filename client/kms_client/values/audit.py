"""The audit trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One event: `tenants/{tenant}/auditEvents/{stream}-{sequence}`, or of the installation."""

    name: str
    stream: str  # UUID, new with every start of a daemon
    sequence: int  # from 1, without gaps in a stream
    time: datetime
    action: str  # such as `/kms.v1.KeyService/CreateKey`
    category: str
    phase: str  # `intent`, `outcome` or `act`
    outcome: str  # `success`, `failure`, `error`, `partial`, or empty for an intent
    code: str
    error: str
    error_message: str
    severity: str
    risk: int  # hundredths, 0 to 100
    tenant: str  # UUID; zeroes for the installation
    principal: str
    roles: str
    credential_kind: str
    credential_id: str
    address: str
    user_agent: str
    request_id: str
    correlation_id: str
    approval: str
    reason: str
    intent_stream: str
    intent_sequence: int
    node: str
    release: str
    region: str
    resource_type: str
    resource: str
    key: str  # UUID, or empty
    key_version: int
    context: str  # JSON
    context_digest: bytes
    classification: str
    sensitivity: str
    items: int
    failures: int
    items_digest: bytes
    bytes_in: int
    bytes_out: int
    duration_us: int  # microseconds
    details: str  # JSON
    changes: str  # JSON; empty for those who may not see it, and in lists
    has_changes: bool
    retention: str
    keep_time: datetime | None  # None: for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which events are wanted; all of it must hold. Fields are those of AuditEvent by their names."""

    since: datetime | None = None  # then or later
    until: datetime | None = None  # before
    equal: Mapping[str, Sequence[str]] = field(default_factory=dict)  # one of these values
    begins: Mapping[str, Sequence[str]] = field(default_factory=dict)  # `action` or `resource` begins with one of these
    least: Mapping[str, int] = field(default_factory=dict)
    context: tuple[str, str] | None = None  # a pair of the context
    beyond: Mapping[str, int] = field(default_factory=dict)  # of these streams, only later numbers


@dataclass(frozen=True, slots=True)
class AuditParameter:
    """What a named query wants to know."""

    name: str
    description: str
    required: bool
    default: str


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """A named query; with *groups* it sums up."""

    name: str
    description: str
    parameters: tuple[AuditParameter, ...]
    columns: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuditAnswer:
    """What a named query has found: rows by column, in which numbers are numbers."""

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str | int], ...]
    since: datetime
    until: datetime
    next_page_token: str  # empty on the last page


@dataclass(frozen=True, slots=True)
class DataAccess:
    """How one principal has used data of a subject: one action on one resource under one key, with one outcome."""

    principal: str
    action: str
    resource: str
    key: str
    outcome: str
    events: int
    items: int
    bytes_in: int
    bytes_out: int
    first_time: datetime
    last_time: datetime


@dataclass(frozen=True, slots=True)
class DataAccessReport:
    """Who has used data of a subject in a period."""

    accesses: tuple[DataAccess, ...]
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class AuditStream:
    """How far a stream of events is."""

    stream: str
    node: str
    begin_time: datetime
    sequence: int  # of the last event that is stored
    last_time: datetime
    hash: bytes  # of the chain up to there; 32


@dataclass(frozen=True, slots=True)
class AuditCheckpoint:
    """A checkpoint of the audit trail."""

    serial: int
    hash: bytes  # 32
    time: datetime


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """What is wrong with the stored audit trail, and where."""

    fault: str
    stream: str  # UUID; empty for what concerns none
    first: int  # events; 0 for none
    last: int
    checkpoint: int  # serial; 0 for none
    text: str
    notice: bool  # told, and no fault


@dataclass(frozen=True, slots=True)
class AuditVerificationResult:
    """What one verification of the stored audit trail has found."""

    begin_time: datetime
    end_time: datetime
    cover_time: datetime  # all events before that time are verified
    requester: str  # a principal, or `scheduler`
    events: int
    columns: int  # events whose columns were compared with their bytes
    streams: int
    checkpoints: int
    last_checkpoint: int
    last_hash: bytes
    findings: tuple[AuditFinding, ...]  # at most 100
    problems: int  # all findings that are faults


@dataclass(frozen=True, slots=True)
class AuditVerification:
    """How far a verification is, and what came of the last one since the daemon's start."""

    begin_time: datetime | None  # None: none runs
    events: int
    known_events: int
    last: AuditVerificationResult | None
    failure: str  # why the last one has no result; empty where it has


@dataclass(frozen=True, slots=True)
class AuditStatus:
    """How far the audit trail is."""

    streams: tuple[AuditStream, ...]
    verification: AuditVerification
    checkpoint: AuditCheckpoint | None  # the newest
    anchored_checkpoint: int  # serial, by the node that answers; 0 for none
    problem: str  # why streams or checkpoint are not shown; else empty
