"""Requests that need a quorum, their votes, how many votes they need, and by whom a destruction was forced.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

WAITING = "status IN ('open', 'approved')"


def upgrade() -> None:
    """Make what this release adds."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    secret = "security_secret" if postgresql else None
    internal = "security_internal" if postgresql else None
    in_internal = f"{internal}." if internal else ""
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    slug = sa.Text(collation="C") if postgresql else sa.Text()
    words = sa.Text()
    octets = sa.LargeBinary()

    def column(name: str, type_: Any) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=False)

    def record(name: str, *parts: Any) -> None:
        op.create_table(
            name,
            column("tenant_id", uid),
            *parts,
            column("revision", int64),
            column("mac", octets),
            sa.CheckConstraint("revision > 0", name=f"ck_{name}_revision"),
            schema=internal,
            sqlite_strict=True,
        )

    def of_tenant(name: str) -> sa.ForeignKeyConstraint:
        return sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name=f"fk_{name}_tenants")

    # The release before writes these rows without the column; it forces nothing.
    for table in ("encryption_keys", "key_versions"):
        forced = sa.Column("forced_by", words, nullable=False, server_default=sa.text("''"))
        op.add_column(table, forced, schema=secret)

    record(
        "approvals",
        column("id", uid),
        column("requester", words),
        column("credential_kind", words),
        column("credential_id", words),
        column("method", words),
        column("permission", words),
        column("resources", words),
        column("request", octets),
        column("digest", octets),
        column("reason", words),
        column("needed", int64),
        column("created_at", time),
        column("expires_at", time),
        column("status", words),
        column("status_at", time),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_approvals"),
        of_tenant("approvals"),
        sa.CheckConstraint("length(digest) = 32", name="ck_approvals_digest"),
        sa.CheckConstraint("needed > 0", name="ck_approvals_needed"),
    )
    op.create_index("ix_approvals_created_at", "approvals", ["tenant_id", "created_at", "id"], schema=internal)
    op.create_index(
        "uq_approvals_waiting",
        "approvals",
        ["tenant_id", "digest"],
        unique=True,
        schema=internal,
        postgresql_where=sa.text(WAITING),
        sqlite_where=sa.text(WAITING),
    )
    record(
        "approval_votes",
        column("approval_id", uid),
        column("principal", slug),
        column("vote", words),
        column("voted_at", time),
        column("credential_kind", words),
        column("credential_id", words),
        column("comment", words),
        sa.PrimaryKeyConstraint("tenant_id", "approval_id", "principal", name="pk_approval_votes"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "approval_id"],
            [f"{in_internal}approvals.tenant_id", f"{in_internal}approvals.id"],
            name="fk_approval_votes_approvals",
        ),
    )
    record(
        "quorum_rules",
        column("permission", slug),
        column("approvals", int64),
        column("updated_at", time),
        column("updated_by", words),
        sa.PrimaryKeyConstraint("tenant_id", "permission", name="pk_quorum_rules"),
        of_tenant("quorum_rules"),
        sa.CheckConstraint("approvals >= 0", name="ck_quorum_rules_approvals"),
    )
