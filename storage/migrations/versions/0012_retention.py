"""Archives of the audit log, and legal holds.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make the tables."""
