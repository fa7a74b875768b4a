"""A file that is missing, locked, full, moved away or damaged: a clear answer in time, and recovery by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from dataclasses import replace

import pytest

from kms.core.errors import CorruptRecord, StorageUnavailable
from kms.core.ports import HealthStatus
from storage import sqlite
from storage.breaker import PAUSE
from storage.errors import CannotOpen, DatabaseMissing
from storage.migrate import upgrade
from storage.session import BOUND, GRACE
from tests.contract.storage import with_kek, with_key
from tests.keyrings import new_key, new_tenant
from tests.sealing import SEALER, open_sqlite

IN_TIME = BOUND + GRACE + 1.0  # a busy machine's margin


@pytest.fixture
def path(tmp_path):
    upgrade(tmp_path / "kms.db")
    return tmp_path / "kms.db"


@pytest.fixture
async def storage(path):
    storage = await open_sqlite(path, bound=BOUND)
    yield storage
    await storage.close()


async def test_the_bound_is_the_daemons_where_whoever_opens_a_database_sets_none(path):
    for said, bound in (({}, BOUND), ({"bound": 0.25}, 0.25)):
        opened = await sqlite.open_sqlite(path, sealer=SEALER, **said)
        assert opened._line.bound == bound
        await opened.close()


async def test_a_missing_file_is_named_and_not_made(tmp_path):
    with pytest.raises(DatabaseMissing, match=r"there is no database .*absent.db; make it with `kmsd migrate`"):
        await open_sqlite(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()


async def test_an_empty_file_is_not_taken_for_a_database(tmp_path):
    (tmp_path / "kms.db").touch()
    with pytest.raises(DatabaseMissing, match="empty"):
        await open_sqlite(tmp_path / "kms.db")


async def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "kms.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(CannotOpen, match="damaged"):
        await open_sqlite(tmp_path / "kms.db")


async def test_a_file_open_to_others_is_closed_to_them(path):
    path.chmod(0o644)
    storage = await open_sqlite(path)
    await storage.close()
    assert path.stat().st_mode & 0o777 == 0o600


async def fill(storage):
    tenant, _ = await with_kek(storage)
    async with storage.transaction(tenant.uid, write=True) as work:
        for number in range(300):
            await work.keys.add(replace(new_key(tenant), display_name="x" * 200, labels={"n": str(number)}))
    return tenant


def damage(path):
    """Overwrite all pages but the first two, which hold the schema."""
    size = path.stat().st_size
    assert size > 20 * 4096
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xa5" * (size - 2 * 4096))


async def test_damage_is_found_at_the_start(path):
    storage = await open_sqlite(path)
    await fill(storage)
    await storage.close()
    damage(path)
    with pytest.raises(CannotOpen, match="damaged"):
        await open_sqlite(path)


async def test_damage_that_is_met_while_running_is_not_taken_for_an_answer(path):
    storage = await open_sqlite(path)
    tenant = await fill(storage)
    await storage.close()
    storage = await open_sqlite(path)
    damage(path)
    with pytest.raises(CorruptRecord, match="damaged"):  # the first session holds the connection that has read all
        async with storage._session(None, write=False), storage.transaction(tenant.uid) as work:
            await work.keys.list_by_slug(tenant.uid, "", 1000)
    await storage.close()


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE encryption_keys SET purpose = 99",
        "UPDATE encryption_keys SET algorithm = 'ROT13'",
        "UPDATE encryption_keys SET labels = '{'",
        "UPDATE encryption_keys SET labels = '[1]'",
        "UPDATE encryption_keys SET status = 'strange'",
        "UPDATE encryption_keys SET created_at = 9223372036854775807",
        "UPDATE encryption_keys SET id = upper(id)",
    ],
)
async def test_a_stored_record_that_makes_no_sense_is_refused(path, storage, edit):
    tenant, _ = await with_kek(storage)
    key = replace(new_key(tenant), uid=type(tenant.uid)("abcdefab-cdef-4bcd-abcd-efabcdefabcd"))
    async with storage.transaction(tenant.uid, write=True) as work:
        await work.keys.add(key)
    with sqlite3.connect(path) as connection:
        connection.execute(edit)
    connection.close()
    with pytest.raises(CorruptRecord):
        async with storage.transaction(tenant.uid) as work:
            await work.keys.get(tenant.uid, key.slug)


async def test_a_lock_of_another_process_refuses_writes_in_time_and_reads_go_on(path, storage):
    tenant, _ = await with_kek(storage)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(StorageUnavailable, match="locked by another process"):
        await with_key(storage, tenant)
    assert time.monotonic() - started < IN_TIME
    async with storage.transaction() as work:
        assert await work.tenants.get(tenant.slug) == tenant
    other.rollback()
    other.close()
    await with_key(storage, tenant, "after")
    async with storage.transaction() as work:
        assert await work.keys.get(tenant.uid, "after") is not None


async def test_what_a_write_transaction_has_read_cannot_be_changed_by_another_process(path, storage):
    tenant, _ = await with_kek(storage)
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    async with storage.transaction(tenant.uid, write=True) as work:
        await work.tenants.get(tenant.slug)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("UPDATE tenants SET revision = 2")
        await work.tenants.replace(tenant)
    other.close()


async def test_a_full_disk_refuses_writes_keeps_reads_and_heals(storage):
    tenant, _ = await with_kek(storage)
    # Used one after the other, all transactions share one connection, and so this limit.
    async with storage._session(None, write=False) as session:
        pages = (await session.raw("PRAGMA page_count"))[0][0]
        await session.raw(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageUnavailable, match=r"no room left \(SQLITE_FULL\)"):  # noqa: PT012
        async with storage.transaction(tenant.uid, write=True) as work:
            for _ in range(1000):
                await work.keys.add(replace(new_key(tenant), display_name="x" * 500))
    async with storage.transaction(tenant.uid) as work:
        assert await work.tenants.get(tenant.slug) == tenant
        assert await work.keys.list_by_slug(tenant.uid, "", 10) == []
    async with storage._session(None, write=False) as session:
        await session.raw(f"PRAGMA max_page_count = {pages + 10_000}")
    await with_key(storage, tenant)


async def test_a_read_only_database_refuses_writes_and_keeps_reads(storage):
    tenant, _ = await with_kek(storage)
    async with storage._session(None, write=False) as session:
        await session.raw("PRAGMA query_only = on")
    with pytest.raises(StorageUnavailable, match="read-only"):
        await with_key(storage, tenant)
    async with storage.transaction() as work:
        assert await work.tenants.get(tenant.slug) == tenant


async def test_a_file_that_is_moved_away_is_not_written_any_more(path, storage):
    tenant, _ = await with_kek(storage)
    path.rename(path.with_name("elsewhere.db"))
    with pytest.raises(StorageUnavailable, match="moved or removed"):
        await with_key(storage, tenant)
    path.touch()  # another file in its place
    with pytest.raises(StorageUnavailable, match="moved or removed"):
        await with_key(storage, tenant)
    path.with_name("elsewhere.db").rename(path)
    await with_key(storage, tenant)


async def test_what_takes_too_long_is_interrupted_and_the_writer_is_free_again(storage):
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    started = time.monotonic()
    with pytest.raises(StorageUnavailable, match="did not answer in time"):
        async with storage._session(None, write=True) as session:
            await session.raw(endless)
    assert time.monotonic() - started < IN_TIME
    assert (await storage.health()).status is HealthStatus.UNHEALTHY
    async with asyncio.timeout(PAUSE + IN_TIME):
        while (await storage.health()).status is not HealthStatus.HEALTHY:  # noqa: ASYNC110  the breaker has no event
            await asyncio.sleep(0.05)
        tenant = new_tenant()
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)


async def test_writers_do_not_wait_without_end_for_their_turn(storage):
    async with storage.transaction(write=True):
        started = time.monotonic()
        with pytest.raises(StorageUnavailable, match="the turn to write was not free"):
            await with_kek(storage)
        assert time.monotonic() - started < IN_TIME
    await with_kek(storage)
