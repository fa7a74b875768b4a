"""Row-level security and the roles of the database; nothing on SQLite.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa
from alembic import op

from storage.errors import UserRefused

revision = "0008"
down_revision = "0007"

# What each is for stands in docs/storage.md. The last three have nothing yet: what they are for comes later.
ROLES: Final = ("kms_app", "kms_sweeper", "kms_readonly", "kms_audit", "kms_auditor", "kms_analyst")

# The sub-select is computed once for each query, not for each row. After its first use the setting reads '', not NULL.
OWN: Final = "tenant_id = (SELECT nullif(current_setting('app.current_tenant_id', true), '')::uuid)"
MIGRATING: Final = "current_setting('app.migrating', true) = 'on'"

EVERY: Final = "true"
TO_LOCK: Final = "to lock"  # every row may be locked, and none be changed
INTENTS: Final = "status IN ('pending', 'destroying')"
ENDED: Final = "ended_at IS NOT NULL"


class Of(NamedTuple):
    """The privileges on one table."""

    schema: str
    name: str
    app: str  # kms_app's, on rows of the transaction's tenant only; kms_readonly may SELECT the same rows
    sweeper: Mapping[str, str]  # kms_sweeper's over all tenants, and on which rows

    @property
    def full_name(self) -> str:
        """Name the table with its schema."""
        return f"{self.schema}.{self.name}"


# Every table with a column tenant_id.
OF_TENANTS: Final = (
    Of("security_internal", "tenants", "SELECT, INSERT, UPDATE", {"SELECT": EVERY, "UPDATE (due_at)": TO_LOCK}),
    Of("security_secret", "keks", "SELECT, INSERT, UPDATE", {"SELECT": INTENTS}),
    Of("security_secret", "encryption_keys", "SELECT, INSERT, UPDATE", {"SELECT": EVERY, "UPDATE (due_at)": TO_LOCK}),
    Of("security_secret", "key_versions", "SELECT, INSERT, UPDATE", {}),
    Of("security_internal", "policies", "SELECT, INSERT", {}),
    Of("security_internal", "places", "SELECT, INSERT, UPDATE, DELETE", {}),
    Of("security_internal", "place_counts", "SELECT, INSERT, UPDATE, DELETE", {}),
    Of("security_internal", "operations", "SELECT, INSERT, UPDATE", {"SELECT": EVERY, "DELETE": ENDED}),
    Of("security_internal", "receipts", "SELECT, INSERT", {}),
    Of("security_internal", "counters", "SELECT, INSERT, UPDATE (reserved)", {"SELECT": EVERY}),
    Of("security_internal", "version_uses", "SELECT", {"SELECT": EVERY, "INSERT": EVERY, "UPDATE": EVERY}),
    Of("security_internal", "claims", "", {"SELECT": EVERY, "INSERT": EVERY, "UPDATE": EVERY, "DELETE": EVERY}),
    Of("security_internal", "epochs", "SELECT, INSERT, UPDATE", {"SELECT": EVERY}),
    Of("security_internal", "principals", "SELECT, INSERT, UPDATE", {}),
    Of("security_internal", "grants", "SELECT, INSERT, DELETE", {}),
    # A caller who shows a token is of no known tenant yet.
    Of("security_internal", "api_tokens", "SELECT, INSERT, UPDATE", {"SELECT": EVERY}),
    Of(
        "security_internal",
        "token_uses",
        "SELECT",
        {"SELECT": EVERY, "INSERT": EVERY, "UPDATE (use_count, last_used_at)": EVERY},
    ),
    Of("security_internal", "certificate_pins", "SELECT, INSERT, DELETE", {}),
    Of("security_internal", "approvals", "SELECT, INSERT, UPDATE", {}),
    Of("security_internal", "approval_votes", "SELECT, INSERT", {}),
    Of("security_internal", "quorum_rules", "SELECT, INSERT, UPDATE", {}),
    Of("security_internal", "security_events", "SELECT, INSERT, UPDATE", {}),
    # Tenants tell, and only sinks read.
    Of("security_internal", "outbox_items", "INSERT", {"SELECT": EVERY, "DELETE": EVERY}),
)

# The others, which have no rows of tenants.
OF_THE_INSTALLATION: Final = (
    Of("security_internal", "nodes", "", dict.fromkeys(("SELECT", "INSERT", "UPDATE", "DELETE"), EVERY)),
    Of(
        "security_internal",
        "installation",
        "SELECT (id, revocations), INSERT, UPDATE (revocations)",
        dict.fromkeys(("SELECT", "INSERT", "UPDATE (seen_at)"), EVERY),
    ),
    Of("security_internal", "outbox_head", "SELECT, INSERT, UPDATE (position)", {"SELECT": EVERY}),
    Of("security_internal", "sink_positions", "", dict.fromkeys(("SELECT", "INSERT", "UPDATE"), EVERY)),
    Of("security_internal", "alembic_version", "", {"SELECT": EVERY}),
)


def upgrade() -> None:
    """Make the roles where they are missing, and let each do and see what it needs."""
    if op.get_bind().dialect.name != "postgresql":
        return
    _make_roles()
    op.execute("GRANT USAGE ON SCHEMA security_internal, security_secret TO kms_app, kms_sweeper, kms_readonly")
    for table in (*OF_TENANTS, *OF_THE_INSTALLATION):
        _grant(table)
    for table in OF_TENANTS:
        _limit_rows(table)


def _make_roles() -> None:
    """Make roles that are missing: they belong to the whole server, so another database may have brought them.

    Raises:
        UserRefused: this user may not; the message has the statements for somebody who may.
    """
    connection = op.get_bind()
    there = set(connection.execute(sa.text("SELECT rolname FROM pg_roles")).scalars())
    missing = [f"CREATE ROLE {role} NOLOGIN" for role in ROLES if role not in there]
    user, may = connection.execute(
        sa.text("SELECT rolname, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
    ).one()
    if missing and not may:
        raise UserRefused(f"{user} may not create roles; let an administrator of the server run: {'; '.join(missing)};")
    for statement in missing:
        # Another database of the server may be migrated at this moment; whoever is later waits, and then finds it.
        op.execute(f"""
            DO $$ BEGIN {statement};
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$""")


def _grant(table: Of) -> None:
    if table.app:
        op.execute(f"GRANT {table.app} ON {table.full_name} TO kms_app")
    if table.sweeper:
        op.execute(f"GRANT {', '.join(table.sweeper)} ON {table.full_name} TO kms_sweeper")
    op.execute(f"GRANT SELECT ON {table.full_name} TO kms_readonly")


def _limit_rows(table: Of) -> None:
    name = table.full_name
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY tenant ON {name} TO kms_app, kms_readonly USING ({OWN}) WITH CHECK ({OWN})")
    # The owner sees rows while it migrates only. Otherwise a migration would change nothing, and give no error.
    op.execute(f"CREATE POLICY migration ON {name} TO CURRENT_USER USING ({MIGRATING})")
    for privilege, rows in table.sweeper.items():
        command = privilege.partition(" ")[0]
        seen, written = (EVERY, "false") if rows == TO_LOCK else (rows, rows)
        using = "" if command == "INSERT" else f"USING ({seen})"
        check = f"WITH CHECK ({written})" if command in {"INSERT", "UPDATE"} else ""
        op.execute(f"CREATE POLICY sweeper_{command.lower()} ON {name} FOR {command} TO kms_sweeper {using} {check}")
