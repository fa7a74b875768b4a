"""What happens in the installation that is attacked: two tenants, and something of every kind in each, in two parts.

Two daemons serve one after the other, the first with a clock that is far behind, so that what waits (destruction,
rotation, expiry) has come to pass. What the database held after the first is the earlier state that rollbacks restore.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kms_client import (
    ApprovalRequired,
    Client,
    Conditions,
    Effect,
    Founder,
    KmsError,
    PlaceKind,
    Purpose,
    Suite,
    TokenLimits,
    TokenScope,
    under,
)

from kms.core.blobs import BlobUse
from kms.core.body_ports import BodyName
from kms.core.enclave_upgrades import UpgradeState
from kms.core.names import INSTALLATION_UID
from kms.core.retention import Month
from kms.core.roles import GRANTABLE
from kms.parts import opened_parts
from kms.settings import load
from storage.bodies.database import DatabaseBodies
from storage.database import Database
from tests.blob_records import KEY, blob_of, upgrade_of, upload_of
from tests.daemon import Daemon, Installation, wait_until
from tests.enclave_records import new_enclave
from tests.keyrings import new_archive

BEHIND = timedelta(days=9)  # longer than what waits: a key's destruction, a version's quarantine
WAITING = timedelta(days=7)
PAUSE = timedelta(
    days=4
)  # behind: a daemon that is only seen, since after a silence of seven days nothing is destroyed
TENANTS = ("acme", "globex")
ALL_ROLES = tuple(role.value for role in GRANTABLE)
FOUNDERS = (
    *(Founder(name, ALL_ROLES) for name in ("everything", "second")),
    *(Founder(name, ("security-officer",)) for name in ("olga", "oscar")),
    Founder("app", ("application",)),
)
SETTINGS = """
[rotation]
interval = 1

[backup]
horizon = 0

[events]
denials = 2
unauthorized = 2

[[sinks]]
kind = "file"
name = "local"
path = "data/events.jsonl"
"""


async def _add_blobs(storage: Database, slug: str) -> None:
    """Enter records and bodies of blobs, which no daemon without an enclave makes; no KEK wraps their keys."""
    async with storage.transaction() as work:
        tenant = await work.tenants.get(slug)
    assert tenant is not None
    key = replace(KEY, kek_version=2**31)
    blobs = [blob_of(tenant, f"file-{number}", key=key, description=f"number {number}") for number in (1, 2)]
    async with storage.transaction(tenant.uid, write=True) as work:
        for blob in blobs:
            await work.blobs.add(blob)
            await work.blobs.put_upload(upload_of(tenant, key=key))
        for state in (UpgradeState.CANCELLED, UpgradeState.PREPARING):
            await work.enclave_upgrades.add(upgrade_of(tenant, state=state))
        await work.blobs.add_uses(tenant.uid, {blob.uid: BlobUse(1, blob.created_at) for blob in blobs})
    for blob in blobs:
        await DatabaseBodies(storage, lambda: datetime.now(UTC)).write(BodyName(tenant.uid, blob.uid, 1, 0), _bytes())


async def _bytes() -> AsyncIterator[bytes]:
    yield os.urandom(5)


@dataclass
class History:
    """An installation, and who acts in it."""

    installation: Installation
    _clients: dict[str, Client] = field(default_factory=dict)

    def prepare(self) -> None:
        """Configure it."""
        config = self.installation.config
        config.write_text(config.read_text().replace("open_tenants = true", "open_tenants = false") + SETTINGS)

    def first_part(self) -> None:
        """Let the first daemon serve: everything is made."""
        daemon = self.installation.start(KMS_CLOCK_OFFSET=str(-BEHIND.total_seconds()))
        with self.installation.operator() as operator:
            for tenant in TENANTS:
                operator.create_tenant(tenant, founders=FOUNDERS, display_name=f"The {tenant} company")
                self._make(tenant, datetime.now(UTC) - BEHIND)
        self._end(daemon)

    async def between(self) -> None:
        """Enter archives of the trail, of which no month is old enough for real ones, and enclaves, which no node has."""
        async with (
            opened_parts(load(self.installation.config)) as parts,
            parts.storage.transaction(INSTALLATION_UID, write=True) as work,
        ):
            for serial in (1, 2):
                await work.audit_archives.add(new_archive(INSTALLATION_UID, serial, Month(2026, serial)))
                await work.enclaves.put(INSTALLATION_UID, new_enclave(restarts=serial))
        async with opened_parts(load(self.installation.config)) as parts:
            for slug in TENANTS:
                await _add_blobs(parts.storage, slug)

    def second_part(self) -> None:
        """Let the second daemon serve: everything changes."""
        self._end(self.installation.start(KMS_CLOCK_OFFSET=str(-PAUSE.total_seconds())))
        daemon = self.installation.start()
        with self.installation.operator() as operator:
            for tenant in TENANTS:
                self._change(tenant, operator)
                self._watch(tenant)
        self._end(daemon)

    def client(self, who: str, tenant: str) -> Client:
        """Who acts for a tenant."""
        name = f"tenants/{tenant}/principals/{who}"
        if name not in self._clients:
            self._clients[name] = Client.from_profile(self._profile(name))
        return self._clients[name]

    def _profile(self, name: str) -> Path:
        made = self.installation.directory.parent / "clients" / name.replace("/", "-") / "kms.toml"
        return made if made.exists() else self.installation.issue(name)

    def _use_token(self, tenant: str, text: str) -> None:
        """Make a call with a token, beside the certificate of its principal."""
        profile = self._profile(f"tenants/{tenant}/principals/app")
        held = profile.with_name("token")
        held.touch(0o600)
        held.write_text(text)
        other = profile.with_name("with-token.toml")
        other.write_text(f'{profile.read_text()}\ntoken = "{held}"\n')
        with Client.from_profile(other) as client:
            client.who_am_i()

    def _end(self, daemon: Daemon) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        assert daemon.stop() == 0, "".join(daemon.raw)[-5000:]

    def _make(self, tenant: str, now: datetime) -> None:
        parent, everything = f"tenants/{tenant}", self.client("everything", tenant)
        everything.create_policy(parent, "gold", rotation_period=timedelta(days=30))
        everything.create_policy(parent, "silver")
        for slug, purpose in (("rows", Purpose.ENCRYPT), ("names", Purpose.DETERMINISTIC), ("files", Purpose.DATA_KEY)):
            everything.create_key(parent, slug, purpose=purpose, policy=f"{parent}/policies/gold")
        for slug in ("stopped", "compromised", "old", "doomed", "condemned", "moved"):
            everything.create_key(parent, slug, purpose=Purpose.ENCRYPT)
        everything.create_key(parent, "lent", purpose=Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, leasable=True)
        everything.lease_key_version(f"{parent}/keys/lent")
        everything.create_key(parent, "planned", purpose=Purpose.ENCRYPT, pending=True)
        for slug in ("rows", "names", "compromised"):
            self._use(everything, f"{parent}/keys/{slug}")
        everything.rotate_key(f"{parent}/keys/rows")
        everything.rotate_key(f"{parent}/keys/compromised")
        everything.rotate_key(f"{parent}/keys/old")
        everything.revoke_key_version(f"{parent}/keys/old/versions/1", reason="leaked")
        everything.schedule_key_destruction(
            f"{parent}/keys/doomed", reason="the product is gone", waiting_period=WAITING, force=True
        )
        everything.retire_key_version(f"{parent}/keys/old/versions/1", force=True)

        for key in ("rows", "names"):
            for place in ("ledger", "mirror"):
                everything.create_place(f"{parent}/keys/{key}", place, PlaceKind.COLUMN, description="of accounting")
            everything.report_census(f"{parent}/keys/{key}/places/ledger", {1: 7}, count_time=now)
        everything.declare_places(f"{parent}/keys/rows", complete=True)

        for name in ("anna", "bert", "carla"):
            everything.create_principal(parent, name, display_name=name.title())
            principal = f"{parent}/principals/{name}"
            everything.create_grant(principal, role="application", resource=f"{parent}/keys/rows", reason="ticket 7")
            everything.create_grant(principal, role="auditor", effect=Effect.DENY)
            everything.pin_certificate(principal, name.encode().hex().ljust(64, "0"))
            everything.pin_certificate(principal, name.encode().hex().ljust(64, "1"))
            everything.create_token(
                parent,
                principal,
                display_name=name,
                scopes=[TokenScope.READ],
                limits=TokenLimits(requests_per_minute=5),
            )
        for hold in ("lawsuit", "audit"):
            everything.create_legal_hold(parent, hold, reason="a matter of last year")
        made = everything.create_token(parent, f"{parent}/principals/app", limits=TokenLimits())
        self._use_token(tenant, made.text)
        self._ask_for_approval(tenant)

    def _ask_for_approval(self, tenant: str) -> None:
        """Requests that wait, that are approved and carried out, and that are rejected."""
        parent, everything = f"tenants/{tenant}", self.client("everything", tenant)
        for permission in ("keys.destroy", "tokens.create"):
            everything.update_quorum_rule(f"{parent}/quorumRules/{permission}", approvals_needed=2, present=0)
        waiting = []
        for key in ("condemned", "moved", "names"):
            try:
                everything.schedule_key_destruction(
                    f"{parent}/keys/{key}", reason="tidying", waiting_period=WAITING, force=True
                )
            except ApprovalRequired as asked:
                waiting.append(asked.approval)
        assert len(waiting) == 3
        olga, oscar = self.client("olga", tenant), self.client("oscar", tenant)
        digest = olga.get_approval(waiting[0]).digest
        for officer in (olga, oscar):
            officer.approve(waiting[0], digest=digest, comment="seen")
        with under(waiting[0]):
            everything.schedule_key_destruction(
                f"{parent}/keys/condemned", reason="tidying", waiting_period=WAITING, force=True
            )
        olga.reject(waiting[1], comment="still in use")
        olga.approve(waiting[2], digest=olga.get_approval(waiting[2]).digest)

    def _change(self, tenant: str, operator: Client) -> None:
        parent, everything = f"tenants/{tenant}", self.client("everything", tenant)
        wait_until(
            lambda: len(list(everything.list_destruction_receipts(parent))) >= 2, "what was to be destroyed to be gone"
        )
        everything.update_policy(f"{parent}/policies/gold", version=1, rotation_period=timedelta(days=20))
        everything.update_policy(f"{parent}/policies/silver", version=1, cache_lifetime=timedelta(seconds=30))
        for slug in ("rows", "names"):
            self._use(everything, f"{parent}/keys/{slug}")
            everything.rotate_key(f"{parent}/keys/{slug}")
            self._use(everything, f"{parent}/keys/{slug}")
        everything.generate_data_key(f"{parent}/keys/files")
        everything.rotate_key(f"{parent}/keys/lent")
        everything.lease_key_version(f"{parent}/keys/lent")
        everything.suspend_key(f"{parent}/keys/stopped", reason="an audit")
        everything.revoke_key(f"{parent}/keys/compromised", reason="a lost laptop")
        everything.archive_key(f"{parent}/keys/moved")
        everything.activate_key(f"{parent}/keys/planned")
        everything.update_key(f"{parent}/keys/files", display_name="Files", labels={"team": "storage"})
        everything.rotate_kek(parent)
        moved = everything.rotate_keys(parent)
        everything.wait_operation(moved.name, seconds=20)

        for key in ("rows", "names"):
            everything.report_census(f"{parent}/keys/{key}/places/ledger", {1: 3, 2: 4}, count_time=datetime.now(UTC))
            everything.delete_place(f"{parent}/keys/{key}/places/mirror")
            everything.create_place(f"{parent}/keys/{key}", "archive", PlaceKind.BLOBS)

        anna, bert, carla = (f"{parent}/principals/{name}" for name in ("anna", "bert", "carla"))
        everything.block_principal(bert, reason="on leave")
        everything.update_principal(carla, display_name="Carla C.")
        for grant in everything.list_grants(anna):
            if grant.role == "application":
                everything.delete_grant(grant.name)
        everything.create_grant(
            anna, role="application", conditions=Conditions(networks=("192.0.2.0/24",)), reason="ticket 8"
        )
        everything.unpin_certificate(anna, b"anna".hex().ljust(64, "1"))
        everything.pin_certificate(anna, b"anna".hex().ljust(64, "2"))
        tokens = list(everything.list_tokens(parent))
        everything.revoke_token(tokens[0].name, "found in a log")
        everything.rotate_token(tokens[1].name)
        everything.release_legal_hold(f"{parent}/legalHolds/audit", reason="it is over")
        everything.update_quorum_rule(f"{parent}/quorumRules/keys.destroy", approvals_needed=3, present=2)
        with pytest.raises(ApprovalRequired) as asked:
            everything.schedule_key_destruction(f"{parent}/keys/moved", reason="tidying again", force=True)
        oscar = self.client("oscar", tenant)
        oscar.approve(asked.value.approval, digest=oscar.get_approval(asked.value.approval).digest, comment="at last")
        assert list(operator.list_tenants())
        for days in (5, 3):
            now = datetime.now(UTC)
            made = everything.generate_report(parent, "soc2", start=now - timedelta(days=days), end=now)
            self._wait_for_report(everything, made.report.name)
        everything.submit_report(made.report.name)

    def _wait_for_report(self, client: Client, name: str) -> None:
        wait_until(lambda: client.get_report(name).state == "completed", f"{name} to be there")

    def _watch(self, tenant: str) -> None:
        """Be conspicuous, so that security events are written, and answer one of them."""
        parent, everything, app = f"tenants/{tenant}", self.client("everything", tenant), self.client("app", tenant)
        other = next(name for name in TENANTS if name != tenant)
        for _ in range(4):
            with suppress(KmsError):
                app.create_policy(parent, "mine")
            with suppress(KmsError):
                app.encrypt(f"tenants/{other}/keys/rows", b"x")
        wait_until(lambda: len(list(everything.list_security_events(parent))) >= 2, "security events")
        event = next(iter(everything.list_security_events(parent)))
        everything.update_security_event(event.name, notes="a test of ours")

    def _use(self, client: Client, key: str) -> None:
        context: dict[str, Any] = {"table": "people"}
        made = client.encrypt(key, b"value", context=context)
        assert client.decrypt(key, made.ciphertext, context=context).plaintext == b"value"
