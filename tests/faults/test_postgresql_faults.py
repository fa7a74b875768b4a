"""A server that is stopped, restarted or frozen: an answer within the bound, and recovery by itself."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace

import psycopg
import pytest

from kms.core.census import Uses
from kms.core.errors import StorageUnavailable
from kms.core.ports import Counter, HealthStatus, Node
from storage import postgresql
from storage.breaker import PAUSE
from storage.errors import CannotOpen, DatabaseMissing
from storage.migrate import require_current, upgrade
from storage.postgresql import begin
from storage.session import BOUND, GRACE
from tests.contract.storage import with_kek, with_key
from tests.keyrings import NOW, new_count, new_key, new_place
from tests.sealing import SEALER, open_postgresql

pytestmark = pytest.mark.postgresql

IN_TIME = BOUND + GRACE + 1.0  # a busy machine's margin
PATIENCE = 20.0
IDLE = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"


@pytest.fixture
async def storage(unsteady_url, postgresql_server):
    storage = await open_postgresql(unsteady_url, pool_size=3, bound=BOUND)
    yield storage
    if postgresql_server.process is not None:
        postgresql_server.thaw()
    await storage.close()


async def refused_in_time(call):
    started = time.monotonic()
    with pytest.raises(StorageUnavailable) as refusal:
        await call
    elapsed = time.monotonic() - started
    assert elapsed < IN_TIME
    return str(refusal.value), elapsed


async def recovered(storage):
    async with asyncio.timeout(PATIENCE):
        while (await storage.health()).status is not HealthStatus.HEALTHY:  # noqa: ASYNC110  a server has no event
            await asyncio.sleep(0.05)
        while storage._line.tasks.running:
            await asyncio.wait(storage._line.tasks.running)
    assert storage._line.engine.pool.checkedout() == 0
    assert storage._slots._value == storage._transactions


async def in_transaction(storage, do, then=None, *, tenant=None, write=True):
    async with storage.transaction(tenant and tenant.uid, write=write) as work:
        await work.tenants.get("nobody")
        do()
        if then is not None:
            await then(work)


async def test_a_stopped_server_is_told_at_once_and_found_again(storage, postgresql_server):
    tenant, _ = await with_kek(storage)
    postgresql_server.stop()
    _, elapsed = await refused_in_time(storage.check())
    assert elapsed < 1.0
    await refused_in_time(storage.reserve(Counter(tenant.uid, tenant.kek, 1), 1, None))

    async def lock():
        async with storage.exclusive("kek"):
            pytest.fail("a lock without a server")

    await refused_in_time(lock())
    postgresql_server.start()
    await recovered(storage)
    async with storage.transaction() as work:
        assert await work.tenants.get(tenant.slug) == tenant


async def test_a_restart_between_transactions_is_not_noticed(storage, postgresql_server):
    tenant, _ = await with_kek(storage)
    postgresql_server.stop()
    postgresql_server.start()
    async with storage.transaction() as work:
        assert await work.tenants.get(tenant.slug) == tenant


async def test_a_restart_inside_a_transaction_undoes_it(storage, postgresql_server):
    tenant, _ = await with_kek(storage)

    def restart():
        postgresql_server.stop()
        postgresql_server.start()

    async def change(work):
        await work.keys.add(new_key(tenant, "lost"))

    with pytest.raises(StorageUnavailable):
        await in_transaction(storage, restart, change, tenant=tenant)
    with pytest.raises(StorageUnavailable):
        await in_transaction(storage, restart)  # found out by the commit
    await recovered(storage)
    async with storage.transaction(tenant.uid) as work:
        assert await work.keys.get(tenant.uid, "lost") is None


async def test_a_frozen_server_is_given_up_in_time_then_refused_at_once_then_found_again(storage, postgresql_server):
    tenant, _ = await with_kek(storage)
    postgresql_server.freeze()
    message, _ = await refused_in_time(storage.check())
    assert message == "the database did not answer in time"
    message, elapsed = await refused_in_time(storage.check())
    assert "did not answer lately" in message
    assert elapsed < 0.1
    health = await storage.health()
    assert (health.status, health.reason) == (HealthStatus.UNHEALTHY, message)
    await asyncio.sleep(PAUSE)  # the breaker's own clock
    await refused_in_time(storage.check())  # a new connection, to a server that accepts it and says nothing
    postgresql_server.thaw()
    await recovered(storage)
    async with storage.transaction() as work:
        assert await work.tenants.get(tenant.slug) == tenant


async def test_everybody_who_waits_for_a_frozen_server_is_answered_in_time(storage, postgresql_server):
    tenant, _ = await with_kek(storage)
    counter = Counter(tenant.uid, tenant.kek, 1)
    postgresql_server.freeze()
    calls = [storage.check() if number % 2 else storage.reserve(counter, 1, None) for number in range(40)]
    started = time.monotonic()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - started < IN_TIME
    assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}
    postgresql_server.thaw()
    await recovered(storage)


@pytest.mark.parametrize("step", ["begin", "statement", "commit", "end of exclusive"])
async def test_a_server_that_freezes_at_any_step_is_given_up_in_time(storage, postgresql_server, step):
    storage._line = replace(storage._line, bound=0.5)

    async def statement(work):
        await work.tenants.get("nobody")

    async def exclusive(*, before):
        if before:
            postgresql_server.freeze()
        async with storage.exclusive("kek"):
            postgresql_server.freeze()

    call = {
        "statement": lambda: in_transaction(storage, postgresql_server.freeze, statement),
        "commit": lambda: in_transaction(storage, postgresql_server.freeze),
        "begin": lambda: exclusive(before=True),
        "end of exclusive": lambda: exclusive(before=False),
    }[step]
    message, _ = await refused_in_time(call())
    assert message == "the database did not answer in time"
    # The line was cut: nothing goes on waiting, and the place is free again while the server is still frozen.
    if storage._line.tasks.running:
        await asyncio.wait(storage._line.tasks.running, timeout=1.0)
    assert not storage._line.tasks.running
    assert storage._line.engine.pool.checkedout() == 0
    postgresql_server.thaw()
    await recovered(storage)
    async with asyncio.timeout(PATIENCE), storage.exclusive("kek"):
        assert storage._line.breaker.closed


@pytest.mark.parametrize(
    "call",
    [
        lambda storage, uid: storage.claim_keys(uid, NOW, NOW, 10),
        lambda storage, uid: storage.claim_tenants(uid, NOW, NOW, 10),
        lambda storage, uid: storage.release(uid, [uid]),
        lambda storage, uid: storage.add_uses({Counter(uid, uid, 1): Uses(NOW)}),
        lambda storage, uid: storage.uses([Counter(uid, uid, 1)]),
        lambda storage, uid: storage.join(Node(uid, "node", NOW, NOW, 0)),
        lambda storage, uid: storage.acknowledge(uid, 1, NOW),
        lambda storage, _: storage.epochs(),
        lambda storage, _: storage.nodes(),
        lambda storage, _: storage.last_seen(),
        lambda storage, uid: storage.leave(uid),
    ],
    ids=lambda call: call.__code__.co_names[0],
)
async def test_no_operation_waits_for_a_frozen_server(storage, postgresql_server, call):
    storage._line = replace(storage._line, bound=0.3)
    await storage.check()
    postgresql_server.freeze()
    message, _ = await refused_in_time(call(storage, uuid.uuid4()))
    assert message == "the database did not answer in time"
    postgresql_server.thaw()
    await recovered(storage)


async def test_what_writes_inside_a_transaction_does_not_wait_for_a_frozen_server(storage, postgresql_server):
    storage._line = replace(storage._line, bound=0.3)
    tenant, _ = await with_kek(storage)
    key = await with_key(storage, tenant)

    async def put_counts(work):
        await work.places.put_counts([new_count(new_place(key), number) for number in range(1, 1000)])

    async def revoke(work):
        await work.epochs.revoked(tenant.uid)

    for then in (put_counts, revoke):
        await refused_in_time(in_transaction(storage, postgresql_server.freeze, then, tenant=tenant))
        postgresql_server.thaw()
        await recovered(storage)
    assert await storage.epochs() == (0, {})


@pytest.mark.parametrize("listening", [False, True])
async def test_waiting_for_changes_ends_in_time_on_a_frozen_server(storage, postgresql_server, listening):
    async with storage.changes() as signal:
        if listening:
            await signal.wait(PATIENCE)
        postgresql_server.freeze()
        for _ in range(3):
            started = time.monotonic()
            await signal.wait(0.5)
            assert 0.45 < time.monotonic() - started < IN_TIME
        # Whoever gives up waiting is not held either.
        waiting = asyncio.create_task(signal.wait(PATIENCE))
        await asyncio.sleep(0)
        waiting.cancel()
        started = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert time.monotonic() - started < 1.0
    postgresql_server.thaw()
    await recovered(storage)


async def test_a_signal_that_freezes_while_it_begins_to_listen_comes_back(storage, postgresql_server, monkeypatch):
    tenant, _ = await with_kek(storage)
    connect = storage._connector.apart

    async def connect_and_freeze():
        connection = await connect()
        postgresql_server.freeze()
        return connection

    monkeypatch.setattr(storage._connector, "apart", connect_and_freeze)
    async with storage.changes() as signal:
        started = time.monotonic()
        await signal.wait(0.3)
        assert time.monotonic() - started < 1.0
        async with asyncio.timeout(IN_TIME):
            while storage._line.tasks.running:  # LISTEN is given up in the bound
                await asyncio.wait(storage._line.tasks.running)
        postgresql_server.thaw()
        monkeypatch.undo()
        async with asyncio.timeout(PATIENCE):
            await signal.wait(4 * PATIENCE)  # listens
            waiting = asyncio.create_task(signal.wait(4 * PATIENCE))
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.epochs.revoked(tenant.uid)
            await waiting
    await recovered(storage)


async def test_a_caller_who_leaves_a_frozen_server_is_not_held_and_its_place_comes_back(storage, postgresql_server):
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await in_transaction(storage, postgresql_server.freeze, lambda work: work.tenants.get("nobody"))
    assert time.monotonic() - started < 1.0
    postgresql_server.thaw()
    await recovered(storage)


async def test_closing_a_storage_on_a_frozen_server_ends(unsteady_url, postgresql_server):
    storage = await open_postgresql(unsteady_url, bound=BOUND)
    await storage.check()
    postgresql_server.freeze()
    await refused_in_time(storage.check())
    async with asyncio.timeout(PATIENCE / 2):
        await storage.close()
    postgresql_server.thaw()


async def test_a_frozen_server_is_not_waited_for_at_the_start(unsteady_url, postgresql_server):
    postgresql_server.freeze()
    await refused_in_time(open_postgresql(unsteady_url, bound=BOUND))
    postgresql_server.thaw()
    await (await open_postgresql(unsteady_url, bound=BOUND)).close()


async def test_the_bound_is_the_daemons_where_whoever_opens_a_database_sets_none(unsteady_url, postgresql_server):
    as_daemon = await postgresql.open_postgresql(unsteady_url, sealer=SEALER)
    impatient = await open_postgresql(unsteady_url, bound=0.2)
    postgresql_server.freeze()
    message, elapsed = await refused_in_time(impatient.check())
    postgresql_server.thaw()
    assert (as_daemon._line.bound, message) == (BOUND, "the database did not answer in time")
    assert 0.2 <= elapsed < BOUND
    for opened in (as_daemon, impatient):
        await opened.close()


async def test_a_killed_backend_costs_nobody_an_error(storage, unsteady_url):
    await storage.check()
    with psycopg.connect(unsteady_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await storage.check()
    assert storage._line.breaker.closed


async def test_a_transaction_left_idle_frees_what_it_holds(storage, unsteady_url, monkeypatch):
    short = begin("BEGIN READ WRITE", idle_timeout=100)
    monkeypatch.setattr(storage, "_statement", lambda *_, **__: short)
    with pytest.raises(StorageUnavailable):  # noqa: PT012  the block is the point
        async with storage.transaction() as work:
            await work.tenants.get("nobody")
            with psycopg.connect(unsteady_url, autocommit=True) as connection:
                async with asyncio.timeout(PATIENCE):
                    while connection.execute(IDLE).fetchone() != (0,):  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
    await recovered(storage)


async def test_a_missing_database_is_named(postgresql_databases):
    url = postgresql_databases.url("kms_absent")
    for call in (lambda: require_current(url), lambda: upgrade(url)):
        with pytest.raises(DatabaseMissing, match=r"no database kms_absent on .*; create it"):
            call()
    with pytest.raises(DatabaseMissing, match="no database kms_absent"):
        await open_postgresql(url)


async def test_a_database_without_tables_is_not_used(empty_postgresql_url):
    with pytest.raises(DatabaseMissing, match="empty; run `kmsd migrate`"):
        await open_postgresql(empty_postgresql_url)


async def test_a_database_in_another_encoding_is_refused(postgresql_databases):
    name = f"kms_latin1_{uuid.uuid4().hex}"
    postgresql_databases.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        upgrade(postgresql_databases.url(name))
        with pytest.raises(CannotOpen, match="LATIN1; make one in UTF8"):
            await open_postgresql(postgresql_databases.url(name))
    finally:
        postgresql_databases.drop(name)


async def test_a_server_that_is_not_there_is_named_with_the_reason_but_without_the_password(tmp_path):
    url = f"postgresql://user:geheim@/kms?host={tmp_path}"
    with pytest.raises(
        StorageUnavailable, match=rf"database kms on {tmp_path} cannot be reached: .*No such file"
    ) as gone:
        await open_postgresql(url)
    assert "geheim" not in repr(gone.value)
    with pytest.raises(StorageUnavailable, match="cannot be reached"):
        require_current(url)
