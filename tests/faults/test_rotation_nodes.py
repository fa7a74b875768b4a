"""Two nodes rotate keys that are all due at once, and are killed with -9 again and again, under load.

Whatever happens, each key ends with exactly one new primary version for the slot, and everything that was ever returned
decrypts. A node that starts again has its clock a little further ahead, so that the claims of the dead one are over.
"""

from __future__ import annotations

import functools
import random
import re
import signal
import threading
import time
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from uuid import uuid4

import psycopg
import pytest
import uvloop
from kms_client import Client
from kms_client.formats import errors

from kms.core.keyring import Key
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName, KeyUid
from kms.core.rotation import planned
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.failpoints import FAILPOINTS
from kms.parts import opened_parts
from kms.services.lineages import lineage_of
from kms.services.rotating import Rotator
from kms.settings import load
from tests.daemon import Daemon, Installation, free_port, wait_for_service, wait_until
from tests.node import Node

pytestmark = [pytest.mark.postgresql, pytest.mark.softhsm]

TENANT = "tenants/acme"
CONTEXT = {"table": "t", "column": "c"}
DAY = timedelta(days=1)
DUE = timedelta(hours=25)  # after the keys were made
GRACE = timedelta(minutes=10)
CLAIM_OVER = timedelta(seconds=65)
PATIENCE = 60.0
# In the normal run; what the kills need is less than what a fast machine could have done by then.
KEYS = 300
THOUSAND = 1000
MADE_AT_ONCE = 50
SAMPLE = 10  # each so many keys have a value from before their first rotation
PAUSE = 0.02  # seconds between two calls of the load, which shares the machine with the nodes

# Where each of two nodes that work at once dies, after at most so many passages.
ROTATING = (
    (("schedule.claimed", 1), ("schedule.before_release", 1)),
    (("rotate_key.dek_wrapped", 40), ("rotate_key.before_commit", 40)),
    (("rotate_key.committed", 40), ("schedule.before_release", 1)),
)
FINISHING = (("finish_rotation.before_commit", 40), ("finish_rotation.committed", 40))
PLANNING = (("schedule.planned", 5),)
PASSES = frozenset(name for nodes in (*ROTATING, FINISHING, PLANNING) for name, _ in nodes)


@dataclass
class Cluster:
    """Two nodes, their clients, and what they have returned."""

    installation: Installation
    url: str
    configs: tuple[Path, Path]
    dice: random.Random
    ahead: list[timedelta] = field(default_factory=lambda: [DUE, DUE])
    daemons: list[Daemon | None] = field(default_factory=lambda: [None, None])
    returned: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)

    def start(self, node: int, failpoint: str = "") -> Daemon:
        """Start a node, its clock further ahead than the claims of its last life."""
        self.ahead[node] += CLAIM_OVER
        offset = str(self.ahead[node].total_seconds())
        daemon = self.installation.start(
            config=self.configs[node], failpoint=failpoint, ready=False, KMS_CLOCK_OFFSET=offset
        )
        self.daemons[node] = daemon
        return daemon

    def start_both(self) -> None:
        for daemon in [self.start(node) for node in (0, 1)]:
            daemon.wait_for("daemon.ready")

    def die(self, failpoints_of_nodes: Sequence[tuple[str, int]]) -> None:
        """Start both nodes, or the first, and wait until each has killed itself."""
        failpoints = [f"{name}@{self.dice.randint(1, most)}" for name, most in failpoints_of_nodes]
        started = [self.start(node, failpoint) for node, failpoint in enumerate(failpoints)]
        for node, (daemon, failpoint) in enumerate(zip(started, failpoints, strict=True)):
            assert daemon.process.wait(PATIENCE) == -signal.SIGKILL, "".join(daemon.raw)[-3000:]
            daemon.stop()
            self.tell(f"node {node} died at {failpoint}")

    def kill(self, node: int) -> None:
        daemon = self.daemons[node]
        assert daemon is not None
        daemon.stop(signal.SIGKILL)
        self.tell(f"node {node} was killed")

    def stop(self) -> None:
        for daemon in self.daemons:
            if daemon is not None:
                daemon.stop()

    def tell(self, what: str) -> None:
        line = f"{what}; {self.due()} of the keys are due"
        self.kills.append(line)
        print(f"{datetime.now(UTC):%H:%M:%S} {line}")  # noqa: T201  the log of a long run

    def query(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, autocommit=True) as database:
            found = database.execute(statement.encode(), values)
            return found.fetchall() if found.description else []

    def due(self) -> int:
        now = datetime.now(UTC) + min(self.ahead)
        return int(
            str(self.query("SELECT count(*) FROM security_secret.encryption_keys WHERE due_at <= %s", now)[0][0])
        )

    @functools.cached_property
    def clients(self) -> tuple[Client, Client]:
        """A client of each node."""
        first = self.installation.issue(f"{TENANT}/principals/app")
        port = re.search(r'address = "(127[^"]+)"', self.configs[1].read_text())
        assert port is not None
        second = first.with_name("second.toml")
        second.write_text(re.sub(r'target = "[^"]+"', f'target = "{port[1]}"', first.read_text()))
        return Client.from_profile(first, deadline=2), Client.from_profile(second, deadline=2)


@pytest.fixture
def cluster(installation: Installation, postgresql_url: str) -> Iterator[Cluster]:
    directory = installation.directory
    (directory / "secrets" / "database-url").write_text(postgresql_url)
    (directory / "data2").mkdir()
    sqlite = 'kind = "sqlite"\npath = "data/kms.db"\n'
    text = installation.config.read_text()
    assert sqlite in text
    text = text.replace(sqlite, 'kind = "postgresql"\nurl = { file = "secrets/database-url" }\n')
    text += "\n[rotation]\ninterval = 0.5\n"
    installation.config.write_text(text)
    second = directory / "second.toml"
    text = text.replace(f":{installation.port}", f":{free_port()}").replace("run/kmsd.sock", "run/second.sock")
    second.write_text(text.replace('data_directory = "data"', 'data_directory = "data2"'))
    made = Cluster(installation, postgresql_url, (installation.config, second), random.Random(20))
    try:
        yield made
    except Exception as error:
        error.add_note(installation.story()[-5000:])
        raise


async def make_keys(cluster: Cluster, count: int) -> None:
    """Make keys, and values under some of them, as a node does that has the clock of today."""
    async with opened_parts(load(cluster.configs[0])) as parts:
        node = Node(parts.storage, parts.vault)
        app = await node.tenant("acme")
        async with parts.storage.transaction() as work:
            tenant = await work.tenants.get("acme")
        assert tenant is not None
        rotator = Rotator(parts.storage, parts.wrapping, node.wall)
        for first in range(0, count, MADE_AT_ONCE):
            now = node.wall()
            keys = [
                new_key(tenant.uid, f"k{index:04}", now) for index in range(first, min(first + MADE_AT_ONCE, count))
            ]
            versions = [await rotator.new_version(tenant, key, "tests", now) for key in keys]
            async with parts.storage.transaction(tenant.uid, write=True) as work:
                for key, version in zip(keys, versions, strict=True):
                    await work.keys.add(planned(await lineage_of(work, key)))
                    await work.key_versions.add(version)
        for index in range(0, count, SAMPLE):
            name = KeyName("acme", f"k{index:04}")
            value = f"of before {index}".encode()
            made = await node.fields.encrypt(app, name, value, tuple((k, v.encode()) for k, v in CONTEXT.items()))
            cluster.returned.append((str(name), value, made.ciphertext))


def new_key(tenant, slug: str, now: datetime) -> Key:
    return Key(
        uid=KeyUid(uuid4()),
        tenant=tenant,
        slug=slug,
        display_name="",
        purpose=Purpose.ENCRYPT,
        suite=Suite.AES_256_GCM,
        level=ProtectionLevel.SOFTWARE,
        state=KeyState.ACTIVE,
        primary_version=1,
        created_at=now,
        rotated_at=now,
        scheduled_from=now,
        state_at=now,
        created_by="tests",
    )


class Load:
    """Encrypts and decrypts on one node all the time; that a node is away is no failure, anything else is."""

    def __init__(self, cluster: Cluster, client: Client, keys: int, seed: int) -> None:
        self._cluster = cluster
        self._client = client
        self._keys = keys
        self._dice = random.Random(seed)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.calls: Tally[str] = Tally()
        self.failures: list[Exception] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                self._call()
            except (errors.Unavailable, errors.DeadlineExceeded):
                self.calls["away"] += 1
                self._ending.wait(0.05)
            except Exception as error:  # noqa: BLE001  told at the end
                self.failures.append(error)

    def _call(self) -> None:
        name = f"{TENANT}/keys/k{self._dice.randrange(self._keys):04}"
        value = self._dice.randbytes(20)
        made = self._client.encrypt(name, value, context=CONTEXT)
        self._cluster.returned.append((name, value, made.ciphertext))
        self.calls["encrypted"] += 1
        name, value, ciphertext = self._dice.choice(self._cluster.returned)
        assert self._client.decrypt(name, ciphertext, context=CONTEXT).plaintext == value
        self.calls["decrypted"] += 1
        self._ending.wait(PAUSE)


def loaded(cluster: Cluster, keys: int) -> list[Load]:
    return [Load(cluster, client, keys, seed) for seed, client in enumerate(cluster.clients)]


def check(cluster: Cluster, keys: int, slots: int, loads: list[Load]) -> None:
    """Each key has one version for each slot, the newest of them the primary one, and all that was returned decrypts."""
    found = cluster.query(
        """SELECT k.key_id, k.primary_version, array_agg(v.version ORDER BY v.version),
                  array_agg(v.scheduled_for - k.created_at ORDER BY v.version),
                  count(*) FILTER (WHERE v.status = 'active')
           FROM security_secret.encryption_keys k JOIN security_secret.key_versions v ON v.key_uid = k.id
           GROUP BY k.key_id, k.primary_version, k.created_at"""
    )
    assert len(found) == keys
    expected = (slots + 1, list(range(1, slots + 2)), [None, *(slot * DAY for slot in range(1, slots + 1))], 1)
    assert [(slug, rest) for slug, *rest in found if tuple(rest) != expected] == []
    for each in loads:
        assert each.failures == []
        assert each.calls["encrypted"] > 0
        assert each.calls["decrypted"] > 0
    made = defaultdict(list)
    for name, value, ciphertext in cluster.returned:
        made[name].append((value, ciphertext))
    for client in cluster.clients:
        wait_for_service(client)
    for index, (name, values) in enumerate(made.items()):
        client = cluster.clients[index % 2]
        plaintexts = client.decrypt_batch(name, [ciphertext for _, ciphertext in values], context=CONTEXT).complete()
        assert plaintexts == [value for value, _ in values]
    for node, client in enumerate(cluster.clients):
        assert client.encrypt(f"{TENANT}/keys/k{node:04}", b"x", context=CONTEXT).version == slots + 1


def until_nothing_is_due(cluster: Cluster) -> None:
    wait_until(lambda: cluster.due() == 0, "everything to be done", patience=120)


@pytest.mark.timeout(300)  # most of its time are fourteen starts of a node
def test_kills_at_every_step_leave_one_new_version_of_each_key(cluster: Cluster) -> None:
    kill_at_every_step(cluster, KEYS)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_kills_at_every_step_leave_one_new_version_of_each_of_a_thousand_keys(cluster: Cluster) -> None:
    kill_at_every_step(cluster, THOUSAND)


async def make_due(cluster: Cluster) -> None:
    """Let every key be due, though nothing is to be done with any."""
    async with opened_parts(load(cluster.configs[0])) as parts:
        async with parts.storage.transaction() as work:
            tenant = await work.tenants.get("acme")
        assert tenant is not None
        after = ""
        while True:
            async with parts.storage.transaction(tenant.uid, write=True) as work:
                page = await work.keys.list_by_slug(tenant.uid, after, MADE_AT_ONCE)
                for key in page:
                    await work.keys.replace(replace(key, due_at=key.created_at))
            if not page:
                return
            after = page[-1].slug


def kill_at_every_step(cluster: Cluster, keys: int) -> None:
    uvloop.run(make_keys(cluster, keys))
    cluster.tell("keys are made")
    loads = loaded(cluster, keys)
    with loads[0], loads[1]:
        for pair in ROTATING:
            cluster.die(pair)
        # Now one of them survives the other.
        assert cluster.due() > 0
        cluster.start_both()
        cluster.kill(0)
        cluster.start(0)
        until_nothing_is_due(cluster)
        cluster.kill(0)
        cluster.kill(1)
        # The graces are over, and later some keys are due for nothing, as after a migration.
        cluster.ahead = [ahead + GRACE for ahead in cluster.ahead]
        cluster.die(FINISHING)
        uvloop.run(make_due(cluster))
        cluster.die(PLANNING)
        cluster.start_both()
        until_nothing_is_due(cluster)
        # A client that met dead nodes alone so far tries again only after a pause that grows.
        wait_until(lambda: all(load.calls["decrypted"] for load in loads), "both loads to be served")
    cluster.tell(f"{len(cluster.returned)} values were returned")
    assert cluster.query("SELECT DISTINCT status FROM security_secret.key_versions WHERE version = 1") == [
        (KeyState.ARCHIVED.value,)
    ]
    assert cluster.query("SELECT DISTINCT status FROM security_secret.encryption_keys") == [(KeyState.ACTIVE.value,)]
    check(cluster, keys, 1, loads)


def test_every_step_of_the_schedule_is_a_kill_point() -> None:
    prefixes = ("schedule.", "rotate_key.", "finish_rotation.")
    assert {name for name in FAILPOINTS if name.startswith(prefixes)} == PASSES


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_kills_at_random_moments_leave_one_version_of_each_key_for_each_day(cluster: Cluster) -> None:
    uvloop.run(make_keys(cluster, THOUSAND))
    loads = loaded(cluster, THOUSAND)
    days, killed = 1, 0
    with loads[0], loads[1]:
        cluster.start_both()
        while killed < 50:
            time.sleep(cluster.dice.uniform(0.0, 1.5))  # the moment is what is drawn, not what is waited for
            if cluster.due() == 0:
                cluster.stop()
                days += 1
                cluster.ahead = [(days - 1) * DAY + DUE] * 2
                cluster.start_both()
                continue
            node = cluster.dice.randrange(2)
            cluster.kill(node)
            killed += 1
            cluster.start(node).wait_for("daemon.ready")
        until_nothing_is_due(cluster)
    check(cluster, THOUSAND, days, loads)
