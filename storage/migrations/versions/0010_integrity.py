"""The MACs and trees of records.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
Records that are there already are sealed by the daemon, at its next start: the key of the MACs never leaves it.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

OWN: Final = "tenant_id = (SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
MIGRATING: Final = "current_setting('app.migrating', true) = 'on'"

# kms_app writes them for its tenant; kms_sweeper looks.
TREES: Final = ("tree_nodes", "tenant_roots")

# Records that kms_app writes once, and seals once more when it is started on a database without MACs.
WRITTEN_ONCE: Final = ("policies", "receipts", "grants", "certificate_pins", "approval_votes")


def upgrade() -> None:
    """Make the tables, and let counters carry a MAC."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    internal = "security_internal" if postgresql else None
    in_internal = f"{internal}." if internal else ""
    uid = sa.Uuid() if postgresql else sa.Text()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    slug = sa.Text(collation="C") if postgresql else sa.Text()
    octets = sa.LargeBinary()

    def of_tenant(name: str) -> sa.ForeignKeyConstraint:
        return sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name=f"fk_{name}_tenants")

    op.create_table(
        "tree_nodes",
        sa.Column("tenant_id", uid, nullable=False),
        sa.Column("prefix", slug, nullable=False),
        sa.Column("body", octets, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "prefix", name="pk_tree_nodes"),
        of_tenant("tree_nodes"),
        schema=internal,
        sqlite_strict=True,
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "tenant_roots",
        sa.Column("tenant_id", uid, nullable=False),
        sa.Column("epoch", int64, nullable=False),
        sa.Column("root", octets, nullable=False),
        sa.Column("mac", octets, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenant_roots"),
        of_tenant("tenant_roots"),
        sa.CheckConstraint("epoch > 0", name="ck_tenant_roots_epoch"),
        sa.CheckConstraint("length(root) = 32", name="ck_tenant_roots_root"),
        schema=internal,
        sqlite_strict=True,
        postgresql_with={"fillfactor": "50"},
    )
    empty = sa.text("''::bytea" if postgresql else "x''")
    op.add_column(
        "counters", sa.Column("revision", int64, nullable=False, server_default=sa.text("1")), schema=internal
    )
    op.add_column("counters", sa.Column("mac", octets, nullable=False, server_default=empty), schema=internal)
    if postgresql:
        _limit()


def _limit() -> None:
    for name in TREES:
        table = f"security_internal.{name}"
        op.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO kms_app")
        op.execute(f"GRANT SELECT ON {table} TO kms_sweeper, kms_readonly")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO kms_app, kms_readonly USING ({OWN}) WITH CHECK ({OWN})")
        op.execute(f"CREATE POLICY migration ON {table} TO CURRENT_USER USING ({MIGRATING})")
        op.execute(f"CREATE POLICY sweeper_select ON {table} FOR SELECT TO kms_sweeper USING (true)")
    op.execute("GRANT UPDATE (revision, mac) ON security_internal.counters TO kms_app")
    for name in WRITTEN_ONCE:
        op.execute(f"GRANT UPDATE (mac) ON security_internal.{name} TO kms_app")
    # Notices are told by the sweeper, and sealed by the application.
    op.execute("GRANT SELECT, UPDATE (mac) ON security_internal.outbox_items TO kms_app")
