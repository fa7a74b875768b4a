"""The tables of API tokens and pinned certificates."""

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
)

from .schemas import INTERNAL, column, metadata, record
from .types import Bytes, Int64, Slug, Timestamp, Uid, Words


def _of_tenant(name: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name=f"fk_{name}_tenants")


api_tokens: Final = record(
    "api_tokens",
    INTERNAL,
    column("id", Uid),
    column("principal", Slug),
    column("key_prefix", Slug),
    column("key_hash", Bytes),
    column("display_name", Words),
    column("scopes", Words),  # canonical JSON as text, as the next two
    column("allowed_networks", Words),
    column("allowed_origins", Words),
    column("limit_per_minute", Int64, nullable=True),
    column("limit_per_hour", Int64, nullable=True),
    column("limit_per_day", Int64, nullable=True),
    column("limit_rate", Int64, nullable=True),
    column("limit_burst", Int64, nullable=True),
    column("status", Words),
    column("created_at", Timestamp),
    column("created_by", Words),
    column("expires_at", Timestamp),
    column("revoked_at", Timestamp, nullable=True),
    column("revoked_by", Words),
    column("revoked_reason", Words),
    column("replaced_by", Slug),
    column("overlap_until", Timestamp, nullable=True),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_api_tokens"),
    UniqueConstraint("key_prefix", name="uq_api_tokens_key_prefix"),
    _of_tenant("api_tokens"),
    CheckConstraint("length(key_hash) = 32", name="ck_api_tokens_key_hash"),
)
Index("ix_api_tokens_key_prefix", api_tokens.c.tenant_id, api_tokens.c.key_prefix)

# No record: counting changes no revision, and decides nothing.
token_uses: Final = Table(
    "token_uses",
    metadata,
    Column("tenant_id", Uid, nullable=False),
    Column("token_uid", Uid, nullable=False),
    Column("use_count", Int64, nullable=False),
    Column("last_used_at", Timestamp),
    PrimaryKeyConstraint("tenant_id", "token_uid", name="pk_token_uses"),
    _of_tenant("token_uses"),
    CheckConstraint("use_count >= 0", name="ck_token_uses_use_count"),
    schema=INTERNAL,
    sqlite_strict=True,
)

certificate_pins: Final = record(
    "certificate_pins",
    INTERNAL,
    column("principal", Slug),
    column("fingerprint", Bytes),
    column("created_at", Timestamp),
    column("created_by", Words),
    PrimaryKeyConstraint("tenant_id", "principal", "fingerprint", name="pk_certificate_pins"),
    _of_tenant("certificate_pins"),
    CheckConstraint("length(fingerprint) = 32", name="ck_certificate_pins_fingerprint"),
)
