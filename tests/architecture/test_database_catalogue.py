"""A migrated database is what storage/tables.py declares, in every detail that the engine knows.

Alembic's own comparison misses CHECK constraints, predicates of partial indexes and primary keys, so the catalogues of
a migrated database and of one made from the declaration are compared. The order of columns means nothing: those that a
migration adds come last. Roles, policies and grants are no part of the declaration: test_database_roles.py has them.
"""

from __future__ import annotations

import ast
import re
import sqlite3
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.schema import CreateSchema

import storage
from storage import schemas, tables
from storage.migrate import upgrade

SQLITE = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version' ORDER BY type, name"

REFERENCES = 35
# Not part of the declaration: for nodes of the release before, and what keeps the audit log as it is.
SQLITE_TRIGGERS = [
    ("adopt_key_version", "key_versions"),
    ("audit_log_refuse_delete", "audit_log"),
    ("audit_log_refuse_replace", "audit_log"),
    ("audit_log_refuse_update", "audit_log"),
    ("checkpoints_refuse_delete", "checkpoints"),
    ("checkpoints_refuse_replace", "checkpoints"),
    ("checkpoints_refuse_update", "checkpoints"),
]
POSTGRESQL_TRIGGERS = [
    ("adopt_key_version", "security_secret.key_versions", "O"),
    ("audit_log_refuse", "audit.audit_log", "A"),
    ("audit_log_refuse_row", "audit.audit_log", "A"),
    ("checkpoints_refuse", "audit.checkpoints", "A"),
]
OF_THE_INSTALLATION = {
    "nodes",
    "installation",
    "outbox_head",
    "sink_positions",
    "checkpoints",
    "checkpoint_head",
}  # no tenant's
OF_STREAMS = {"audit_log"}  # a chain has events of all tenants, and is read in its order

# ruff: noqa: S608  no input
# Partitions are made as time goes by; test_audit_partitions.py has them.
OURS = """n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND c.relname NOT LIKE 'alembic_version%'
    AND NOT c.relispartition"""
POSTGRESQL = {
    "tables": f"""
        SELECT n.nspname, c.relname, c.relkind, c.relpersistence, c.reloptions
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS} ORDER BY 1, 2""",
    "columns": f"""
        SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
               a.attidentity, a.attgenerated, l.collname, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_collation l ON l.oid = a.attcollation
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attnum > 0 AND {OURS} ORDER BY 1, 2, 3""",
    "constraints": f"""
        SELECT n.nspname, c.relname, k.conname, k.contype, k.condeferrable, k.convalidated, pg_get_constraintdef(k.oid)
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {OURS} ORDER BY 1, 2, 3""",
    "indexes": f"""
        SELECT n.nspname, c.relname, pg_get_indexdef(i.indexrelid), i.indisvalid
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {OURS} ORDER BY 1, 2, 3""",
    "triggers": """
        SELECT t.tgname, t.tgrelid::regclass::text, t.tgenabled, pg_get_triggerdef(t.oid)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE NOT t.tgisinternal AND NOT c.relispartition ORDER BY 1, 2""",
}


def statement_parts(sql):
    """Return the head of a CREATE statement, what stands in its parentheses (of a table, sorted), and what follows."""
    text = re.sub(r"\s+", " ", sql or "")
    head, opened, body = text.partition("(")
    parts, depth, end = [""], len(opened), len(body)
    # A comma outside all inner parentheses and literals separates two parts.
    for match in re.finditer(r"'[^']*'|.", body):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0:
            end = match.start()
            break
        if depth == 1 and match[0] == ",":
            parts.append("")
        else:
            parts[-1] += match[0]
    stripped = [part.strip() for part in parts]
    return head.strip(), sorted(stripped) if head.startswith("CREATE TABLE") else stripped, body[end + 1 :].strip()


def sqlite_catalogue(path):
    connection = sqlite3.connect(path)
    rows = [(*row[:3], *statement_parts(row[3])) for row in connection.execute(SQLITE)]
    connection.close()
    return rows


def postgresql_catalogue(url):
    with psycopg.connect(url) as connection:
        return {name: connection.execute(query).fetchall() for name, query in POSTGRESQL.items()}


@pytest.fixture
def declared_sqlite(tmp_path):
    path = tmp_path / "declared.db"
    engine = create_engine(f"sqlite:///{path}")
    tables.declared("sqlite").create_all(engine)
    engine.dispose()
    return path


@pytest.fixture
def declared_postgresql(empty_postgresql_url):
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(empty_postgresql_url))
    with engine.begin() as connection:
        for schema in schemas.SCHEMAS:
            connection.execute(CreateSchema(schema))
        tables.declared("postgresql").create_all(connection)
    engine.dispose()
    return empty_postgresql_url


def test_a_migrated_sqlite_database_is_what_is_declared(declared_sqlite, tmp_path):
    upgrade(tmp_path / "migrated.db")
    migrated = sqlite_catalogue(tmp_path / "migrated.db")
    assert [entry[1:3] for entry in migrated if entry[0] == "trigger"] == SQLITE_TRIGGERS
    assert [entry for entry in migrated if entry[0] != "trigger"] == sqlite_catalogue(declared_sqlite)
    made = [(parts, tail) for kind, _, _, _, parts, tail in migrated if kind == "table"]
    assert len(made) == len(schemas.metadata.tables)
    assert {tail for _, tail in made} == {"STRICT"}
    references = [part for parts, _ in made for part in parts if "FOREIGN KEY" in part]
    assert len(references) == REFERENCES  # also those between what are schemas on PostgreSQL


@pytest.mark.postgresql
def test_a_migrated_postgresql_database_is_what_is_declared(declared_postgresql, postgresql_url):
    migrated = postgresql_catalogue(postgresql_url)
    assert [entry[:3] for entry in migrated["triggers"]] == POSTGRESQL_TRIGGERS
    assert migrated | {"triggers": []} == postgresql_catalogue(declared_postgresql)
    assert sum(kind == "f" for _, _, _, kind, *_ in migrated["constraints"]) == REFERENCES


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE security_secret.keks DROP CONSTRAINT ck_keks_active",
        "ALTER TABLE security_secret.key_versions DROP CONSTRAINT fk_key_versions_keks",
        "ALTER TABLE security_internal.counters RESET (fillfactor)",
        'ALTER TABLE security_internal.tenants ALTER slug TYPE text COLLATE "default"',
        "DROP INDEX security_secret.ix_keks_pending; CREATE INDEX ix_keks_pending ON security_secret.keks (tenant_id, version)",
        "ALTER TABLE security_secret.key_versions ALTER status SET DEFAULT 'active'",
        "ALTER TABLE security_secret.key_versions ALTER status DROP NOT NULL",
        "ALTER TABLE security_internal.operations ALTER done TYPE integer",
        "ALTER TABLE security_internal.policies DROP COLUMN created_by",
        "ALTER TABLE audit.audit_log DROP CONSTRAINT ck_audit_log_hash",
        "ALTER TABLE audit.audit_log DISABLE TRIGGER audit_log_refuse_row",
        "DROP TRIGGER audit_log_refuse ON audit.audit_log",
        "DROP INDEX audit.ix_audit_log_intents",
    ],
)
def test_the_comparison_sees_every_change_on_postgresql(postgresql_url, change):
    before = postgresql_catalogue(postgresql_url)
    with psycopg.connect(postgresql_url) as connection:
        connection.execute(change)
    assert postgresql_catalogue(postgresql_url) != before


@pytest.mark.parametrize(
    ("entry", "written", "instead"),
    [
        ("keks", ", CONSTRAINT ck_keks_version CHECK (version BETWEEN 1 AND 4294967295)", ""),
        ("keks", "CHECK (revision > 0)", "CHECK (revision > 1)"),
        ("key_versions", "'archived'", "'active'"),
        ("key_versions", "TEXT DEFAULT 'archived' NOT NULL", "TEXT DEFAULT 'archived'"),
        ("operations", "done INTEGER", "done TEXT"),
        ("policies", "created_by TEXT NOT NULL, ", ""),
        ("places", "STRICT", ""),
        ("uq_key_versions_active", "'active'", "'rotating'"),
        ("uq_operations_running", "UNIQUE ", ""),
        ("ix_operations_created_at", "(tenant_id, created_at)", "(created_at, tenant_id)"),
        ("audit_log_refuse_replace", "NEW.sequence", "NEW.sequence + 1"),
        ("ix_audit_log_streams", "sequence = 1", "sequence = 2"),
    ],
)
def test_the_comparison_sees_every_change_on_sqlite(tmp_path, entry, written, instead):
    path = tmp_path / "kms.db"
    upgrade(path)
    before = sqlite_catalogue(path)
    connection = sqlite3.connect(path)
    [sql] = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (entry,)).fetchone()
    changed = re.sub(r"\s+", " ", sql).replace(written, instead)
    assert changed != re.sub(r"\s+", " ", sql)
    connection.execute("PRAGMA writable_schema = on")
    with connection:
        connection.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (changed, entry))
    connection.close()
    assert sqlite_catalogue(path) != before


def test_every_record_carries_tenant_revision_and_mac_and_is_found_by_its_tenant():
    for table in schemas.metadata.tables.values():
        record = table in tables.RECORDS
        assert record == ("revision" in table.c)
        assert record == ("mac" in table.c) or table.name == "tenant_roots"
        if table.name not in OF_THE_INSTALLATION | OF_STREAMS:
            assert next(iter(table.primary_key.columns)).name == "tenant_id"
        if record:
            assert not table.c.revision.nullable
            assert not table.c.mac.nullable


def test_every_constraint_and_index_bears_a_name():
    for table in schemas.metadata.tables.values():
        assert all(constraint.name for constraint in table.constraints)
        assert all(index.name for index in table.indexes)


def test_names_are_unique_over_all_schemas():
    names = [table.name for table in schemas.metadata.tables.values()]
    assert len(names) == len(set(names))


def test_records_are_written_in_one_place():
    writers = set()
    for path in sorted(Path(storage.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
            if name in {"insert", "update", "delete", "insertion"}:
                writers.add((path.name, name))
    assert writers == {
        ("session.py", "insert"),
        ("records.py", "insertion"),
        ("records.py", "update"),
        ("blobs.py", "insertion"),
        ("blobs.py", "delete"),
        ("body_rows.py", "insert"),
        ("body_rows.py", "update"),
        ("body_rows.py", "delete"),
        ("audit_feed.py", "insertion"),
        ("audit_feed.py", "update"),
        ("audit_feed.py", "delete"),
        ("checkpoints.py", "insertion"),
        ("checkpoints.py", "delete"),
        ("records.py", "delete"),
        ("tree_writing.py", "insertion"),
        ("tree_writing.py", "insert"),
        ("tree_writing.py", "update"),
        ("adoption.py", "update"),
        ("due_work.py", "insertion"),
        ("due_work.py", "delete"),
        ("epochs.py", "insertion"),
        ("epochs.py", "update"),
        ("epochs.py", "delete"),
        ("outbox.py", "insertion"),
        ("outbox.py", "update"),
        ("tokens.py", "insertion"),
    }
