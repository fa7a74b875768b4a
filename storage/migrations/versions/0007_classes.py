"""Classification of policies and keys.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add columns to policies; those that the release before writes without them are of class internal."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    schema = "security_internal" if postgresql else None
    small = sa.SmallInteger() if postgresql else sa.Integer()
    for name, type_, default in (
        ("classification", small, "2"),
        ("required_context", sa.Text(), "''"),
        ("log_data_access", small, "0"),
        ("approvals", small, "0"),
    ):
        column = sa.Column(name, type_, nullable=False, server_default=sa.text(default))
        op.add_column("policies", column, schema=schema)
