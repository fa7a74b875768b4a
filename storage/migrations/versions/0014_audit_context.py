"""How the audit trail shows contexts, by policy; and how intents without an outcome are found.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add indexes, and a column to policies; those that the release before writes without it have hashed contexts."""
    schema = "security_internal" if op.get_bind().dialect.name == "postgresql" else None
    column = sa.Column("audit_context", sa.Text(), nullable=False, server_default=sa.text("'hashed'"))
    op.add_column("policies", column, schema=schema)
    schema = "audit" if op.get_bind().dialect.name == "postgresql" else None
    for name, columns, where in (
        ("ix_audit_log_intent_times", ["at"], "phase = 'intent'"),
        ("ix_audit_log_outcomes", ["intent_stream", "intent_sequence"], "intent_stream IS NOT NULL"),
        ("ix_audit_log_settled", ["at"], "action = 'audit.settled'"),
    ):
        rows = sa.text(where)
        op.create_index(name, "audit_log", columns, schema=schema, postgresql_where=rows, sqlite_where=rows)
