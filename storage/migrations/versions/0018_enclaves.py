"""The enclaves of all nodes, and how each was attested last.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"

# As 0008 has them.
OWN: Final = "tenant_id = (SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
MIGRATING: Final = "current_setting('app.migrating', true) = 'on'"
TABLE: Final = "security_secret.enclaves"


def upgrade() -> None:
    """Make the table."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    uid, time, int64, small, slug = (
        (sa.Uuid(), sa.DateTime(timezone=True), sa.BigInteger(), sa.SmallInteger(), sa.Text(collation="C"))
        if postgresql
        else (sa.Text(), sa.Integer(), sa.Integer(), sa.Integer(), sa.Text())
    )
    words, octets = sa.Text(), sa.LargeBinary()
    op.create_table(
        "enclaves",
        _column("tenant_id", uid),
        _column("id", uid),
        _column("node", slug),
        _column("node_id", uid),
        _column("platform_id", octets),
        _column("backend", words),
        _column("simulated", small),
        _column("mrenclave", octets),
        _column("mrsigner", octets),
        _column("isv_prod_id", int64),
        _column("isv_svn", int64),
        _column("cpu_svn", octets),
        _column("debug", small),
        _column("freshness", words),
        _column("platform_info", words),
        _column("attestation_status", words),
        _column("attestation_reason", words),
        _column("quote", octets),
        _column("last_attestation", time, nullable=True),
        _column("attestation_expires_at", time, nullable=True),
        _column("process_state", words),
        _column("restarts", int64),
        _column("is_active", small),
        _column("health_status", words),
        _column("health_reason", words),
        _column("created_at", time),
        _column("changed_at", time),
        _column("revision", int64),
        _column("mac", octets),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_enclaves"),
        sa.UniqueConstraint("tenant_id", "node", "platform_id", name="uq_enclaves_node"),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["security_internal.tenants.tenant_id" if postgresql else "tenants.tenant_id"],
            name="fk_enclaves_tenants",
        ),
        sa.CheckConstraint("length(mrenclave) = 32 AND length(mrsigner) = 32", name="ck_enclaves_measurements"),
        sa.CheckConstraint("length(quote) <= 16384", name="ck_enclaves_quote"),
        sa.CheckConstraint(
            "attestation_status IN ('pending', 'valid', 'invalid', 'revoked')", name="ck_enclaves_attestation_status"
        ),
        sa.CheckConstraint("health_status IN ('healthy', 'degraded', 'unhealthy')", name="ck_enclaves_health_status"),
        sa.CheckConstraint("revision > 0", name="ck_enclaves_revision"),
        schema="security_secret" if postgresql else None,
        sqlite_strict=True,
    )
    if postgresql:
        _limit()


def _column(name: str, type_: Any, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=nullable)


def _limit() -> None:
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLE} TO kms_app")
    op.execute(f"GRANT SELECT ON {TABLE} TO kms_readonly")
    op.execute(f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {TABLE} TO kms_app, kms_readonly USING ({OWN}) WITH CHECK ({OWN})")
    op.execute(f"CREATE POLICY migration ON {TABLE} TO CURRENT_USER USING ({MIGRATING})")
