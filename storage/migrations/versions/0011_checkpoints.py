"""Checkpoints of the audit trail.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the tables."""
