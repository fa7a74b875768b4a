"""Tenants, their KEKs and keys, and counters.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    secret = "security_secret" if postgresql else None
    internal = "security_internal" if postgresql else None
    in_secret = f"{secret}." if secret else ""
    in_internal = f"{internal}." if internal else ""
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    small = sa.SmallInteger() if postgresql else sa.Integer()
    slug = sa.Text(collation="C") if postgresql else sa.Text()
    words = sa.Text()
    octets = sa.LargeBinary()

    def column(name: str, type_: Any, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=nullable)

    if postgresql and not sa.inspect(op.get_bind()).has_schema("security_secret"):
        op.execute("CREATE SCHEMA security_secret")

    op.create_table(
        "tenants",
        column("tenant_id", uid),
        column("slug", slug),
        column("display_name", words),
        column("kek_uid", uid),
        column("primary_kek", int64),
        column("created_at", time),
        column("revision", int64),
        column("mac", octets),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenants"),
        sa.UniqueConstraint("slug", name="uq_tenants_slug"),
        sa.CheckConstraint("primary_kek BETWEEN 0 AND 4294967295", name="ck_tenants_primary_kek"),
        sa.CheckConstraint("revision > 0", name="ck_tenants_revision"),
        schema=internal,
        sqlite_strict=True,
    )
    op.create_table(
        "keks",
        column("tenant_id", uid),
        column("version", int64),
        column("kek_uid", uid),
        column("status", words),
        column("mechanism", small, nullable=True),
        column("canary", octets),
        column("hsm_key_id", words),
        column("created_at", time),
        column("created_by", words),
        column("revision", int64),
        column("mac", octets),
        sa.PrimaryKeyConstraint("tenant_id", "version", name="pk_keks"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name="fk_keks_tenants"),
        sa.CheckConstraint("version BETWEEN 1 AND 4294967295", name="ck_keks_version"),
        sa.CheckConstraint(
            "status <> 'active' OR (mechanism IS NOT NULL AND length(canary) > 0 AND length(hsm_key_id) > 0)",
            name="ck_keks_active",
        ),
        sa.CheckConstraint("revision > 0", name="ck_keks_revision"),
        schema=secret,
        sqlite_strict=True,
    )
    op.create_index(
        "ix_keks_pending",
        "keks",
        ["tenant_id", "version"],
        schema=secret,
        postgresql_where=sa.text("status = 'pending'"),
        sqlite_where=sa.text("status = 'pending'"),
    )
    op.create_table(
        "encryption_keys",
        column("tenant_id", uid),
        column("id", uid),
        column("key_id", slug),
        column("display_name", words),
        column("purpose", small),
        column("algorithm", words),
        column("protection_level", small),
        column("status", words),
        column("primary_version", int64),
        column("rotation_interval_hours", int64, nullable=True),
        column("created_at", time),
        column("rotated_at", time),
        column("created_by", words),
        column("labels", words),
        column("revision", int64),
        column("mac", octets),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_encryption_keys"),
        sa.UniqueConstraint("tenant_id", "key_id", name="uq_encryption_keys_key_id"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name="fk_encryption_keys_tenants"),
        sa.CheckConstraint("primary_version BETWEEN 1 AND 4294967295", name="ck_encryption_keys_primary_version"),
        sa.CheckConstraint("rotation_interval_hours > 0", name="ck_encryption_keys_rotation_interval_hours"),
        sa.CheckConstraint("revision > 0", name="ck_encryption_keys_revision"),
        schema=secret,
        sqlite_strict=True,
    )
    op.create_table(
        "key_versions",
        column("tenant_id", uid),
        column("key_uid", uid),
        column("version", int64),
        column("wrapped", octets),
        column("kek_version", int64),
        column("created_at", time),
        column("created_by", words),
        column("revision", int64),
        column("mac", octets),
        sa.PrimaryKeyConstraint("tenant_id", "key_uid", "version", name="pk_key_versions"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "key_uid"],
            [f"{in_secret}encryption_keys.tenant_id", f"{in_secret}encryption_keys.id"],
            name="fk_key_versions_encryption_keys",
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id", "kek_version"],
            [f"{in_secret}keks.tenant_id", f"{in_secret}keks.version"],
            name="fk_key_versions_keks",
        ),
        sa.CheckConstraint("version BETWEEN 1 AND 4294967295", name="ck_key_versions_version"),
        sa.CheckConstraint("length(wrapped) > 0", name="ck_key_versions_wrapped"),
        sa.CheckConstraint("revision > 0", name="ck_key_versions_revision"),
        schema=secret,
        sqlite_strict=True,
    )
    op.create_index("ix_key_versions_kek", "key_versions", ["tenant_id", "kek_version"], schema=secret)
    op.create_table(
        "counters",
        column("tenant_id", uid),
        column("subject_uid", uid),
        column("version", int64),
        column("reserved", int64),
        sa.PrimaryKeyConstraint("tenant_id", "subject_uid", "version", name="pk_counters"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name="fk_counters_tenants"),
        sa.CheckConstraint("version BETWEEN 1 AND 4294967295", name="ck_counters_version"),
        sa.CheckConstraint("reserved > 0", name="ck_counters_reserved"),
        schema=internal,
        sqlite_strict=True,
        postgresql_with={"fillfactor": "50"},
    )
