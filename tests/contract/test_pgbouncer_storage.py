"""The contract once more with a pooler in front of PostgreSQL that hands each transaction to another connection."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from tests.contract.storage import PATIENCE, StorageContract, with_kek
from tests.contract.storage_access import AccessContract
from tests.contract.storage_approvals import ApprovalsContract
from tests.contract.storage_enclaves import EnclavesContract
from tests.contract.storage_events import EventsContract
from tests.contract.storage_records import RecordsContract
from tests.contract.storage_sharing import SharingContract
from tests.contract.storage_tokens import TokensContract
from tests.contract.test_postgresql_storage import TOLD
from tests.sealing import open_postgresql

MISSING = "PgBouncer is not installed (Debian: apt-get install pgbouncer)"
DEADLINE = 15.0
PRINCIPAL = "tenants/acme/principals/app"

CONFIGURATION = """
[databases]
* = host={server} user={user}

[pgbouncer]
pool_mode = transaction
default_pool_size = 3
listen_addr =
listen_port = 6543
unix_socket_dir = {directory}
auth_type = any
logfile = {directory}/log
"""


@pytest.fixture(scope="module")
def pgbouncer(own_postgresql_server, daemon_user):
    """A pooler in transaction mode with three connections to the server."""
    binary = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        pytest.skip(MISSING)
    directory = Path(tempfile.mkdtemp(prefix="kms-pb-", dir="/tmp"))
    (directory / "ini").write_text(
        CONFIGURATION.format(server=own_postgresql_server.directory, user=daemon_user.name, directory=directory)
    )
    (directory / "ini").chmod(0o644)  # whatever the umask is: another user reads it
    directory.chmod(0o777)
    process = subprocess.Popen(
        [binary, "-q", directory / "ini"], stderr=subprocess.DEVNULL, user=own_postgresql_server.user
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while not (directory / ".s.PGSQL.6543").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        yield f"postgresql://postgres@/{{}}?host={directory}&port=6543"
    finally:
        process.terminate()
        process.wait(DEADLINE)
        shutil.rmtree(directory)


@pytest.mark.postgresql
class TestPgbouncerStorage(
    StorageContract,
    RecordsContract,
    AccessContract,
    SharingContract,
    TokensContract,
    ApprovalsContract,
    EventsContract,
    EnclavesContract,
):
    @pytest.fixture
    async def opener(self, pgbouncer, postgresql_url):
        with psycopg.connect(postgresql_url) as connection:
            url = pgbouncer.format(connection.info.dbname)
        opened = []

        async def open_again():
            opened.append(await open_postgresql(url, pool_size=4, acting=lambda: PRINCIPAL, organization="kms.local"))
            return opened[-1]

        yield open_again
        for storage in opened:
            await storage.close()

    @pytest.fixture
    async def storage(self, opener):
        return await opener()

    async def test_waiting_for_changes_ends_in_time_and_disturbs_nobody(self, storage, opener):
        """A pooler keeps no connection for one client: signals may be lost, or wake somebody who need not look."""
        tenant, _ = await with_kek(storage)
        other = await opener()
        async with other.changes() as signal:
            for number in range(1, 4):
                waiting = asyncio.create_task(signal.wait(0.3))
                async with storage.transaction(tenant.uid, write=True) as work:
                    await work.epochs.revoked(tenant.uid)
                async with asyncio.timeout(PATIENCE):
                    await waiting
                assert (await other.epochs())[0] == number

    async def test_what_is_told_for_one_transaction_does_not_reach_other_clients(self, storage, opener, daemon_user):
        other = await opener()
        asked = f"{TOLD}, current_setting('statement_timeout')"
        told = (PRINCIPAL, "kms.local", "1500ms")
        for number in range(12):
            tenant, _ = await with_kek(storage)
            async with storage._session(tenant.uid, write=bool(number % 2)) as session:
                assert tuple((await session.raw(asked))[0]) == ("kms_app", str(tenant.uid), *told)
            async with other._session(None, write=False) as session:
                assert tuple((await session.raw(asked))[0]) == ("kms_sweeper", "", *told)
        async with other._line.engine.connect() as connection:
            # Outside any transaction of ours: what a stranger behind the same pooler would get.
            await connection.execution_options(kms_begin="BEGIN")
            assert (await connection.exec_driver_sql(asked)).one() == (daemon_user.name, "", "", "", "0")

    async def test_what_a_stranger_left_in_the_poolers_connections_does_not_count(self, storage, opener):
        tenant, _ = await with_kek(storage)
        other = await opener()
        async with storage._line.engine.connect() as connection:
            await connection.execution_options(kms_begin="BEGIN")
            for name in ("tenant", "user", "organization"):
                # For the session, which is what nobody behind a pooler should do.
                await connection.exec_driver_sql(f"SELECT set_config('app.current_{name}_id', '{tenant.uid}', false)")
            await connection.commit()
        for _ in range(6):
            async with other._session(None, write=False) as session:
                assert tuple((await session.raw(TOLD))[0]) == ("kms_sweeper", "", PRINCIPAL, "kms.local")
