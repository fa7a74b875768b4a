"""From the tables of the first release to those of the lifecycle, with what is in them and while nodes of it still run."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from kms.core.keyring import Kek, KekState, Key, KeyVersion, Tenant
from kms.core.lifecycle import KeyEvent, KeyState
from kms.core.policy import Overrides
from kms.core.ports import Counter
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.core.wrapping import WrapMechanism
from storage import revision
from storage.migrate import current, upgrade
from tests.sealing import open_postgresql, open_sqlite, reseal

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MADE = datetime(2024, 2, 29, 12, tzinfo=UTC)
ROTATED = MADE + timedelta(days=3)
LATER = ROTATED + timedelta(days=1)
HEARD = timedelta(minutes=10)  # after a rotation, until every node knows
NODE = uuid.UUID(int=1)
BY = "operators/root"
SCHEMAS = {"encryption_keys": "security_secret", "key_versions": "security_secret", "keks": "security_secret"}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def target(request, tmp_path, monkeypatch):
    """A database as the first release made it."""
    path = tmp_path / "kms.db" if request.param == "sqlite" else request.getfixturevalue("empty_postgresql_url")
    with monkeypatch.context() as first:
        folder = tmp_path / "first"
        shutil.copytree(revision.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__", "000[2-9]*", "001*"))
        first.setattr(revision, "MIGRATIONS", folder)
        upgrade(path)
    assert current(path) == ["0001"]
    return path


def execute(target, table, statement, *values):
    """Execute a statement with %s for values and {} for the table."""
    if isinstance(target, Path):
        stored = [
            str(v)
            if isinstance(v, uuid.UUID)
            else (v - EPOCH) // timedelta(microseconds=1)
            if isinstance(v, datetime)
            else v
            for v in values
        ]
        connection = sqlite3.connect(target)
        connection.execute("PRAGMA foreign_keys = on")
        with connection:
            rows = connection.execute(statement.format(table).replace("%s", "?"), stored).fetchall()
        connection.close()
        return rows
    with psycopg.connect(target) as connection:
        cursor = connection.execute(statement.format(f"{SCHEMAS.get(table, 'security_internal')}.{table}"), values)
        return cursor.fetchall() if cursor.description else []


def insert(target, table, **row):
    """Write a row as the first release does: its columns alone."""
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    execute(target, table, f"INSERT INTO {{}} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING", *row.values())  # noqa: S608


def insert_tenant(target, slug, primary_kek=1):
    tenant = Tenant(uuid.uuid4(), slug, "Acme", uuid.uuid4(), primary_kek, MADE, EPOCH, revision=1)
    insert(
        target,
        "tenants",
        tenant_id=tenant.uid,
        slug=slug,
        display_name="Acme",
        kek_uid=tenant.kek,
        primary_kek=primary_kek,
        created_at=MADE,
        revision=1,
        mac=b"",
    )
    return tenant


def insert_kek(target, tenant, version, *, pending=False):
    kek = Kek(tenant.uid, tenant.kek, version, KekState.PENDING, MADE, BY, revision=1)
    if not pending:
        kek = replace(
            kek,
            state=KekState.ACTIVE,
            mechanism=WrapMechanism.AES_GCM,
            canary=b"canary",
            hsm_key_id="pkcs11:object=kek",
        )
    insert(
        target,
        "keks",
        tenant_id=tenant.uid,
        version=version,
        kek_uid=tenant.kek,
        status=kek.state.value,
        mechanism=None if kek.mechanism is None else int(kek.mechanism),
        canary=kek.canary,
        hsm_key_id=kek.hsm_key_id,
        created_at=MADE,
        created_by=BY,
        revision=1,
        mac=b"",
    )
    return kek


def insert_key(target, tenant, slug, suite, hours, primary=1):
    purpose = Purpose.ENCRYPT if hours else Purpose.DETERMINISTIC
    key = Key(
        uid=uuid.uuid4(),
        tenant=tenant.uid,
        slug=slug,
        display_name="",
        purpose=purpose,
        suite=suite,
        level=ProtectionLevel.SOFTWARE,
        state=KeyState.ACTIVE,
        primary_version=primary,
        created_at=MADE,
        rotated_at=ROTATED,
        scheduled_from=ROTATED,
        state_at=MADE,
        created_by=BY,
        overrides=Overrides(rotation=timedelta(hours=hours) if hours else None),
        due_at=EPOCH,
        revision=1,
    )
    insert(
        target,
        "encryption_keys",
        tenant_id=tenant.uid,
        id=key.uid,
        key_id=slug,
        display_name="",
        purpose=int(purpose),
        algorithm="AES-SIV" if suite is Suite.AES_SIV else "AES-256-GCM",
        protection_level=int(key.level),
        status="active",
        primary_version=primary,
        rotation_interval_hours=hours,
        created_at=MADE,
        rotated_at=ROTATED,
        created_by=BY,
        labels="{}",
        revision=1,
        mac=b"",
    )
    return key


def insert_version(target, key, number, kek_version, created_at=MADE):
    insert(
        target,
        "key_versions",
        tenant_id=key.tenant,
        key_uid=key.uid,
        version=number,
        wrapped=b"wrapped %d" % number,
        kek_version=kek_version,
        created_at=created_at,
        created_by=BY,
        revision=1,
        mac=b"",
    )
    return KeyVersion(
        key.tenant,
        key.uid,
        number,
        b"wrapped %d" % number,
        kek_version,
        created_at,
        BY,
        KeyState.ACTIVE,
        created_at,
        revision=1,
    )


def replaced(version, at):
    return replace(version, state=KeyState.ARCHIVED, state_at=at, stopped_at=at + HEARD)


async def open_storage(target):
    return await (open_sqlite(target) if isinstance(target, Path) else open_postgresql(target))


async def test_everything_of_the_first_release_is_there_and_due(target):
    acme, globex = insert_tenant(target, "acme", primary_kek=2), insert_tenant(target, "globex", primary_kek=0)
    keks = [insert_kek(target, acme, 1), insert_kek(target, acme, 2), insert_kek(target, globex, 1, pending=True)]
    name = insert_key(target, acme, "name", Suite.AES_256_GCM, 24, primary=3)
    iban = insert_key(target, acme, "iban", Suite.AES_SIV, None, primary=2)
    versions = [insert_version(target, name, number, min(number, 2)) for number in (1, 2, 3)]
    versions += [insert_version(target, iban, number, 2) for number in (1, 2)]
    insert(target, "counters", tenant_id=acme.uid, subject_uid=name.uid, version=3, reserved=77)
    upgrade(target)

    wanted = [
        v if v.version == k.primary_version else replaced(v, ROTATED)
        for k in (name, iban)
        for v in versions
        if v.key == k.uid
    ]
    storage = await open_storage(target)
    async with storage.transaction() as work:
        assert [await work.tenants.get(slug) for slug in ("acme", "globex")] == [acme, globex]
        assert await work.keks.pending() == [(globex, keks[2])]
    async with storage.transaction(acme.uid) as work:
        assert await work.keks.list_by_version(acme.uid, 0, 10) == keks[:2]
        assert await work.keys.list_by_slug(acme.uid, "", 10) == [iban, name]
        found = [await work.key_versions.list_by_version(acme.uid, key.uid, 0, 10) for key in (name, iban)]
        assert [*found[0], *found[1]] == wanted
        assert await work.key_versions.count_by_kek(acme.uid) == {1: 1, 2: 4}
    assert await storage.reserved([Counter(acme.uid, name.uid, 3)]) == [77]
    claimed = await storage.claim_keys(NODE, MADE, LATER, 10)
    assert sorted(key.slug for _, key in claimed) == ["iban", "name"]
    assert await storage.claim_tenants(NODE, MADE, LATER, 10) == [acme]  # the other one is not ready
    await storage.close()
    if isinstance(target, Path):
        assert execute(target, "key_versions", "PRAGMA foreign_key_check") == []
        assert execute(target, "key_versions", "PRAGMA integrity_check") == [("ok",)]


async def test_what_a_node_of_the_first_release_writes_meanwhile_is_whole_and_due(target):
    upgrade(target)
    tenant = insert_tenant(target, "acme")
    insert_kek(target, tenant, 1)
    key = insert_key(target, tenant, "name", Suite.AES_256_GCM, 24)
    first = insert_version(target, key, 1, 1)
    storage = await open_storage(target)
    async with storage.transaction(tenant.uid) as work:
        assert await work.tenants.get("acme") == tenant
        assert await work.keys.get(tenant.uid, "name") == key
        assert await work.key_versions.get(tenant.uid, key.uid, 1) == first
    assert await storage.claim_tenants(NODE, MADE, LATER, 10) == [tenant]
    assert await storage.claim_keys(NODE, MADE, LATER, 10) == [(tenant, key)]

    rotation = "UPDATE {} SET primary_version = 2, rotated_at = %s, revision = 2 WHERE id = %s AND revision = 1"
    execute(target, "encryption_keys", rotation, LATER, key.uid)
    second = insert_version(target, key, 2, 1, LATER)
    insert_version(target, key, 1, 1)  # a race that it has lost changes nothing
    await reseal(storage)  # such a node knows no MACs: it cannot run beside this release
    key = replace(key, primary_version=2, rotated_at=LATER, scheduled_from=LATER, revision=2)
    async with storage.transaction(tenant.uid) as work:
        assert await work.keys.get(tenant.uid, "name") == key
        assert await work.key_versions.list_by_version(tenant.uid, key.uid, 0, 9) == [replaced(first, LATER), second]

    async with storage.transaction(tenant.uid, write=True) as work:
        await work.keys.replace(key.rotated(LATER, LATER))
        await work.key_versions.replace(second.after(KeyEvent.ROTATE, LATER, until=LATER + HEARD))
        await work.key_versions.add(replace(second, version=3, revision=0))
    await storage.close()
    states = execute(target, "key_versions", "SELECT version, status FROM {} ORDER BY version")
    assert states == [(1, "archived"), (2, "rotating"), (3, "active")]


async def test_what_this_release_writes_is_left_as_it_is(target):
    upgrade(target)
    tenant = insert_tenant(target, "acme")
    insert_kek(target, tenant, 1)
    key = insert_key(target, tenant, "name", Suite.AES_256_GCM, 24)
    first = insert_version(target, key, 1, 1)
    pending = replace(first, version=2, state=KeyState.PENDING, revision=0)
    storage = await open_storage(target)
    async with storage.transaction(tenant.uid, write=True) as work:
        pending = await work.key_versions.add(pending)
        never = await work.tenants.replace(replace(tenant, due_at=None))
        unplanned = await work.keys.replace(replace(key, due_at=None))
    async with storage.transaction(tenant.uid) as work:
        assert await work.key_versions.list_by_version(tenant.uid, key.uid, 0, 9) == [first, pending]
        assert await work.tenants.get("acme") == never
        assert await work.keys.get(tenant.uid, "name") == unplanned
    assert await storage.claim_tenants(NODE, LATER, LATER, 10) == []
    assert await storage.claim_keys(NODE, LATER, LATER, 10) == []
    await storage.close()
