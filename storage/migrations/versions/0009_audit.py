"""The audit log: partitions, triggers and roles.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the tables."""
