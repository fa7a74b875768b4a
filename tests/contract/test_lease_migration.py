"""Keys and versions that the release before has written verify as they are, and are neither leasable nor exposed."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from kms.core.errors import CorruptRecord
from kms.core.names import KeyUid
from storage.migrate import current, upgrade
from tests.contract.storage import with_kek, with_key
from tests.keyrings import new_version
from tests.sealing import open_postgresql, open_sqlite

COLUMNS = (
    ("encryption_keys", "leasable"),
    ("key_versions", "exposed_at"),
    *(("key_versions", f"seal_{name}") for name in ("mrenclave", "mrsigner", "isv_svn", "simulated")),
)
# What later migrations make, each before what it refers to.
LATER = (
    "security_internal.enclave_upgrades",
    "security_secret.enclaves",
    "security_internal.blob_chunks",
    "security_internal.blob_bodies",
    "security_internal.blob_uses",
    "security_secret.blob_uploads",
    "security_secret.blobs",
)
SECRET, INTERNAL = "security_secret.", "security_internal."


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def target(request, tmp_path):
    path = tmp_path / "kms.db" if request.param == "sqlite" else request.getfixturevalue("empty_postgresql_url")
    upgrade(path)
    return path


def opened(target):
    return open_sqlite(target) if isinstance(target, Path) else open_postgresql(target, 4)


def execute(target: Path | str, *statements: str) -> None:
    """Execute statements past the daemon."""
    if isinstance(target, Path):
        connection = sqlite3.connect(target)
        with connection:
            for statement in statements:
                connection.execute(statement.replace(SECRET, "").replace(INTERNAL, ""))
        connection.close()
        return
    with psycopg.connect(target) as connection:
        connection.execute("SELECT set_config('app.migrating', 'on', true)")
        for statement in statements:
            connection.execute(statement)  # type: ignore[arg-type]  no input


async def test_what_was_sealed_without_the_columns_verifies_with_them(target):
    storage = await opened(target)
    tenant, _ = await with_kek(storage)
    key = await with_key(storage, tenant)
    await storage.close()
    # A column that has its default is no part of a MAC: without the two, this is what the release before has written.
    execute(
        target,
        *(f"DROP TABLE {table}" for table in LATER),
        *(f"ALTER TABLE {SECRET}{table} DROP COLUMN {column}" for table, column in COLUMNS),
        f"UPDATE {INTERNAL}alembic_version SET version_num = '0014'",  # noqa: S608
    )
    assert current(target) == ["0014"]
    upgrade(target)
    storage = await opened(target)
    try:
        async with storage.transaction(tenant.uid) as work:
            found = await work.keys.get(tenant.uid, key.slug)
            assert found == key
            assert not found.leasable
            [version] = await work.key_versions.list_by_version(tenant.uid, key.uid, 0, 9)
            assert version == replace(new_version(key), revision=1)
            assert version.exposed_at is None
        exposed = replace(version, exposed_at=datetime(2026, 3, 1, tzinfo=UTC))
        lent = replace(key, slug="lent", uid=KeyUid(uuid.uuid4()), leasable=True, revision=0)
        async with storage.transaction(tenant.uid, write=True) as work:
            exposed = await work.key_versions.replace(exposed)
            lent = await work.keys.add(lent)
        async with storage.transaction(tenant.uid) as work:
            assert await work.key_versions.get(tenant.uid, key.uid, 1) == exposed
            assert await work.keys.get(tenant.uid, "lent") == lent
    finally:
        await storage.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE security_secret.key_versions SET exposed_at = NULL",
        "UPDATE security_secret.encryption_keys SET leasable = 0",
    ],
    ids=["exposed_at", "leasable"],
)
async def test_nobody_takes_back_past_the_daemon_what_was_exposed_or_agreed(target, change):
    storage = await opened(target)
    tenant, _ = await with_kek(storage)
    key = await with_key(storage, tenant)
    async with storage.transaction(tenant.uid, write=True) as work:
        version = await work.key_versions.get(tenant.uid, key.uid, 1)
        await work.key_versions.replace(replace(version, exposed_at=datetime(2026, 3, 1, tzinfo=UTC)))
        await work.keys.replace(replace(key, leasable=True))
    await storage.close()
    execute(target, change)
    storage = await opened(target)
    try:
        async with storage.transaction(tenant.uid) as work:
            look = (
                work.keys.get(tenant.uid, key.slug)
                if "leasable" in change
                else work.key_versions.get(tenant.uid, key.uid, 1)
            )
            with pytest.raises(CorruptRecord):
                await look
    finally:
        await storage.close()
