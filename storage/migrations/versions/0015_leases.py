"""Leasable keys, and versions whose DEKs have left the daemon.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add columns; what the release before writes without them is not leasable and has never been exposed."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    schema = "security_secret" if postgresql else None
    small = sa.SmallInteger() if postgresql else sa.Integer()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    leasable = sa.Column("leasable", small, nullable=False, server_default=sa.text("0"))
    op.add_column("encryption_keys", leasable, schema=schema)
    op.add_column("key_versions", sa.Column("exposed_at", time, nullable=True), schema=schema)
