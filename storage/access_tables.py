"""The tables of principals and grants: records, as those in storage/tables.py."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint

from .schemas import INTERNAL, column, record
from .types import Slug, Small, Timestamp, Uid, Words

principals: Final = record(
    "principals",
    INTERNAL,
    column("principal_id", Slug),
    column("kind", Words),
    column("display_name", Words),
    column("blocked", Small),
    column("blocked_until", Timestamp, nullable=True),
    column("blocked_reason", Words),
    column("created_at", Timestamp),
    column("created_by", Words),
    PrimaryKeyConstraint("tenant_id", "principal_id", name="pk_principals"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_principals_tenants"),
    CheckConstraint("blocked = 1 OR blocked_until IS NULL", name="ck_principals_blocked_until"),
)

grants: Final = record(
    "grants",
    INTERNAL,
    column("id", Uid),
    column("principal_id", Slug),
    column("effect", Words),
    column("role", Words, nullable=True),
    column("permissions", Words),  # canonical JSON as text, as labels are
    column("resource", Words),
    column("conditions", Words),  # canonical JSON as text
    column("expires_at", Timestamp, nullable=True),
    column("reason", Words),
    column("created_at", Timestamp),
    column("created_by", Words),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_grants"),
    ForeignKeyConstraint(
        ["tenant_id", "principal_id"],
        [f"{INTERNAL}.principals.tenant_id", f"{INTERNAL}.principals.principal_id"],
        name="fk_grants_principals",
    ),
    CheckConstraint("effect IN ('allow', 'deny')", name="ck_grants_effect"),
)
Index("ix_grants_principal", grants.c.tenant_id, grants.c.principal_id, grants.c.id)
