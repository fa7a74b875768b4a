import asyncio
import signal
import sys
from contextvars import ContextVar
from datetime import timedelta

import psycopg
import pytest

from kms.core.errors import StorageUnavailable
from kms.core.ports import Counter
from tests.contract.storage import PATIENCE, StorageContract, with_kek
from tests.contract.storage_access import AccessContract
from tests.contract.storage_approvals import ApprovalsContract
from tests.contract.storage_enclaves import EnclavesContract
from tests.contract.storage_events import EventsContract
from tests.contract.storage_records import RecordsContract
from tests.contract.storage_sharing import HELD, NODE, OTHER, SECOND, SharingContract, uids, with_due_keys
from tests.contract.storage_tokens import TokensContract
from tests.keyrings import NOW
from tests.sealing import open_postgresql

HOLD = """
import asyncio, sys
from tests.sealing import open_postgresql

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
from tests.sealing import open_postgresql

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

CLAIM = """
import asyncio, sys, uuid
from datetime import datetime, timedelta
from tests.sealing import open_postgresql

async def main():
    storage = await open_postgresql(sys.argv[1])
    now = datetime.fromisoformat(sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    node = uuid.uuid4()
    while claimed := await storage.claim_keys(node, now, now + timedelta(minutes=1), 5):
        print(*(key.uid for _, key in claimed), flush=True)
    print("done", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


TOLD = "SELECT current_user::text, " + ", ".join(
    f"coalesce(current_setting('app.current_{name}_id', true), '')" for name in ("tenant", "user", "organization")
)

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


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
class TestPostgresqlStorage(
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
    async def opener(self, daemon_url):
        opened = []

        async def open_again():
            opened.append(await open_postgresql(daemon_url, pool_size=4))
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

    async def test_two_processes_share_what_is_due_and_a_killed_ones_share_is_free_in_time(
        self, storage, postgresql_url
    ):
        tenant, _ = await with_kek(storage)
        keys = await with_due_keys(storage, tenant, *[NOW] * 200)
        claimers = [await process(CLAIM, postgresql_url, NOW.isoformat()) for _ in range(2)]
        shares: list[set[str]] = []
        async with asyncio.timeout(PATIENCE):
            for claimer in claimers:
                assert await claimer.stdout.readline() == b"ready\n"
            for claimer in claimers:
                claimer.stdin.write(b"go\n")
            for claimer in claimers:
                shares.append(set())
                while (line := await claimer.stdout.readline()) != b"done\n":
                    shares[-1].update(line.decode().split())
            for claimer in claimers:
                claimer.kill()
                await claimer.wait()
                claimer._transport.close()
        assert not shares[0] & shares[1]
        assert shares[0] | shares[1] == {str(key.uid) for key in keys}
        over = NOW + timedelta(minutes=1)
        assert await storage.claim_keys(OTHER, over - timedelta(microseconds=1), over, 1000) == []
        assert len(await storage.claim_keys(OTHER, over, over + timedelta(minutes=1), 1000)) == 200

    async def test_a_claim_does_not_wait_for_keys_that_somebody_is_changing(self, storage, opener):
        tenant, _ = await with_kek(storage)
        busy, free = await with_due_keys(storage, tenant, NOW - SECOND, NOW)
        other = await opener()
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.keys.replace(busy)
            assert uids(await other.claim_keys(NODE, NOW, HELD, 10)) == [free.uid]
        assert uids(await other.claim_keys(NODE, NOW, HELD, 10)) == [busy.uid]

    async def test_of_two_that_have_found_the_same_key_free_one_gets_it(self, storage, postgresql_url):
        tenant, _ = await with_kek(storage)
        [key, other] = await with_due_keys(storage, tenant, NOW, NOW)
        claim = "INSERT INTO security_internal.claims VALUES (%s, %s, %s, %s)"
        with psycopg.connect(postgresql_url) as first, psycopg.connect(postgresql_url, autocommit=True) as watching:
            first.execute(claim, (tenant.uid, key.uid, OTHER, HELD))
            second = asyncio.create_task(storage.claim_keys(NODE, NOW, HELD, 10))
            async with asyncio.timeout(PATIENCE):
                while not watching.execute(WAITING).fetchone()[0]:  # noqa: ASYNC110  a server has no event
                    await asyncio.sleep(0.01)
            first.commit()
            assert uids(await second) == [other.uid]

    async def test_a_revocation_wakes_whoever_waits_for_changes_and_other_changes_do_not(self, storage, opener):
        tenant, _ = await with_kek(storage)
        other = await opener()
        async with other.changes() as signal:
            await signal.wait(PATIENCE)  # listens now
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.epochs.changed(tenant.uid)
            waiting = asyncio.create_task(signal.wait(4 * PATIENCE))
            done, _ = await asyncio.wait({waiting}, timeout=0.2)
            assert not done
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.epochs.revoked(tenant.uid)
                done, _ = await asyncio.wait({waiting}, timeout=0.2)
                assert not done  # not before the commit
            async with asyncio.timeout(PATIENCE):
                await waiting
            # What comes while nobody waits is not missed either.
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.epochs.revoked(tenant.uid)
            async with asyncio.timeout(PATIENCE):
                await signal.wait(4 * PATIENCE)
            assert (await other.epochs())[0] == 2

    async def test_a_lost_connection_for_changes_is_made_again_and_none_is_left_at_the_end(
        self, storage, opener, postgresql_url
    ):
        tenant, _ = await with_kek(storage)
        other = await opener()
        listening = "pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        with psycopg.connect(postgresql_url, autocommit=True) as connection:
            async with other.changes() as signal:
                await signal.wait(PATIENCE)
                waiting = asyncio.create_task(signal.wait(0.5))
                await asyncio.sleep(0)
                assert connection.execute(f"SELECT pg_terminate_backend(pid), {listening}").fetchall()
                async with asyncio.timeout(PATIENCE):
                    await waiting
                    await signal.wait(4 * PATIENCE)  # made again: it looks at once
                    waiting = asyncio.create_task(signal.wait(4 * PATIENCE))
                    async with storage.transaction(tenant.uid, write=True) as work:
                        await work.epochs.revoked(tenant.uid)
                    await waiting
                assert len(connection.execute(f"SELECT {listening}").fetchall()) == 1
            async with asyncio.timeout(PATIENCE):
                while connection.execute(f"SELECT {listening}").fetchall():  # noqa: ASYNC110  a server has no event
                    await asyncio.sleep(0.02)
        assert not other._line.tasks.running

    async def test_what_is_told_holds_for_one_transaction_only(self, storage, daemon_url, daemon_user):
        who = ContextVar("who", default="")
        storage = await open_postgresql(daemon_url, pool_size=2, acting=who.get, organization="kms.local")
        tenant, _ = await with_kek(storage)
        who.set("tenants/acme/principals/app")
        for _ in range(2):
            async with storage._session(tenant.uid, write=False) as session:
                [told] = await session.raw(TOLD)
                assert tuple(told) == ("kms_app", str(tenant.uid), "tenants/acme/principals/app", "kms.local")
        with pytest.raises(ZeroDivisionError):
            async with storage._session(tenant.uid, write=True) as session:
                raise ZeroDivisionError
        who.set("")
        for _ in range(8):
            async with storage._session(None, write=False) as session:
                assert tuple((await session.raw(TOLD))[0]) == ("kms_sweeper", "", "", "kms.local")
        async with storage._line.engine.connect() as connection:
            # Outside any transaction of ours: nothing is left in the connection.
            await connection.execution_options(kms_begin="BEGIN")
            assert (await connection.exec_driver_sql(TOLD)).one() == (daemon_user.name, "", "", "")
        await storage.close()

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
