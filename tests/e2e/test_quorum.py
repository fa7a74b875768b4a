"""A dangerous request on a real daemon: refused, approved by two others, done once, and nothing else under it."""

from __future__ import annotations

import pytest
from kms_client import (
    AlreadyExists,
    ApprovalRequired,
    ApprovalState,
    ApprovalUnusable,
    Conflict,
    Denied,
    KeyState,
    NotFound,
    Purpose,
    SelfApproval,
    under,
)

from tests.daemon import Installation

PARENT = "tenants/acme"
KEY = f"{PARENT}/keys/k1"


def test_two_others_approve_exactly_what_is_done_and_it_is_done_once(installation: Installation) -> None:
    text = installation.config.read_text()
    assert 'profile = "development"' in text
    installation.config.write_text(f"{text}\n[quorum]\napprovals = 2\n")
    daemon = installation.start()
    assert daemon.events("quorum.off") == []
    with (
        installation.tenant("acme") as asker,
        installation.client("tenants/acme/principals/second") as second,
        installation.client("tenants/acme/principals/third") as third,
        installation.tenant("globex") as stranger,
    ):
        asker.create_key(PARENT, "k1", purpose=Purpose.ENCRYPT)
        asker.encrypt(KEY, b"lost", context={"row": "1"})

        with pytest.raises(ApprovalRequired) as caught:
            asker.schedule_key_destruction(KEY, reason="contract ended", force=True)
        name = caught.value.approval
        assert caught.value.needed == 2
        assert asker.get_key(KEY).state == KeyState.ACTIVE

        seen = second.get_approval(name)
        assert '"force": true' in seen.request_json
        assert [waiting.name for waiting in third.list_approvals(PARENT, waiting_only=True)] == [name]
        with pytest.raises(SelfApproval):
            asker.approve(name, digest=seen.digest)
        assert second.approve(name, digest=seen.digest, comment="checked").state == ApprovalState.OPEN
        with pytest.raises(AlreadyExists):
            second.approve(name, digest=seen.digest)
        with pytest.raises(NotFound):
            stranger.approve(name, digest=seen.digest)
        with under(name), pytest.raises(ApprovalUnusable, match="1 of 2"):
            asker.schedule_key_destruction(KEY, reason="contract ended", force=True)
        approved = third.approve(name, digest=seen.digest)
        assert (approved.state, [vote.credential for vote in approved.votes]) == (
            ApprovalState.APPROVED,
            ["certificate", "certificate"],
        )

        with under(name):
            with pytest.raises(ApprovalUnusable, match="another request"):
                asker.schedule_key_destruction(KEY, reason="contract changed", force=True)
            with pytest.raises(Denied):
                second.schedule_key_destruction(KEY, reason="contract ended", force=True)
            scheduled = asker.schedule_key_destruction(KEY, reason="contract ended", force=True)
            assert scheduled.state == KeyState.DESTRUCTION_SCHEDULED
            asker.cancel_key_destruction(KEY)
            with pytest.raises(ApprovalUnusable, match="serves once"):
                asker.schedule_key_destruction(KEY, reason="contract ended", force=True)
        assert asker.get_key(KEY).state == KeyState.ACTIVE
        assert asker.get_approval(name).state == ApprovalState.EXECUTED

        rule = next(rule for rule in asker.list_quorum_rules(PARENT) if rule.permission == "keys.destroy")
        assert (rule.approvals, rule.is_default) == (2, True)
        with pytest.raises(ApprovalRequired):
            asker.update_quorum_rule(rule.name, approvals_needed=0, present=2)
        with pytest.raises((Conflict, ApprovalRequired)):
            asker.update_quorum_rule(rule.name, approvals_needed=0, present=0)
        assert asker.list_quorum_rules(PARENT) == second.list_quorum_rules(PARENT)


def test_a_development_installation_needs_nobody_and_says_so_loudly(installation: Installation) -> None:
    daemon = installation.start()
    [warning] = daemon.events("quorum.off")
    assert warning["level"] == "warning"
    with installation.tenant("acme") as client:
        client.create_key(PARENT, "k1", purpose=Purpose.ENCRYPT)
        client.encrypt(KEY, b"x", context={"row": "1"})
        client.rotate_key(KEY)
        scheduled = client.schedule_key_destruction(KEY, reason="test over", force=True)
        assert scheduled.state == KeyState.DESTRUCTION_SCHEDULED
        # Confidential data needs one other, also here.
        name = f"{PARENT}/keys/classed"
        client.create_key(PARENT, "classed", purpose=Purpose.ENCRYPT, policy=f"{PARENT}/policies/confidential")
        with pytest.raises(ApprovalRequired) as caught:
            client.schedule_key_destruction(name, reason="test over", force=True)
        assert caught.value.needed == 1
        with installation.client(f"{PARENT}/principals/second") as second:
            second.approve(caught.value.approval, digest=second.get_approval(caught.value.approval).digest)
        with under(caught.value.approval):
            scheduled = client.schedule_key_destruction(name, reason="test over", force=True)
        assert scheduled.state == KeyState.DESTRUCTION_SCHEDULED
    [forced] = daemon.events("quorum.forced_alone")
    assert forced["level"] == "warning"
