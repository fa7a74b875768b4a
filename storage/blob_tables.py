"""The tables of sealed blobs: what is recorded of them, of uploads under way, and of their uses."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)

from .schemas import INTERNAL, SECRET, VERSION, column, metadata, record
from .types import Bytes, Int64, Slug, Small, Timestamp, Uid, Words


def _of_tenant(name: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name=f"fk_{name}_tenants")


blobs: Final = record(
    "blobs",
    SECRET,
    column("blob_id", Slug),
    column("id", Uid),
    column("generation", Int64),
    column("content_type", Words),
    column("description", Words),
    column("labels", Words),  # canonical JSON as text, as access_policy and manifest
    column("access_policy", Words),
    column("expires_at", Timestamp, nullable=True),
    column("legal_hold", Small),
    column("sealing_policy", Words),
    column("present_policy", Words, default=text("''")),
    column("mrenclave", Bytes),
    column("mrsigner", Bytes),
    column("isv_svn", Int64),
    column("simulated", Small),
    column("store", Words),
    column("compression", Words),
    column("manifest", Words),
    column("size", Int64),
    column("sealed_size", Int64),
    column("content_hash", Bytes),
    column("integrity_hash", Bytes),
    column("wrapped_dek", Bytes),
    column("kek_version", Int64),
    column("created_at", Timestamp),
    column("created_by", Words),
    PrimaryKeyConstraint("tenant_id", "blob_id", name="pk_blobs"),
    UniqueConstraint("tenant_id", "id", name="uq_blobs_id"),
    _of_tenant("blobs"),
    CheckConstraint(VERSION.replace("version", "generation"), name="ck_blobs_generation"),
    CheckConstraint("size >= 0 AND sealed_size > 0", name="ck_blobs_size"),
    CheckConstraint("length(content_hash) = 32 AND length(integrity_hash) = 32", name="ck_blobs_hashes"),
    CheckConstraint("length(mrenclave) = 32 AND length(mrsigner) = 32", name="ck_blobs_measurements"),
)
Index("ix_blobs_kek_version", blobs.c.tenant_id, blobs.c.kek_version, blobs.c.blob_id)
Index("ix_blobs_expires_at", blobs.c.tenant_id, blobs.c.expires_at)

blob_uploads: Final = record(
    "blob_uploads",
    SECRET,
    column("id", Uid),
    column("blob_id", Slug),
    column("blob_uid", Uid),
    column("request_hash", Bytes),
    column("sealing_policy", Words),
    column("present_policy", Words, default=text("''")),
    column("mrenclave", Bytes),
    column("mrsigner", Bytes),
    column("isv_svn", Int64),
    column("simulated", Small),
    column("store", Words),
    column("manifest", Words),
    column("wrapped_dek", Bytes),
    column("kek_version", Int64),
    column("created_at", Timestamp),
    column("created_by", Words),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_blob_uploads"),
    UniqueConstraint("tenant_id", "blob_uid", name="uq_blob_uploads_blob_uid"),
    _of_tenant("blob_uploads"),
    CheckConstraint("length(request_hash) = 32", name="ck_blob_uploads_request_hash"),
)
Index("ix_blob_uploads_created_at", blob_uploads.c.tenant_id, blob_uploads.c.created_at)

# No record: counting changes no revision, and decides nothing.
blob_uses: Final = Table(
    "blob_uses",
    metadata,
    Column("tenant_id", Uid, nullable=False),
    Column("blob_uid", Uid, nullable=False),
    Column("use_count", Int64, nullable=False),
    Column("last_used_at", Timestamp),
    PrimaryKeyConstraint("tenant_id", "blob_uid", name="pk_blob_uses"),
    _of_tenant("blob_uses"),
    CheckConstraint("use_count >= 0", name="ck_blob_uses_use_count"),
    schema=INTERNAL,
    sqlite_strict=True,
)
