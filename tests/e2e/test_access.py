"""A daemon whose tenants are closed: founders, grants, separated duties, and what another tenant's resources look like."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from kms_client import Conditions, Denied, Effect, Founder, NotFound, PrincipalKind, Purpose

from tests.cli_fixtures import command

pytestmark = pytest.mark.softhsm

ACME = "tenants/acme"
KEY = f"{ACME}/keys/payroll"
BILLING = f"{ACME}/principals/billing"
FOUNDERS = (
    Founder("alice", ("tenant-admin",)),
    Founder("olga", ("security-officer",)),
    Founder("ada", ("auditor",)),
)


def test_a_closed_tenant_lets_everybody_do_their_own_part_and_nothing_else(installation):
    text = installation.config.read_text()
    assert "open_tenants = true" in text
    installation.config.write_text(text.replace("open_tenants = true", "open_tenants = false"))
    daemon = installation.start()
    assert daemon.events("access.open") == []
    with ExitStack() as stack:
        operator = stack.enter_context(installation.operator())
        operator.create_tenant("acme", founders=FOUNDERS)
        operator.create_tenant("globex", founders=[Founder("eve", ("application", "security-officer", "tenant-admin"))])
        alice, olga, ada, billing = (
            stack.enter_context(installation.client(f"{ACME}/principals/{name}"))
            for name in ("alice", "olga", "ada", "billing")
        )
        eve = stack.enter_context(installation.client("tenants/globex/principals/eve"))

        # The security officer makes a key and uses none; the administrator does neither.
        olga.create_key(ACME, "payroll", Purpose.ENCRYPT)
        for client in (olga, alice, ada, billing):
            with pytest.raises(Denied, match=f"^keys.encrypt on {KEY} is not allowed$"):
                client.encrypt(KEY, b"x", context={"table": "users"})
        with pytest.raises(Denied, match=f"^keys.rotate on {KEY} is not allowed$"):
            alice.rotate_key(KEY)

        # An application encrypts once it is granted that, and rotates nothing.
        assert alice.create_principal(ACME, "billing").kind == PrincipalKind.SERVICE
        users = Conditions({"table": ("users",)})
        grant = alice.create_grant(BILLING, role="application", resource=f"{ACME}/keys/*", conditions=users)
        sealed = billing.encrypt(KEY, b"secret", context={"table": "users"})
        assert billing.decrypt(KEY, sealed.ciphertext, context={"table": "users"}).plaintext == b"secret"
        with pytest.raises(Denied, match=r"keys\.encrypt"):
            billing.encrypt(KEY, b"x", context={"table": "salaries"})
        with pytest.raises(Denied, match=r"keys\.rotate"):
            billing.rotate_key(KEY)
        with pytest.raises(Denied, match=r"keys\.decrypt"):
            olga.decrypt(KEY, sealed.ciphertext, context={"table": "users"})

        # The auditor reads, and is told why; nobody grants anything to themself.
        assert [principal.name for principal in ada.list_principals(ACME)] == [
            f"{ACME}/principals/{name}" for name in ("ada", "alice", "billing", "olga")
        ]
        told = ada.explain_access(BILLING, "keys.encrypt", KEY, context={"table": "users"})
        assert (told.allowed, told.grant) == (True, grant.name)
        assert not ada.explain_access(BILLING, "keys.encrypt", KEY).allowed
        with pytest.raises(Denied, match=r"grants\.create"):
            ada.create_grant(BILLING, role="auditor")
        with pytest.raises(Denied, match="nobody changes their own grants"):
            alice.create_grant(f"{ACME}/principals/alice", role="security-officer")

        # Another tenant's resources, and operators' reach.
        for name in (KEY, f"{ACME}/keys/absent", "tenants/nobody/keys/payroll"):
            for call in (lambda n=name: eve.get_key(n), lambda n=name: eve.encrypt(n, b"x")):
                with pytest.raises(NotFound, match=f"^{name} does not exist$"):
                    call()
        with pytest.raises(NotFound, match=f"^{BILLING} does not exist$"):
            eve.create_grant(BILLING, role="application")
        with pytest.raises(Denied, match=r"principals\.block"):
            operator.block_principal(BILLING, reason="x")

        # A denial wins, a block stops everything, and what is deleted is gone.
        deny = alice.create_grant(BILLING, permissions=["keys.decrypt"], effect=Effect.DENY)
        with pytest.raises(Denied, match=r"keys\.decrypt"):
            billing.decrypt(KEY, sealed.ciphertext, context={"table": "users"})
        alice.delete_grant(deny.name)
        assert billing.decrypt(KEY, sealed.ciphertext, context={"table": "users"}).plaintext == b"secret"
        alice.block_principal(BILLING, reason="lost")
        with pytest.raises(Denied):
            billing.encrypt(KEY, b"x", context={"table": "users"})
        alice.unblock_principal(BILLING)
        alice.delete_grant(grant.name)
        with pytest.raises(Denied):
            billing.encrypt(KEY, b"x", context={"table": "users"})

    profile = installation.issue(f"{ACME}/principals/alice-2")
    process = command(profile, "access", "explain", "billing", "keys.encrypt", KEY)
    _, complaint = process.communicate(timeout=30)
    assert (process.returncode, b"access.explain" in complaint) == (5, True)


def test_an_open_installation_says_so_at_the_start(service):
    [event] = service.daemon.events("access.open")
    assert event["level"] == "warning"
