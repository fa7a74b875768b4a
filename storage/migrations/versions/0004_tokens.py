"""API tokens and pinned certificates.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make what this release adds."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    internal = "security_internal" if postgresql else None
    in_internal = f"{internal}." if internal else ""
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    slug = sa.Text(collation="C") if postgresql else sa.Text()
    words = sa.Text()
    octets = sa.LargeBinary()

    def column(name: str, type_: Any, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=nullable)

    def of_tenant(name: str) -> sa.ForeignKeyConstraint:
        return sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name=f"fk_{name}_tenants")

    def record(name: str, *parts: Any) -> None:
        op.create_table(
            name,
            column("tenant_id", uid),
            *parts,
            column("revision", int64),
            column("mac", octets),
            of_tenant(name),
            sa.CheckConstraint("revision > 0", name=f"ck_{name}_revision"),
            schema=internal,
            sqlite_strict=True,
        )

    record(
        "api_tokens",
        column("id", uid),
        column("principal", slug),
        column("key_prefix", slug),
        column("key_hash", octets),
        column("display_name", words),
        column("scopes", words),
        column("allowed_networks", words),
        column("allowed_origins", words),
        column("limit_per_minute", int64, nullable=True),
        column("limit_per_hour", int64, nullable=True),
        column("limit_per_day", int64, nullable=True),
        column("limit_rate", int64, nullable=True),
        column("limit_burst", int64, nullable=True),
        column("status", words),
        column("created_at", time),
        column("created_by", words),
        column("expires_at", time),
        column("revoked_at", time, nullable=True),
        column("revoked_by", words),
        column("revoked_reason", words),
        column("replaced_by", slug),
        column("overlap_until", time, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_api_tokens"),
        sa.UniqueConstraint("key_prefix", name="uq_api_tokens_key_prefix"),
        sa.CheckConstraint("length(key_hash) = 32", name="ck_api_tokens_key_hash"),
    )
    op.create_index("ix_api_tokens_key_prefix", "api_tokens", ["tenant_id", "key_prefix"], schema=internal)
    op.create_table(
        "token_uses",
        column("tenant_id", uid),
        column("token_uid", uid),
        column("use_count", int64),
        column("last_used_at", time, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "token_uid", name="pk_token_uses"),
        of_tenant("token_uses"),
        sa.CheckConstraint("use_count >= 0", name="ck_token_uses_use_count"),
        schema=internal,
        sqlite_strict=True,
    )
    record(
        "certificate_pins",
        column("principal", slug),
        column("fingerprint", octets),
        column("created_at", time),
        column("created_by", words),
        sa.PrimaryKeyConstraint("tenant_id", "principal", "fingerprint", name="pk_certificate_pins"),
        sa.CheckConstraint("length(fingerprint) = 32", name="ck_certificate_pins_fingerprint"),
    )
