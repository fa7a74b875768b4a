"""Security events, what is to be told to others, and how far each sink has got.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make what this release adds."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    internal = "security_internal" if postgresql else None
    in_internal = f"{internal}." if internal else ""
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    small = sa.SmallInteger() if postgresql else sa.Integer()
    slug = sa.Text(collation="C") if postgresql else sa.Text()
    words = sa.Text()
    octets = sa.LargeBinary()

    def column(name: str, type_: Any, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=nullable)

    def record(name: str, *parts: Any) -> None:
        op.create_table(
            name,
            column("tenant_id", uid),
            *parts,
            column("revision", int64),
            column("mac", octets),
            sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name=f"fk_{name}_tenants"),
            sa.CheckConstraint("revision > 0", name=f"ck_{name}_revision"),
            schema=internal,
            sqlite_strict=True,
        )

    def index(name: str, table: str, *columns: str, unique: bool = False) -> None:
        op.create_index(name, table, list(columns), unique=unique, schema=internal)

    record(
        "security_events",
        column("id", uid),
        column("event_type", words),
        column("severity", words),
        column("category", words),
        column("risk_score", int64),
        column("day", int64),
        column("first_at", time),
        column("last_at", time),
        column("occurrences", int64),
        column("threshold", int64),
        column("created_at", time),
        column("description", words),
        column("blocked", small),
        column("source_address", words),
        column("principal", words),
        column("credential_kind", words),
        column("credential_id", words),
        column("method", words),
        column("resource", words),
        column("request_id", words),
        column("indicators", words),
        column("answer", words),
        column("outcome", words),
        column("notes", words),
        column("false_alarm", small, nullable=True),
        column("incident", words),
        column("resolved_at", time, nullable=True),
        column("resolved_by", words),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_security_events"),
        sa.CheckConstraint("risk_score BETWEEN 0 AND 100", name="ck_security_events_risk_score"),
        sa.CheckConstraint("occurrences > 0", name="ck_security_events_occurrences"),
    )
    index("ix_security_events_created_at", "security_events", "tenant_id", "created_at", "id")
    index("ix_security_events_day", "security_events", "tenant_id", "day")
    record(
        "outbox_items",
        column("id", uid),
        column("position", int64),
        column("topic", words),
        column("body", words),
        column("created_at", time),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_outbox_items"),
        sa.CheckConstraint("position > 0", name="ck_outbox_items_position"),
    )
    index("uq_outbox_items_position", "outbox_items", "position", unique=True)
    index("ix_outbox_items_created_at", "outbox_items", "created_at")
    op.create_table(
        "outbox_head",
        column("id", small),
        column("position", int64),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_head"),
        sa.CheckConstraint("id = 1", name="ck_outbox_head_id"),
        schema=internal,
        sqlite_strict=True,
    )
    op.create_table(
        "sink_positions",
        column("sink", slug),
        column("position", int64),
        column("node_id", uid),
        column("leased_until", time),
        sa.PrimaryKeyConstraint("sink", name="pk_sink_positions"),
        schema=internal,
        sqlite_strict=True,
    )
