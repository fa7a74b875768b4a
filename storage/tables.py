"""The tables, declared once for both engines; docs/storage.md says which column of the documents went where.

On PostgreSQL they live in the schemas of the documents. SQLite has none, so there the same tables stand flat, and names
are unique over all schemas. Constraints bear explicit names, since migrations have to find them again.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BLANK_SCHEMA,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
)
from sqlalchemy.schema import SchemaItem

from .types import Bytes, Int64, Slug, Small, Timestamp, Uid, Words

SECRET: Final = "security_secret"  # noqa: S105  a schema's name
INTERNAL: Final = "security_internal"
SCHEMAS: Final = (SECRET, INTERNAL)

metadata: Final = MetaData()

_VERSION = "version BETWEEN 1 AND 4294967295"  # u32 in every header and binding


def _column(name: str, type_: Any, *, nullable: bool = False) -> Column[Any]:
    return Column(name, type_, nullable=nullable)


def _record(name: str, schema: str, *parts: SchemaItem) -> Table:
    """Declare a table of records: content and identity from the caller, and what every record carries."""
    return Table(
        name,
        metadata,
        _column("tenant_id", Uid),
        *parts,
        _column("revision", Int64),
        _column("mac", Bytes),
        CheckConstraint("revision > 0", name=f"ck_{name}_revision"),
        schema=schema,
        sqlite_strict=True,
    )


tenants: Final = _record(
    "tenants",
    INTERNAL,
    _column("slug", Slug),
    _column("display_name", Words),
    _column("kek_uid", Uid),
    _column("primary_kek", Int64),
    _column("created_at", Timestamp),
    PrimaryKeyConstraint("tenant_id", name="pk_tenants"),
    UniqueConstraint("slug", name="uq_tenants_slug"),
    CheckConstraint("primary_kek BETWEEN 0 AND 4294967295", name="ck_tenants_primary_kek"),
)

keks: Final = _record(
    "keks",
    SECRET,
    _column("version", Int64),
    _column("kek_uid", Uid),
    _column("status", Words),
    _column("mechanism", Small, nullable=True),
    _column("canary", Bytes),
    _column("hsm_key_id", Words),
    _column("created_at", Timestamp),
    _column("created_by", Words),
    PrimaryKeyConstraint("tenant_id", "version", name="pk_keks"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_keks_tenants"),
    CheckConstraint(_VERSION, name="ck_keks_version"),
    CheckConstraint(
        "status <> 'active' OR (mechanism IS NOT NULL AND length(canary) > 0 AND length(hsm_key_id) > 0)",
        name="ck_keks_active",
    ),
)
# For the pass at start-up, which looks for intents without an outcome over all tenants.
Index(
    "ix_keks_pending",
    keks.c.tenant_id,
    keks.c.version,
    postgresql_where=keks.c.status == "pending",
    sqlite_where=keks.c.status == "pending",
)

encryption_keys: Final = _record(
    "encryption_keys",
    SECRET,
    _column("id", Uid),
    _column("key_id", Slug),
    _column("display_name", Words),
    _column("purpose", Small),
    _column("algorithm", Words),
    _column("protection_level", Small),
    _column("status", Words),
    _column("primary_version", Int64),
    _column("rotation_interval_hours", Int64, nullable=True),
    _column("created_at", Timestamp),
    _column("rotated_at", Timestamp),
    _column("created_by", Words),
    _column("labels", Words),  # canonical JSON as text: jsonb does not give back what it got
    PrimaryKeyConstraint("tenant_id", "id", name="pk_encryption_keys"),
    UniqueConstraint("tenant_id", "key_id", name="uq_encryption_keys_key_id"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_encryption_keys_tenants"),
    CheckConstraint("primary_version BETWEEN 1 AND 4294967295", name="ck_encryption_keys_primary_version"),
    CheckConstraint("rotation_interval_hours > 0", name="ck_encryption_keys_rotation_interval_hours"),
)

key_versions: Final = _record(
    "key_versions",
    SECRET,
    _column("key_uid", Uid),
    _column("version", Int64),
    _column("wrapped", Bytes),
    _column("kek_version", Int64),
    _column("created_at", Timestamp),
    _column("created_by", Words),
    PrimaryKeyConstraint("tenant_id", "key_uid", "version", name="pk_key_versions"),
    ForeignKeyConstraint(
        ["tenant_id", "key_uid"],
        [f"{SECRET}.encryption_keys.tenant_id", f"{SECRET}.encryption_keys.id"],
        name="fk_key_versions_encryption_keys",
    ),
    ForeignKeyConstraint(
        ["tenant_id", "kek_version"],
        [f"{SECRET}.keks.tenant_id", f"{SECRET}.keks.version"],
        name="fk_key_versions_keks",
    ),
    CheckConstraint(_VERSION, name="ck_key_versions_version"),
    CheckConstraint("length(wrapped) > 0", name="ck_key_versions_wrapped"),
)
Index("ix_key_versions_kek", key_versions.c.tenant_id, key_versions.c.kek_version)

# Not a record: a counter decides nothing but its own limit, and only ever grows, in one statement.
counters: Final = Table(
    "counters",
    metadata,
    _column("tenant_id", Uid),
    _column("subject_uid", Uid),
    _column("version", Int64),
    _column("reserved", Int64),
    PrimaryKeyConstraint("tenant_id", "subject_uid", "version", name="pk_counters"),
    ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name="fk_counters_tenants"),
    CheckConstraint(_VERSION, name="ck_counters_version"),
    CheckConstraint("reserved > 0", name="ck_counters_reserved"),
    schema=INTERNAL,
    sqlite_strict=True,
    postgresql_with={"fillfactor": "50"},  # room for the next values of a row in its page (HOT updates)
)

RECORDS: Final = (tenants, keks, encryption_keys, key_versions)


def declared(engine: str) -> MetaData:
    """Return the tables as that engine ("sqlite" or "postgresql") has them, for DDL and comparisons.

    On SQLite, DDL through a schema translation silently drops the foreign keys between schemas; a flat copy keeps them.
    """
    if engine != "sqlite":
        return metadata
    flat = MetaData()
    for table in metadata.sorted_tables:
        # Both are meant for this, but not typed so.
        table.to_metadata(flat, schema=None, referred_schema_fn=lambda *_: BLANK_SCHEMA)  # type: ignore[arg-type]
    return flat
