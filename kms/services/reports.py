"""Compliance reports for those who ask for them, review and receive them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

import structlog

from kms.core.errors import Conflict, LimitExceeded, NotFound
from kms.core.keyring import Tenant
from kms.core.names import Principal, ReportName, TenantName
from kms.core.operations import Operation, OperationKind, OperationState, OperationUid
from kms.core.ports import Storage
from kms.core.reports import (
    GENERATING_FOR,
    KEPT,
    MOST_GENERATING,
    Framework,
    Report,
    ReportState,
    ReportUid,
    ReviewEvent,
    ReviewState,
    check_period,
)
from kms.core.repositories import UnitOfWork
from kms.crypto.report_seal import ReportSeal
from kms.services.report_generation import TOTAL
from kms.services.visibility import visible_tenant

_log = structlog.get_logger(__name__)

REMOVED_AT_ONCE: Final = 10  # reports whose time is over, whenever one is made
_ATTEMPTS: Final = 5  # against downloads at the same time


@dataclass(frozen=True, slots=True)
class Content:
    """A report with what it says: JSON in UTF-8, as it was signed."""

    tenant: Tenant
    report: Report
    json: bytes


class Reports:
    """The reports of all tenants."""

    def __init__(
        self, storage: Storage, seal: ReportSeal, wake: Callable[[], None], now: Callable[[], datetime]
    ) -> None:
        """*wake* wakes who carries out operations."""
        self._storage = storage
        self._seal = seal
        self._wake = wake
        self._now = now

    async def generate(
        self, caller: Principal, parent: TenantName, framework: Framework, since: datetime, until: datetime
    ) -> tuple[Tenant, Report, Operation]:
        """Begin a report of a period, which ends now at the latest; returns it and the operation that makes it.

        Raises:
            NotFound: no such tenant, or not the caller's.
            InvalidRequest: the period is none.
            LimitExceeded: MOST_GENERATING are being made.
        """
        tenant, now = await self._owner(caller, parent), self._now()
        until = min(until, now)
        check_period(since, until, now)
        report = Report(
            uid=ReportUid(uuid4()),
            tenant=tenant.uid,
            framework=framework,
            since=since,
            until=until,
            state=ReportState.GENERATING,
            review=ReviewState.DRAFT,
            created_at=now,
            created_by=str(caller),
        )
        operation = Operation(
            uid=OperationUid(uuid4()),
            tenant=tenant.uid,
            kind=OperationKind.GENERATE_REPORT,
            target=str(report.name(tenant.slug)),
            state=OperationState.RUNNING,
            requested_by=str(caller),
            created_at=now,
            updated_at=now,
            total=TOTAL,
        )
        async with self._storage.transaction(tenant.uid, write=True) as work:
            if await work.reports.count_generating(tenant.uid, now - GENERATING_FOR) >= MOST_GENERATING:
                raise LimitExceeded(f"{MOST_GENERATING} reports of {tenant.name} are being made")
            await self._remove_old(work, tenant, now)
            report = await work.reports.add(report)
            operation = await work.operations.add(operation)
        self._wake()
        return tenant, report, operation

    async def get(self, caller: Principal, name: ReportName) -> tuple[Tenant, Report]:
        """Return a report without its content.

        Raises:
            NotFound: no such report, or one of another tenant.
        """
        tenant = await self._owner(caller, name.parent, name)
        async with self._storage.transaction(tenant.uid) as work:
            return tenant, await _stored(work, tenant, name)

    async def list_newest(
        self, caller: Principal, parent: TenantName, before: tuple[datetime, ReportUid] | None, limit: int
    ) -> tuple[Tenant, list[Report]]:
        """Return at most *limit* reports that were stored before *before*, the newest first.

        Raises:
            NotFound: no such tenant, or not the caller's.
        """
        tenant = await self._owner(caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            return tenant, await work.reports.list_newest(tenant.uid, before, limit)

    async def download(self, caller: Principal, name: ReportName) -> Content:
        """Return a completed report with its content; that the caller has received it is stored before.

        Raises:
            NotFound: as get().
            FailedPrecondition: it is not completed, or too many principals have received it.
            CorruptRecord: what is stored is not what was signed.
        """
        tenant, report = await self._change(caller, name, "", lambda r: r.received(str(caller), self._now()))
        return Content(tenant, report, self._seal.open(report))

    async def review(self, caller: Principal, name: ReportName, event: ReviewEvent, etag: str) -> tuple[Tenant, Report]:
        """Take the next step of a report's review.

        Raises:
            NotFound: as get().
            Conflict: the report is not as *etag* has seen it.
            FailedPrecondition: it is not completed, or another step is next.
            SelfApproval: that is for others than those who generated and submitted it.
        """
        tenant, report = await self._change(caller, name, etag, lambda r: r.reviewed(event, str(caller), self._now()))
        _log.info("report.reviewed", name=str(name), step=event, caller=str(caller))
        return tenant, report

    async def _change(
        self, caller: Principal, name: ReportName, etag: str, change: Callable[[Report], Report]
    ) -> tuple[Tenant, Report]:
        tenant = await self._owner(caller, name.parent, name)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with self._storage.transaction(tenant.uid, write=True) as work:
                    report = await _stored(work, tenant, name, etag)
                    return tenant, await work.reports.replace(change(report))
            except Conflict:
                if etag or attempt == _ATTEMPTS:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _remove_old(self, work: UnitOfWork, tenant: Tenant, now: datetime) -> None:
        for old in await work.reports.list_over(tenant.uid, now - KEPT, REMOVED_AT_ONCE):
            await work.reports.remove(old)
            _log.info("report.removed", name=str(old.name(tenant.slug)))

    async def _owner(self, caller: Principal, parent: TenantName, asked: ReportName | None = None) -> Tenant:
        if caller.tenant != parent.tenant:
            raise NotFound(str(asked or parent))
        try:
            return await visible_tenant(self._storage, caller, parent)
        except NotFound as error:
            raise NotFound(str(asked or parent)) from error


async def _stored(work: UnitOfWork, tenant: Tenant, name: ReportName, etag: str = "") -> Report:
    report = await work.reports.get(tenant.uid, ReportUid(name.report))
    if report is None:
        raise NotFound(str(name))
    if etag not in ("", report.etag):
        raise Conflict(f"{name} has been changed since")
    return report
