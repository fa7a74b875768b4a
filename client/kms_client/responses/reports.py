"""From messages to values: compliance reports."""

from __future__ import annotations

from ..v1 import reports_pb2
from ..values import NewReport, Report, ReportContent, ReportRecipient, ReportStep
from .operations import operation
from .reading import time, time_if


def report(message: reports_pb2.Report) -> Report:
    """Read a Report."""
    return Report(
        name=message.name,
        framework=message.framework,
        start_time=time(message.start_time),
        end_time=time(message.end_time),
        state=message.state,
        review_state=message.review_state,
        create_time=time(message.create_time),
        requester=message.requester,
        complete_time=time_if(message, "complete_time"),
        findings=message.findings,
        error=message.error,
        sha256=message.sha256,
        signature=message.signature,
        submitted=_step(message.submitted),
        reviewed=_step(message.reviewed),
        approved=_step(message.approved),
        archived=_step(message.archived),
        recipients=tuple(
            ReportRecipient(one.principal, time(one.first_time), time(one.last_time), one.count)
            for one in message.recipients
        ),
        etag=message.etag,
    )


def _step(message: reports_pb2.Report.Step) -> ReportStep | None:
    return ReportStep(message.principal, time(message.time)) if message.principal else None


def new_report(message: reports_pb2.GenerateReportResponse) -> NewReport:
    """Read what GenerateReport answers."""
    return NewReport(report(message.report), operation(message.operation))


def content(message: reports_pb2.DownloadReportResponse) -> ReportContent:
    """Read what DownloadReport answers."""
    return ReportContent(message.content, message.sha256, message.signature)
