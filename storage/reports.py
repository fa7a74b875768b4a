"""Compliance reports in the database."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, func, or_, select

from kms.core.canonical import EPOCH, Value, microseconds
from kms.core.errors import Conflict, KmsError
from kms.core.names import TenantUid
from kms.core.receipts import json_text
from kms.core.reports import (
    Framework,
    Recipient,
    Report,
    ReportState,
    ReportUid,
    ReviewEvent,
    ReviewState,
    Step,
)

from .records import find, find_one, remove, store
from .report_tables import compliance_reports as r
from .session import Session
from .types import MICROSECOND

_STEPS: Final = {
    ReviewEvent.SUBMIT: "submitted",
    ReviewEvent.REVIEW: "reviewed",
    ReviewEvent.APPROVE: "approved",
    ReviewEvent.ARCHIVE: "archived",
}
# Without what may have megabytes.
_SHORT = tuple(column for column in r.c if column.name != "body")


def _report(row: Row[Any]) -> Report:
    steps = {
        event: Step(getattr(row, f"{name}_by"), at)
        for event, name in _STEPS.items()
        if (at := getattr(row, f"{name}_at")) is not None
    }
    return Report(
        uid=row.id,
        tenant=row.tenant_id,
        framework=Framework(row.framework),
        since=row.period_from,
        until=row.period_to,
        state=ReportState(row.status),
        review=ReviewState(row.review_status),
        created_at=row.created_at,
        created_by=row.created_by,
        completed_at=row.completed_at,
        findings=row.findings,
        error=row.error,
        sealed=row._mapping.get("body", b""),  # noqa: SLF001  SQLAlchemy's name for a public thing
        digest=row.content_sha256,
        signature=row.signature,
        steps=steps,
        recipients=tuple(_recipient(*one) for one in json.loads(row.recipients)),
        revision=row.revision,
    )


def _recipient(principal: str, first: int, last: int, count: int) -> Recipient:
    return Recipient(principal, EPOCH + first * MICROSECOND, EPOCH + last * MICROSECOND, count)


class Reports:
    """ReportRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, uid: ReportUid) -> Report | None:
        """Return one report with its content."""
        query = select(r).where(r.c.tenant_id == tenant, r.c.id == uid)
        return await find_one(self._session, r, query, _report, groups=[(uid,)])

    async def list_newest(
        self, tenant: TenantUid, before: tuple[datetime, ReportUid] | None, limit: int
    ) -> list[Report]:
        """Return at most *limit* reports stored before *before*, without their contents, the newest first."""
        query = select(*_SHORT).where(r.c.tenant_id == tenant)
        if before is not None:
            stored, uid = before
            query = query.where(or_(r.c.created_at < stored, (r.c.created_at == stored) & (r.c.id < uid)))
        query = query.order_by(r.c.created_at.desc(), r.c.id.desc()).limit(limit)
        return await find(self._session, r, query, _report)

    async def list_over(self, tenant: TenantUid, before: datetime, limit: int) -> list[Report]:
        """Return at most *limit* reports stored before *before* that are archived or were never completed, the oldest first."""
        query = select(*_SHORT).where(
            r.c.tenant_id == tenant,
            r.c.created_at < before,
            or_(r.c.status != ReportState.COMPLETED.value, r.c.review_status == ReviewState.ARCHIVED.value),
        )
        return await find(self._session, r, query.order_by(r.c.created_at, r.c.id).limit(limit), _report)

    async def count_generating(self, tenant: TenantUid, since: datetime) -> int:
        """Return how many reports that were asked for since then are being made."""
        query = select(func.count().label("generating")).where(
            r.c.tenant_id == tenant, r.c.status == ReportState.GENERATING.value, r.c.created_at >= since
        )
        return int((await self._session.rows(query.select_from(r)))[0].generating)

    async def add(self, report: Report) -> Report:
        """Store a new report with revision 1 and return it so.

        Raises:
            Conflict: that uid is taken.
        """
        return await self._store(report, 0, Conflict(f"report {report.uid} exists"))

    async def replace(self, report: Report) -> Report:
        """Store a changed report, content included, over the revision that it came from; returns it with the next.

        Raises:
            Conflict: the stored revision is another.
        """
        return await self._store(report, report.revision, Conflict(f"report {report.uid} was changed in between"))

    async def remove(self, report: Report) -> None:
        """Remove a report.

        Raises:
            Conflict: the stored revision is another, or it is gone; nothing of the transaction is committed then.
        """
        row: dict[str, Value] = {"tenant_id": report.tenant, "id": report.uid, "revision": report.revision}
        if await remove(self._session, r, [row]) != 1:
            conflict = Conflict(f"report {report.uid} was changed in between")
            self._session.spoil(conflict)
            raise conflict

    async def _store(self, report: Report, came_from: int, otherwise: KmsError) -> Report:
        row: dict[str, Value] = {
            "tenant_id": report.tenant,
            "id": report.uid,
            "framework": report.framework.value,
            "period_from": report.since,
            "period_to": report.until,
            "status": report.state.value,
            "review_status": report.review.value,
            "created_at": report.created_at,
            "created_by": report.created_by,
            "completed_at": report.completed_at,
            "findings": report.findings,
            "error": report.error,
            "body": report.sealed,
            "content_sha256": report.digest,
            "signature": report.signature,
            "recipients": json_text(
                [
                    [one.principal, microseconds(one.first_at), microseconds(one.last_at), one.count]
                    for one in report.recipients
                ]
            ),
        }
        for event, name in _STEPS.items():
            step = report.steps.get(event)
            row[f"{name}_at"], row[f"{name}_by"] = (None, "") if step is None else (step.at, step.by)
        return replace(report, revision=await store(self._session, r, row, came_from, otherwise=otherwise))
