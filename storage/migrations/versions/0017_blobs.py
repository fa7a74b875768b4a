"""Sealed blobs, uploads under way, and how often blobs are read.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

# As 0008 has them.
OWN: Final = "tenant_id = (SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
MIGRATING: Final = "current_setting('app.migrating', true) = 'on'"
TABLES: Final = ("security_secret.blobs", "security_secret.blob_uploads", "security_internal.blob_uses")


def upgrade() -> None:
    """Make the tables."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    _blobs(postgresql)
    _uploads(postgresql)
    _uses(postgresql)
    if postgresql:
        for table in TABLES:
            _limit(table)


def _blobs(postgresql: bool) -> None:
    uid, time, int64, slug, small = _types(postgresql)
    words, octets = sa.Text(), sa.LargeBinary()
    op.create_table(
        "blobs",
        _column("tenant_id", uid),
        _column("blob_id", slug),
        _column("id", uid),
        _column("generation", int64),
        _column("content_type", words),
        _column("description", words),
        _column("labels", words),
        _column("access_policy", words),
        _column("expires_at", time, nullable=True),
        _column("legal_hold", small),
        _column("sealing_policy", words),
        _column("mrenclave", octets),
        _column("mrsigner", octets),
        _column("isv_svn", int64),
        _column("simulated", small),
        _column("store", words),
        _column("compression", words),
        _column("manifest", words),
        _column("size", int64),
        _column("sealed_size", int64),
        _column("content_hash", octets),
        _column("integrity_hash", octets),
        _column("wrapped_dek", octets),
        _column("kek_version", int64),
        _column("created_at", time),
        _column("created_by", words),
        _column("revision", int64),
        _column("mac", octets),
        sa.PrimaryKeyConstraint("tenant_id", "blob_id", name="pk_blobs"),
        sa.UniqueConstraint("tenant_id", "id", name="uq_blobs_id"),
        _of_tenant(postgresql, "blobs"),
        sa.CheckConstraint("generation BETWEEN 1 AND 4294967295", name="ck_blobs_generation"),
        sa.CheckConstraint("size >= 0 AND sealed_size > 0", name="ck_blobs_size"),
        sa.CheckConstraint("length(content_hash) = 32 AND length(integrity_hash) = 32", name="ck_blobs_hashes"),
        sa.CheckConstraint("length(mrenclave) = 32 AND length(mrsigner) = 32", name="ck_blobs_measurements"),
        sa.CheckConstraint("revision > 0", name="ck_blobs_revision"),
        schema=_schema(postgresql, "security_secret"),
        sqlite_strict=True,
    )
    schema = _schema(postgresql, "security_secret")
    op.create_index("ix_blobs_kek_version", "blobs", ["tenant_id", "kek_version", "blob_id"], schema=schema)
    op.create_index("ix_blobs_expires_at", "blobs", ["tenant_id", "expires_at"], schema=schema)


def _uploads(postgresql: bool) -> None:
    uid, time, int64, slug, small = _types(postgresql)
    words, octets = sa.Text(), sa.LargeBinary()
    schema = _schema(postgresql, "security_secret")
    op.create_table(
        "blob_uploads",
        _column("tenant_id", uid),
        _column("id", uid),
        _column("blob_id", slug),
        _column("blob_uid", uid),
        _column("request_hash", octets),
        _column("sealing_policy", words),
        _column("mrenclave", octets),
        _column("mrsigner", octets),
        _column("isv_svn", int64),
        _column("simulated", small),
        _column("store", words),
        _column("manifest", words),
        _column("wrapped_dek", octets),
        _column("kek_version", int64),
        _column("created_at", time),
        _column("created_by", words),
        _column("revision", int64),
        _column("mac", octets),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_blob_uploads"),
        sa.UniqueConstraint("tenant_id", "blob_uid", name="uq_blob_uploads_blob_uid"),
        _of_tenant(postgresql, "blob_uploads"),
        sa.CheckConstraint("length(request_hash) = 32", name="ck_blob_uploads_request_hash"),
        sa.CheckConstraint("revision > 0", name="ck_blob_uploads_revision"),
        schema=schema,
        sqlite_strict=True,
    )
    op.create_index("ix_blob_uploads_created_at", "blob_uploads", ["tenant_id", "created_at"], schema=schema)


def _uses(postgresql: bool) -> None:
    uid, time, int64, _, _ = _types(postgresql)
    op.create_table(
        "blob_uses",
        _column("tenant_id", uid),
        _column("blob_uid", uid),
        _column("use_count", int64),
        _column("last_used_at", time, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "blob_uid", name="pk_blob_uses"),
        _of_tenant(postgresql, "blob_uses"),
        sa.CheckConstraint("use_count >= 0", name="ck_blob_uses_use_count"),
        schema=_schema(postgresql, "security_internal"),
        sqlite_strict=True,
    )


def _types(postgresql: bool) -> tuple[Any, Any, Any, Any, Any]:
    """Return uid, time, 64-bit integer, id and small integer."""
    if postgresql:
        return sa.Uuid(), sa.DateTime(timezone=True), sa.BigInteger(), sa.Text(collation="C"), sa.SmallInteger()
    return sa.Text(), sa.Integer(), sa.Integer(), sa.Text(), sa.Integer()


def _column(name: str, type_: Any, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=nullable)


def _schema(postgresql: bool, name: str) -> str | None:
    return name if postgresql else None


def _of_tenant(postgresql: bool, name: str) -> sa.ForeignKeyConstraint:
    target = "security_internal.tenants.tenant_id" if postgresql else "tenants.tenant_id"
    return sa.ForeignKeyConstraint(["tenant_id"], [target], name=f"fk_{name}_tenants")


def _limit(table: str) -> None:
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO kms_app")
    op.execute(f"GRANT SELECT ON {table} TO kms_readonly")
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {table} TO kms_app, kms_readonly USING ({OWN}) WITH CHECK ({OWN})")
    op.execute(f"CREATE POLICY migration ON {table} TO CURRENT_USER USING ({MIGRATING})")
