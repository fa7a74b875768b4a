"""Compliance reports.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

# As 0008 has them.
OWN: Final = "tenant_id = (SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
MIGRATING: Final = "current_setting('app.migrating', true) = 'on'"
TABLE: Final = "security_internal.compliance_reports"


def upgrade() -> None:
    """Make the table."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    internal = "security_internal" if postgresql else None
    in_internal = f"{internal}." if internal else ""
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    words = sa.Text()
    octets = sa.LargeBinary()

    def column(name: str, type_: Any, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=nullable)

    op.create_table(
        "compliance_reports",
        column("tenant_id", uid),
        column("id", uid),
        column("framework", words),
        column("period_from", time),
        column("period_to", time),
        column("status", words),
        column("review_status", words),
        column("created_at", time),
        column("created_by", words),
        column("completed_at", time, nullable=True),
        column("findings", int64),
        column("error", words),
        column("body", octets),
        column("content_sha256", octets),
        column("signature", octets),
        column("submitted_at", time, nullable=True),
        column("submitted_by", words),
        column("reviewed_at", time, nullable=True),
        column("reviewed_by", words),
        column("approved_at", time, nullable=True),
        column("approved_by", words),
        column("archived_at", time, nullable=True),
        column("archived_by", words),
        column("recipients", words),
        column("revision", int64),
        column("mac", octets),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_compliance_reports"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], [f"{in_internal}tenants.tenant_id"], name="fk_compliance_reports_tenants"
        ),
        sa.CheckConstraint("period_from <= period_to", name="ck_compliance_reports_period"),
        sa.CheckConstraint("findings >= 0", name="ck_compliance_reports_findings"),
        sa.CheckConstraint(
            "status <> 'completed'"
            " OR (length(content_sha256) = 32 AND length(signature) > 0 AND completed_at IS NOT NULL)",
            name="ck_compliance_reports_completed",
        ),
        sa.CheckConstraint("revision > 0", name="ck_compliance_reports_revision"),
        schema=internal,
        sqlite_strict=True,
    )
    op.create_index(
        "ix_compliance_reports_created_at",
        "compliance_reports",
        ["tenant_id", "created_at", "id"],
        schema=internal,
    )
    if postgresql:
        _limit()


def _limit() -> None:
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLE} TO kms_app")
    op.execute(f"GRANT SELECT ON {TABLE} TO kms_readonly")
    op.execute(f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {TABLE} TO kms_app, kms_readonly USING ({OWN}) WITH CHECK ({OWN})")
    op.execute(f"CREATE POLICY migration ON {TABLE} TO CURRENT_USER USING ({MIGRATING})")
