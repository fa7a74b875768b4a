"""kill -9 of the daemon at every step of a KEK's life after its rotation: no DEK is lost, and the work goes on.

Rows are made and compared past the daemon, while none runs: thousands of DEKs, each known by its SHA-256.
"""

from __future__ import annotations

import asyncio
import random
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from kms_client import Client
from kms_client.profile import Profile

from bench import deks
from bench.deks import Fingerprints
from kms.core.keyring import Tenant
from kms.core.operations import Operation
from kms.core.suites import Purpose
from kms.failpoints import FAILPOINTS
from kms.parts import Parts, opened_parts
from kms.settings import load
from kms.v1 import operations_pb2 as pb
from kms.v1 import operations_pb2_grpc
from softhsm import SoftHsmToken
from tests.daemon import Daemon, Installation, wait_for_service
from tests.node import keks_in_token
from tests.softhsm_token import Token

KEY = "tenants/acme/keys/k1"
CONTEXT = {"table": "t", "column": "c"}

# In the order in which a rewrap in several batches passes them, with the number of the passage at which to die.
REWRAPPING = (
    "operation.taken",
    "rewrap.in_token",
    "rewrap.before_commit",
    "rewrap.committed",
    "operation.progressed",
    "rewrap.in_token@2",
    "rewrap.before_commit@2",
    "rewrap.committed@2",
    "operation.progressed@2",
)
RETIRING = ("retire_kek.committed",)
DESTROYING = (
    "destroy_kek.intent_stored",
    "destroy_kek.in_token",
    "destroy_kek.before_commit",
    "destroy_kek.committed",
)
PASSES = frozenset(name.partition("@")[0] for name in (*REWRAPPING, *RETIRING, *DESTROYING))

T = TypeVar("T")


@dataclass(frozen=True)
class Stored:
    """What the database holds: operations, DEKs by KEK version, states of KEK versions."""

    operations: list[Operation]
    wrapped: dict[int, int]
    states: dict[int, str]


@dataclass
class Vaulted:
    """An installation with many DEKs under version 1 of one KEK, and some values encrypted under one of them."""

    installation: Installation
    client: Client
    profile: Path
    fingerprints: Fingerprints = field(default_factory=dict)
    ciphertexts: list[bytes] = field(default_factory=list)

    def behind(self, work: Callable[[Parts, Tenant], Coroutine[Any, Any, T]]) -> T:
        """Work on the database and the token while no daemon runs."""

        async def run() -> T:
            async with opened_parts(load(self.installation.config)) as parts:
                async with parts.storage.transaction() as uow:
                    tenant = await uow.tenants.get("acme")
                assert tenant is not None
                return await work(parts, tenant)

        return asyncio.run(run())

    def fill(self, count: int) -> None:
        self.fingerprints = self.behind(lambda parts, tenant: deks.make(parts, tenant, count))

    def check(self, most: int = 10_000) -> None:
        """No DEK has changed or been lost, of all of them or of *most* chosen ones."""
        known = sorted(self.fingerprints)
        chosen = random.Random(len(known)).sample(known, min(most, len(known)))
        wanted = {identity: self.fingerprints[identity] for identity in chosen}
        assert self.behind(lambda parts, tenant: deks.differing(parts, tenant, wanted)) == 0

    def stored(self) -> Stored:
        async def read() -> Stored:
            async with opened_parts(load(self.installation.config), compared=False) as parts:
                storage = parts.storage
                async with storage.transaction() as work:
                    tenant = await work.tenants.get("acme")
                assert tenant is not None
                async with storage.transaction(tenant.uid) as work:
                    return Stored(
                        await work.operations.list_newest(tenant.uid, None, 100),
                        await work.key_versions.count_by_kek(tenant.uid),
                        {kek.version: kek.state.value for kek in await work.keks.list_by_version(tenant.uid, 0, 100)},
                    )

        return asyncio.run(read())

    def start(self, failpoint: str = "", later: timedelta = timedelta(0), *, ready: bool = True) -> Daemon:
        """Start a daemon whose clock shows a later time."""
        return self.installation.start(failpoint=failpoint, ready=ready, KMS_CLOCK_OFFSET=str(later.total_seconds()))

    def dies(self, failpoint: str, later: timedelta = timedelta(0)) -> None:
        """A daemon with nothing but what is due in the database dies there."""
        daemon = self.start(failpoint, later, ready=False)
        assert daemon.process.wait(60) == -signal.SIGKILL, "".join(daemon.raw)
        daemon.stop()

    def decrypts(self) -> None:
        wait_for_service(self.client)
        for ciphertext in self.ciphertexts:
            assert self.client.decrypt(KEY, ciphertext, context=CONTEXT).plaintext == b"x"


@pytest.fixture
def vaulted(installation: Installation) -> Iterator[Vaulted]:
    daemon = installation.start()
    with installation.tenant("acme") as client:
        client.create_key("tenants/acme", "k1", purpose=Purpose.ENCRYPT)
        made = Vaulted(
            installation, client, installation.directory.parent / "clients/tenants-acme-principals-app/kms.toml"
        )
        made.ciphertexts.append(client.encrypt(KEY, b"x", context=CONTEXT).ciphertext)
        daemon.stop()
        yield made


def rotate(vaulted: Vaulted, daemon: Daemon) -> None:
    wait_for_service(vaulted.client)
    vaulted.client.rotate_kek("tenants/acme")
    daemon.wait_for("operation.started")


@pytest.mark.timeout(300)
def test_a_daemon_killed_at_every_step_of_a_kek_s_end_loses_nothing_and_destroys_it_once(
    vaulted: Vaulted,
) -> None:
    vaulted.fill(2_000)
    daemon = vaulted.start("operation.taken")
    rotate(vaulted, daemon)
    assert daemon.process.wait(30) == -signal.SIGKILL
    done = [0]
    for failpoint in REWRAPPING[1:]:
        vaulted.dies(failpoint)
        stored = vaulted.stored()
        [operation] = stored.operations
        done.append(operation.done)
        assert sum(stored.wrapped.values()) == 2_001
        # A batch may have been stored without its progress: it is not done again, since nothing of it is left.
        assert stored.wrapped.get(2, 0) >= operation.done
    assert done == sorted(done)
    assert done[-1] > 0
    vaulted.check(200)

    # It goes on by itself, and what was encrypted can be decrypted all the while.
    daemon = vaulted.start()
    vaulted.decrypts()
    daemon.wait_for("operation.ended", 60)
    daemon.stop()
    stored = vaulted.stored()
    assert [(operation.state.value, operation.done) for operation in stored.operations] == [("succeeded", 2_001)]
    assert stored.wrapped == {2: 2_001}

    # Two minutes later it is retired, and a day after its quarantine it is destroyed.
    vaulted.dies("retire_kek.committed", timedelta(minutes=2))
    assert vaulted.stored().states == {1: "destruction_scheduled", 2: "active"}
    # In steps, since a clock that is weeks ahead of what was stored before a start is not trusted with a destruction.
    for days in range(6, 32, 6):
        vaulted.start(later=timedelta(days=days)).stop()
    later = timedelta(days=32)
    for index, failpoint in enumerate(DESTROYING):
        vaulted.dies(failpoint, later)
        state = "destroyed" if failpoint == "destroy_kek.committed" else "destroying"
        assert vaulted.stored().states == {1: state, 2: "active"}, index
    assert keks_of(vaulted) == {2: 1}
    vaulted.start(later=later)
    vaulted.decrypts()
    vaulted.check()


def keks_of(vaulted: Vaulted) -> dict[int, int]:
    """How many keys the installation's token holds for each version of the tenant's KEK."""
    settings = load(vaulted.installation.config)
    token = SoftHsmToken(settings.token.module, settings.token.label, settings.token.environment)
    pin = settings.token.pin.read().get_secret_value()

    async def uid(_: Parts, tenant: Tenant) -> Any:
        return tenant.kek

    return dict(keks_in_token(Token(vaulted.installation.directory, token, pin), vaulted.behind(uid)))


def test_a_rewrap_is_cancelled_and_resumed_over_the_wire_while_values_are_decrypted(vaulted: Vaulted) -> None:
    vaulted.fill(2_000)
    daemon = vaulted.start()
    rotate(vaulted, daemon)
    profile = Profile.load(vaulted.profile)
    assert profile.tls is not None
    with grpc.secure_channel(profile.target, profile.tls.load().credentials) as channel:
        stub = operations_pb2_grpc.OperationServiceStub(channel)
        [operation] = stub.ListOperations(pb.ListOperationsRequest(parent="tenants/acme"), timeout=20).operations
        name = operation.name
        stopped = stub.CancelOperation(pb.CancelOperationRequest(name=name), timeout=20)
        assert stopped.state == pb.Operation.CANCELLED
        assert stopped.done < 2_000
        vaulted.decrypts()
        seen = stub.ResumeOperation(pb.ResumeOperationRequest(name=name), timeout=20)
        progress = [seen.done]
        while seen.state == pb.Operation.RUNNING:
            request = pb.WaitOperationRequest(name=name, etag=seen.etag, timeout=Duration(seconds=10))
            seen = stub.WaitOperation(request, timeout=20)
            progress.append(seen.done)
            vaulted.decrypts()
    assert seen.state == pb.Operation.SUCCEEDED
    assert progress == sorted(progress)
    assert (seen.done, seen.total) == (2_001, 2_001)
    daemon.stop()
    assert vaulted.stored().wrapped == {2: 2_001}
    vaulted.check()


def kill_at_random(vaulted: Vaulted, kills: int, seed: int) -> None:
    """Kill the daemon again and again in the middle of re-wraps, some of which begin while another still runs."""
    dice = random.Random(seed)
    for kill in range(kills):
        daemon = vaulted.start()
        if kill % 2 == 0:
            wait_for_service(vaulted.client)
            vaulted.client.rotate_kek("tenants/acme")
        timer = threading.Timer(dice.uniform(0.0, 0.5), daemon.process.kill)
        timer.start()
        assert daemon.process.wait(30) == -signal.SIGKILL
        timer.join()
        daemon.stop()
        assert sum(vaulted.stored().wrapped.values()) == len(vaulted.fingerprints) + 1
        vaulted.check(100)
    daemon = vaulted.start()
    wait_for_service(vaulted.client)
    daemon.wait_for("operation.ended", 60)
    vaulted.decrypts()
    daemon.stop()
    primary = 1 + (kills + 1) // 2
    assert vaulted.stored().wrapped == {primary: len(vaulted.fingerprints) + 1}
    vaulted.check()


def test_kills_at_random_moments_of_rewraps_lose_nothing(vaulted: Vaulted) -> None:
    vaulted.fill(1_000)
    kill_at_random(vaulted, 3, seed=3)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_hundred_kills_at_random_moments_of_rewraps_lose_nothing(vaulted: Vaulted) -> None:
    vaulted.fill(2_000)
    kill_at_random(vaulted, 101, seed=4)


@pytest.mark.postgresql
def test_another_node_goes_on_where_one_was_killed(vaulted: Vaulted, postgresql_url: str) -> None:
    configs = vaulted.installation.move_to_postgresql(postgresql_url)
    first = vaulted.installation.start()
    with vaulted.installation.operator() as operator:
        wait_for_service(operator)
        operator.create_tenant("acme")
    vaulted.client.create_key("tenants/acme", "k1", purpose=Purpose.ENCRYPT)
    vaulted.ciphertexts = [vaulted.client.encrypt(KEY, b"x", context=CONTEXT).ciphertext]
    first.stop()
    vaulted.fill(1_000)
    killed = vaulted.start("operation.progressed@2")
    rotate(vaulted, killed)
    assert killed.process.wait(30) == -signal.SIGKILL
    killed.stop()
    [before] = vaulted.stored().operations
    assert 0 < before.done < 1_001
    # Its clock is ahead by more than a lease: it need not wait for the end of the dead node's.
    second = vaulted.installation.start(config=configs[1], KMS_CLOCK_OFFSET="20")
    second.wait_for("operation.ended", 60)
    second.stop()
    [after] = vaulted.stored().operations
    assert (after.uid, after.state.value, after.done) == (before.uid, "succeeded", 1_001)
    assert vaulted.stored().wrapped == {2: 1_001}
    vaulted.check()


def test_every_failpoint_of_this_part_is_passed_by_a_test() -> None:
    parts = {name.partition(".")[0] for name in PASSES}
    assert {name for name in FAILPOINTS if name.partition(".")[0] in parts} == PASSES
