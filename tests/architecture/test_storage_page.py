"""docs/storage.md lists every table, with its schema and its primary key, neither more nor less."""

from __future__ import annotations

import re
from pathlib import Path

from storage import schemas, tables

PAGE = (Path(__file__).parents[2] / "docs/storage.md").read_text()
REVISION = ("alembic_version", "security_internal", "")  # Alembic's own


def test_every_table_is_listed_with_its_schema_and_key():
    part = PAGE.partition("\n## Tables\n")[2].partition("\n\nSQLite has")[0]
    listed = [
        (name, schema, key.partition(", always")[0].strip())
        for name, schema, key in re.findall(r"^\| `(\w+)` \| `(\w+)` \|([^|]*)\|", part, re.MULTILINE)
    ]
    declared = {
        (table.name, str(table.schema), ", ".join(column.name for column in table.primary_key))
        for table in schemas.metadata.tables.values()
    }
    assert len(listed) == len(set(listed))
    assert set(listed) == declared | {REVISION}
    assert {table.name for table in tables.RECORDS} < {name for name, *_ in listed}
