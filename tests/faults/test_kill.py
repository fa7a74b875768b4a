"""kill -9 of the daemon at every step of every change: what was acknowledged still decrypts, and the change can be made."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from kms_client import Client
from kms_client.formats import errors

from kms.core.suites import Purpose
from kms.failpoints import FAILPOINTS
from tests.daemon import Daemon, Installation, wait_for_service
from tests.faults.test_kill_keks import HERE as KEKS

KEY = "tenants/acme/keys/k1"
CONTEXT = {"table": "t", "column": "c"}

Act = Callable[[Client, Client], object]


def create_tenant(operator: Client, client: Client) -> object:
    del client
    return operator.create_tenant("second")


def create_key(operator: Client, client: Client) -> object:
    del operator
    return client.create_key("tenants/acme", "k2", purpose=Purpose.ENCRYPT)


def rotate_key(operator: Client, client: Client) -> object:
    del operator
    return client.rotate_key(KEY)


def rotate_kek(operator: Client, client: Client) -> object:
    del operator
    return client.rotate_kek("tenants/acme")


def encrypt(operator: Client, client: Client) -> object:
    del operator
    return client.encrypt(KEY, b"more", context=CONTEXT)


# Every failpoint, with the call that passes it. A step of making a KEK is passed by two calls.
STEPS: list[tuple[str, Act]] = [
    ("create_tenant.intent_stored", create_tenant),
    ("create_kek.in_token", create_tenant),
    ("create_kek.before_commit", create_tenant),
    ("create_kek.committed", create_tenant),
    ("create_key.dek_wrapped", create_key),
    ("create_key.before_commit", create_key),
    ("create_key.committed", create_key),
    ("rotate_key.dek_wrapped", rotate_key),
    ("rotate_key.before_commit", rotate_key),
    ("rotate_key.committed", rotate_key),
    ("rotate_kek.intent_stored", rotate_kek),
    ("create_kek.in_token", rotate_kek),
    ("create_kek.before_commit", rotate_kek),
    ("create_kek.committed", rotate_kek),
    ("counters.reserved", encrypt),
    ("counters.reserved", rotate_key),
]
AT_START = {"settle.before"}


@dataclass
class History:
    """Everything that the daemon has acknowledged."""

    installation: Installation
    client: Client
    operator: Client
    returned: list[tuple[str, bytes, bytes]] = field(default_factory=list)

    def remember(self, name: str, plaintext: bytes) -> None:
        made = self.client.encrypt(name, plaintext, context=CONTEXT)
        self.returned.append((name, plaintext, made.ciphertext))

    def connect(self) -> None:
        wait_for_service(self.client)
        wait_for_service(self.operator)

    def check(self) -> None:
        """All that was returned decrypts, and each key has exactly one primary version, which encrypts."""
        self.connect()
        for name, plaintext, ciphertext in self.returned:
            assert self.client.decrypt(name, ciphertext, context=CONTEXT).plaintext == plaintext
        keys = [key.name for key in self.client.list_keys("tenants/acme")]
        assert KEY in keys
        for name in keys:
            versions = list(self.client.list_key_versions(name))
            assert [version.version for version in versions] == list(range(1, len(versions) + 1))
            assert [version.version for version in versions if version.primary] == [len(versions)]
            self.remember(name, f"after {len(self.returned)}".encode())
        assert [kek.primary for kek in self.client.list_keks("tenants/acme")].count(True) == 1


@pytest.fixture
def history(installation: Installation) -> Iterator[History]:
    daemon = installation.start()
    with installation.operator() as operator, installation.tenant("acme") as client:
        client.create_key("tenants/acme", "k1", purpose=Purpose.ENCRYPT)
        made = History(installation, client, operator)
        made.remember(KEY, b"under version 1")
        client.rotate_key(KEY)
        made.remember(KEY, b"under version 2")
        daemon.stop()
        yield made


def die(history: History, failpoint: str, act: Act) -> None:
    """Run *act* against a daemon that dies at *failpoint*, and see that it was there that it died."""
    daemon = history.installation.start(failpoint=failpoint)
    history.connect()
    with pytest.raises(errors.Unavailable):
        act(history.operator, history.client)
    assert daemon.process.wait(30) == -signal.SIGKILL
    daemon.stop()


@pytest.mark.parametrize(("failpoint", "act"), STEPS, ids=[f"{act.__name__}-{name}" for name, act in STEPS])
def test_a_kill_at_any_step_loses_nothing_and_leaves_one_primary(history: History, failpoint: str, act: Act) -> None:
    die(history, failpoint, act)
    history.installation.start()
    history.check()
    # The change may have taken effect; if it has not, it can be made now.
    try:
        act(history.operator, history.client)
    except errors.AlreadyExists:
        assert failpoint in {"create_key.committed", "create_kek.committed"} or act is create_tenant
    history.check()


def test_a_start_that_is_killed_while_settling_settles_at_the_next(history: History) -> None:
    die(history, "rotate_kek.intent_stored", rotate_kek)
    killed = history.installation.start(failpoint="settle.before", ready=False)
    assert killed.process.wait(30) == -signal.SIGKILL
    daemon = history.installation.start()
    assert len(daemon.events("kek.intent_found")) == 1
    history.connect()
    assert len(list(history.client.list_keks("tenants/acme"))) == 2
    history.check()


def test_an_intent_is_carried_through_at_the_next_start_and_only_once(history: History) -> None:
    die(history, "create_kek.in_token", rotate_kek)
    daemon = history.installation.start()
    assert len(daemon.events("kek.intent_found")) == 1
    daemon.stop()
    assert history.installation.start().events("kek.intent_found") == []
    history.connect()
    assert [kek.version for kek in history.client.list_keks("tenants/acme")] == [1, 2]


def test_every_failpoint_is_passed_by_a_test() -> None:
    assert {name for name, _ in STEPS} | AT_START | KEKS == FAILPOINTS


def test_counts_are_never_lost_in_a_kill(history: History) -> None:
    """Invariant: what is reserved is never less than what was encrypted."""
    encryptions = len(history.returned)
    for _ in range(3):
        daemon = history.installation.start()
        history.connect()
        for _ in range(5):
            history.remember(KEY, b"x")
            encryptions += 1
        daemon.stop(signal.SIGKILL)
    history.installation.start()
    history.connect()
    reserved = [version.encryptions_reserved for version in history.client.list_key_versions(KEY)]
    assert sum(reserved) >= encryptions


def kill_at_random(history: History, kills: int, seed: int) -> int:
    """Kill the daemon in the middle of changes *kills* times; returns how many calls were acknowledged."""
    dice = random.Random(seed)
    acts: list[Act] = [rotate_key, rotate_kek, encrypt]
    acknowledged = 0
    for _ in range(kills):
        daemon = history.installation.start()
        history.connect()
        timer = threading.Timer(dice.uniform(0.0, 0.15), daemon.process.kill)
        timer.start()
        acknowledged += run_until_dead(history, daemon, dice, acts)
        timer.join()
        daemon.stop()
        daemon = history.installation.start()
        history.check()
        daemon.stop()
    return acknowledged


def run_until_dead(history: History, daemon: Daemon, dice: random.Random, acts: list[Act]) -> int:
    done = 0
    while daemon.process.poll() is None:
        try:
            history.remember(KEY, f"value {dice.random()}".encode())
            dice.choice(acts)(history.operator, history.client)
        except (errors.Unavailable, errors.DeadlineExceeded):
            break
        done += 1
    daemon.process.wait(30)
    return done


def test_kills_at_random_moments_lose_nothing(history: History) -> None:
    kill_at_random(history, 3, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_thousand_kills_at_random_moments_lose_nothing(history: History) -> None:
    assert kill_at_random(history, 1000, seed=2) > 1000
