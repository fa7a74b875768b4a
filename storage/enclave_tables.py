"""The table of the installation's enclaves."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint

from .schemas import INTERNAL, SECRET, column, record
from .types import Bytes, Int64, Slug, Small, Timestamp, Uid, Words

enclaves: Final = record(
    "enclaves",
    SECRET,
    column("id", Uid),
    column("node", Slug),
    column("node_id", Uid),  # as nodes has it, while that daemon runs
    column("platform_id", Bytes),
    column("backend", Words),
    column("simulated", Small),
    column("mrenclave", Bytes),
    column("mrsigner", Bytes),
    column("isv_prod_id", Int64),
    column("isv_svn", Int64),
    column("cpu_svn", Bytes),
    column("debug", Small),
    column("freshness", Words),
    column("platform_info", Words),  # canonical JSON as text: what closes the process off
    column("attestation_status", Words),
    column("attestation_reason", Words),
    column("quote", Bytes),
    column("last_attestation", Timestamp, nullable=True),
    column("attestation_expires_at", Timestamp, nullable=True),
    column("process_state", Words),
    column("restarts", Int64),
    column("is_active", Small),
    column("health_status", Words),
    column("health_reason", Words),
    column("created_at", Timestamp),
    column("changed_at", Timestamp),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_enclaves"),
    UniqueConstraint("tenant_id", "node", "platform_id", name="uq_enclaves_node"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_enclaves_tenants"),
    CheckConstraint("length(mrenclave) = 32 AND length(mrsigner) = 32", name="ck_enclaves_measurements"),
    CheckConstraint("length(quote) <= 16384", name="ck_enclaves_quote"),
    # What has expired is known by its time.
    CheckConstraint(
        "attestation_status IN ('pending', 'valid', 'invalid', 'revoked')", name="ck_enclaves_attestation_status"
    ),
    CheckConstraint("health_status IN ('healthy', 'degraded', 'unhealthy')", name="ck_enclaves_health_status"),
)
