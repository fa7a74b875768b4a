"""Two nodes on one PostgreSQL and one token: one installation."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from kms_client import Client
from kms_client.formats import errors
from kms_client.formats.ciphertext import Header

from kms.core.suites import Purpose
from tests.daemon import Daemon, Installation, wait_until
from tests.postgresql_server import PostgresqlServer
from tests.secret_search import deks, forms, found, halves

pytestmark = pytest.mark.postgresql

KEY = "tenants/acme/keys/k1"
CONTEXT = {"table": "users", "column": "phone"}


@dataclass
class Nodes:
    installation: Installation
    configs: tuple[Path, Path]
    profiles: dict[str, tuple[Path, Path]]

    def start(self) -> tuple[Daemon, Daemon]:
        first, second = (self.installation.start(config=config) for config in self.configs)
        return first, second

    def clients(self, principal: str) -> tuple[Client, Client]:
        """A client of each node."""
        first = self.installation.issue(principal)
        port = re.search(r'address = "(127[^"]+)"', self.configs[1].read_text())
        assert port is not None
        second = first.with_name("second.toml")
        second.write_text(re.sub(r'target = "[^"]+"', f'target = "{port[1]}"', first.read_text()))
        return Client.from_profile(first), Client.from_profile(second)


@pytest.fixture
def nodes(installation: Installation, postgresql_url: str) -> Iterator[Nodes]:
    return Nodes(installation, installation.move_to_postgresql(postgresql_url), {})


def both(*acts: Callable[[], object]) -> list[object]:
    """Do all at once; returns results and errors."""
    results: list[object] = [None] * len(acts)
    barrier = threading.Barrier(len(acts))

    def run(index: int, act: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results[index] = act()
        except errors.KmsError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_what_one_node_makes_the_other_uses(nodes: Nodes) -> None:
    nodes.start()
    nodes.installation.operator().create_tenant("acme")
    first, second = nodes.clients("tenants/acme/principals/app")
    first.create_key("tenants/acme", "k1", purpose=Purpose.ENCRYPT)
    made = first.encrypt(KEY, b"one", context=CONTEXT).ciphertext
    assert second.decrypt(KEY, made, context=CONTEXT).plaintext == b"one"
    first.rotate_key(KEY)
    newer = first.encrypt(KEY, b"two", context=CONTEXT).ciphertext
    # At once, although the other node has the key's record of before in memory.
    assert second.decrypt(KEY, newer, context=CONTEXT).plaintext == b"two"
    wait_until(
        lambda: Header.parse(second.encrypt(KEY, b"x", context=CONTEXT).ciphertext).version == 2,
        "the other node to encrypt under the new version",
        patience=15,
    )
    second.rotate_kek("tenants/acme")
    second.rotate_key(KEY)
    assert first.decrypt(KEY, second.encrypt(KEY, b"three", context=CONTEXT).ciphertext, context=CONTEXT).version == 3


def test_the_same_change_on_both_nodes_at_once_is_made_once(nodes: Nodes) -> None:
    nodes.start()
    one, two = nodes.clients("operators/ops")
    for index in range(3):
        made = both(lambda i=index: one.create_tenant(f"t{i}x"), lambda i=index: two.create_tenant(f"t{i}x"))  # type: ignore[misc]
        kinds = {type(result).__name__ for result in made}
        assert kinds <= {"Tenant", "AlreadyExists", "Conflict"}
        assert "Tenant" in kinds
        made = both(
            lambda i=index: one.rotate_kek(f"tenants/t{i}x", primary_version=1),  # type: ignore[misc]
            lambda i=index: two.rotate_kek(f"tenants/t{i}x", primary_version=1),  # type: ignore[misc]
        )
        assert {type(result).__name__ for result in made} <= {"Kek", "Conflict"}
        assert [kek.primary for kek in two.list_keks(f"tenants/t{index}x")] == [False, True]


def test_rotations_on_both_nodes_leave_one_primary(nodes: Nodes) -> None:
    nodes.start()
    nodes.installation.operator().create_tenant("acme")
    first, second = nodes.clients("tenants/acme/principals/app")
    first.create_key("tenants/acme", "k1", purpose=Purpose.ENCRYPT)
    rotated = 0
    for _ in range(5):
        outcome = both(lambda: first.rotate_key(KEY), lambda: second.rotate_key(KEY))
        rotated += sum(not isinstance(result, errors.KmsError) for result in outcome)
        assert {type(result) for result in outcome if isinstance(result, errors.KmsError)} <= {errors.Conflict}
    versions = list(second.list_key_versions(KEY))
    assert [version.version for version in versions] == list(range(1, rotated + 2))
    assert [version.version for version in versions if version.primary] == [rotated + 1]


async def test_a_database_that_logs_every_statement_sees_no_secret(
    nodes: Nodes, own_postgresql_server: PostgresqlServer, postgresql_url: str
) -> None:
    if str(own_postgresql_server.directory) not in postgresql_url:
        pytest.skip("the log of a server that is not ours cannot be read")
    with psycopg.connect(postgresql_url, autocommit=True) as database:
        [name] = database.execute("SELECT current_database()").fetchone() or ("",)
        for setting in ("log_statement = 'all'", "log_min_duration_statement = 0", "log_parameter_max_length = -1"):
            database.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    daemon = nodes.installation.start()
    plaintexts = {f"plaintext {i}": secrets.token_hex(12).encode() for i in range(3)}
    with nodes.installation.tenant("acme") as client:
        client.create_key("tenants/acme", "k1", purpose=Purpose.ENCRYPT, display_name="loggedname")
        client.create_key("tenants/acme", "k2", purpose=Purpose.DETERMINISTIC)
        for slug in ("k1", "k2"):
            key = f"tenants/acme/keys/{slug}"
            client.decrypt_batch(key, client.encrypt_batch(key, list(plaintexts.values())).complete())
        client.rotate_key(KEY)
    daemon.stop()
    needles = plaintexts | await deks(nodes.installation, ["k1", "k2"])
    needles["PIN"] = (nodes.installation.directory / "secrets" / "pin").read_bytes().strip()
    assert len(needles) == 3 + 3 * 3 + 1
    log = (own_postgresql_server.directory / "log").read_bytes()
    # Positive controls: statements are logged with their parameters, bytes among them as they are written there.
    with psycopg.connect(postgresql_url) as database:
        row = database.execute("SELECT wrapped FROM security_secret.key_versions LIMIT 1").fetchone()
    assert row is not None
    assert b"loggedname" in log
    assert found({"log": log}, {"a wrapped DEK": bytes(row[0])})
    planted = log + next(iter(forms(needles["PIN"])))
    assert found({"log": planted}, needles) == {("log", "PIN")}
    assert found({"log": log}, needles) == set()
    assert halves("x", b"ab")["x, first half"] == b"a"
