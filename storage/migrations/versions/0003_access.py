"""Principals and grants, and a tenant that stands for the installation, to which operators belong.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make what this release adds."""
    internal = "security_internal." if op.get_bind().dialect.name == "postgresql" else ""
    zero = "'00000000-0000-0000-0000-000000000000'"
    octets, long_ago = ("''", "'1970-01-01 00:00:00+00'") if internal else ("x''", "0")
    # Its slug is none that anybody can ask for, and with no KEK it is never shown.
    op.execute(f"""
        INSERT INTO {internal}tenants
            (tenant_id, slug, display_name, kek_uid, primary_kek, created_at, due_at, revision, mac)
        VALUES ({zero}, '', '', {zero}, 0, {long_ago}, NULL, 1, {octets})""")  # noqa: S608  no input

    postgresql = op.get_bind().dialect.name == "postgresql"
    schema = "security_internal" if postgresql else None
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    small = sa.SmallInteger() if postgresql else sa.Integer()
    slug = sa.Text(collation="C") if postgresql else sa.Text()
    words = sa.Text()

    def column(name: str, type_: Any, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=nullable)

    def record(name: str, *parts: Any) -> None:
        op.create_table(
            name,
            column("tenant_id", uid),
            *parts,
            column("revision", int64),
            column("mac", sa.LargeBinary()),
            sa.CheckConstraint("revision > 0", name=f"ck_{name}_revision"),
            schema=schema,
            sqlite_strict=True,
        )

    record(
        "principals",
        column("principal_id", slug),
        column("kind", words),
        column("display_name", words),
        column("blocked", small),
        column("blocked_until", time, nullable=True),
        column("blocked_reason", words),
        column("created_at", time),
        column("created_by", words),
        sa.PrimaryKeyConstraint("tenant_id", "principal_id", name="pk_principals"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{internal}tenants.tenant_id"], name="fk_principals_tenants"),
        sa.CheckConstraint("blocked = 1 OR blocked_until IS NULL", name="ck_principals_blocked_until"),
    )
    record(
        "grants",
        column("id", uid),
        column("principal_id", slug),
        column("effect", words),
        column("role", words, nullable=True),
        column("permissions", words),
        column("resource", words),
        column("conditions", words),
        column("expires_at", time, nullable=True),
        column("reason", words),
        column("created_at", time),
        column("created_by", words),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_grants"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "principal_id"],
            [f"{internal}principals.tenant_id", f"{internal}principals.principal_id"],
            name="fk_grants_principals",
        ),
        sa.CheckConstraint("effect IN ('allow', 'deny')", name="ck_grants_effect"),
    )
    op.create_index("ix_grants_principal", "grants", ["tenant_id", "principal_id", "id"], schema=schema)
