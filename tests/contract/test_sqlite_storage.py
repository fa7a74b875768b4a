import shutil
from pathlib import Path

import pytest

from storage.migrate import upgrade
from tests.contract.storage import StorageContract
from tests.contract.storage_access import AccessContract
from tests.contract.storage_approvals import ApprovalsContract
from tests.contract.storage_enclaves import EnclavesContract
from tests.contract.storage_events import EventsContract
from tests.contract.storage_records import RecordsContract
from tests.contract.storage_sharing import SharingContract
from tests.contract.storage_tokens import TokensContract
from tests.sealing import open_sqlite


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("migrated") / "kms.db"
    upgrade(path)
    return path


class TestSqliteStorage(
    StorageContract,
    RecordsContract,
    AccessContract,
    SharingContract,
    ApprovalsContract,
    EventsContract,
    TokensContract,
    EnclavesContract,
):
    @pytest.fixture
    async def opener(self, tmp_path, migrated):
        path = Path(shutil.copy2(migrated, tmp_path))
        opened = []

        async def open_again():
            opened.append(await open_sqlite(path))
            return opened[-1]

        yield open_again
        for storage in opened:
            await storage.close()

    @pytest.fixture
    async def storage(self, opener):
        return await opener()

    async def test_nobody_else_can_read_the_files(self, storage, tmp_path):
        async with storage.transaction(write=True):
            files = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        assert files["kms.db"] == 0o600
        assert set(files.values()) == {0o600}

    async def test_every_commit_is_on_disk_before_it_is_acknowledged(self, storage):
        async with storage._session(None, write=False) as session:
            assert (await session.raw("PRAGMA journal_mode"))[0][0] == "wal"
            assert (await session.raw("PRAGMA synchronous"))[0][0] == 2  # FULL
            assert (await session.raw("PRAGMA foreign_keys"))[0][0] == 1
