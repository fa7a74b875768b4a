"""Work that comes again and again goes along an index, however much is stored: no scan of all, no sorting."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import event

from storage.migrate import upgrade
from storage.postgresql import begin
from tests.contract.storage import with_kek
from tests.keyrings import NOW, activated, new_kek
from tests.sealing import open_postgresql, open_sqlite, reseal

KEYS = 4000
DUE = 3000
KEKS = 8  # every version wraps as many
NODE = uuid.UUID(int=1)
HELD = NOW + timedelta(minutes=1)

# ruff: noqa: S608  no input
KEY = """
    INSERT INTO security_secret.encryption_keys (tenant_id, id, key_id, display_name, purpose, algorithm, protection_level,
        status, primary_version, created_at, rotated_at, created_by, labels, scheduled_from, due_at, revision, mac)
    SELECT t.tenant_id, {uid}, 'key-' || n.n, '', 1, 'AES-256-GCM', 1, 'active', 1, t.created_at, t.created_at, 'x', '{{}}',
        t.created_at, t.created_at + (n.n - {due}) * {minute}, 1, {empty}
    FROM {numbers}, security_internal.tenants AS t WHERE t.slug <> ''"""
VERSION = """
    INSERT INTO security_secret.key_versions
        (tenant_id, key_uid, version, wrapped, kek_version, created_at, created_by, status, status_at, revision, mac)
    SELECT tenant_id, id, 1, {wrapped}, 1 + {number} % {keks}, created_at, 'x', 'active', created_at, 1, {empty}
    FROM security_secret.encryption_keys"""
UID = "lower(printf('%s-%s-%s-%s-%s', {}))".format(", ".join(f"hex(randomblob({n}))" for n in (4, 2, 2, 2, 6)))
ENGINES = {
    "sqlite": {
        "uid": UID,
        "minute": "60000000",
        "empty": "x''",
        "wrapped": "x'01'",
        "number": "cast(substr(key_id, 5) AS INTEGER)",
        "numbers": f"(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT {KEYS}) SELECT n FROM n) AS n",
    },
    "postgresql": {
        "uid": "gen_random_uuid()",
        "minute": "interval '1 minute'",
        "empty": "''",
        "wrapped": "'\\x01'",
        "number": "substr(key_id, 5)::bigint",
        "numbers": f"generate_series(1, {KEYS}) AS n(n)",
    },
}


class Engine:
    """One engine with many keys, all of one tenant, and what it says of its plans."""

    def __init__(self, target):
        self.target = target
        self.name = "sqlite" if isinstance(target, Path) else "postgresql"

    def execute(self, statement, parameters=None):
        if self.name == "sqlite":
            connection = sqlite3.connect(self.target)
            with connection:
                statement = statement.replace("security_secret.", "").replace("security_internal.", "")
                rows = connection.execute(statement, parameters or ()).fetchall()
            connection.close()
            return rows
        with psycopg.connect(self.target) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def fill(self):
        for statement in (KEY, VERSION, "ANALYZE"):
            self.execute(statement.format(keks=KEKS, due=DUE, **ENGINES[self.name]))

    def plan(self, statement, parameters, tenant=None):
        """What it would do in a transaction of a tenant, or over tenants."""
        if self.name == "sqlite":
            rows = self.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        else:
            with psycopg.connect(self.target, autocommit=True) as connection:
                connection.execute(begin("BEGIN", tenant=tenant))
                rows = connection.execute(f"EXPLAIN {statement}", parameters).fetchall()
        return "\n".join(str(row[-1]) for row in rows)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def engine(request, tmp_path):
    if request.param == "sqlite":
        upgrade(tmp_path / "kms.db")
        return Engine(tmp_path / "kms.db")
    return Engine(request.getfixturevalue("postgresql_url"))


@pytest.fixture
async def storage(engine):
    storage = await (open_sqlite if engine.name == "sqlite" else open_postgresql)(engine.target)
    yield storage
    await storage.close()


@contextmanager
def queries(storage):
    """Collect the queries that the block makes, with their parameters."""
    made = []

    def executed(_connection, _cursor, statement, parameters, *_):
        if statement.startswith("SELECT") and "tenant_roots" not in statement and "tree_nodes" not in statement:
            made.append((statement, parameters))

    event.listen(storage._line.engine.sync_engine, "before_cursor_execute", executed)
    yield made
    event.remove(storage._line.engine.sync_engine, "before_cursor_execute", executed)


def require_index(plan, index):
    assert index in plan
    for bad in ("Seq Scan on key", "Seq Scan on encryption", "Sort", "SCAN key", "SCAN encryption", "TEMP B-TREE"):
        assert bad not in plan, plan


async def test_what_a_kek_version_wraps_is_listed_along_its_index(engine, storage):
    tenant, _ = await with_kek(storage)
    async with storage.transaction(tenant.uid, write=True) as work:
        for number in range(2, KEKS + 1):
            await work.keks.add(activated(new_kek(tenant, number)))
    engine.fill()
    await reseal(storage)
    async with storage.transaction(tenant.uid) as work:
        assert await work.key_versions.count_by_kek(tenant.uid) == dict.fromkeys(range(1, KEKS + 1), KEYS // KEKS)
        with queries(storage) as made:
            [*_, last] = await work.key_versions.list_wrapped_by(tenant.uid, 3, None, 100)
            page = await work.key_versions.list_wrapped_by(tenant.uid, 3, (last.key, last.version), 100)
    assert len(page) == 100
    assert len(made) == 2
    for statement, parameters in made:
        require_index(engine.plan(statement, parameters, tenant.uid), "ix_key_versions_kek")


async def test_due_keys_are_claimed_along_their_indexes(engine, storage):
    tenant, _ = await with_kek(storage)
    async with storage.transaction(tenant.uid, write=True) as work:
        for number in range(2, KEKS + 1):
            await work.keks.add(activated(new_kek(tenant, number)))
    engine.fill()
    await reseal(storage)
    with queries(storage) as made:
        assert len(await storage.claim_keys(NODE, NOW, HELD, 30)) == 30
    require_index(engine.plan(*made[0]), "ix_encryption_keys_due")
    for left in (1000, 1000, DUE - 2030):
        with queries(storage) as made:
            assert len(await storage.claim_keys(NODE, NOW, HELD, 1000)) == left
    require_index(engine.plan(*made[1]), "ix_encryption_keys_scheduled_from")
