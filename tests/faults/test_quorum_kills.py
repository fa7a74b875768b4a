"""kill -9 of the daemon at every step of an approval: it is stored whole, and it never serves twice."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from kms_client import ApprovalRequired, ApprovalState, ApprovalUnusable, Client, KeyState, Purpose, Unavailable, under

from tests.daemon import Installation

PARENT = "tenants/acme"
KEY = f"{PARENT}/keys/k1"
PASSES = frozenset({"approval.stored", "approval.voted", "approval.consumed", "approval.settled"})


@pytest.fixture
def prepared(installation: Installation) -> Installation:
    """A key, and a daemon that wants one approval of another."""
    installation.config.write_text(f"{installation.config.read_text()}\n[quorum]\napprovals = 1\n")
    daemon = installation.start()
    with installation.tenant("acme") as client:
        client.create_key(PARENT, "k1", purpose=Purpose.ENCRYPT)
    daemon.stop()
    return installation


def destroy(client: Client) -> object:
    return client.schedule_key_destruction(KEY, reason="gone", force=True)


def asked(client: Client) -> str:
    with pytest.raises(ApprovalRequired) as caught:
        destroy(client)
    return caught.value.approval


@pytest.mark.parametrize("failpoint", sorted(PASSES))
def test_an_approval_survives_whole_and_serves_at_most_once(prepared: Installation, failpoint: str) -> None:
    asker = prepared.issue("tenants/acme/principals/asker")
    other = prepared.issue("tenants/acme/principals/other")

    def dies(act: Callable[[], object]) -> None:
        with pytest.raises(Unavailable):
            act()
        assert daemon.process.wait(30) == -signal.SIGKILL

    daemon = prepared.start(failpoint=failpoint)
    with Client.from_profile(asker) as client, Client.from_profile(other) as voter:
        if failpoint == "approval.stored":
            dies(lambda: destroy(client))
        else:
            name = asked(client)
            digest = voter.get_approval(name).digest
            if failpoint == "approval.voted":
                dies(lambda: voter.approve(name, digest=digest))
            else:
                voter.approve(name, digest=digest)
                with under(name):
                    dies(lambda: destroy(client))
    prepared.start()
    with Client.from_profile(asker) as client, Client.from_profile(other) as voter:
        if failpoint == "approval.stored":
            assert [found.name for found in client.list_approvals(PARENT)] == [asked(client)]
            return
        approval = client.get_approval(name)
        if failpoint == "approval.voted":
            assert (approval.state, len(approval.votes)) == (ApprovalState.APPROVED, 1)
            with under(name):
                destroy(client)
            return
        done = failpoint == "approval.settled"
        assert approval.state == (ApprovalState.EXECUTED if done else ApprovalState.EXECUTING)
        assert client.get_key(KEY).state == (KeyState.DESTRUCTION_SCHEDULED if done else KeyState.ACTIVE)
        with under(name), pytest.raises(ApprovalUnusable, match="once" if done else "whether the act was done"):
            destroy(client)
