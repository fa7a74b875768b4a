"""Leases over PostgreSQL: several nodes on one database, one of them behind a line that breaks or falls silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest

from kms.clock import boottime
from kms.core.errors import StorageUnavailable, WrongKeyState
from kms.core.lifecycle import KeyEvent
from kms.core.names import KeyName, Principal
from kms.core.propagation import StopState
from kms.core.suites import Purpose, Suite
from kms.services.keys import NewKey
from kms.services.membership import Membership
from storage.postgresql import PostgresqlDatabase
from storage.session import BOUND
from tests.node import DEADLINE, Node, now
from tests.sealing import open_postgresql
from tests.tcp_proxy import TcpProxy, proxied

pytestmark = [pytest.mark.postgresql, pytest.mark.softhsm]

PAIRS = (("table", b"users"),)
PATIENCE = 30.0


@pytest.fixture
async def storage(postgresql_url) -> AsyncIterator[PostgresqlDatabase]:
    opened = await open_postgresql(postgresql_url, bound=BOUND)
    yield opened
    await opened.close()


@pytest.fixture
async def nodes(storage, open_vault) -> list[Node]:
    """Three nodes on one database, each with a clock that the test sets."""
    made = [Node(storage, open_vault) for _ in range(3)]
    for number, node in enumerate(made):
        node.membership.name = f"node {number}"
        await node.membership.look()
    return made


@pytest.fixture
async def acme(nodes) -> Principal:
    return await nodes[0].tenant("acme")


@pytest.fixture
async def name(nodes, acme) -> KeyName:
    return await nodes[0].key(acme, "payroll")


async def revoke(node: Node, caller: Principal, name: KeyName) -> int:
    """Commit a revocation, as another node would; returns its epoch."""
    ring = await node.ring(caller, name)
    async with node.storage.transaction(ring.tenant.uid, write=True) as work:
        await work.keys.replace(ring.key.after(KeyEvent.REVOKE, now(), "lost"))
        return await work.epochs.revoked(ring.tenant.uid)


async def test_each_node_stops_when_it_hears_or_when_its_lease_is_over(nodes, acme, name):
    text = (await nodes[0].fields.encrypt(acme, name, b"x", PAIRS)).ciphertext
    for node in nodes:
        assert (await node.fields.decrypt(acme, name, text, PAIRS)).plaintext == b"x"
    revoker, hearing, deaf = nodes
    epoch = await revoke(revoker, acme, name)
    revoker.membership.drop((await revoker.ring(acme, name)).tenant.uid)
    committed = now()
    with pytest.raises(WrongKeyState):
        await revoker.fields.decrypt(acme, name, text, PAIRS)
    # Who has not heard goes on, by its lease; this is what the deadline is for.
    assert (await hearing.fields.decrypt(acme, name, text, PAIRS)).plaintext == b"x"
    await hearing.membership.look()
    with pytest.raises(WrongKeyState):
        await hearing.fields.decrypt(acme, name, text, PAIRS)
    found = await revoker.membership.propagation(epoch, committed, wait=False)
    assert {stop.name: stop.state for stop in found.nodes} == {
        "node 0": StopState.ACKNOWLEDGED,
        "node 1": StopState.ACKNOWLEDGED,
        "node 2": StopState.WAITING,
    }
    deaf.clock.now += 4.4
    assert (await deaf.fields.decrypt(acme, name, text, PAIRS)).plaintext == b"x"
    deaf.clock.now += 0.1
    with pytest.raises(StorageUnavailable):
        await deaf.fields.decrypt(acme, name, text, PAIRS)
    waiting = asyncio.create_task(revoker.membership.propagation(epoch, committed, wait=True))
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    revoker.clock.now += DEADLINE.total_seconds()
    found = await asyncio.wait_for(waiting, PATIENCE)
    assert (found.complete, found.last_stop) == (True, DEADLINE)
    await deaf.membership.look()
    with pytest.raises(WrongKeyState):
        await deaf.fields.decrypt(acme, name, text, PAIRS)
    await revoker.membership.look()
    assert {node.acknowledged for node in await revoker.storage.nodes()} == {epoch}


async def test_each_node_lends_for_as_long_as_it_may_go_on_itself_and_the_last_ends_with_the_deadline(nodes, acme):
    lent = KeyName("acme", "lent")
    wish = NewKey("lent", "", Purpose.ENCRYPT, Suite.XAES_256_GCM, {}, leasable=True)
    await nodes[0].keys.create(acme, lent.parent, wish)
    made = await asyncio.gather(*(node.leases.lease(acme, lent, 0) for node in nodes))  # all mark the same version
    assert len({one.key for one in made}) == 1
    assert {one.lease.total_seconds() for one in made} == {4.5}
    [version] = (await nodes[0].keys.list_versions(acme, lent, 0, 9))[1]
    assert version.version.exposed_at is not None
    assert version.version.revision == 2  # the first of them wrote, and nobody else

    revoker, hearing, deaf = nodes
    for node in nodes:
        node.clock.now += 1
    await revoker.membership.look()
    await hearing.membership.look()
    await revoke(revoker, acme, lent)
    committed = deaf.clock.now
    await hearing.membership.look()
    with pytest.raises(WrongKeyState):
        await hearing.leases.lease(acme, lent, 0)
    for later in (0.0, 2.0, 3.4):
        deaf.clock.now = committed + later
        made = await deaf.leases.lease(acme, lent, 0)
        assert deaf.clock.now + made.lease.total_seconds() == pytest.approx(committed + 3.5)
        assert deaf.clock.now + made.lease.total_seconds() <= committed + DEADLINE.total_seconds()
    deaf.clock.now = committed + 3.5
    with pytest.raises(StorageUnavailable):
        await deaf.leases.lease(acme, lent, 0)
    await deaf.membership.look()
    with pytest.raises(WrongKeyState):
        await deaf.leases.lease(acme, lent, 0)


async def test_a_quiet_connection_for_signals_is_kept_and_wakes_who_waits(storage, postgresql_url, nodes, acme, name):
    listening = (
        "SELECT count(*), min(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        async with storage.changes() as signal:
            await asyncio.wait_for(signal.wait(PATIENCE), PATIENCE / 2)  # returns at once when it has been made
            kept = connection.execute(listening).fetchone()
            assert kept is not None
            assert kept[0] == 1
            started = time.monotonic()
            for _ in range(3):
                await signal.wait(0.05)
            assert time.monotonic() - started >= 0.15
            assert connection.execute(listening).fetchone() == kept
            waiting = asyncio.create_task(signal.wait(PATIENCE))
            await revoke(nodes[0], acme, name)
            await asyncio.wait_for(waiting, PATIENCE / 2)


class Real:
    """A node on the system's clocks, whose loop runs."""

    def __init__(self, storage: PostgresqlDatabase, vault: object, deadline: timedelta) -> None:
        self.node = Node(storage, vault, boottime)  # type: ignore[arg-type]
        self.node.membership = Membership(storage, self.node.keyrings, deadline, "real", now, boottime)
        self._task = asyncio.create_task(self.node.membership.run())

    async def until_valid(self, *, valid: bool) -> float:
        """Wait until it has a lease, or none; returns how long that took."""
        started = boottime()
        async with asyncio.timeout(PATIENCE):
            while self.node.membership.valid() is not valid:  # noqa: ASYNC110  a lease ends without a sound
                await asyncio.sleep(0.005)
        return boottime() - started

    async def until_renewed(self, seconds: float) -> None:
        """Wait until its lease lasts so long: a look that hung in the silence brings one that is nearly over."""
        async with asyncio.timeout(PATIENCE):
            while self.node.membership.remaining() < seconds:  # noqa: ASYNC110  a lease is renewed without a sound
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@pytest.fixture
def proxy(postgresql_url):
    with proxied(postgresql_url) as made:
        yield made


@pytest.mark.parametrize("how", ["cut", "freeze"])
async def test_a_node_whose_line_breaks_or_falls_silent_stops_and_comes_back(
    proxy: TcpProxy, open_vault, nodes, acme, name, how
):
    """The other node's revocation comes while it cannot hear, and is the first thing that it hears afterwards."""
    deadline = timedelta(seconds=2)
    other = await nodes[0].key(acme, "other")
    texts = {key: (await nodes[0].fields.encrypt(acme, key, b"x", PAIRS)).ciphertext for key in (name, other)}
    storage = await open_postgresql(proxy.url, bound=BOUND)
    real = Real(storage, open_vault, deadline)
    try:
        await real.until_valid(valid=True)
        for key, text in texts.items():
            assert (await real.node.fields.decrypt(acme, key, text, PAIRS)).plaintext == b"x"
        getattr(proxy, how)()
        cut_off = boottime()
        await revoke(nodes[0], acme, name)
        await real.until_valid(valid=False)
        stopped = boottime()
        # The lease itself is looked at: this test may be late to see that it is over.
        assert real.node.keyrings.lease.ends - cut_off <= deadline.total_seconds()
        for key, text in texts.items():
            with pytest.raises(StorageUnavailable):
                await real.node.fields.decrypt(acme, key, text, PAIRS)
        proxy.heal()
        back = await real.until_valid(valid=True)
        print(  # noqa: T201  a measurement
            f"{how}: stopped {stopped - cut_off:.2f} s after the cut, back {back:.2f} s after it was healed"
        )
        await real.until_renewed(deadline.total_seconds() / 2)
        with pytest.raises(WrongKeyState):
            await real.node.fields.decrypt(acme, name, texts[name], PAIRS)
        await real.until_renewed(deadline.total_seconds() / 2)
        assert (await real.node.fields.decrypt(acme, other, texts[other], PAIRS)).plaintext == b"x"
    finally:
        proxy.heal()
        await real.stop()
        await storage.close()
    assert all(node.name != "real" for node in await nodes[0].storage.nodes())


async def test_ten_thousand_tenants_are_looked_at_in_bounded_time(storage, postgresql_url, nodes):
    """All epochs are read at every look; printed, since it is a bound of the design."""
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE security_internal.epochs DROP CONSTRAINT fk_epochs_tenants")
        connection.execute(
            "INSERT INTO security_internal.epochs (tenant_id, changes, revoked)"
            " SELECT gen_random_uuid(), 1, 0 FROM generate_series(1, 10000)"
        )
    node = nodes[0]
    await node.membership.look()
    started = time.perf_counter()
    for _ in range(5):
        await node.membership.look()
    print(f"a look at 10,000 tenants: {(time.perf_counter() - started) / 5 * 1000:.1f} ms")  # noqa: T201  a measurement
    assert len(node.membership._applied) >= 10_000
    assert node.membership.valid()
