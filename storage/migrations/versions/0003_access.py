"""Principals and grants, and a tenant that stands for the installation, to which operators belong.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make what this release adds."""
    internal = "security_internal." if op.get_bind().dialect.name == "postgresql" else ""
    zero = "'00000000-0000-0000-0000-000000000000'"
    octets, long_ago = ("''", "'1970-01-01 00:00:00+00'") if internal else ("x''", "0")
    # Its slug is none that anybody can ask for, and with no KEK it is never shown.
    op.execute(f"""
        INSERT INTO {internal}tenants
            (tenant_id, slug, display_name, kek_uid, primary_kek, created_at, due_at, revision, mac)
        VALUES ({zero}, '', '', {zero}, 0, {long_ago}, NULL, 1, {octets})""")  # noqa: S608  no input
