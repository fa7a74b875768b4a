"""Where the tables live: on PostgreSQL in the schemas of the documents.

SQLite has none, so there the same tables stand flat, and names are unique over all schemas.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import CheckConstraint, Column, MetaData, Table
from sqlalchemy.schema import SchemaItem

from .types import Bytes, Int64, Uid

SECRET: Final = "security_secret"  # noqa: S105  a schema's name
INTERNAL: Final = "security_internal"
AUDIT: Final = "audit"
SCHEMAS: Final = (SECRET, INTERNAL, AUDIT)

VERSION: Final = "version BETWEEN 1 AND 4294967295"  # u32 in every header and binding

metadata: Final = MetaData()


def column(name: str, type_: Any, *, nullable: bool = False, default: Any = None) -> Column[Any]:
    """Declare a column."""
    # A default stands only where the release before writes rows without the column.
    return Column(name, type_, nullable=nullable, server_default=default)


def record(name: str, schema: str, *parts: SchemaItem) -> Table:
    """Declare a table of records: content and identity from the caller, and what every record carries."""
    return Table(
        name,
        metadata,
        column("tenant_id", Uid),
        *parts,
        column("revision", Int64),
        column("mac", Bytes),
        CheckConstraint("revision > 0", name=f"ck_{name}_revision"),
        schema=schema,
        sqlite_strict=True,
    )
