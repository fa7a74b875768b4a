"""Compliance reports as values: how one is made, how it is reviewed, by whom, and who has received it.

What is signed is LABEL and the SHA-256 of the report's JSON; what is stored is that JSON, encrypted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NewType
from uuid import UUID

from .errors import FailedPrecondition, SelfApproval, invalid
from .names import ReportName, TenantUid

ReportUid = NewType("ReportUid", UUID)

LABEL: Final = b"kms/v1/report\0"
LONGEST_PERIOD: Final = timedelta(days=3653)
MOST_BYTES: Final = 3 << 20  # of a report, as JSON or as a page: less than the smallest bound on one answer
MOST_RECIPIENTS: Final = 1_000  # principals that have received one report
MOST_GENERATING: Final = 3  # reports of one tenant at once
# One that is not completed after so long has been stopped with its operation, and counts no more.
GENERATING_FOR: Final = timedelta(days=1)
# After that a report that is archived, or was never finished, is removed when the next one is made: seven years.
KEPT: Final = timedelta(days=2_557)


class Framework(StrEnum):
    """What a report is for: which controls its parts name."""

    SOC2 = "soc2"
    PCI_DSS = "pci-dss"
    HIPAA = "hipaa"
    GDPR = "gdpr"
    ISO27001 = "iso27001"
    ALL = "all"


class ReportState(StrEnum):
    """How the making of a report stands."""

    GENERATING = "generating"
    COMPLETED = "completed"
    FAILED = "failed"  # goes on with its operation


class ReportEvent(StrEnum):
    """What may happen while a report is made."""

    COMPLETE = "complete"
    FAIL = "fail"
    RESUME = "resume"


class ReviewState(StrEnum):
    """How the review of a report stands."""

    DRAFT = "draft"
    PENDING_REVIEW = "pending_review"
    REVIEWED = "reviewed"
    APPROVED = "approved"
    ARCHIVED = "archived"


class ReviewEvent(StrEnum):
    """What may happen to a completed report."""

    SUBMIT = "submit"
    REVIEW = "review"
    APPROVE = "approve"
    ARCHIVE = "archive"


TRANSITIONS: Final = MappingProxyType(
    {
        (ReportState.GENERATING, ReportEvent.COMPLETE): ReportState.COMPLETED,
        (ReportState.GENERATING, ReportEvent.FAIL): ReportState.FAILED,
        (ReportState.FAILED, ReportEvent.RESUME): ReportState.GENERATING,
    }
)
REVIEWS: Final = MappingProxyType(
    {
        (ReviewState.DRAFT, ReviewEvent.SUBMIT): ReviewState.PENDING_REVIEW,
        (ReviewState.PENDING_REVIEW, ReviewEvent.REVIEW): ReviewState.REVIEWED,
        (ReviewState.REVIEWED, ReviewEvent.APPROVE): ReviewState.APPROVED,
        (ReviewState.APPROVED, ReviewEvent.ARCHIVE): ReviewState.ARCHIVED,
    }
)
# Nobody does these to a report that they have generated or submitted.
BY_ANOTHER: Final = frozenset({ReviewEvent.REVIEW, ReviewEvent.APPROVE})


@dataclass(frozen=True, slots=True)
class Step:
    """Who took one step of the review, and when."""

    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who has received a report, when first and last, and how often."""

    principal: str
    first_at: datetime
    last_at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """One report without its content; *sealed* is that content, or while it is made what has been gathered so far."""

    uid: ReportUid
    tenant: TenantUid
    framework: Framework
    since: datetime
    until: datetime  # not in the period any more
    state: ReportState
    review: ReviewState
    created_at: datetime
    created_by: str
    completed_at: datetime | None = None
    findings: int = 0
    error: str = ""
    sealed: bytes = b""
    digest: bytes = b""  # SHA-256 of what is sealed
    signature: bytes = b""  # ECDSA P-256 with SHA-256, DER (RFC 3279, section 2.2.3); empty until it is completed
    steps: Mapping[ReviewEvent, Step] = field(default_factory=dict)
    recipients: tuple[Recipient, ...] = ()
    revision: int = 0

    def name(self, tenant_slug: str) -> ReportName:
        """The resource name."""
        return ReportName(tenant_slug, self.uid)

    @property
    def etag(self) -> str:
        """Changes with every change of the report."""
        return str(self.revision)

    def after(self, event: ReportEvent, error: str = "") -> Report:
        """Return the report after *event*.

        Raises:
            FailedPrecondition: its state does not allow that.
        """
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise FailedPrecondition(f"report {self.uid} is {self.state}: it cannot {event}")
        return replace(self, state=state, error=error)

    def reviewed(self, event: ReviewEvent, by: str, now: datetime) -> Report:
        """Return the report after a step of its review.

        Raises:
            FailedPrecondition: it is not completed, or another step is next.
            SelfApproval: that is for another principal than those who generated and submitted it.
        """
        if self.state is not ReportState.COMPLETED:
            raise FailedPrecondition(f"report {self.uid} is {self.state}: nothing of it can be reviewed")
        following = REVIEWS.get((self.review, event))
        if following is None:
            standing = self.review.value.replace("_", " ")
            raise FailedPrecondition(f"report {self.uid} is {standing}: it cannot {event}")
        submitted = self.steps.get(ReviewEvent.SUBMIT)
        if event in BY_ANOTHER and by in (self.created_by, submitted.by if submitted else ""):
            raise SelfApproval(f"{by} has generated or submitted this report: others have to {event} it")
        return replace(self, review=following, steps={**self.steps, event: Step(by, now)})

    def received(self, by: str, now: datetime) -> Report:
        """Return the report with one more download noted.

        Raises:
            FailedPrecondition: it is not completed, or too many principals have it.
        """
        if self.state is not ReportState.COMPLETED:
            raise FailedPrecondition(f"report {self.uid} is {self.state}: there is nothing to download")
        before = next((one for one in self.recipients if one.principal == by), None)
        if before is None and len(self.recipients) >= MOST_RECIPIENTS:
            raise FailedPrecondition(f"{MOST_RECIPIENTS} principals have received report {self.uid}: no more can")
        fresh = Recipient(by, now, now, 1) if before is None else replace(before, last_at=now, count=before.count + 1)
        others = tuple(one for one in self.recipients if one.principal != by)
        return replace(self, recipients=(*others, fresh))


def check_period(since: datetime, until: datetime, now: datetime) -> None:
    """Refuse a period that is empty, too long or begins in the future.

    Raises:
        InvalidRequest: it does.
    """
    if since >= until:
        raise invalid("end_time", "must be later than start_time")
    if until - since > LONGEST_PERIOD:
        raise invalid("end_time", f"must be at most {LONGEST_PERIOD.days} days after start_time")
    if since > now:
        raise invalid("start_time", "must not be in the future")


def signed_bytes(digest: bytes) -> bytes:
    """Return what is signed, given the SHA-256 of the report's JSON."""
    return LABEL + digest


def binding(tenant: TenantUid, uid: ReportUid, digest: bytes) -> bytes:
    """Return what the encryption of a report's content is bound to."""
    return LABEL + tenant.bytes + uid.bytes + digest


def digest_of(content: bytes) -> bytes:
    """Return the SHA-256 (FIPS 180-4) of a report's JSON, 32 bytes."""
    return hashlib.sha256(content).digest()
