"""Archives of the audit log, and legal holds.

On PostgreSQL an archived month leaves the audit log by audit.drop_month() alone, which looks for itself whether it may.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

# As 0008 has them.
OWN: Final = "tenant_id = (SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
MIGRATING: Final = "current_setting('app.migrating', true) = 'on'"

# DETACH ... CONCURRENTLY is impossible in a function, as in any transaction, and a daemon owns nothing. A plain one needs
# the table for itself for a moment: who waits for that holds up every writer, so it gives up soon. Rows are looked for
# through the parent, since a partition shows nothing by its own name, not even to its owner.
DROP_MONTH: Final = """
    CREATE FUNCTION audit.drop_month(month date) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' SET timezone = 'UTC' AS $$
    DECLARE
        low timestamptz := date_trunc('month', month::timestamp);
        high timestamptz := date_trunc('month', month::timestamp) + interval '1 month';
        name text := 'audit_log_' || to_char(low, 'YYYY_MM');
        signed json;
        part json;
        seen uuid;
        newest bigint;
        answer text := '';
    BEGIN
        IF month IS NULL OR high > now() - interval '30 days' THEN
            RETURN 'the month is too young';
        END IF;
        PERFORM pg_advisory_xact_lock(hashtextextended('kms/audit-partitions', 0));
        IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass
            AND inhrelid = to_regclass('audit.' || quote_ident(name))) THEN
            RETURN 'there is no such month';
        END IF;
        PERFORM set_config('app.migrating', 'on', true);
        SELECT a.body::json INTO signed FROM security_internal.audit_archives a
            WHERE a.tenant_id = '00000000-0000-0000-0000-000000000000'::uuid
            AND a.month = to_char(low, 'YYYY-MM') AND a.status = 'verified';
        IF EXISTS (SELECT FROM security_internal.legal_holds h
            WHERE h.released_at IS NULL AND (h.from_at IS NULL OR h.from_at < high)
            AND (h.until_at IS NULL OR h.until_at > low)
            AND h.tenant_id::text IN (SELECT json_array_elements_text(signed -> 'tenants'))) THEN
            answer := 'the month is under a legal hold';
        END IF;
        LOOP
            EXIT WHEN answer <> '';
            SELECT e.stream_id INTO seen FROM audit.audit_log e
                WHERE e.at >= low AND e.at < high AND (seen IS NULL OR e.stream_id > seen)
                ORDER BY e.stream_id, e.sequence LIMIT 1;
            EXIT WHEN NOT FOUND;
            SELECT e.sequence INTO newest FROM audit.audit_log e
                WHERE e.stream_id = seen AND e.at >= low AND e.at < high ORDER BY e.sequence DESC LIMIT 1;
            SELECT p.value INTO part FROM json_array_elements(signed -> 'streams') p
                WHERE p.value ->> 'stream' = seen::text AND (p.value ->> 'last')::bigint = newest;
            IF NOT FOUND THEN
                answer := 'the month has events that are in no verified archive';
            END IF;
        END LOOP;
        PERFORM set_config('app.migrating', '', true);
        IF answer = '' THEN
            EXECUTE format('ALTER TABLE audit.audit_log DETACH PARTITION audit.%I', name);
            EXECUTE format('DROP TABLE audit.%I', name);
        END IF;
        RETURN answer;
    END $$"""


def upgrade() -> None:
    """Make the tables, and what takes an archived month away."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    internal = "security_internal" if postgresql else None
    in_internal = f"{internal}." if internal else ""
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    slug = sa.Text(collation="C") if postgresql else sa.Text()
    words = sa.Text()
    octets = sa.LargeBinary()

    def column(name: str, type_: Any, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=nullable)

    def record(name: str, *parts: Any) -> None:
        op.create_table(
            name,
            column("tenant_id", uid),
            *parts,
            column("revision", int64),
            column("mac", octets),
            sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name=f"fk_{name}_tenants"),
            sa.CheckConstraint("revision > 0", name=f"ck_{name}_revision"),
            schema=internal,
            sqlite_strict=True,
        )

    record(
        "legal_holds",
        column("hold_id", slug),
        column("reason", words),
        column("resource", words),
        column("principal", words),
        column("from_at", time, nullable=True),
        column("until_at", time, nullable=True),
        column("created_at", time),
        column("created_by", words),
        column("released_at", time, nullable=True),
        column("released_by", words),
        sa.PrimaryKeyConstraint("tenant_id", "hold_id", name="pk_legal_holds"),
    )
    record(
        "audit_archives",
        column("month", slug),
        column("serial", int64),
        column("body", words),
        column("signature", octets),
        column("status", words),
        column("file_name", words),
        column("file_sha256", octets),
        column("file_size", int64),
        column("created_at", time),
        column("verified_at", time, nullable=True),
        column("detached_at", time, nullable=True),
        column("deleted_at", time, nullable=True),
        column("deleted_by", words),
        sa.PrimaryKeyConstraint("tenant_id", "month", name="pk_audit_archives"),
        sa.CheckConstraint("serial > 0", name="ck_audit_archives_serial"),
    )
    op.create_index("uq_audit_archives_serial", "audit_archives", ["tenant_id", "serial"], unique=True, schema=internal)
    if postgresql:
        _secure()


def _secure() -> None:
    for name in ("legal_holds", "audit_archives"):
        table = f"security_internal.{name}"
        op.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO kms_app")
        op.execute(f"GRANT SELECT ON {table} TO kms_readonly")
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO kms_app, kms_readonly USING ({OWN}) WITH CHECK ({OWN})")
        op.execute(f"CREATE POLICY migration ON {table} TO CURRENT_USER USING ({MIGRATING})")
    # Sinks forget streams that are told to the end.
    op.execute("GRANT DELETE ON security_internal.sink_positions TO kms_sweeper")
    op.execute(DROP_MONTH)
    op.execute("REVOKE ALL ON FUNCTION audit.drop_month(date) FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION audit.drop_month(date) TO kms_app")
