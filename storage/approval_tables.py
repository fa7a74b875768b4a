"""The tables of requests that others have to approve, of their votes, and of how many votes they need."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint, text

from .schemas import INTERNAL, column, record
from .types import Bytes, Int64, Slug, Timestamp, Uid, Words

WAITING: Final = "status IN ('open', 'approved')"


def _of_tenant(name: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name=f"fk_{name}_tenants")


approvals: Final = record(
    "approvals",
    INTERNAL,
    column("id", Uid),
    column("requester", Words),
    column("credential_kind", Words),
    column("credential_id", Words),
    column("method", Words),
    column("permission", Words),
    column("resources", Words),  # canonical JSON as text
    column("request", Bytes),
    column("digest", Bytes),
    column("reason", Words),
    column("needed", Int64),
    column("created_at", Timestamp),
    column("expires_at", Timestamp),
    column("status", Words),
    column("status_at", Timestamp),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_approvals"),
    _of_tenant("approvals"),
    CheckConstraint("length(digest) = 32", name="ck_approvals_digest"),
    CheckConstraint("needed > 0", name="ck_approvals_needed"),
)
Index("ix_approvals_created_at", approvals.c.tenant_id, approvals.c.created_at, approvals.c.id)
# One request waits once, whoever stores it meanwhile on another node.
Index(
    "uq_approvals_waiting",
    approvals.c.tenant_id,
    approvals.c.digest,
    unique=True,
    postgresql_where=text(WAITING),
    sqlite_where=text(WAITING),
)

approval_votes: Final = record(
    "approval_votes",
    INTERNAL,
    column("approval_id", Uid),
    column("principal", Slug),
    column("vote", Words),
    column("voted_at", Timestamp),
    column("credential_kind", Words),
    column("credential_id", Words),
    column("comment", Words),
    # The principal alone: who votes again with another certificate or token is refused by the database itself.
    PrimaryKeyConstraint("tenant_id", "approval_id", "principal", name="pk_approval_votes"),
    ForeignKeyConstraint(
        ["tenant_id", "approval_id"],
        [f"{INTERNAL}.approvals.tenant_id", f"{INTERNAL}.approvals.id"],
        name="fk_approval_votes_approvals",
    ),
)

quorum_rules: Final = record(
    "quorum_rules",
    INTERNAL,
    column("permission", Slug),
    column("approvals", Int64),
    column("updated_at", Timestamp),
    column("updated_by", Words),
    PrimaryKeyConstraint("tenant_id", "permission", name="pk_quorum_rules"),
    _of_tenant("quorum_rules"),
    CheckConstraint("approvals >= 0", name="ck_quorum_rules_approvals"),
)
