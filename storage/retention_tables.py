"""The tables of legal holds, and of what has left the audit log for files."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint

from .schemas import INTERNAL, column, record
from .types import Bytes, Int64, Slug, Timestamp, Words

legal_holds: Final = record(
    "legal_holds",
    INTERNAL,
    column("hold_id", Slug),
    column("reason", Words),
    column("resource", Words),
    column("principal", Words),
    column("from_at", Timestamp, nullable=True),
    column("until_at", Timestamp, nullable=True),
    column("created_at", Timestamp),
    column("created_by", Words),
    column("released_at", Timestamp, nullable=True),
    column("released_by", Words),
    PrimaryKeyConstraint("tenant_id", "hold_id", name="pk_legal_holds"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_legal_holds_tenants"),
)

# All of them are the installation's.
audit_archives: Final = record(
    "audit_archives",
    INTERNAL,
    column("month", Slug),
    column("serial", Int64),
    column("body", Words),  # canonical JSON: what is signed, the boundaries of streams among it
    column("signature", Bytes),
    column("status", Words),
    column("file_name", Words),
    column("file_sha256", Bytes),
    column("file_size", Int64),
    column("created_at", Timestamp),
    column("verified_at", Timestamp, nullable=True),
    column("detached_at", Timestamp, nullable=True),
    column("deleted_at", Timestamp, nullable=True),
    column("deleted_by", Words),
    PrimaryKeyConstraint("tenant_id", "month", name="pk_audit_archives"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_audit_archives_tenants"),
    CheckConstraint("serial > 0", name="ck_audit_archives_serial"),
)
Index("uq_audit_archives_serial", audit_archives.c.tenant_id, audit_archives.c.serial, unique=True)
