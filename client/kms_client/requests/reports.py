"""Requests to ReportService."""

from __future__ import annotations

from datetime import datetime

from ..methods import REPORTS
from ..responses import reports
from ..responses.reading import page
from ..v1 import reports_pb2
from ..values import NewReport, Report, ReportContent, ReportForm
from .messages import Listing, Request, build, timestamp


def generate_report(parent: str, framework: str, start: datetime, end: datetime) -> Request[NewReport]:
    """ReportService.GenerateReport."""
    message = build(
        reports_pb2.GenerateReportRequest,
        parent=parent,
        framework=framework,
        start_time=timestamp(start, "start_time"),
        end_time=timestamp(end, "end_time"),
    )
    return Request(f"{REPORTS}/GenerateReport", message, reports.new_report)


def get_report(name: str) -> Request[Report]:
    """ReportService.GetReport."""
    return Request(f"{REPORTS}/GetReport", build(reports_pb2.GetReportRequest, name=name), reports.report)


def list_reports(parent: str, page_size: int) -> Listing:
    """ReportService.ListReports."""
    read = page("reports", reports.report)
    return lambda token: Request(
        f"{REPORTS}/ListReports",
        build(reports_pb2.ListReportsRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def download_report(name: str, form: ReportForm) -> Request[ReportContent]:
    """ReportService.DownloadReport."""
    message = build(reports_pb2.DownloadReportRequest, name=name, form=int(form))
    return Request(f"{REPORTS}/DownloadReport", message, reports.content)


def submit_report(name: str, etag: str) -> Request[Report]:
    """ReportService.SubmitReport."""
    message = build(reports_pb2.SubmitReportRequest, name=name, etag=etag)
    return Request(f"{REPORTS}/SubmitReport", message, reports.report)


def review_report(name: str, etag: str) -> Request[Report]:
    """ReportService.ReviewReport."""
    message = build(reports_pb2.ReviewReportRequest, name=name, etag=etag)
    return Request(f"{REPORTS}/ReviewReport", message, reports.report)


def approve_report(name: str, etag: str) -> Request[Report]:
    """ReportService.ApproveReport."""
    message = build(reports_pb2.ApproveReportRequest, name=name, etag=etag)
    return Request(f"{REPORTS}/ApproveReport", message, reports.report)


def archive_report(name: str, etag: str) -> Request[Report]:
    """ReportService.ArchiveReport."""
    message = build(reports_pb2.ArchiveReportRequest, name=name, etag=etag)
    return Request(f"{REPORTS}/ArchiveReport", message, reports.report)
