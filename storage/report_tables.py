"""The table of compliance reports."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint

from .schemas import INTERNAL, column, record
from .types import Bytes, Int64, Timestamp, Uid, Words

compliance_reports: Final = record(
    "compliance_reports",
    INTERNAL,
    column("id", Uid),
    column("framework", Words),
    column("period_from", Timestamp),
    column("period_to", Timestamp),
    column("status", Words),
    column("review_status", Words),
    column("created_at", Timestamp),
    column("created_by", Words),
    column("completed_at", Timestamp, nullable=True),
    column("findings", Int64),
    column("error", Words),
    column("body", Bytes),  # encrypted
    column("content_sha256", Bytes),
    column("signature", Bytes),
    column("submitted_at", Timestamp, nullable=True),
    column("submitted_by", Words),
    column("reviewed_at", Timestamp, nullable=True),
    column("reviewed_by", Words),
    column("approved_at", Timestamp, nullable=True),
    column("approved_by", Words),
    column("archived_at", Timestamp, nullable=True),
    column("archived_by", Words),
    column("recipients", Words),  # canonical JSON as text
    PrimaryKeyConstraint("tenant_id", "id", name="pk_compliance_reports"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_compliance_reports_tenants"),
    CheckConstraint("period_from <= period_to", name="ck_compliance_reports_period"),
    CheckConstraint("findings >= 0", name="ck_compliance_reports_findings"),
    CheckConstraint(
        "status <> 'completed' OR (length(content_sha256) = 32 AND length(signature) > 0 AND completed_at IS NOT NULL)",
        name="ck_compliance_reports_completed",
    ),
)
Index(
    "ix_compliance_reports_created_at",
    compliance_reports.c.tenant_id,
    compliance_reports.c.created_at,
    compliance_reports.c.id,
)
