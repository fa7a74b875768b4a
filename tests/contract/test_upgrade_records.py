"""Upgrades of enclaves and the sealers of keys, over both databases: stored, counted, and believed as any record is."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.enclave_upgrades import UpgradeEvent, UpgradeState, UpgradeUid
from kms.core.errors import Conflict, CorruptRecord
from kms.core.lifecycle import KeyState
from kms.core.seals import SealCount, SealedBy, Sealing, SealKind
from kms.core.suites import ProtectionLevel
from storage.migrate import current, upgrade
from tests.blob_records import KEY, blob_of, upgrade_of, upload_of
from tests.contract.storage import with_kek, with_key
from tests.contract.test_lease_migration import INTERNAL, SECRET, execute, opened
from tests.keyrings import NOW, new_version

OLD = SealedBy(b"m" * 32, b"s" * 32, 1, simulated=True)
NEW = SealedBy(b"n" * 32, b"s" * 32, 2, simulated=False)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def target(request, tmp_path):
    path = tmp_path / "kms.db" if request.param == "sqlite" else request.getfixturevalue("empty_postgresql_url")
    upgrade(path)
    return path


@pytest.fixture
async def stored(target):
    storage = await opened(target)
    yield storage
    await storage.close()


async def sealed_key(storage, tenant, *sealers, level=ProtectionLevel.ENCLAVE):
    """A key with one version more than it has at first, for each of these sealers."""
    key = await with_key(storage, tenant, level=level)
    async with storage.transaction(tenant.uid, write=True) as work:
        first = await work.key_versions.get(tenant.uid, key.uid, 1)
        await work.key_versions.replace(replace(first, sealed_by=sealers[0]))
        for number, by in enumerate(sealers[1:], 2):
            await work.key_versions.add(replace(new_version(key, number), sealed_by=by))
    return key


async def test_a_tenant_has_one_open_upgrade_at_most_and_each_is_found_again(stored):
    tenant, _ = await with_kek(stored)
    other, _ = await with_kek(stored)
    made = upgrade_of(tenant, operation=uuid.uuid4(), forced_by="x")
    async with stored.transaction(tenant.uid, write=True) as work:
        assert await work.enclave_upgrades.find_open(tenant.uid) is None
        made = await work.enclave_upgrades.add(made)
        with pytest.raises(Conflict):
            await work.enclave_upgrades.add(upgrade_of(tenant))
    async with stored.transaction(other.uid, write=True) as work:
        theirs = await work.enclave_upgrades.add(upgrade_of(other, state=UpgradeState.FINISHING))
    async with stored.transaction(tenant.uid, write=True) as work:
        assert await work.enclave_upgrades.find_open(tenant.uid) == made
        assert await work.enclave_upgrades.get(tenant.uid, made.uid) == made
        assert await work.enclave_upgrades.get(tenant.uid, theirs.uid) is None
        ended = await work.enclave_upgrades.replace(made.after(UpgradeEvent.CANCEL, NOW))
        with pytest.raises(Conflict):
            await work.enclave_upgrades.replace(made)
        later = replace(upgrade_of(tenant), created_at=NOW + timedelta(days=1))
        second = await work.enclave_upgrades.add(later)
    async with stored.transaction(tenant.uid) as work:
        assert await work.enclave_upgrades.list_all(tenant.uid) == [second, ended]
        assert await work.enclave_upgrades.find_open(tenant.uid) == second
        assert await work.enclave_upgrades.get(tenant.uid, UpgradeUid(uuid.uuid4())) is None


async def test_seals_are_counted_by_kind_policies_and_sealer(stored):
    tenant, _ = await with_kek(stored)
    other, _ = await with_kek(stored)
    await sealed_key(stored, other, OLD)
    await sealed_key(stored, tenant, None, level=ProtectionLevel.SOFTWARE)
    key = await sealed_key(stored, tenant, OLD, None, NEW, NEW, NEW)
    blob_key = replace(KEY, by=OLD, sealing=Sealing.HYBRID)
    prepared = replace(blob_key, present=Sealing.MRSIGNER)
    async with stored.transaction(tenant.uid, write=True) as work:
        gone = await work.key_versions.get(tenant.uid, key.uid, 5)
        await work.key_versions.replace(replace(gone, state=KeyState.DESTROYED))
        for number, kept in enumerate((blob_key, prepared, prepared)):
            blob = await work.blobs.add(blob_of(tenant, f"b{number}", key=kept))
            assert (await work.blobs.get(tenant.uid, blob.blob_id)).key == kept
        upload = await work.blobs.put_upload(upload_of(tenant, key=prepared))
        assert (await work.blobs.upload(tenant.uid, upload.uid)).key == prepared
    async with stored.transaction(tenant.uid) as work:
        counts = await work.enclave_upgrades.count_seals(tenant.uid)
    signer = Sealing.MRSIGNER
    assert len(counts) == len(set(counts))
    assert set(counts) == {
        SealCount(SealKind.KEY_VERSION, signer, signer, None, 1),
        SealCount(SealKind.KEY_VERSION, signer, signer, OLD, 1),
        SealCount(SealKind.KEY_VERSION, signer, signer, NEW, 2),
        SealCount(SealKind.BLOB, Sealing.HYBRID, Sealing.HYBRID, OLD, 1),
        SealCount(SealKind.BLOB, Sealing.HYBRID, signer, OLD, 2),
        SealCount(SealKind.UPLOAD, Sealing.HYBRID, signer, OLD, 1),
    }


async def test_sealed_versions_and_uploads_are_listed_page_by_page(stored):
    tenant, _ = await with_kek(stored)
    await sealed_key(stored, tenant, None, level=ProtectionLevel.SOFTWARE)
    keys = [await sealed_key(stored, tenant, OLD, NEW) for _ in range(3)]
    async with stored.transaction(tenant.uid, write=True) as work:
        uploads = [await work.blobs.put_upload(upload_of(tenant)) for _ in range(5)]
        gone = await work.key_versions.get(tenant.uid, keys[0].uid, 2)
        await work.key_versions.replace(replace(gone, state=KeyState.DESTROYED))
    async with stored.transaction(tenant.uid) as work:
        found, after = [], None
        while page := await work.key_versions.list_sealed(tenant.uid, after, 2):
            found += [(one.key, one.version) for one in page]
            after = found[-1]
        wanted = {(key.uid, number) for key in keys for number in (1, 2)} - {(keys[0].uid, 2)}
        assert found == sorted(wanted)
        assert len(found) == len(wanted)
        listed, last = [], None
        while some := await work.blobs.list_uploads_after(tenant.uid, last, 2):
            listed += some
            last = some[-1].uid
        assert listed == sorted(uploads, key=lambda one: one.uid)


async def test_what_was_sealed_by_the_release_before_verifies_and_its_sealer_is_not_known(target):
    storage = await opened(target)
    tenant, _ = await with_kek(storage)
    key = await with_key(storage, tenant, level=ProtectionLevel.ENCLAVE)
    async with storage.transaction(tenant.uid, write=True) as work:
        blob = await work.blobs.add(blob_of(tenant))
        upload = await work.blobs.put_upload(upload_of(tenant))
    await storage.close()
    columns = [("blobs", "present_policy"), ("blob_uploads", "present_policy")]
    columns += [("key_versions", f"seal_{name}") for name in ("mrenclave", "mrsigner", "isv_svn", "simulated")]
    # A column that has its default is no part of a MAC: without these, this is what the release before has written.
    execute(
        target,
        f"DROP TABLE {INTERNAL}enclave_upgrades",
        *(f"ALTER TABLE {SECRET}{table} DROP COLUMN {column}" for table, column in columns),
        f"UPDATE {INTERNAL}alembic_version SET version_num = '0018'",  # noqa: S608
    )
    assert current(target) == ["0018"]
    upgrade(target)
    storage = await opened(target)
    try:
        async with storage.transaction(tenant.uid) as work:
            assert await work.blobs.get(tenant.uid, blob.blob_id) == blob
            assert await work.blobs.upload(tenant.uid, upload.uid) == upload
            [version] = await work.key_versions.list_sealed(tenant.uid, None, 9)
            assert (version.key, version.sealed_by) == (key.uid, None)
            assert await work.enclave_upgrades.list_all(tenant.uid) == []
    finally:
        await storage.close()


@pytest.mark.parametrize(
    ("change", "look"),
    [
        ("UPDATE security_secret.key_versions SET seal_isv_svn = 9", "version"),
        ("UPDATE security_secret.key_versions SET seal_mrenclave = NULL", "version"),
        ("UPDATE security_secret.blobs SET present_policy = ''", "blob"),
        ("UPDATE security_internal.enclave_upgrades SET status = 'completed'", "upgrade"),
        ("UPDATE security_internal.enclave_upgrades SET isv_svn = 7", "upgrade"),
        ("DELETE FROM security_internal.enclave_upgrades", "upgrade"),
    ],
    ids=["version", "sealer", "policy", "state", "target", "removed"],
)
async def test_nobody_changes_past_the_daemon_how_a_key_is_sealed_or_an_upgrade_stands(target, change, look):
    storage = await opened(target)
    tenant, _ = await with_kek(storage)
    key = await sealed_key(storage, tenant, OLD)
    async with storage.transaction(tenant.uid, write=True) as work:
        await work.blobs.add(blob_of(tenant, key=replace(KEY, present=Sealing.MRSIGNER)))
        made = await work.enclave_upgrades.add(upgrade_of(tenant))
    await storage.close()
    execute(target, change)
    storage = await opened(target)
    try:
        async with storage.transaction(tenant.uid) as work:
            looks = {
                "version": lambda: work.key_versions.get(tenant.uid, key.uid, 1),
                "blob": lambda: work.blobs.get(tenant.uid, "ledger.tar"),
                "upgrade": lambda: work.enclave_upgrades.get(tenant.uid, made.uid),
            }
            with pytest.raises(CorruptRecord):
                await looks[look]()
    finally:
        await storage.close()
