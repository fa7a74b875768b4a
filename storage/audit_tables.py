"""The table of audit events: written once, by the audit writer alone, and never changed (FORMATS, section 8)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Index, PrimaryKeyConstraint, Table, text

from .schemas import AUDIT, column, metadata
from .types import Bytes, Int64, Timestamp, Uid, Words

# Beside the canonical bytes, which are what the chain covers, every field stands in a column to search by; whoever
# reads an event reads it from the bytes, and compares.
audit_log: Final = Table(
    "audit_log",
    metadata,
    column("tenant_id", Uid),
    column("stream_id", Uid),
    column("sequence", Int64),
    column("at", Timestamp),
    column("action", Words),
    column("category", Words),
    column("phase", Words),
    column("outcome", Words),
    column("code", Words),
    column("error", Words),
    column("error_message", Words),
    column("severity", Words),
    column("risk", Int64),
    column("principal", Words),
    column("roles", Words),
    column("credential_kind", Words),
    column("credential_id", Words),
    column("address", Words),
    column("user_agent", Words),
    column("request_id", Words),
    column("correlation_id", Words),
    column("approval", Words),
    column("reason", Words),
    column("intent_stream", Uid, nullable=True),
    column("intent_sequence", Int64),
    column("node", Words),
    column("release", Words),
    column("region", Words),
    column("resource_type", Words),
    column("resource", Words),
    column("key_uid", Uid, nullable=True),
    column("key_version", Int64),
    column("context", Words),
    column("context_digest", Bytes),
    column("classification", Words),
    column("sensitivity", Words),
    column("items", Int64),
    column("failures", Int64),
    column("items_digest", Bytes),
    column("bytes_in", Int64),
    column("bytes_out", Int64),
    column("duration_us", Int64),
    column("details", Words),
    column("changes", Bytes),
    column("retention", Words),
    column("kept_until", Timestamp, nullable=True),
    column("canonical", Bytes),
    column("hash", Bytes),
    PrimaryKeyConstraint("stream_id", "sequence", "at", name="pk_audit_log"),
    CheckConstraint("sequence > 0", name="ck_audit_log_sequence"),
    CheckConstraint("length(hash) = 32", name="ck_audit_log_hash"),
    schema=AUDIT,
    sqlite_strict=True,
    postgresql_partition_by="RANGE (at)",
)
# A reader's questions: by time, by principal, by resource, by key, by request; few indexes, since each costs every call.
Index("ix_audit_log_at", audit_log.c.tenant_id, audit_log.c.at)
Index("ix_audit_log_principal", audit_log.c.tenant_id, audit_log.c.principal, audit_log.c.at)
Index("ix_audit_log_key", audit_log.c.tenant_id, audit_log.c.key_uid, audit_log.c.at)
# Over all tenants; one of ever later times costs least of all to keep.
Index("ix_audit_log_time", audit_log.c.at)
Index("ix_audit_log_request", audit_log.c.request_id)
# What each stream of a node began with, and intents.
Index(
    "ix_audit_log_streams",
    audit_log.c.node,
    audit_log.c.at,
    postgresql_where=text("sequence = 1"),
    sqlite_where=text("sequence = 1"),
)
Index(
    "ix_audit_log_intents",
    audit_log.c.stream_id,
    audit_log.c.sequence,
    postgresql_where=text("phase = 'intent'"),
    sqlite_where=text("phase = 'intent'"),
)
# Intents without an outcome, and how far they have been looked for.
Index(
    "ix_audit_log_intent_times",
    audit_log.c.at,
    postgresql_where=text("phase = 'intent'"),
    sqlite_where=text("phase = 'intent'"),
)
Index(
    "ix_audit_log_outcomes",
    audit_log.c.intent_stream,
    audit_log.c.intent_sequence,
    postgresql_where=text("intent_stream IS NOT NULL"),
    sqlite_where=text("intent_stream IS NOT NULL"),
)
Index(
    "ix_audit_log_settled",
    audit_log.c.at,
    postgresql_where=text("action = 'audit.settled'"),
    sqlite_where=text("action = 'audit.settled'"),
)
