"""The token goes away under a running daemon: what is cached goes on, the rest says why, and all is well when it is back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kms_client import Client
from kms_client.formats import errors

from kms.core.suites import Purpose
from tests.daemon import Daemon, Installation, wait_for_service, wait_until

CACHED = "tenants/acme/keys/cached"
COLD = "tenants/acme/keys/cold"


@pytest.fixture
def running(installation: Installation) -> Iterator[tuple[Installation, Daemon, Client, bytes]]:
    daemon = installation.start()
    with installation.tenant("acme") as client:
        client.create_key("tenants/acme", "cold", purpose=Purpose.ENCRYPT)
        client.create_key("tenants/acme", "cached", purpose=Purpose.ENCRYPT)
        daemon.stop()
        daemon = installation.start()
        wait_for_service(client)
        client.encrypt(CACHED, b"warm it up")
        yield installation, daemon, client, client.encrypt(CACHED, b"x").ciphertext


def token_state(client: Client) -> str:
    return client.health("token").name


def works(client: Client) -> bool:
    try:
        client.encrypt(COLD, b"x", deadline=5)
        client.generate_random_bytes(16)
    except errors.HsmUnavailable:
        return False
    return True


def check_degraded(client: Client, ciphertext: bytes) -> None:
    """What needs the token is refused by name; what is cached goes on; health says which part is ill."""
    for act in (
        lambda: client.encrypt(COLD, b"x"),
        lambda: client.create_key("tenants/acme", "new", purpose=Purpose.ENCRYPT),
        lambda: client.rotate_key(CACHED),
        lambda: client.rotate_kek("tenants/acme"),
    ):
        with pytest.raises(errors.HsmUnavailable):
            act()
    assert client.decrypt(CACHED, ciphertext).plaintext == b"x"
    assert client.encrypt(CACHED, b"y").version == 1
    wait_until(lambda: token_state(client) == "NOT_SERVING", "health to see that the token is gone")
    assert client.health().name == "SERVING"


def test_a_token_directory_that_vanishes_and_comes_back(
    running: tuple[Installation, Daemon, Client, bytes],
) -> None:
    installation, daemon, client, ciphertext = running
    tokens = installation.directory / "token"
    hidden = tokens.with_name("token-away")
    tokens.rename(hidden)
    wait_until(lambda: token_state(client) == "NOT_SERVING", "health to see that the token is gone")
    check_degraded(client, ciphertext)
    hidden.rename(tokens)
    wait_until(lambda: works(client), "the token to be used again")
    wait_until(lambda: token_state(client) == "SERVING", "health to see the token again")
    client.rotate_kek("tenants/acme")
    client.rotate_key(CACHED)
    assert client.decrypt(CACHED, ciphertext).plaintext == b"x"
    assert daemon.process.poll() is None


def test_a_token_host_that_is_killed_is_replaced(running: tuple[Installation, Daemon, Client, bytes]) -> None:
    _, daemon, client, ciphertext = running
    first = daemon.events("token.host")[-1]["pid"]
    assert isinstance(first, int)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: works(client), "a new token host")
    last = daemon.events("token.host")[-1]
    assert (last["state"], last["restarts"]) == ("running", 1)
    assert last["pid"] != first
    assert client.decrypt(CACHED, ciphertext).plaintext == b"x"


def test_a_token_host_that_hangs_costs_a_deadline_and_is_replaced(
    running: tuple[Installation, Daemon, Client, bytes],
) -> None:
    _, daemon, client, _ = running
    first = daemon.events("token.host")[-1]["pid"]
    assert isinstance(first, int)
    os.kill(first, signal.SIGSTOP)
    # Not retried by the SDK, and answered long before the call's own deadline.
    with pytest.raises(errors.HsmUnavailable):
        client.create_key("tenants/acme", "new", purpose=Purpose.ENCRYPT, deadline=20)
    wait_until(lambda: works(client), "a new token host")
    assert daemon.process.poll() is None
    assert not Path(f"/proc/{first}").exists() or "State:\tZ" in Path(f"/proc/{first}/status").read_text()


def test_a_pin_that_was_changed_is_not_tried_again_and_again(
    running: tuple[Installation, Daemon, Client, bytes],
) -> None:
    installation, daemon, client, ciphertext = running
    (installation.directory / "secrets" / "pin").write_text("9" * 24)
    host = daemon.events("token.host")[-1]["pid"]
    assert isinstance(host, int)
    os.kill(host, signal.SIGKILL)
    wait_until(lambda: daemon.events("token.host")[-1]["state"] == "failed", "the host to give up")
    for _ in range(3):
        with pytest.raises(errors.HsmUnavailable, match="PIN"):
            client.generate_random_bytes(16)
    assert client.decrypt(CACHED, ciphertext).plaintext == b"x"
    assert sum(line["state"] == "starting" for line in daemon.events("token.host")) == 2
