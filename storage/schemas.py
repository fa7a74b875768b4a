"""Where the tables live: on PostgreSQL in the schemas of the documents.

SQLite has none, so there the same tables stand flat, and names are unique over all schemas.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import MetaData

SECRET: Final = "security_secret"  # noqa: S105  a schema's name
INTERNAL: Final = "security_internal"
SCHEMAS: Final = (SECRET, INTERNAL)

VERSION: Final = "version BETWEEN 1 AND 4294967295"  # u32 in every header and binding

metadata: Final = MetaData()
