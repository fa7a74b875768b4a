"""Compliance reports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from .operations import Operation


class ReportForm(IntEnum):
    """In which form a report is downloaded."""

    JSON = 1  # what is signed
    HTML = 2  # the same values as one page


@dataclass(frozen=True, slots=True)
class ReportStep:
    """Who took a step of the review, and when."""

    principal: str
    time: datetime


@dataclass(frozen=True, slots=True)
class ReportRecipient:
    """Who has downloaded a report."""

    principal: str
    first_time: datetime
    last_time: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """One report without its content: `tenants/{tenant}/reports/{report}`."""

    name: str
    framework: str  # `soc2`, `pci-dss`, `hipaa`, `gdpr`, `iso27001` or `all`
    start_time: datetime
    end_time: datetime  # not in the period any more
    state: str  # `generating`, `completed` or `failed`
    review_state: str  # `draft`, `pending_review`, `reviewed`, `approved` or `archived`
    create_time: datetime
    requester: str
    complete_time: datetime | None
    findings: int  # how many rules have found something
    error: str
    sha256: str  # of the JSON, hexadecimal digits
    signature: bytes
    submitted: ReportStep | None
    reviewed: ReportStep | None
    approved: ReportStep | None
    archived: ReportStep | None
    recipients: tuple[ReportRecipient, ...]
    etag: str


@dataclass(frozen=True, slots=True)
class NewReport:
    """A report that is being made, and the operation that makes it."""

    report: Report
    operation: Operation


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What a report says; hash and signature are those of the JSON, whatever the form."""

    content: bytes
    sha256: str
    signature: bytes
