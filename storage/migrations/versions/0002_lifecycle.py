"""Lifecycle of keys and versions, policies, places and counts, operations, receipts, nodes and epochs.

Types and names are written out here, not imported from storage.tables: what a released migration makes never changes.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

VERSION = "version BETWEEN 1 AND 4294967295"


def upgrade() -> None:  # noqa: PLR0915  a migration is one list
    """Add columns and tables; tenants and keys are due at once, so that the scheduler plans them.

    So are those that the release before writes without the new columns.
    """
    postgresql = op.get_bind().dialect.name == "postgresql"
    secret = "security_secret" if postgresql else None
    internal = "security_internal" if postgresql else None
    in_secret = f"{secret}." if secret else ""
    in_internal = f"{internal}." if internal else ""
    uid = sa.Uuid() if postgresql else sa.Text()
    time = sa.DateTime(timezone=True) if postgresql else sa.Integer()
    int64 = sa.BigInteger() if postgresql else sa.Integer()
    small = sa.SmallInteger() if postgresql else sa.Integer()
    slug = sa.Text(collation="C") if postgresql else sa.Text()
    words = sa.Text()
    octets = sa.LargeBinary()
    long_ago = "'1970-01-01 00:00:00+00'" if postgresql else "0"

    def column(name: str, type_: Any, *, nullable: bool = False, default: str | None = None) -> sa.Column[Any]:
        return sa.Column(name, type_, nullable=nullable, server_default=None if default is None else sa.text(default))

    def add(table: str, schema: str | None, *columns: sa.Column[Any]) -> None:
        for each in columns:
            op.add_column(table, each, schema=schema)

    def record(name: str, *parts: Any) -> None:
        op.create_table(
            name,
            column("tenant_id", uid),
            *parts,
            column("revision", int64),
            column("mac", octets),
            sa.CheckConstraint("revision > 0", name=f"ck_{name}_revision"),
            schema=internal,
            sqlite_strict=True,
        )

    def plain(name: str, *parts: Any) -> None:
        op.create_table(name, *parts, schema=internal, sqlite_strict=True)

    def of_tenant(name: str) -> sa.ForeignKeyConstraint:
        return sa.ForeignKeyConstraint(["tenant_id"], [f"{in_internal}tenants.tenant_id"], name=f"fk_{name}_tenants")

    def of_key(name: str) -> sa.ForeignKeyConstraint:
        return sa.ForeignKeyConstraint(
            ["tenant_id", "key_uid"],
            [f"{in_secret}encryption_keys.tenant_id", f"{in_secret}encryption_keys.id"],
            name=f"fk_{name}_encryption_keys",
        )

    add("tenants", internal, column("due_at", time, nullable=True, default=long_ago))
    op.create_index("ix_tenants_due", "tenants", ["due_at"], schema=internal)
    add("keks", secret, column("destroy_at", time, nullable=True))
    add(
        "encryption_keys",
        secret,
        column("status_at", time, nullable=True),
        column("status_before", words, nullable=True),
        column("status_reason", words, default="''"),
        column("policy_id", slug, nullable=True),
        column("encryption_limit", int64, nullable=True),
        column("cache_lifetime_seconds", int64, nullable=True),
        column("quarantine_seconds", int64, nullable=True),
        column("grace_seconds", int64, nullable=True),
        column("automatic_retirement", small, nullable=True),
        column("scheduled_from", time, nullable=True),
        column("due_at", time, nullable=True, default=long_ago),
        column("destroy_at", time, nullable=True),
        column("stopped_at", time, nullable=True),
        column("places_complete_at", time, nullable=True),
        column("places_complete_by", words, default="''"),
    )
    op.create_index("ix_encryption_keys_due", "encryption_keys", ["due_at"], schema=secret)
    op.create_index("ix_encryption_keys_scheduled_from", "encryption_keys", ["scheduled_from"], schema=secret)
    op.create_index("ix_encryption_keys_policy", "encryption_keys", ["tenant_id", "policy_id"], schema=secret)
    add(
        "key_versions",
        secret,
        column("status", words, default="'archived'"),
        column("status_at", time, nullable=True),
        column("status_before", words, nullable=True),
        column("status_reason", words, default="''"),
        column("stopped_at", time, nullable=True),
        column("waits_until", time, nullable=True),
        column("scheduled_for", time, nullable=True),
    )

    # What has been active so far stays so. What was replaced encrypts no more some time after its key was last rotated,
    # when every node has heard of it.
    heard = "interval '10 minutes'" if postgresql else "600000000"
    op.execute(f"UPDATE {in_secret}encryption_keys SET status_at = created_at, scheduled_from = rotated_at")  # noqa: S608
    op.execute(f"""
        UPDATE {in_secret}key_versions AS v SET
            status = CASE WHEN v.version = k.primary_version THEN 'active' ELSE 'archived' END,
            status_at = CASE WHEN v.version = k.primary_version THEN v.created_at ELSE k.rotated_at END,
            stopped_at = CASE WHEN v.version = k.primary_version THEN NULL ELSE k.rotated_at + {heard} END
        FROM {in_secret}encryption_keys AS k WHERE k.tenant_id = v.tenant_id AND k.id = v.key_uid""")  # noqa: S608
    # A node of the release before adds a version without a state, always as its key's primary one.
    adopt = f"""
        UPDATE {in_secret}key_versions SET
            status = 'archived', status_at = NEW.created_at, stopped_at = NEW.created_at + {heard}
        WHERE tenant_id = NEW.tenant_id AND key_uid = NEW.key_uid AND status = 'active';
        UPDATE {in_secret}key_versions SET status = 'active', status_at = created_at
        WHERE tenant_id = NEW.tenant_id AND key_uid = NEW.key_uid AND version = NEW.version;"""  # noqa: S608
    trigger = f"CREATE TRIGGER adopt_key_version AFTER INSERT ON {in_secret}key_versions"
    if postgresql:
        op.execute(f"""
            CREATE FUNCTION {in_secret}adopt_key_version() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN {adopt} RETURN NULL; END $$""")
        op.execute(f"""
            {trigger} FOR EACH ROW WHEN (NEW.status_at IS NULL)
            EXECUTE FUNCTION {in_secret}adopt_key_version()""")
    else:
        op.execute(f"{trigger} WHEN NEW.status_at IS NULL BEGIN {adopt} END")

    op.drop_index("ix_key_versions_kek", "key_versions", schema=secret)
    op.create_index(
        "ix_key_versions_kek",
        "key_versions",
        ["tenant_id", "kek_version", "key_uid", "version"],
        schema=secret,
        postgresql_where=sa.text("status <> 'destroyed'"),
        sqlite_where=sa.text("status <> 'destroyed'"),
    )
    op.create_index(
        "ix_key_versions_waits_until",
        "key_versions",
        ["tenant_id", "key_uid"],
        schema=secret,
        postgresql_where=sa.text("waits_until IS NOT NULL"),
        sqlite_where=sa.text("waits_until IS NOT NULL"),
    )
    op.create_index(
        "uq_key_versions_scheduled_for",
        "key_versions",
        ["tenant_id", "key_uid", "scheduled_for"],
        unique=True,
        schema=secret,
    )
    op.create_index(
        "uq_key_versions_active",
        "key_versions",
        ["tenant_id", "key_uid"],
        unique=True,
        schema=secret,
        postgresql_where=sa.text("status = 'active'"),
        sqlite_where=sa.text("status = 'active'"),
    )

    record(
        "policies",
        column("policy_id", slug),
        column("version", int64),
        column("rotation_seconds", int64),
        column("encryption_limit", int64),
        column("cache_lifetime_seconds", int64),
        column("quarantine_seconds", int64),
        column("grace_seconds", int64),
        column("automatic_retirement", small),
        column("created_at", time),
        column("created_by", words),
        sa.PrimaryKeyConstraint("tenant_id", "policy_id", "version", name="pk_policies"),
        of_tenant("policies"),
        sa.CheckConstraint(VERSION, name="ck_policies_version"),
    )
    record(
        "places",
        column("key_uid", uid),
        column("place_id", slug),
        column("kind", words),
        column("description", words),
        column("created_at", time),
        column("created_by", words),
        column("counted_at", time, nullable=True),
        column("reported_by", words),
        sa.PrimaryKeyConstraint("tenant_id", "key_uid", "place_id", name="pk_places"),
        of_key("places"),
    )
    record(
        "place_counts",
        column("key_uid", uid),
        column("place_id", slug),
        column("version", int64),
        column("count", int64),
        column("counted_at", time),
        column("previous_count", int64, nullable=True),
        column("previous_at", time, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "key_uid", "version", "place_id", name="pk_place_counts"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "key_uid", "place_id"],
            [f"{in_internal}places.tenant_id", f"{in_internal}places.key_uid", f"{in_internal}places.place_id"],
            name="fk_place_counts_places",
        ),
        sa.CheckConstraint(VERSION, name="ck_place_counts_version"),
        sa.CheckConstraint("count >= 0", name="ck_place_counts_count"),
    )
    record(
        "operations",
        column("id", uid),
        column("kind", words),
        column("target", words),
        column("status", words),
        column("requested_by", words),
        column("created_at", time),
        column("updated_at", time),
        column("resume_after", words),
        column("done", int64),
        column("total", int64),
        column("error", words),
        column("ended_at", time, nullable=True),
        column("node_id", uid, nullable=True),
        column("leased_until", time, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_operations"),
        of_tenant("operations"),
    )
    op.create_index("ix_operations_created_at", "operations", ["tenant_id", "created_at"], schema=internal)
    op.create_index("ix_operations_ended_at", "operations", ["ended_at"], schema=internal)
    op.create_index(
        "uq_operations_running",
        "operations",
        ["tenant_id", "kind", "target"],
        unique=True,
        schema=internal,
        postgresql_where=sa.text("status = 'running'"),
        sqlite_where=sa.text("status = 'running'"),
    )
    record(
        "receipts",
        column("id", uid),
        column("subject", slug),
        column("key_uid", uid, nullable=True),
        column("body", words),
        column("signature", octets),
        column("created_at", time),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_receipts"),
        sa.UniqueConstraint("tenant_id", "subject", name="uq_receipts_subject"),
        of_tenant("receipts"),
        sa.CheckConstraint("length(signature) > 0", name="ck_receipts_signature"),
    )
    plain(
        "version_uses",
        column("tenant_id", uid),
        column("subject_uid", uid),
        column("version", int64),
        column("last_used_at", time, nullable=True),
        column("last_decrypted_at", time, nullable=True),
        column("refused", int64),
        column("last_refused_at", time, nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "subject_uid", "version", name="pk_version_uses"),
        of_tenant("version_uses"),
        sa.CheckConstraint(VERSION, name="ck_version_uses_version"),
    )
    plain(
        "claims",
        column("tenant_id", uid),
        column("subject_uid", uid),
        column("node_id", uid),
        column("claimed_until", time),
        sa.PrimaryKeyConstraint("tenant_id", "subject_uid", name="pk_claims"),
        of_tenant("claims"),
    )
    plain(
        "nodes",
        column("node_id", uid),
        column("name", words),
        column("started_at", time),
        column("seen_at", time),
        column("acknowledged", int64),
        sa.PrimaryKeyConstraint("node_id", name="pk_nodes"),
    )
    plain(
        "epochs",
        column("tenant_id", uid),
        column("changes", int64),
        column("revoked", int64),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_epochs"),
        of_tenant("epochs"),
    )
    plain(
        "installation",
        column("id", small),
        column("revocations", int64),
        column("seen_at", time, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_installation"),
        sa.CheckConstraint("id = 1", name="ck_installation_id"),
    )
