"""The table of upgrades of enclaves."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint, text

from .schemas import INTERNAL, column, record
from .types import Bytes, Int64, Timestamp, Uid, Words

enclave_upgrades: Final = record(
    "enclave_upgrades",
    INTERNAL,
    column("id", Uid),
    column("mrenclave", Bytes),
    column("isv_svn", Int64),
    column("from_mrenclave", Bytes),
    column("from_isv_svn", Int64),
    column("status", Words),
    column("status_at", Timestamp),
    column("created_at", Timestamp),
    column("created_by", Words),
    column("operation_id", Uid, nullable=True),
    column("forced_by", Words),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_enclave_upgrades"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_enclave_upgrades_tenants"),
    CheckConstraint("length(mrenclave) = 32 AND length(from_mrenclave) = 32", name="ck_enclave_upgrades_measurements"),
    CheckConstraint("isv_svn >= 0 AND from_isv_svn >= 0", name="ck_enclave_upgrades_versions"),
)
# At most one of a tenant is open.
Index(
    "uq_enclave_upgrades_open",
    enclave_upgrades.c.tenant_id,
    unique=True,
    postgresql_where=text("status IN ('preparing', 'prepared', 'finishing')"),
    sqlite_where=text("status IN ('preparing', 'prepared', 'finishing')"),
)
