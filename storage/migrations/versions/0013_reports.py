"""Compliance reports.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the tables."""
