"""How the audit trail shows contexts, by policy.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add a column to policies; those that the release before writes without it have hashed contexts."""
    schema = "security_internal" if op.get_bind().dialect.name == "postgresql" else None
    column = sa.Column("audit_context", sa.Text(), nullable=False, server_default=sa.text("'hashed'"))
    op.add_column("policies", column, schema=schema)
