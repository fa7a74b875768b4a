"""ReportService: parse, call, format."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.errors import FailedPrecondition, invalid
from kms.core.names import Principal, ReportName, TenantName
from kms.core.report_html import render
from kms.core.reports import MOST_BYTES, Framework, Report, ReportState, ReportUid, ReviewEvent, Step
from kms.rpc.fields import parse_etag
from kms.rpc.messages import timestamp
from kms.rpc.operations import operation_message
from kms.rpc.paging import Page, cut, parse_page
from kms.services.reports import Reports
from kms.v1 import reports_pb2 as pb

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FORMS: Final = frozenset(pb.DownloadReportRequest.Form.values())
_STEPS: Final = MappingProxyType(
    {
        ReviewEvent.SUBMIT: "submitted",
        ReviewEvent.REVIEW: "reviewed",
        ReviewEvent.APPROVE: "approved",
        ReviewEvent.ARCHIVE: "archived",
    }
)


class ReportServicer:
    """Serves kms.v1.ReportService."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    async def GenerateReport(self, request: pb.GenerateReportRequest, caller: Principal) -> pb.GenerateReportResponse:
        """Begin a report."""
        parent = TenantName.parse(request.parent, "parent")
        framework = _framework(request.framework)
        since, until = _moment(request, "start_time"), _moment(request, "end_time")
        tenant, report, operation = await self._reports.generate(caller, parent, framework, since, until)
        return pb.GenerateReportResponse(
            report=report_message(tenant.slug, report), operation=operation_message(tenant, operation)
        )

    async def GetReport(self, request: pb.GetReportRequest, caller: Principal) -> pb.Report:
        """Return a report."""
        tenant, report = await self._reports.get(caller, ReportName.parse(request.name))
        return report_message(tenant.slug, report)

    async def ListReports(self, request: pb.ListReportsRequest, caller: Principal) -> pb.ListReportsResponse:
        """List reports."""
        parent, page = TenantName.parse(request.parent, "parent"), parse_page(request)
        tenant, found = await self._reports.list_newest(caller, parent, _before(page), page.size + 1)
        reports, token = cut(found, page, _entry)
        return pb.ListReportsResponse(
            reports=[report_message(tenant.slug, report) for report in reports], next_page_token=token
        )

    async def DownloadReport(self, request: pb.DownloadReportRequest, caller: Principal) -> pb.DownloadReportResponse:
        """Return what a report says."""
        name = ReportName.parse(request.name)
        if request.form not in _FORMS:
            raise invalid("form", "must be JSON or HTML")
        found = await self._reports.download(caller, name)
        content, digest = found.json, found.report.digest.hex()
        if request.form == pb.DownloadReportRequest.HTML:
            content = render(json.loads(content), digest).encode()
            if len(content) > MOST_BYTES:
                raise FailedPrecondition(f"as a page, the report has more than {MOST_BYTES} bytes; ask for the JSON")
        return pb.DownloadReportResponse(content=content, sha256=digest, signature=found.report.signature)

    async def SubmitReport(self, request: pb.SubmitReportRequest, caller: Principal) -> pb.Report:
        """Hand a draft in for review."""
        return await self._step(request, caller, ReviewEvent.SUBMIT)

    async def ReviewReport(self, request: pb.ReviewReportRequest, caller: Principal) -> pb.Report:
        """Say that a report has been reviewed."""
        return await self._step(request, caller, ReviewEvent.REVIEW)

    async def ApproveReport(self, request: pb.ApproveReportRequest, caller: Principal) -> pb.Report:
        """Approve a report."""
        return await self._step(request, caller, ReviewEvent.APPROVE)

    async def ArchiveReport(self, request: pb.ArchiveReportRequest, caller: Principal) -> pb.Report:
        """Archive a report."""
        return await self._step(request, caller, ReviewEvent.ARCHIVE)

    async def _step(
        self,
        request: pb.SubmitReportRequest | pb.ReviewReportRequest | pb.ApproveReportRequest | pb.ArchiveReportRequest,
        caller: Principal,
        event: ReviewEvent,
    ) -> pb.Report:
        name, etag = ReportName.parse(request.name), parse_etag(request.etag)
        tenant, report = await self._reports.review(caller, name, event, etag)
        return report_message(tenant.slug, report)


def _framework(text: str) -> Framework:
    try:
        return Framework(text)
    except ValueError as error:
        raise invalid("framework", f"must be one of {', '.join(Framework)}") from error


def _moment(request: pb.GenerateReportRequest, field: str) -> datetime:
    stamp: Timestamp = getattr(request, field)
    if not request.HasField(field):
        raise invalid(field, "is required")
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(field, "must be a time in the years 1 to 9999") from error


def _entry(report: Report) -> str:
    return f"{(report.created_at - _EPOCH) // _MICROSECOND}/{report.uid}"


def _before(page: Page) -> tuple[datetime, ReportUid] | None:
    if not page.after:
        return None
    stored, _, uid = page.after.partition("/")
    try:
        return _EPOCH + int(stored) * _MICROSECOND, ReportUid(UUID(uid))
    except (ValueError, OverflowError) as error:
        raise invalid("page_token", "must be the next_page_token of the same list") from error


def _step_message(step: Step) -> pb.Report.Step:
    return pb.Report.Step(principal=step.by, time=timestamp(step.at))


def report_message(tenant: str, report: Report) -> pb.Report:
    """Format a report; *tenant* is its slug."""
    completed = report.state is ReportState.COMPLETED
    message = pb.Report(
        name=str(report.name(tenant)),
        framework=report.framework.value,
        start_time=timestamp(report.since),
        end_time=timestamp(report.until),
        state=report.state.value,
        review_state=report.review.value,
        create_time=timestamp(report.created_at),
        requester=report.created_by,
        complete_time=timestamp(report.completed_at),
        findings=report.findings,
        error=report.error,
        sha256=report.digest.hex() if completed else "",
        signature=report.signature,
        recipients=[
            pb.Report.Recipient(
                principal=one.principal,
                first_time=timestamp(one.first_at),
                last_time=timestamp(one.last_at),
                count=one.count,
            )
            for one in report.recipients
        ],
        etag=report.etag,
    )
    for event, step in report.steps.items():
        getattr(message, _STEPS[event]).CopyFrom(_step_message(step))
    return message
