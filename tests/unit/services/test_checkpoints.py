"""Checkpoints over both databases: what they cover, one chain of all nodes, and what they are not made over."""

import asyncio
import os
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from uuid import uuid4

import pytest

from kms.core.anchors import first_anchor
from kms.core.audit_ports import Anchor, Position, TenantRoot
from kms.core.checkpoints import roots_digest
from kms.core.errors import Conflict, CorruptRecord, HsmUnavailable, RolledBack, Unavailable
from kms.core.names import TenantUid
from kms.core.ports import HealthStatus
from kms.crypto.signatures import verifier
from kms.services.checkpoints import Checkpoints, Interval
from kms.sinks.anchor_file import FileAnchors
from tests.keyrings import NOW
from tests.node import Clock, until
from tests.streams import Stream, TestKey, some_hash

pytestmark = pytest.mark.softhsm  # for the daemon's loop


class Token:
    """A signer that can be away."""

    def __init__(self):
        self.key = TestKey()
        self.away = False
        self.signed = 0
        self.held: asyncio.Event | None = None

    async def public_key(self):
        return self.key.public

    async def sign(self, message):
        if self.held is not None:
            await self.held.wait()
        if self.away:
            raise HsmUnavailable("the token is away")
        self.signed += 1
        return self.key.signature(message)


class SomeRoots:
    def __init__(self):
        self.now: list[TenantRoot] = []

    async def roots(self):
        return list(self.now)


@dataclass
class Installation:
    """What nodes over one database and one token share."""

    storage: object
    path: object
    uid: object = field(default_factory=uuid4)
    token: Token = field(default_factory=Token)
    roots: SomeRoots = field(default_factory=SomeRoots)
    secret: bytes = field(default_factory=lambda: os.urandom(32))

    async def key(self, _installation):
        return self.secret

    def node(self, name="host:01234567", **options):
        return Node(self, name, options)


class Node:
    def __init__(self, installation, name, options):
        self.installation = installation
        self.clock = Clock()
        self.stream = Stream(installation.uid, name)
        self.durable = 0
        self.anchors = FileAnchors(installation.path, installation.key, name)
        self.checkpoints = Checkpoints(
            installation.storage,
            installation.token,
            verifier(installation.token.key.public),
            installation.roots,
            self.anchors,
            lambda: self.head,
            installation.uid,
            name,
            lambda: NOW,
            self.clock,
            **options,
        )

    @property
    def head(self):
        if not self.durable:
            return Position(self.stream.uid, 0, bytes(32))
        return Position(self.stream.uid, self.durable, self.stream.hashes[self.durable - 1])

    async def write(self, count=1):
        self.stream.extend(count)
        await self.stream.store(self.installation.storage, self.durable + 1)
        self.durable = len(self.stream.bytes)
        return self.stream.head


@pytest.fixture
def installation(storage, tmp_path):
    return Installation(storage, tmp_path / "anchors")


async def test_a_checkpoint_covers_all_that_is_durable_and_is_anchored(installation, storage):
    node = installation.node()
    installation.roots.now = [TenantRoot(TenantUid(uuid4()), 3, some_hash(1))]
    head = await node.write(3)
    await node.checkpoints.seal()
    found = await storage.newest_checkpoint()
    assert found.checkpoint.heads == (head,)
    assert found.checkpoint.roots == roots_digest(installation.roots.now)
    assert await storage.checkpoint_roots() == installation.roots.now
    assert await node.anchors.newest() == Anchor(installation.uid, 1, found.hash)
    assert (found.serial, found.checkpoint.previous) == (1, bytes(32))


async def test_checkpoints_are_one_chain_of_all_nodes(installation, storage):
    nodes = [installation.node(f"host{n}:01234567") for n in range(3)]
    for _ in range(3):
        for node in nodes:
            await node.write()
        await asyncio.gather(*(node.checkpoints.seal() for node in nodes))
    chain = await storage.checkpoints_after(0, 100)
    assert [each.serial for each in chain] == list(range(1, 10))
    for before, after in pairwise(chain):
        assert after.checkpoint.previous == before.hash
    assert {head.stream for head in chain[-1].checkpoint.heads} == {node.stream.uid for node in nodes}
    assert await nodes[0].anchors.newest() == Anchor(installation.uid, 9, chain[-1].hash)


async def test_calls_at_the_same_time_share_a_checkpoint_and_one_under_way_covers_no_later_calls(installation, storage):
    node = installation.node()
    await node.write()
    installation.token.held = asyncio.Event()
    first = asyncio.create_task(node.checkpoints.seal())
    await asyncio.sleep(0)
    head = await node.write()
    later = [asyncio.create_task(node.checkpoints.seal()) for _ in range(20)]
    await until(lambda: node.checkpoints._waiting is not None)
    installation.token.held.set()
    await asyncio.gather(first, *later)
    chain = await storage.checkpoints_after(0, 100)
    assert len(chain) == 2
    assert chain[1].checkpoint.heads == (head,)


async def test_a_caller_that_goes_away_does_not_end_the_checkpoint_of_the_others(installation, storage):
    node = installation.node()
    await node.write()
    installation.token.held = asyncio.Event()
    first, second = (asyncio.create_task(node.checkpoints.seal()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    installation.token.held.set()
    await second
    assert (await storage.newest_checkpoint()).serial == 1


async def test_streams_stay_until_one_that_succeeds_them_has_been_covered(installation, storage):
    old = installation.node()
    await old.write(2)
    await old.checkpoints.seal()
    fresh = installation.node()
    fresh.stream = Stream(installation.uid, after=old.stream)
    await old.write()  # the last event of the old one, after its last checkpoint
    fresh.stream = Stream(installation.uid, after=old.stream)
    await fresh.write()
    await fresh.checkpoints.seal()
    assert set((await storage.newest_checkpoint()).checkpoint.heads) == {old.stream.head, fresh.stream.head}
    await fresh.write()
    await fresh.checkpoints.seal()
    assert (await storage.newest_checkpoint()).checkpoint.heads == (fresh.stream.head,)


async def test_roots_are_those_of_the_newest_checkpoint_alone(installation, storage):
    node = installation.node()
    tenants = [TenantRoot(TenantUid(uuid4()), 1, some_hash(n)) for n in range(3)]
    for roots in (tenants, [replace(tenants[0], epoch=2, root=some_hash(9)), tenants[1]], []):
        installation.roots.now = roots
        await node.write()
        await node.checkpoints.seal()
        assert {root.tenant: root for root in await storage.checkpoint_roots()} == {root.tenant: root for root in roots}
        assert (await storage.newest_checkpoint()).checkpoint.roots == roots_digest(roots)


async def test_a_token_that_is_away_puts_them_off_and_health_says_since_when(installation, storage):
    node = installation.node()
    await node.write()
    installation.token.away = True
    with pytest.raises(HsmUnavailable):
        await node.checkpoints.seal()
    health = await node.checkpoints.health()
    assert health.status is HealthStatus.DEGRADED
    assert NOW.isoformat(timespec="seconds") in health.reason
    assert await storage.newest_checkpoint() is None
    node.clock.now += 42
    assert node.checkpoints.anchor_age == 42
    installation.token.away = False
    await node.checkpoints.seal()
    assert (await node.checkpoints.health()).status is HealthStatus.HEALTHY
    assert node.checkpoints.anchor_age == 0
    assert (node.checkpoints.made, node.checkpoints.failures) == (1, 1)


async def test_an_anchor_that_cannot_be_written_fails_the_call_and_the_next_one_anchors(installation, storage):
    node = installation.node()
    await node.write()
    installation.path.mkdir()
    with pytest.raises(Unavailable):
        await node.checkpoints.seal()
    installation.path.rmdir()
    await node.checkpoints.seal()
    newest = await storage.newest_checkpoint()
    assert await node.anchors.newest() == Anchor(installation.uid, newest.serial, newest.hash)
    assert newest.serial == 2


async def test_nothing_is_sealed_over_events_that_are_gone(installation):
    node = installation.node()
    await node.write(2)
    await node.checkpoints.seal()
    node.stream.extend(2)
    node.durable += 2  # acknowledged, and removed again
    with pytest.raises(CorruptRecord, match="gone or altered"):
        await node.checkpoints.seal()
    assert (await node.checkpoints.health()).status is HealthStatus.UNHEALTHY


async def test_nothing_is_sealed_over_another_last_event(installation):
    node = installation.node()
    await node.write(2)
    node.stream.hashes[node.durable - 1] = some_hash(1)
    with pytest.raises(CorruptRecord, match="gone or altered"):
        await node.checkpoints.seal()


async def test_a_database_that_goes_back_under_a_running_daemon_is_refused(installation, storage):
    node = installation.node()
    await node.write()
    await node.checkpoints.seal()
    await node.write()
    node.checkpoints._known = replace(
        node.checkpoints._known, checkpoint=replace(node.checkpoints._known.checkpoint, serial=2)
    )
    with pytest.raises(RolledBack, match="newest checkpoint in the database is 1, and 2 was there"):
        await node.checkpoints.seal()
    assert (await storage.newest_checkpoint()).serial == 1


async def test_a_checkpoint_of_another_key_is_not_gone_on_from(installation, storage):
    node = installation.node()
    head = await node.write()
    await storage.add_checkpoint(TestKey().checkpoint(installation.uid, [head]), 0, [])
    with pytest.raises(RolledBack, match="has not signed"):
        await node.checkpoints.seal()


async def test_of_two_checkpoints_with_one_serial_one_is_stored(installation, storage):
    key = installation.token.key
    await storage.add_checkpoint(key.checkpoint(installation.uid, []), 0, [])
    for before in (0, 2):
        with pytest.raises(Conflict):
            await storage.add_checkpoint(key.checkpoint(installation.uid, [], serial=before + 1), before, [])
    assert [each.serial for each in await storage.checkpoints_after(0, 10)] == [1]


async def test_one_is_made_after_so_many_events_or_so_much_time_and_never_without_something_new(installation, storage):
    node = installation.node(interval=Interval(timedelta(seconds=0.01), 5))
    node.clock.now = 0.0
    running = asyncio.create_task(node.checkpoints.run())
    try:
        await asyncio.sleep(0.05)
        assert await storage.newest_checkpoint() is None
        await node.write(4)  # five events with the first
        await until(lambda: node.checkpoints.made == 1)
        await node.write(1)
        await asyncio.sleep(0.05)
        assert node.checkpoints.made == 1
        node.clock.now = 11.0
        await until(lambda: node.checkpoints.made == 2)
    finally:
        running.cancel()


@pytest.mark.parametrize("cut", [b"", b'{"hash"'])
async def test_the_anchor_file_is_only_added_to_also_after_a_line_that_was_cut_off(installation, cut):
    anchors = installation.node().anchors
    assert await anchors.newest() is None
    await anchors.put(first_anchor(installation.uid))
    with installation.path.open("ab") as file:
        file.write(cut)
    before = installation.path.read_bytes()
    assert await anchors.newest() == first_anchor(installation.uid)
    await anchors.put(Anchor(installation.uid, 1, some_hash(1)))
    assert installation.path.read_bytes().startswith(before)
    assert await anchors.newest() == Anchor(installation.uid, 1, some_hash(1))


async def test_lines_of_the_anchor_file_under_another_key_do_not_count(installation):
    node = installation.node()
    await node.anchors.put(Anchor(installation.uid, 1, some_hash(1)))
    other = replace(installation, secret=os.urandom(32)).node()
    await other.anchors.put(Anchor(installation.uid, 9, some_hash(9)))
    assert await node.anchors.newest() == Anchor(installation.uid, 1, some_hash(1))
    installation.path.write_bytes(installation.path.read_bytes().splitlines(keepends=True)[1])
    with pytest.raises(CorruptRecord, match="no anchor"):
        await node.anchors.newest()
