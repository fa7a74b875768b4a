"""Checkpoints of the audit trail: a chain that is added to and never changed.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

# As 0008 has them.
OWN: Final = "tenant_id = (SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
MIGRATING: Final = "current_setting('app.migrating', true) = 'on'"

# kms_sweeper's over all tenants, by table.
SWEEPER: Final = {
    "checkpoints": ("SELECT", "INSERT"),
    "checkpoint_roots": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "checkpoint_head": ("SELECT", "INSERT", "UPDATE"),
}

TRIGGERS: Final = (
    """CREATE FUNCTION audit.refuse_checkpoint_change() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        RAISE EXCEPTION 'checkpoints are added to, and never changed' USING ERRCODE = 'insufficient_privilege';
    END $$""",
    """CREATE TRIGGER checkpoints_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.checkpoints
        FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_checkpoint_change()""",
    # ALWAYS: otherwise a session that claims to replay a replication's changes would pass.
    "ALTER TABLE audit.checkpoints ENABLE ALWAYS TRIGGER checkpoints_refuse",
    "REVOKE ALL ON FUNCTION audit.refuse_checkpoint_change() FROM PUBLIC",
)
# REPLACE removes the row that is there without asking a DELETE trigger, unless every connection asks for it.
SQLITE_TRIGGERS: Final = (
    """CREATE TRIGGER checkpoints_refuse_update BEFORE UPDATE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'checkpoints are added to, and never changed'); END""",
    """CREATE TRIGGER checkpoints_refuse_delete BEFORE DELETE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'checkpoints are added to, and never changed'); END""",
    """CREATE TRIGGER checkpoints_refuse_replace BEFORE INSERT ON checkpoints
    WHEN EXISTS (SELECT 1 FROM checkpoints WHERE serial = NEW.serial)
    BEGIN SELECT RAISE(ABORT, 'checkpoints are added to, and never changed'); END""",
)


def upgrade() -> None:
    """Make the tables, and what keeps the chain as it is."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    _make_tables(postgresql)
    for statement in TRIGGERS if postgresql else SQLITE_TRIGGERS:
        op.execute(statement)
    if not postgresql:
        return
    for table, privileges in SWEEPER.items():
        op.execute(f"GRANT {', '.join(privileges)} ON audit.{table} TO kms_sweeper")
        op.execute(f"GRANT SELECT ON audit.{table} TO kms_auditor, kms_readonly")
    roots = "audit.checkpoint_roots"
    op.execute(f"ALTER TABLE {roots} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {roots} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {roots} TO kms_app, kms_readonly USING ({OWN}) WITH CHECK ({OWN})")
    op.execute(f"CREATE POLICY migration ON {roots} TO CURRENT_USER USING ({MIGRATING})")
    op.execute(f"CREATE POLICY sweeper ON {roots} TO kms_sweeper USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY auditor_select ON {roots} FOR SELECT TO kms_auditor USING (true)")


def _make_tables(postgresql: bool) -> None:
    schema = "audit" if postgresql else None
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    small = sa.SmallInteger() if postgresql else sa.Integer()

    def make(name: str, *parts: Any) -> None:
        op.create_table(name, *parts, schema=schema, sqlite_strict=True)

    def column(name: str, type_: Any) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=False)

    make(
        "checkpoints",
        column("serial", int64),
        column("previous_hash", sa.LargeBinary()),
        column("body", sa.LargeBinary()),
        column("signature", sa.LargeBinary()),
        column("hash", sa.LargeBinary()),
        column("at", time),
        column("node", sa.Text()),
        sa.PrimaryKeyConstraint("serial", name="pk_checkpoints"),
        sa.CheckConstraint("serial > 0", name="ck_checkpoints_serial"),
        sa.CheckConstraint("length(hash) = 32 AND length(previous_hash) = 32", name="ck_checkpoints_hash"),
    )
    make(
        "checkpoint_roots",
        column("tenant_id", uid),
        column("epoch", int64),
        column("root", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_checkpoint_roots"),
        sa.CheckConstraint("length(root) = 32", name="ck_checkpoint_roots_root"),
    )
    make(
        "checkpoint_head",
        column("id", small),
        column("serial", int64),
        sa.PrimaryKeyConstraint("id", name="pk_checkpoint_head"),
        sa.CheckConstraint("id = 1", name="ck_checkpoint_head_id"),
    )
