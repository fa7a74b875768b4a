"""Two real daemons on one PostgreSQL tell each other of their enclaves."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from kms_client import Client, NodeEnclave

from enclave.quotes import parse_quote
from kms.cli.main import run
from kms.core.enclaves import HEARD_WITHIN
from tests.daemon import Daemon, Installation, wait_until
from tests.enclaves import measured

pytestmark = [pytest.mark.softhsm, pytest.mark.postgresql]

PATIENCE = 60.0
PAST = HEARD_WITHIN.total_seconds() + PATIENCE


def listed(client: Client, *, active_only: bool = False) -> dict[str, NodeEnclave]:
    return {one.node_uid: one for one in client.list_enclaves(active_only=active_only)}


def shown(client: Client, what: str, condition: Callable[[NodeEnclave], bool], count: int = 1) -> None:
    """Wait until so many enclaves are as the condition says."""
    wait_until(lambda: sum(map(condition, listed(client).values())) == count, what, PATIENCE)


def valid(one: NodeEnclave) -> bool:
    return one.active and one.attestation_status == "valid" and one.health == "healthy"


@pytest.fixture
def nodes(enclave_installation: Installation, postgresql_url: str) -> tuple[Daemon, Daemon]:
    first, second = enclave_installation.move_to_postgresql(postgresql_url)
    daemons = [enclave_installation.start(config=config) for config in (first, second)]
    for daemon in daemons:
        daemon.wait_for("enclave.attested", PATIENCE)
    return daemons[0], daemons[1]


def test_nodes_see_each_other_s_enclaves(
    nodes: tuple[Daemon, Daemon],
    enclave_installation: Installation,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with enclave_installation.operator() as operator:
        shown(operator, "both enclaves to be told", valid, 2)
        found = listed(operator)
        uids = {node.uid for node in operator.list_nodes().nodes}
        assert set(found) == uids
        assert len({one.node for one in found.values()}) == 2
        for one in found.values():
            assert (one.mrenclave, one.isv_prod_id, one.isv_svn, one.simulated) == (measured(), 1, 1, True)
            quote = parse_quote(one.quote)
            assert (quote.platform_id, quote.signature) == (one.platform_id, one.signature)
            assert one.attest_time is not None
            assert one.attest_expire_time is not None
            assert one.attest_time < one.attest_expire_time

        monkeypatch.setenv("KMS_PROFILE", str(enclave_installation.directory / "kms.toml"))
        assert run(["enclave", "list", "--output", "json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert {row["mrenclave"] for row in rows} == {measured().hex()}
        assert {(row["assurance"], row["attestation_status"], row["health"]) for row in rows} == {
            ("SIMULATED", "valid", "healthy")
        }


@pytest.mark.soak  # for a minute; tests/unit/services/test_enclaves.py has it with a clock of its own
def test_a_node_that_is_killed_has_an_inactive_enclave(
    nodes: tuple[Daemon, Daemon], enclave_installation: Installation
) -> None:
    with enclave_installation.operator() as operator:
        shown(operator, "both enclaves to be told", valid, 2)
        members = operator.list_nodes().nodes
        (own,), (other,) = ([node.uid for node in members if node.is_self is mine] for mine in (True, False))
        # A node that leaves says so; one that is killed says nothing more.
        os.kill(nodes[1].process.pid, signal.SIGKILL)
        wait_until(lambda: set(listed(operator, active_only=True)) == {own}, "the dead node to be noticed", PAST)
        dead = listed(operator)[other]
        assert (dead.active, dead.health, dead.attestation_status) == (False, "unhealthy", "valid")
        assert "nothing has been heard of its node" in dead.health_reason


def test_what_is_refused_is_told_with_its_reason_and_what_has_stopped_is_told_at_once(
    nodes: tuple[Daemon, Daemon], enclave_installation: Installation
) -> None:
    with enclave_installation.operator() as operator:
        shown(operator, "both enclaves to be told", valid, 2)
        assert nodes[1].stop() == 0
        shown(operator, "a stop to be told", lambda one: one.health_reason == "its daemon has stopped")
        policy = enclave_installation.directory / "enclave/policy.yaml"
        good = policy.read_text()

        def judged_again() -> None:
            """Let the first node's enclave, the only one of its hosts that has forked, be started and attested again."""
            for host in _children(nodes[0].process.pid):
                for inner in _children(host):
                    os.kill(inner, signal.SIGKILL)

        [platform] = {one.platform_id.hex() for one in listed(operator).values()}
        for status, reason, text in (
            ("revoked", "PlatformRevoked", f'{good}revoked_platforms: ["{platform}"]\n'),
            ("invalid", "WrongQuotingEnclave", f'{good}least_cpu_svn: "{"ff" * 16}"\n'),
        ):
            policy.write_text(text)
            judged_again()
            shown(operator, f"{status} to be told", lambda one, status=status: one.attestation_status == status)
            [refused] = [one for one in listed(operator).values() if one.attestation_status == status]
            assert refused.attestation_reason.startswith(reason)
            assert (refused.active, refused.health) == (True, "unhealthy")
            assert parse_quote(refused.quote).platform_id.hex() == platform
            policy.write_text(good)
            shown(operator, "it to be attested again", valid)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
