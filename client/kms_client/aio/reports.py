"""ReportService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from ..requests import reports
from ..values import NewReport, Report, ReportContent, ReportForm
from .calls import Calls


class ReportCalls(Calls):
    """Methods for compliance reports."""

    async def generate_report(
        self, parent: str, framework: str, *, start: datetime, end: datetime, deadline: float | None = None
    ) -> NewReport:
        """Begin a report of a tenant from *start* to *end* (not included); an operation makes it."""
        return await self._run(reports.generate_report(parent, framework, start, end), deadline)

    async def get_report(self, name: str, *, deadline: float | None = None) -> Report:
        """Return one report, without its content."""
        return await self._run(reports.get_report(name), deadline)

    def list_reports(self, parent: str, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Report]:
        """Iterate over a tenant's reports, the newest first."""
        return self._pages(reports.list_reports(parent, page_size), deadline)

    async def download_report(
        self, name: str, *, form: ReportForm = ReportForm.JSON, deadline: float | None = None
    ) -> ReportContent:
        """Return what a completed report says; the daemon notes who has received it. verify_report() checks it."""
        return await self._run(reports.download_report(name, form), deadline)

    async def submit_report(self, name: str, *, etag: str = "", deadline: float | None = None) -> Report:
        """Hand a draft in for review."""
        return await self._run(reports.submit_report(name, etag), deadline)

    async def review_report(self, name: str, *, etag: str = "", deadline: float | None = None) -> Report:
        """Say that a report has been reviewed; not by who generated or submitted it."""
        return await self._run(reports.review_report(name, etag), deadline)

    async def approve_report(self, name: str, *, etag: str = "", deadline: float | None = None) -> Report:
        """Approve a reviewed report; not by who generated or submitted it."""
        return await self._run(reports.approve_report(name, etag), deadline)

    async def archive_report(self, name: str, *, etag: str = "", deadline: float | None = None) -> Report:
        """Archive an approved report."""
        return await self._run(reports.archive_report(name, etag), deadline)
