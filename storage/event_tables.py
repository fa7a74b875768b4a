"""The tables of security events, and of what is to be told to others."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Table

from .schemas import INTERNAL, column, metadata, record
from .types import Int64, Slug, Small, Timestamp, Uid, Words

security_events: Final = record(
    "security_events",
    INTERNAL,
    column("id", Uid),
    column("event_type", Words),
    column("severity", Words),
    column("category", Words),
    column("risk_score", Int64),  # hundredths: a numeric does not come back as it went
    column("day", Int64),  # of first_at, since 1970-01-01: summed up on both engines alike
    column("first_at", Timestamp),
    column("last_at", Timestamp),
    column("occurrences", Int64),
    column("threshold", Int64),
    column("created_at", Timestamp),
    column("description", Words),
    column("blocked", Small),
    column("source_address", Words),
    column("principal", Words),
    column("credential_kind", Words),
    column("credential_id", Words),
    column("method", Words),
    column("resource", Words),
    column("request_id", Words),
    column("indicators", Words),  # canonical JSON as text
    column("answer", Words),
    column("outcome", Words),
    column("notes", Words),
    column("false_alarm", Small, nullable=True),
    column("incident", Words),
    column("resolved_at", Timestamp, nullable=True),
    column("resolved_by", Words),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_security_events"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_security_events_tenants"),
    CheckConstraint("risk_score BETWEEN 0 AND 100", name="ck_security_events_risk_score"),
    CheckConstraint("occurrences > 0", name="ck_security_events_occurrences"),
)
Index("ix_security_events_created_at", security_events.c.tenant_id, security_events.c.created_at, security_events.c.id)
Index("ix_security_events_day", security_events.c.tenant_id, security_events.c.day)

outbox_items: Final = record(
    "outbox_items",
    INTERNAL,
    column("id", Uid),
    column("position", Int64),
    column("topic", Words),
    column("body", Words),
    column("created_at", Timestamp),
    PrimaryKeyConstraint("tenant_id", "id", name="pk_outbox_items"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_outbox_items_tenants"),
    CheckConstraint("position > 0", name="ck_outbox_items_position"),
)
# For sinks, over all tenants.
Index("uq_outbox_items_position", outbox_items.c.position, unique=True)
Index("ix_outbox_items_created_at", outbox_items.c.created_at)

# One row: the last position given. Its lock, which a transaction holds to its end, makes the order of positions that of
# commits.
outbox_head: Final = Table(
    "outbox_head",
    metadata,
    Column("id", Small, nullable=False),
    Column("position", Int64, nullable=False),
    PrimaryKeyConstraint("id", name="pk_outbox_head"),
    CheckConstraint("id = 1", name="ck_outbox_head_id"),
    schema=INTERNAL,
    sqlite_strict=True,
)

# How far each sink is, and which node delivers to it now.
sink_positions: Final = Table(
    "sink_positions",
    metadata,
    Column("sink", Slug, nullable=False),
    Column("position", Int64, nullable=False),
    Column("node_id", Uid, nullable=False),
    Column("leased_until", Timestamp, nullable=False),
    PrimaryKeyConstraint("sink", name="pk_sink_positions"),
    schema=INTERNAL,
    sqlite_strict=True,
)
