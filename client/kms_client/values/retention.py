"""Legal holds, and archives of the audit trail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class LegalHold:
    """Why events must stay: `tenants/{tenant}/legalHolds/{hold}` or `installation/legalHolds/{hold}`."""

    name: str
    reason: str
    resource: str  # empty: every one
    principal: str
    start_time: datetime | None
    end_time: datetime | None
    create_time: datetime
    creator: str
    release_time: datetime | None  # None: not released
    releaser: str


@dataclass(frozen=True, slots=True)
class AuditArchive:
    """A month of the audit trail that is a file: `auditArchives/{month}`."""

    name: str
    state: str  # `exported`, `verified`, `detached` or `deleted`
    events: int
    streams: int
    first_time: datetime
    last_time: datetime
    file_name: str
    file_size: int  # bytes
    file_sha256: str
    body: str  # what is signed, as JSON
    signature: bytes  # DER
    create_time: datetime
    verify_time: datetime | None
    detach_time: datetime | None
    delete_time: datetime | None
    deleter: str
    old: bool  # it may be removed


@dataclass(frozen=True, slots=True)
class AuditArchiving:
    """An operation that archives."""

    operation: str  # its UUID
    months: int  # that are looked at
