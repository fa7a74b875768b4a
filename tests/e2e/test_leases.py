"""Leasing DEKs from a real daemon: what is lent, when no more, what remains to be seen of it, and how a stop waits for it."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from kms_client import AsyncClient, KeyState, Purpose, StopState, Suite
from kms_client.formats import errors
from kms_client.formats.ciphertext import Header

from kms.core.context import Context
from kms.core.names import TenantUid
from kms.crypto.aead import Xaes256Gcm
from kms.crypto.dek import Dek
from tests.daemon import Installation, Service, wait_for_service

ROW = {"table": "users", "row": "1"}
DEADLINE = timedelta(seconds=5)


def leasable(service: Service, slug: str) -> str:
    made = service.acme.create_key(
        "tenants/acme", slug, purpose=Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, leasable=True
    )
    assert made.leasable
    assert service.acme.get_key(made.name).leasable
    return made.name


def test_the_daemon_reads_what_an_application_writes_and_the_other_way_round(service: Service) -> None:
    name = leasable(service, "lease-both")
    lease = service.acme.lease_key_version(name)
    key = service.acme.get_key(name)
    assert (lease.key_uid, lease.version, lease.encrypts) == (key.uid, 1, True)
    assert timedelta(0) < lease.duration < DEADLINE
    header = Header(Suite.XAES_256_GCM, UUID(lease.key_uid), 1).encode()
    context = Context.of(TenantUid(UUID(lease.tenant_uid)), [(k, v.encode()) for k, v in ROW.items()]).encode()
    cipher = Xaes256Gcm(Dek(lease.key))
    made = service.acme.encrypt(name, b"by the daemon", context=ROW).ciphertext
    assert cipher.decrypt(context, made) == b"by the daemon"
    own = cipher.encrypt(header, context, b"by the application")
    assert service.acme.decrypt(name, own, context=ROW).plaintext == b"by the application"


async def test_the_asynchronous_client_leases_the_same(service: Service) -> None:
    name = leasable(service, "lease-async")
    async with AsyncClient.from_profile(service.acme_profile) as client:
        assert (await client.lease_key_version(name)).key == service.acme.lease_key_version(name).key


def test_a_version_tells_that_it_was_exposed_and_since_when(service: Service) -> None:
    name = leasable(service, "lease-shown")
    before = datetime.now(UTC)
    [version] = service.acme.list_key_versions(name)
    assert version.expose_time is None
    service.acme.lease_key_version(name)
    [version] = service.acme.list_key_versions(name)
    first = version.expose_time
    assert first is not None
    assert before <= first <= datetime.now(UTC)
    service.acme.rotate_key(name)
    service.acme.lease_key_version(name, 1)
    assert [one.expose_time for one in service.acme.list_key_versions(name)] == [first, None]
    service.acme.lease_key_version(name)
    assert all(one.expose_time for one in service.acme.list_key_versions(name))


def test_exposure_outlives_a_daemon_that_is_killed(installation: Installation) -> None:
    name = "tenants/acme/keys/lent"
    daemon = installation.start()
    with installation.tenant("acme") as client:
        client.create_key("tenants/acme", "lent", Purpose.ENCRYPT, suite=Suite.XAES_256_GCM, leasable=True)
        lease = client.lease_key_version(name)
        [version] = client.list_key_versions(name)
        daemon.stop(signal.SIGKILL)
        installation.start()
        wait_for_service(client)
        [again] = client.list_key_versions(name)
        assert again.expose_time == version.expose_time is not None
        assert client.lease_key_version(name).key == lease.key


def test_a_stopped_key_is_lent_to_nobody_and_an_archived_one_to_decrypt(service: Service) -> None:
    name = leasable(service, "lease-states")
    service.acme.suspend_key(name, reason="audit")
    with pytest.raises(errors.WrongKeyState, match="is suspended"):
        service.acme.lease_key_version(name)
    service.acme.resume_key(name)
    assert service.acme.lease_key_version(name).encrypts
    service.acme.archive_key(name)
    assert not service.acme.lease_key_version(name).encrypts
    service.acme.schedule_key_destruction(name, reason="old", force=True)
    with pytest.raises(errors.WrongKeyState, match="is destruction scheduled"):
        service.acme.lease_key_version(name)
    service.acme.cancel_key_destruction(name)
    service.acme.revoke_key(name, reason="lost")
    for version in (0, 1):
        with pytest.raises(errors.WrongKeyState, match="is revoked"):
            service.acme.lease_key_version(name, version)


def test_a_stop_waits_for_the_leases_of_applications(service: Service) -> None:
    name = leasable(service, "lease-stopped")
    service.acme.lease_key_version(name)
    service.acme.rotate_key(name)
    unexposed = service.acme.revoke_key_version(f"{name}/versions/2", reason="never lent", wait=True)
    assert [node.node for node in unexposed.propagation.nodes].count("applications") == 0
    at_once = service.acme.revoke_key_version(f"{name}/versions/1", reason="leaked").propagation
    assert not at_once.complete
    assert {node.node: node.state for node in at_once.nodes}["applications"] is StopState.WAITING
    began = time.monotonic()
    stopped = service.acme.suspend_key(name, reason="audit", wait=True)
    assert stopped.key.state is KeyState.SUSPENDED
    assert stopped.propagation.complete
    assert stopped.propagation.last_stop == DEADLINE
    assert time.monotonic() - began > DEADLINE.total_seconds() - 0.5
    told = {node.node: (node.state, node.after) for node in stopped.propagation.nodes}
    assert told["applications"] == (StopState.EXPIRED, DEADLINE)


@pytest.mark.parametrize(
    ("key", "error"),
    [("extended", errors.FailedPrecondition), ("data-key", errors.WrongPurpose), ("absent", errors.NotFound)],
)
def test_other_keys_are_not_lent(service: Service, key: str, error: type[errors.KmsError]) -> None:
    with pytest.raises(error):
        service.acme.lease_key_version(f"tenants/acme/keys/{key}")


def test_another_tenants_key_is_not_found(service: Service) -> None:
    name = leasable(service, "lease-own")
    with pytest.raises(errors.NotFound):
        service.globex.lease_key_version(name)


def test_what_may_not_be_leasable_is_refused_with_field_and_rule(service: Service) -> None:
    for options, told in (
        ({"purpose": Purpose.ENCRYPT}, "suite AES_256_GCM: only XAES_256_GCM"),
        ({"purpose": Purpose.DATA_KEY, "suite": Suite.XAES_256_GCM}, "purpose DATA_KEY: only ENCRYPT"),
        (
            {"purpose": Purpose.ENCRYPT, "suite": Suite.XAES_256_GCM, "policy": "tenants/acme/policies/confidential"},
            "each data access is logged (rule confidential.log_data_access)",
        ),
    ):
        with pytest.raises(errors.InvalidRequest) as caught:
            service.acme.create_key("tenants/acme", "lease-none", leasable=True, **options)  # type: ignore[arg-type]
        assert {violation.field for violation in caught.value.violations} == {"key.leasable"}
        assert any(told in violation.rule for violation in caught.value.violations)


def test_a_lease_is_an_event_of_the_audit_trail_that_names_key_and_version(service: Service) -> None:
    name = leasable(service, "lease-told")
    service.acme.lease_key_version(name)
    [event] = [
        one
        for one in service.acme.list_audit_events("tenants/acme")
        if "lease" in one.action.lower() and one.resource == name
    ]
    assert (event.key_version, event.outcome, event.items) == (1, "success", 1)
