"""The tables of records, declared once for both engines; docs/storage.md says which column of the documents went where.

Constraints bear explicit names, since migrations have to find them again.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BLANK_SCHEMA,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    UniqueConstraint,
    text,
)

from . import (  # noqa: F401  all are declared once this is loaded
    audit_tables,
    blob_tables,
    body_tables,
    checkpoint_tables,
    enclave_tables,
    integrity_tables,
    node_tables,
    token_tables,
)
from .access_tables import grants, principals
from .approval_tables import approval_votes, approvals, quorum_rules
from .enclave_upgrade_tables import enclave_upgrades
from .event_tables import outbox_items, security_events
from .report_tables import compliance_reports
from .retention_tables import audit_archives, legal_holds
from .schemas import INTERNAL, SECRET, VERSION, column, metadata, record
from .types import Bytes, Int64, LongAgo, Slug, Small, Timestamp, Uid, Words

tenants: Final = record(
    "tenants",
    INTERNAL,
    column("slug", Slug),
    column("display_name", Words),
    column("kek_uid", Uid),
    column("primary_kek", Int64),
    column("created_at", Timestamp),
    column("due_at", Timestamp, nullable=True, default=LongAgo()),
    PrimaryKeyConstraint("tenant_id", name="pk_tenants"),
    UniqueConstraint("slug", name="uq_tenants_slug"),
    CheckConstraint("primary_kek BETWEEN 0 AND 4294967295", name="ck_tenants_primary_kek"),
)
Index("ix_tenants_due", tenants.c.due_at)

keks: Final = record(
    "keks",
    SECRET,
    column("version", Int64),
    column("kek_uid", Uid),
    column("status", Words),
    column("mechanism", Small, nullable=True),
    column("canary", Bytes),
    column("hsm_key_id", Words),
    column("created_at", Timestamp),
    column("created_by", Words),
    column("destroy_at", Timestamp, nullable=True),
    PrimaryKeyConstraint("tenant_id", "version", name="pk_keks"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_keks_tenants"),
    CheckConstraint(VERSION, name="ck_keks_version"),
    CheckConstraint(
        "status <> 'active' OR (mechanism IS NOT NULL AND length(canary) > 0 AND length(hsm_key_id) > 0)",
        name="ck_keks_active",
    ),
)
# For the pass at start-up, which looks for intents without an outcome over all tenants.
Index(
    "ix_keks_pending",
    keks.c.tenant_id,
    keks.c.version,
    postgresql_where=keks.c.status == "pending",
    sqlite_where=keks.c.status == "pending",
)

encryption_keys: Final = record(
    "encryption_keys",
    SECRET,
    column("id", Uid),
    column("key_id", Slug),
    column("display_name", Words),
    column("purpose", Small),
    column("algorithm", Words),
    column("protection_level", Small),
    column("status", Words),
    column("primary_version", Int64),
    column("rotation_interval_hours", Int64, nullable=True),
    column("created_at", Timestamp),
    column("rotated_at", Timestamp),
    column("created_by", Words),
    column("labels", Words),  # canonical JSON as text: jsonb does not give back what it got
    column("status_at", Timestamp, nullable=True),
    column("status_before", Words, nullable=True),
    column("status_reason", Words, default=text("''")),
    column("policy_id", Slug, nullable=True),
    column("encryption_limit", Int64, nullable=True),
    column("cache_lifetime_seconds", Int64, nullable=True),
    column("quarantine_seconds", Int64, nullable=True),
    column("grace_seconds", Int64, nullable=True),
    column("automatic_retirement", Small, nullable=True),
    column("scheduled_from", Timestamp, nullable=True),
    column("due_at", Timestamp, nullable=True, default=LongAgo()),
    column("destroy_at", Timestamp, nullable=True),
    column("stopped_at", Timestamp, nullable=True),
    column("places_complete_at", Timestamp, nullable=True),
    column("places_complete_by", Words, default=text("''")),
    column("forced_by", Words, default=text("''")),
    column("leasable", Small, default=text("0")),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_encryption_keys"),
    UniqueConstraint("tenant_id", "key_id", name="uq_encryption_keys_key_id"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_encryption_keys_tenants"),
    CheckConstraint("primary_version BETWEEN 1 AND 4294967295", name="ck_encryption_keys_primary_version"),
    CheckConstraint("rotation_interval_hours > 0", name="ck_encryption_keys_rotation_interval_hours"),
)

# For the scheduler, over all tenants; the second finds what a clock that has gone back had planned.
Index("ix_encryption_keys_due", encryption_keys.c.due_at)
Index("ix_encryption_keys_scheduled_from", encryption_keys.c.scheduled_from)
Index("ix_encryption_keys_policy", encryption_keys.c.tenant_id, encryption_keys.c.policy_id)

key_versions: Final = record(
    "key_versions",
    SECRET,
    column("key_uid", Uid),
    column("version", Int64),
    column("wrapped", Bytes),
    column("kek_version", Int64),
    column("created_at", Timestamp),
    column("created_by", Words),
    column("status", Words, default=text("'archived'")),
    column("status_at", Timestamp, nullable=True),
    column("status_before", Words, nullable=True),
    column("status_reason", Words, default=text("''")),
    column("stopped_at", Timestamp, nullable=True),
    column("waits_until", Timestamp, nullable=True),
    column("scheduled_for", Timestamp, nullable=True),
    column("forced_by", Words, default=text("''")),
    column("exposed_at", Timestamp, nullable=True),
    column("seal_mrenclave", Bytes, nullable=True),
    column("seal_mrsigner", Bytes, nullable=True),
    column("seal_isv_svn", Int64, nullable=True),
    column("seal_simulated", Small, nullable=True),
    PrimaryKeyConstraint("tenant_id", "key_uid", "version", name="pk_key_versions"),
    ForeignKeyConstraint(
        ["tenant_id", "key_uid"],
        [f"{SECRET}.encryption_keys.tenant_id", f"{SECRET}.encryption_keys.id"],
        name="fk_key_versions_encryption_keys",
    ),
    ForeignKeyConstraint(
        ["tenant_id", "kek_version"],
        [f"{SECRET}.keks.tenant_id", f"{SECRET}.keks.version"],
        name="fk_key_versions_keks",
    ),
    CheckConstraint(VERSION, name="ck_key_versions_version"),
    CheckConstraint("length(wrapped) > 0", name="ck_key_versions_wrapped"),
)
# Without those that are destroyed, which in time are nearly all.
Index(
    "ix_key_versions_kek",
    key_versions.c.tenant_id,
    key_versions.c.kek_version,
    key_versions.c.key_uid,
    key_versions.c.version,
    postgresql_where=text("status <> 'destroyed'"),
    sqlite_where=text("status <> 'destroyed'"),
)
Index(
    "ix_key_versions_waits_until",
    key_versions.c.tenant_id,
    key_versions.c.key_uid,
    postgresql_where=key_versions.c.waits_until.is_not(None),
    sqlite_where=key_versions.c.waits_until.is_not(None),
)
# One scheduled time makes one version, whoever else carries out the same work.
Index(
    "uq_key_versions_scheduled_for",
    key_versions.c.tenant_id,
    key_versions.c.key_uid,
    key_versions.c.scheduled_for,
    unique=True,
)
# One version encrypts.
Index(
    "uq_key_versions_active",
    key_versions.c.tenant_id,
    key_versions.c.key_uid,
    unique=True,
    postgresql_where=key_versions.c.status == "active",
    sqlite_where=key_versions.c.status == "active",
)

policies: Final = record(
    "policies",
    INTERNAL,
    column("policy_id", Slug),
    column("version", Int64),
    column("rotation_seconds", Int64),
    column("encryption_limit", Int64),
    column("cache_lifetime_seconds", Int64),
    column("quarantine_seconds", Int64),
    column("grace_seconds", Int64),
    column("automatic_retirement", Small),
    column("created_at", Timestamp),
    column("created_by", Words),
    column("classification", Small, default=text("2")),
    column("required_context", Words, default=text("''")),  # keys, with commas between them
    column("log_data_access", Small, default=text("0")),
    column("approvals", Small, default=text("0")),
    column("audit_context", Words, default=text("'hashed'")),
    PrimaryKeyConstraint("tenant_id", "policy_id", "version", name="pk_policies"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_policies_tenants"),
    CheckConstraint(VERSION, name="ck_policies_version"),
)

places: Final = record(
    "places",
    INTERNAL,
    column("key_uid", Uid),
    column("place_id", Slug),
    column("kind", Words),
    column("description", Words),
    column("created_at", Timestamp),
    column("created_by", Words),
    column("counted_at", Timestamp, nullable=True),
    column("reported_by", Words),
    PrimaryKeyConstraint("tenant_id", "key_uid", "place_id", name="pk_places"),
    ForeignKeyConstraint(
        ["tenant_id", "key_uid"],
        [f"{SECRET}.encryption_keys.tenant_id", f"{SECRET}.encryption_keys.id"],
        name="fk_places_encryption_keys",
    ),
)

place_counts: Final = record(
    "place_counts",
    INTERNAL,
    column("key_uid", Uid),
    column("place_id", Slug),
    column("version", Int64),
    column("count", Int64),
    column("counted_at", Timestamp),
    column("previous_count", Int64, nullable=True),
    column("previous_at", Timestamp, nullable=True),
    PrimaryKeyConstraint("tenant_id", "key_uid", "version", "place_id", name="pk_place_counts"),
    ForeignKeyConstraint(
        ["tenant_id", "key_uid", "place_id"],
        [f"{INTERNAL}.places.tenant_id", f"{INTERNAL}.places.key_uid", f"{INTERNAL}.places.place_id"],
        name="fk_place_counts_places",
    ),
    CheckConstraint(VERSION, name="ck_place_counts_version"),
    CheckConstraint("count >= 0", name="ck_place_counts_count"),
)

operations: Final = record(
    "operations",
    INTERNAL,
    column("id", Uid),
    column("kind", Words),
    column("target", Words),
    column("status", Words),
    column("requested_by", Words),
    column("created_at", Timestamp),
    column("updated_at", Timestamp),
    column("resume_after", Words),
    column("done", Int64),
    column("total", Int64),
    column("error", Words),
    column("ended_at", Timestamp, nullable=True),
    column("node_id", Uid, nullable=True),
    column("leased_until", Timestamp, nullable=True),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_operations"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_operations_tenants"),
)
Index("ix_operations_created_at", operations.c.tenant_id, operations.c.created_at)
Index("ix_operations_ended_at", operations.c.ended_at)
Index(
    "uq_operations_running",
    operations.c.tenant_id,
    operations.c.kind,
    operations.c.target,
    unique=True,
    postgresql_where=operations.c.status == "running",
    sqlite_where=operations.c.status == "running",
)

receipts: Final = record(
    "receipts",
    INTERNAL,
    column("id", Uid),
    column("subject", Slug),
    column("key_uid", Uid, nullable=True),
    column("body", Words),
    column("signature", Bytes),
    column("created_at", Timestamp),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_receipts"),
    UniqueConstraint("tenant_id", "subject", name="uq_receipts_subject"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_receipts_tenants"),
    CheckConstraint("length(signature) > 0", name="ck_receipts_signature"),
)

RECORDS: Final = (
    tenants,
    keks,
    encryption_keys,
    key_versions,
    policies,
    places,
    place_counts,
    operations,
    receipts,
    principals,
    grants,
    token_tables.api_tokens,
    token_tables.certificate_pins,
    approvals,
    approval_votes,
    quorum_rules,
    security_events,
    outbox_items,
    node_tables.counters,
    compliance_reports,
    legal_holds,
    audit_archives,
    blob_tables.blobs,
    blob_tables.blob_uploads,
    enclave_tables.enclaves,
    enclave_upgrades,
)


def declared(engine: str) -> MetaData:
    """Return all tables as that engine ("sqlite" or "postgresql") has them, for DDL and comparisons.

    On SQLite, DDL through a schema translation silently drops the foreign keys between schemas; a flat copy keeps them.
    """
    if engine != "sqlite":
        return metadata
    flat = MetaData()
    for table in metadata.sorted_tables:
        # Both are meant for this, but not typed so.
        table.to_metadata(flat, schema=None, referred_schema_fn=lambda *_: BLANK_SCHEMA)  # type: ignore[arg-type]
    return flat
