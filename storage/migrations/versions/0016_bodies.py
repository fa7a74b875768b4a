"""Blobs' bodies, for installations that keep them in the database.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"

# As 0008 has them.
OWN: Final = "tenant_id = (SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
MIGRATING: Final = "current_setting('app.migrating', true) = 'on'"
# kms_sweeper looks for what writes have left behind; each tenant's own role removes it.
SWEEPER: Final = {"blob_bodies": ("SELECT",)}


def upgrade() -> None:
    """Make the tables."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    internal = "security_internal" if postgresql else None
    in_internal = f"{internal}." if internal else ""
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()

    def column(name: str, type_: Any) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=False)

    op.create_table(
        "blob_bodies",
        column("tenant_id", uid),
        column("id", uid),
        column("blob_id", uid),
        column("generation", int64),
        column("segment", int64),
        column("status", sa.Text()),
        column("length", int64),
        column("written_at", time),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_blob_bodies"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name="fk_blob_bodies_tenants"),
        sa.CheckConstraint("status IN ('writing', 'whole', 'gone')", name="ck_blob_bodies_status"),
        sa.CheckConstraint("length >= 0", name="ck_blob_bodies_length"),
        schema=internal,
        sqlite_strict=True,
    )
    op.create_index(
        "uq_blob_bodies_whole",
        "blob_bodies",
        ["tenant_id", "blob_id", "generation", "segment"],
        unique=True,
        schema=internal,
        postgresql_where=sa.text("status = 'whole'"),
        sqlite_where=sa.text("status = 'whole'"),
    )
    op.create_index("ix_blob_bodies_written_at", "blob_bodies", ["status", "written_at"], schema=internal)
    op.create_table(
        "blob_chunks",
        column("tenant_id", uid),
        column("body_id", uid),
        column("number", int64),
        column("content", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("tenant_id", "body_id", "number", name="pk_blob_chunks"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "body_id"],
            [f"{in_internal}blob_bodies.tenant_id", f"{in_internal}blob_bodies.id"],
            name="fk_blob_chunks_blob_bodies",
        ),
        sa.CheckConstraint("length(content) BETWEEN 1 AND 1048576", name="ck_blob_chunks_content"),
        schema=internal,
        sqlite_strict=True,
    )
    if postgresql:
        # What is encrypted does not get smaller: PostgreSQL need not try.
        op.execute("ALTER TABLE security_internal.blob_chunks ALTER content SET STORAGE EXTERNAL")
        _limit("blob_bodies", "SELECT, INSERT, UPDATE, DELETE")
        _limit("blob_chunks", "SELECT, INSERT, DELETE")
        op.execute("GRANT SELECT ON security_internal.blob_bodies TO kms_sweeper")
        op.execute(
            "CREATE POLICY sweeper_select ON security_internal.blob_bodies FOR SELECT TO kms_sweeper USING (true)"
        )


def _limit(name: str, privileges: str) -> None:
    table = f"security_internal.{name}"
    op.execute(f"GRANT {privileges} ON {table} TO kms_app")
    op.execute(f"GRANT SELECT ON {table} TO kms_readonly")
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} TO kms_app, kms_readonly USING ({OWN}) WITH CHECK ({OWN})")
    op.execute(f"CREATE POLICY migration ON {table} TO CURRENT_USER USING ({MIGRATING})")
