"""The tables of what nodes count, see, claim and tell each other; but for counters no records: it decides nothing for good."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, PrimaryKeyConstraint, Table, text
from sqlalchemy.schema import SchemaItem

from .schemas import INTERNAL, VERSION, column, metadata
from .types import Bytes, Int64, NoBytes, Small, Timestamp, Uid, Words


def _table(name: str, *parts: SchemaItem, **options: Any) -> Table:
    return Table(name, metadata, *parts, schema=INTERNAL, sqlite_strict=True, **options)


def _of_tenant(name: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name=f"fk_{name}_tenants")


# A record, though it has no constraint on its revision: it was none in earlier releases.
counters: Final = _table(
    "counters",
    Column("tenant_id", Uid, nullable=False),
    Column("subject_uid", Uid, nullable=False),
    Column("version", Int64, nullable=False),
    Column("reserved", Int64, nullable=False),
    Column("revision", Int64, nullable=False, server_default=text("1")),
    column("mac", Bytes, default=NoBytes()),
    PrimaryKeyConstraint("tenant_id", "subject_uid", "version", name="pk_counters"),
    _of_tenant("counters"),
    CheckConstraint(VERSION, name="ck_counters_version"),
    CheckConstraint("reserved > 0", name="ck_counters_reserved"),
    postgresql_with={"fillfactor": "50"},  # room for the next values of a row in its page (HOT updates)
)

version_uses: Final = _table(
    "version_uses",
    Column("tenant_id", Uid, nullable=False),
    Column("subject_uid", Uid, nullable=False),
    Column("version", Int64, nullable=False),
    Column("last_used_at", Timestamp),
    Column("last_decrypted_at", Timestamp),
    Column("refused", Int64, nullable=False),
    Column("last_refused_at", Timestamp),
    PrimaryKeyConstraint("tenant_id", "subject_uid", "version", name="pk_version_uses"),
    _of_tenant("version_uses"),
    CheckConstraint(VERSION, name="ck_version_uses_version"),
)

claims: Final = _table(
    "claims",
    Column("tenant_id", Uid, nullable=False),
    Column("subject_uid", Uid, nullable=False),
    Column("node_id", Uid, nullable=False),
    Column("claimed_until", Timestamp, nullable=False),
    PrimaryKeyConstraint("tenant_id", "subject_uid", name="pk_claims"),
    _of_tenant("claims"),
)

nodes: Final = _table(
    "nodes",
    Column("node_id", Uid, nullable=False),
    Column("name", Words, nullable=False),
    Column("started_at", Timestamp, nullable=False),
    Column("seen_at", Timestamp, nullable=False),
    Column("acknowledged", Int64, nullable=False),
    PrimaryKeyConstraint("node_id", name="pk_nodes"),
)

epochs: Final = _table(
    "epochs",
    Column("tenant_id", Uid, nullable=False),
    Column("changes", Int64, nullable=False),
    Column("revoked", Int64, nullable=False),
    PrimaryKeyConstraint("tenant_id", name="pk_epochs"),
    _of_tenant("epochs"),
)

# One row: the newest revocation of all tenants, and when the last node that left was seen.
installation: Final = _table(
    "installation",
    Column("id", Small, nullable=False),
    Column("revocations", Int64, nullable=False),
    Column("seen_at", Timestamp),
    PrimaryKeyConstraint("id", name="pk_installation"),
    CheckConstraint("id = 1", name="ck_installation_id"),
)
