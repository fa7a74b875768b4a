"""All that production asks for in one daemon: a user of its own on PostgreSQL, closed tenants, and two approvals."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TypeVar

import psycopg
import pytest
from kms_client import ApprovalRequired, Client, Denied, Founder, Purpose, under

from kms.kmsd import checks
from tests.cli_fixtures import command
from tests.daemon import Installation
from tests.e2e.test_database_user import with_user

pytestmark = [pytest.mark.softhsm, pytest.mark.postgresql]

ACME = "tenants/acme"
KEY = f"{ACME}/keys/payroll"
PLACE = {"table": "people", "column": "iban"}
FOUNDERS = (
    Founder("alice", ("tenant-admin",)),
    *(Founder(officer, ("security-officer",)) for officer in ("olga", "otto")),
)

T = TypeVar("T")


def approved(call: Callable[[], T], officers: tuple[Client, ...]) -> T:
    """Do what needs approvals, with those of the officers."""
    with pytest.raises(ApprovalRequired) as caught:
        call()
    assert caught.value.needed == len(officers)
    name = caught.value.approval
    for officer in officers:
        officer.approve(name, digest=officer.get_approval(name).digest)
    with under(name):
        return call()


def test_a_tenant_comes_to_life_in_production(installation: Installation, daemon_url: str, postgresql_url: str) -> None:
    config = with_user(installation, daemon_url, "production")
    assert not checks.fails(checks.run(config, datetime.now(UTC)))
    daemon = installation.start()
    assert daemon.events("access.open") == daemon.events("quorum.off") == []
    assert daemon.events("storage.user_can_do_too_much") == []
    with ExitStack() as stack:
        operator = stack.enter_context(installation.operator())
        operator.create_tenant("acme", founders=FOUNDERS)
        alice, olga, otto, app = (
            stack.enter_context(installation.client(f"{ACME}/principals/{name}"))
            for name in ("alice", "olga", "otto", "app")
        )
        with pytest.raises(Denied, match=r"keks\.rotate"):
            operator.rotate_kek(ACME)
        olga.create_key(ACME, "payroll", Purpose.ENCRYPT, policy=f"{ACME}/policies/confidential")

        # A grant takes the approval of both officers, and so does a token.
        alice.create_principal(ACME, "app")
        with pytest.raises(Denied, match=r"keys\.encrypt"):
            app.encrypt(KEY, b"x", context=PLACE)
        approved(lambda: alice.create_grant(f"{ACME}/principals/app", role="application"), (olga, otto))
        sealed = app.encrypt(KEY, b"DE89", context=PLACE)
        assert app.decrypt(KEY, sealed.ciphertext, context=PLACE).plaintext == b"DE89"
        assert approved(lambda: alice.create_token(ACME, f"{ACME}/principals/app"), (olga, otto)).text

        # One officer and nobody else is not enough to destroy a key.
        with pytest.raises(ApprovalRequired) as caught:
            olga.schedule_key_destruction(KEY, reason="contract ended", force=True)
        otto.approve(caught.value.approval, digest=otto.get_approval(caught.value.approval).digest)
        assert olga.get_approval(caught.value.approval).needed == 2
        query = "SELECT DISTINCT classification, roles FROM audit.audit_log WHERE action LIKE '%Service/Decrypt'"
        with psycopg.connect(postgresql_url) as trail:
            assert trail.execute(query).fetchall() == [("confidential", "application")]

    profile = installation.directory.parent / "clients/tenants-acme-principals-app/kms.toml"
    process = command(profile, "doctor")
    said, _ = process.communicate(timeout=30)
    assert process.returncode == os.EX_OK, said
