"""The audit log: added to and read, and never changed, by anybody.

On PostgreSQL it is partitioned by months of UTC. There is no default partition: it would keep months from being made and
taken away. audit.add_partition() makes one month, and audit.make_partition() lets the daemon, who owns nothing, do so.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

MONTHS_AHEAD: Final = 3  # beside the present one

# As 0008 has them.
OWN: Final = "tenant_id = (SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
MIGRATING: Final = "current_setting('app.migrating', true) = 'on'"

# ruff: noqa: S608  no input

REFUSAL: Final = """
    CREATE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
    BEGIN
        RAISE EXCEPTION 'the audit log is added to, and never changed' USING ERRCODE = 'insufficient_privilege';
    END $$"""

# A row trigger of the parent is cloned to each partition; one of a statement, the only kind for TRUNCATE, is not. ALWAYS:
# otherwise a session that claims to replay a replication's changes would pass.
STATEMENTS: Final = """
    CREATE TRIGGER audit_log_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON {0}
        FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
    ALTER TABLE {0} ENABLE ALWAYS TRIGGER audit_log_refuse"""
ROWS: Final = """
    CREATE TRIGGER audit_log_refuse_row BEFORE UPDATE OR DELETE ON audit.audit_log
        FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
    ALTER TABLE audit.audit_log ENABLE ALWAYS TRIGGER audit_log_refuse_row"""

# CREATE TABLE ... PARTITION OF would block every writer while one transaction is open; ATTACH blocks nobody, and the
# CHECK spares it the look at the rows. Nothing may be done to a partition by its own name: nobody has rights on it, and
# with row-level security and no policy it would show nothing.
ADD_PARTITION: Final = """
    CREATE FUNCTION audit.add_partition(month date) RETURNS boolean LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
    DECLARE
        first timestamp := date_trunc('month', month::timestamp);
        name text := 'audit_log_' || to_char(first, 'YYYY_MM');
        low text := to_char(first, 'YYYY-MM-DD') || ' 00:00:00+00';
        high text := to_char(first + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00';
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended('kms/audit-partitions', 0));
        IF to_regclass('audit.' || quote_ident(name)) IS NOT NULL THEN
            RETURN false;
        END IF;
        EXECUTE format('CREATE TABLE audit.%I (LIKE audit.audit_log INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE audit.%I ADD CONSTRAINT %I CHECK (at >= %L AND at < %L)',
            name, 'ck_' || name || '_at', low, high);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE audit.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE TRIGGER audit_log_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I
            FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', name);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER audit_log_refuse', name);
        EXECUTE format('ALTER TABLE audit.audit_log ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)',
            name, low, high);
        RETURN true;
    END $$"""

# What the daemon may ask for: a month near the present one, and nothing else.
MAKE_PARTITION: Final = """
    CREATE FUNCTION audit.make_partition(month date) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
    DECLARE
        present date := date_trunc('month', now() AT TIME ZONE 'UTC');
    BEGIN
        IF month IS NULL OR month < present - 31 OR month > present + 400 THEN
            RAISE EXCEPTION 'partitions are made for months from the last one to a year ahead'
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        RETURN audit.add_partition(month);
    END $$"""

GRANTS: Final = (
    "GRANT USAGE ON SCHEMA audit TO kms_app, kms_sweeper, kms_readonly, kms_audit, kms_auditor",
    "GRANT SELECT ON audit.audit_log TO kms_app, kms_sweeper, kms_readonly, kms_auditor",
    # The writer adds, and looks where its chain ends.
    "GRANT INSERT, SELECT (stream_id, sequence, at, node, hash) ON audit.audit_log TO kms_audit",
    "ALTER TABLE audit.audit_log ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE audit.audit_log FORCE ROW LEVEL SECURITY",
    f"CREATE POLICY tenant ON audit.audit_log TO kms_app, kms_readonly USING ({OWN}) WITH CHECK ({OWN})",
    f"CREATE POLICY migration ON audit.audit_log TO CURRENT_USER USING ({MIGRATING})",
    "CREATE POLICY sweeper_select ON audit.audit_log FOR SELECT TO kms_sweeper USING (true)",
    # A chain has events of all tenants, so who verifies it sees them all.
    "CREATE POLICY auditor_select ON audit.audit_log FOR SELECT TO kms_auditor USING (true)",
    "CREATE POLICY writer_select ON audit.audit_log FOR SELECT TO kms_audit USING (true)",
    "CREATE POLICY writer_insert ON audit.audit_log FOR INSERT TO kms_audit WITH CHECK (true)",
    "REVOKE ALL ON FUNCTION audit.add_partition(date), audit.make_partition(date) FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION audit.make_partition(date) TO kms_sweeper",
)

# REPLACE removes the row that is there without asking a DELETE trigger, unless every connection asks for it.
SQLITE_TRIGGERS: Final = (
    """CREATE TRIGGER audit_log_refuse_update BEFORE UPDATE ON audit_log
    BEGIN SELECT RAISE(ABORT, 'the audit log is added to, and never changed'); END""",
    """CREATE TRIGGER audit_log_refuse_delete BEFORE DELETE ON audit_log
    BEGIN SELECT RAISE(ABORT, 'the audit log is added to, and never changed'); END""",
    """CREATE TRIGGER audit_log_refuse_replace BEFORE INSERT ON audit_log
    WHEN EXISTS (SELECT 1 FROM audit_log WHERE stream_id = NEW.stream_id AND sequence = NEW.sequence)
    BEGIN SELECT RAISE(ABORT, 'the audit log is added to, and never changed'); END""",
)


def upgrade() -> None:
    """Make the table, and what keeps it as it is."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        op.execute("CREATE SCHEMA audit")
    _make_table(postgresql)
    if not postgresql:
        for statement in SQLITE_TRIGGERS:
            op.execute(statement)
        return
    op.execute(REFUSAL)
    op.execute(ROWS)
    op.execute(STATEMENTS.format("audit.audit_log"))
    op.execute(ADD_PARTITION)
    op.execute(MAKE_PARTITION)
    for statement in GRANTS:
        op.execute(statement)
    op.execute(f"""
        SELECT audit.add_partition((date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date)
        FROM generate_series(0, {MONTHS_AHEAD}) n""")


def _make_table(postgresql: bool) -> None:
    schema = "audit" if postgresql else None
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    words = sa.Text()
    octets = sa.LargeBinary()

    def column(name: str, type_: Any, *, nullable: bool = False) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=nullable)

    def index(name: str, *columns: str, where: str | None = None) -> None:
        rows = None if where is None else sa.text(where)
        op.create_index(name, "audit_log", list(columns), schema=schema, postgresql_where=rows, sqlite_where=rows)

    op.create_table(
        "audit_log",
        column("tenant_id", uid),
        column("stream_id", uid),
        column("sequence", int64),
        column("at", time),
        column("action", words),
        column("category", words),
        column("phase", words),
        column("outcome", words),
        column("code", words),
        column("error", words),
        column("error_message", words),
        column("severity", words),
        column("risk", int64),
        column("principal", words),
        column("roles", words),
        column("credential_kind", words),
        column("credential_id", words),
        column("address", words),
        column("user_agent", words),
        column("request_id", words),
        column("correlation_id", words),
        column("approval", words),
        column("reason", words),
        column("intent_stream", uid, nullable=True),
        column("intent_sequence", int64),
        column("node", words),
        column("release", words),
        column("region", words),
        column("resource_type", words),
        column("resource", words),
        column("key_uid", uid, nullable=True),
        column("key_version", int64),
        column("context", words),
        column("context_digest", octets),
        column("classification", words),
        column("sensitivity", words),
        column("items", int64),
        column("failures", int64),
        column("items_digest", octets),
        column("bytes_in", int64),
        column("bytes_out", int64),
        column("duration_us", int64),
        column("details", words),
        column("changes", octets),
        column("retention", words),
        column("kept_until", time, nullable=True),
        column("canonical", octets),
        column("hash", octets),
        sa.PrimaryKeyConstraint("stream_id", "sequence", "at", name="pk_audit_log"),
        sa.CheckConstraint("sequence > 0", name="ck_audit_log_sequence"),
        sa.CheckConstraint("length(hash) = 32", name="ck_audit_log_hash"),
        schema=schema,
        sqlite_strict=True,
        postgresql_partition_by="RANGE (at)",
    )
    index("ix_audit_log_at", "tenant_id", "at")
    index("ix_audit_log_principal", "tenant_id", "principal", "at")
    index("ix_audit_log_key", "tenant_id", "key_uid", "at")
    index("ix_audit_log_request", "request_id")
    index("ix_audit_log_streams", "node", "at", where="sequence = 1")
    index("ix_audit_log_intents", "stream_id", "sequence", where="phase = 'intent'")
