"""The tables of the trees that show which records each tenant has (FORMATS, section 7)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint, Table

from .schemas import INTERNAL, column, metadata
from .types import Bytes, Int64, Slug, Uid


def _of_tenant(name: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant_id"], [f"{INTERNAL}.tenants.tenant_id"], name=f"fk_{name}_tenants")


tree_nodes: Final = Table(
    "tree_nodes",
    metadata,
    column("tenant_id", Uid),
    column("prefix", Slug),  # 0 to 4 hex digits
    column("body", Bytes),
    PrimaryKeyConstraint("tenant_id", "prefix", name="pk_tree_nodes"),
    _of_tenant("tree_nodes"),
    schema=INTERNAL,
    sqlite_strict=True,
    postgresql_with={"fillfactor": "50"},  # nodes are written over and over
)

# Whoever writes records of a tenant locks its row first.
tenant_roots: Final = Table(
    "tenant_roots",
    metadata,
    column("tenant_id", Uid),
    column("epoch", Int64),
    column("root", Bytes),
    column("mac", Bytes),
    PrimaryKeyConstraint("tenant_id", name="pk_tenant_roots"),
    _of_tenant("tenant_roots"),
    CheckConstraint("epoch > 0", name="ck_tenant_roots_epoch"),
    CheckConstraint("length(root) = 32", name="ck_tenant_roots_root"),
    schema=INTERNAL,
    sqlite_strict=True,
    postgresql_with={"fillfactor": "50"},
)
