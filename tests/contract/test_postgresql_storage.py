import asyncio
import signal
import sys

import psycopg
import pytest

from kms.core.errors import StorageUnavailable
from kms.core.ports import Counter
from storage.postgresql import open_postgresql
from tests.contract.storage import PATIENCE, StorageContract, with_kek
from tests.contract.storage_records import RecordsContract

HOLD = """
import asyncio, sys
from storage.postgresql import open_postgresql

async def main():
    storage = await open_postgresql(sys.argv[1])
    async with storage.exclusive("kek"):
        print("held", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

RESERVE = """
import asyncio, sys, uuid
from kms.core.ports import Counter
from storage.postgresql import open_postgresql

async def main():
    storage = await open_postgresql(sys.argv[1])
    counter = Counter(uuid.UUID(sys.argv[2]), uuid.UUID(sys.argv[3]), 1)
    print("ready", flush=True)
    sys.stdin.readline()
    blocks = 0
    while await storage.reserve(counter, 7, 1000):
        blocks += 1
    print(blocks, flush=True)
    await storage.close()

asyncio.run(main())
"""


async def process(script, *arguments):
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


@pytest.mark.postgresql
class TestPostgresqlStorage(StorageContract, RecordsContract):
    @pytest.fixture
    async def opener(self, postgresql_url):
        opened = []

        async def open_again():
            opened.append(await open_postgresql(postgresql_url, pool_size=4))
            return opened[-1]

        yield open_again
        for storage in opened:
            await storage.close()

    @pytest.fixture
    async def storage(self, opener):
        return await opener()

    async def test_a_named_lock_excludes_another_node(self, storage, opener):
        other = await opener()
        entered = asyncio.Event()

        async def enter() -> None:
            async with other.exclusive("kek"):
                entered.set()

        async with storage.exclusive("kek"):
            waiting = asyncio.create_task(enter())
            async with other.exclusive("something else"):
                pass  # the other node is alive, and has asked for the lock meanwhile
            assert not entered.is_set()
        async with asyncio.timeout(PATIENCE):
            await waiting
        assert entered.is_set()

    async def test_a_named_lock_is_not_waited_for_without_end(self, storage, opener, monkeypatch):
        monkeypatch.setattr("storage.postgresql.EXCLUSIVE_WAIT", 0.2)
        other = await opener()
        async with storage.exclusive("kek"):
            with pytest.raises(StorageUnavailable, match="the lock kek was not free in time"):
                async with other.exclusive("kek"):
                    pytest.fail("two nodes hold one lock")

    async def test_a_killed_holder_releases_the_named_lock(self, storage, postgresql_url):
        holder = await process(HOLD, postgresql_url)
        async with asyncio.timeout(PATIENCE):
            assert await holder.stdout.readline() == b"held\n"
        session = storage.exclusive("kek")
        entering = asyncio.create_task(session.__aenter__())
        done, _ = await asyncio.wait({entering}, timeout=0.3)
        assert not done
        holder.send_signal(signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            await entering
            await holder.wait()
        await session.__aexit__(None, None, None)
        holder._transport.close()

    async def test_two_processes_never_pass_a_counters_limit(self, storage, postgresql_url):
        tenant, _ = await with_kek(storage)
        reservers = [await process(RESERVE, postgresql_url, str(tenant.uid), str(tenant.kek)) for _ in range(2)]
        async with asyncio.timeout(PATIENCE):
            for reserver in reservers:
                assert await reserver.stdout.readline() == b"ready\n"
            for reserver in reservers:
                reserver.stdin.write(b"go\n")
            blocks = [int((await reserver.communicate())[0]) for reserver in reservers]
        assert sum(blocks) == 1000 // 7
        assert await storage.reserved([Counter(tenant.uid, tenant.kek, 1)]) == [994]

    async def test_the_tenant_is_told_for_one_transaction_only(self, storage):
        asked = "SELECT coalesce(current_setting('app.current_tenant_id', true), '')"
        tenant, _ = await with_kek(storage)
        async with storage._session(tenant.uid, write=False) as session:
            assert (await session.raw(asked))[0][0] == str(tenant.uid)
        with pytest.raises(ZeroDivisionError):
            async with storage._session(tenant.uid, write=True) as session:
                raise ZeroDivisionError
        for _ in range(8):
            async with storage._session(None, write=False) as session:
                assert (await session.raw(asked))[0][0] == ""

    async def test_a_commit_waits_for_the_disk_whatever_the_servers_default(self, storage, postgresql_url):
        with psycopg.connect(postgresql_url) as connection:
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = off")
        again = await open_postgresql(postgresql_url)
        asked = "SELECT current_setting('synchronous_commit')"
        async with again._session(None, write=False) as session:
            assert (await session.raw(asked))[0][0] == "off"
        async with again._session(None, write=True) as session:
            assert (await session.raw(asked))[0][0] == "on"
        await again.close()

    async def test_a_slow_statement_ends_in_time_and_the_connection_stays_good(self, storage):
        async with storage._session(None, write=False) as session:
            backend = (await session.raw("SELECT pg_backend_pid()"))[0][0]
        with pytest.raises(StorageUnavailable, match="did not finish in time"):
            async with storage._session(None, write=False) as session:
                await session.raw("SELECT pg_sleep(5)")
        async with storage._session(None, write=False) as session:
            assert (await session.raw("SELECT pg_backend_pid()"))[0][0] == backend
