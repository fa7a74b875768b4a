"""Values of compliance reports, for tests."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from kms.core.keyring import Tenant
from kms.core.report_facts import Facts
from kms.core.reports import Framework, Report, ReportState, ReportUid, ReviewState
from kms.services.report_stages import Installation
from tests.keyrings import NOW

DANGEROUS = "/kms.v1.KeyService/ScheduleKeyDestruction"


def new_report(tenant: Tenant, framework: Framework = Framework.ALL, **fields: Any) -> Report:
    report = Report(
        uid=ReportUid(uuid.uuid4()),
        tenant=tenant.uid,
        framework=framework,
        since=NOW - timedelta(days=30),
        until=NOW,
        state=ReportState.GENERATING,
        review=ReviewState.DRAFT,
        created_at=NOW,
        created_by=f"tenants/{tenant.slug}/principals/anna",
    )
    return replace(report, **fields)


def completed(report: Report, at: datetime = NOW) -> Report:
    return replace(
        report,
        state=ReportState.COMPLETED,
        completed_at=at,
        sealed=b"<sealed>",
        digest=bytes(32),
        signature=b"<signature>",
        findings=3,
    )


def installation(**fields: Any) -> Installation:
    made = Installation(
        release="1.0",
        open_tenants=False,
        approvals_needed=2,
        dangerous_permissions=("keys.destroy", "grants.create"),
        dangerous_acts=frozenset({DANGEROUS}),
    )
    return replace(made, **fields)


def some_facts() -> Facts:
    """A little of everything."""
    facts = Facts(stage="trail", cursor=["1", "2"])
    facts.count("keys.total", 2)
    facts.listing("keys").add("payroll", "active", "internal", "encrypt", "AES_256_GCM", "software", 3, 4, "by hand")
    facts.tally("volume.principal").add("tenants/acme/principals/app", 5, 1, 100, 200)
    facts.find([("key-overdue", "overdue by 3 days")], "payroll")
    return facts
