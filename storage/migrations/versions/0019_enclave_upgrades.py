"""Upgrades of enclaves, and who has sealed what.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

# As 0008 has them.
OWN: Final = "tenant_id = (SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
MIGRATING: Final = "current_setting('app.migrating', true) = 'on'"
TABLE: Final = "security_internal.enclave_upgrades"
OPEN: Final = "status IN ('preparing', 'prepared', 'finishing')"


def upgrade() -> None:
    """Make the table and the columns; who has sealed the key versions that are there is not known."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    small = sa.SmallInteger() if postgresql else sa.Integer()
    octets, words = sa.LargeBinary(), sa.Text()
    secret = "security_secret" if postgresql else None
    for table in ("blobs", "blob_uploads"):
        present = sa.Column("present_policy", words, nullable=False, server_default=sa.text("''"))
        op.add_column(table, present, schema=secret)
    sealer: dict[str, Any] = {"mrenclave": octets, "mrsigner": octets, "isv_svn": int64, "simulated": small}
    for name, type_ in sealer.items():
        op.add_column("key_versions", sa.Column(f"seal_{name}", type_, nullable=True), schema=secret)
    _upgrades(postgresql, int64)
    if postgresql:
        _limit()


def _upgrades(postgresql: bool, int64: Any) -> None:
    internal = "security_internal" if postgresql else None
    in_internal = f"{internal}." if internal else ""
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    octets, words = sa.LargeBinary(), sa.Text()

    def column(name: str, type_: Any, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=nullable)

    op.create_table(
        "enclave_upgrades",
        column("tenant_id", uid),
        column("id", uid),
        column("mrenclave", octets),
        column("isv_svn", int64),
        column("from_mrenclave", octets),
        column("from_isv_svn", int64),
        column("status", words),
        column("status_at", time),
        column("created_at", time),
        column("created_by", words),
        column("operation_id", uid, nullable=True),
        column("forced_by", words),
        column("revision", int64),
        column("mac", octets),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_enclave_upgrades"),
        sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name="fk_enclave_upgrades_tenants"),
        sa.CheckConstraint(
            "length(mrenclave) = 32 AND length(from_mrenclave) = 32", name="ck_enclave_upgrades_measurements"
        ),
        sa.CheckConstraint("isv_svn >= 0 AND from_isv_svn >= 0", name="ck_enclave_upgrades_versions"),
        sa.CheckConstraint("revision > 0", name="ck_enclave_upgrades_revision"),
        schema=internal,
        sqlite_strict=True,
    )
    op.create_index(
        "uq_enclave_upgrades_open",
        "enclave_upgrades",
        ["tenant_id"],
        unique=True,
        schema=internal,
        postgresql_where=sa.text(OPEN),
        sqlite_where=sa.text(OPEN),
    )


def _limit() -> None:
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON {TABLE} TO kms_app")
    op.execute(f"GRANT SELECT ON {TABLE} TO kms_readonly")
    op.execute(f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {TABLE} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {TABLE} TO kms_app, kms_readonly USING ({OWN}) WITH CHECK ({OWN})")
    op.execute(f"CREATE POLICY migration ON {TABLE} TO CURRENT_USER USING ({MIGRATING})")
