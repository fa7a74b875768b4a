"""Policies that were stored before classes are of class internal, and so are those that the release before still writes."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from kms.core.classification import Classification
from kms.core.names import TenantUid
from kms.core.policy import DEFAULT, NamedPolicy
from storage import revision
from storage.migrate import current, upgrade
from tests.sealing import open_postgresql, open_sqlite

MADE = datetime(2024, 2, 29, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TENANT = """INSERT INTO security_internal.tenants (tenant_id, slug, display_name, kek_uid, primary_kek, created_at, revision,
    mac) VALUES (%s, 'acme', '', %s, 0, %s, 1, %s)"""
POLICY = """INSERT INTO security_internal.policies (tenant_id, policy_id, version, rotation_seconds, encryption_limit, cache_lifetime_seconds,
    quarantine_seconds, grace_seconds, automatic_retirement, created_at, created_by, revision, mac)
    VALUES (%s, 'gold', %s, 86400, 0, 300, 604800, 600, 0, %s, 'operators/root', 1, %s)"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def target(request, tmp_path, monkeypatch):
    """A database as the release before classes made it."""
    path = tmp_path / "kms.db" if request.param == "sqlite" else request.getfixturevalue("empty_postgresql_url")
    with monkeypatch.context() as before:
        folder = tmp_path / "before"
        shutil.copytree(revision.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__", "000[7-9]*", "001*"))
        before.setattr(revision, "MIGRATIONS", folder)
        upgrade(path)
    assert current(path) == ["0006"]
    return path


def execute(target: Path | str, statement: str, *values: object) -> None:
    """Execute a statement past the daemon, with %s for values."""
    if isinstance(target, Path):
        stored = [
            str(v) if isinstance(v, uuid.UUID) else (v - EPOCH) // timedelta(microseconds=1) if v is MADE else v
            for v in values
        ]
        connection = sqlite3.connect(target)
        with connection:
            connection.execute(statement.replace("security_internal.", "").replace("%s", "?"), stored)
        connection.close()
        return
    with psycopg.connect(target) as connection:
        connection.execute(statement, values)


async def test_a_policy_of_the_release_before_is_of_class_internal(target):
    tenant = TenantUid(uuid.uuid4())
    execute(target, TENANT, tenant, uuid.uuid4(), MADE, b"")
    execute(target, POLICY, tenant, 1, MADE, b"")
    upgrade(target)
    execute(target, POLICY, tenant, 2, MADE, b"")  # by a node that does not know the columns
    opened = await (open_sqlite(target) if isinstance(target, Path) else open_postgresql(target, 4))
    try:
        async with opened.transaction(tenant) as work:
            found = await work.policies.list_versions(tenant, "gold", 0, 9)
    finally:
        await opened.close()
    assert found == [NamedPolicy(tenant, "gold", number, DEFAULT, MADE, "operators/root", 1) for number in (1, 2)]
    assert found[0].policy.classification is Classification.INTERNAL
