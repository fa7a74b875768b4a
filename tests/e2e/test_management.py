"""Tenants, keys and KEKs as their owners manage them."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import UUID

import pytest
from kms_client.formats import errors

from kms.core.suites import ProtectionLevel, Purpose, Suite
from tests.daemon import Service


def test_a_tenant_is_created_once_and_found_by_operator_and_owner(service: Service) -> None:
    made = service.operator.create_tenant("initech", display_name="Initech Überwachung")
    assert UUID(made.uid).version == 4
    assert (made.name, made.display_name) == ("tenants/initech", "Initech Überwachung")
    assert service.operator.get_tenant("tenants/initech") == made
    with pytest.raises(errors.AlreadyExists):
        service.operator.create_tenant("initech")
    with pytest.raises(errors.NotFound):
        service.acme.get_tenant("tenants/initech")


def test_lists_come_in_pages_ordered_by_name(service: Service) -> None:
    for index in range(7):
        service.globex.create_key("tenants/globex", f"page-{index}", purpose=Purpose.ENCRYPT)
    keys = [key.name for key in service.globex.list_keys("tenants/globex", page_size=2)]
    assert keys == sorted(keys)
    assert [name for name in keys if "page-" in name] == [f"tenants/globex/keys/page-{i}" for i in range(7)]
    assert keys == [key.name for key in service.globex.list_keys("tenants/globex")]
    tenants = [tenant.name for tenant in service.operator.list_tenants(page_size=1)]
    assert tenants == sorted(tenants)
    assert {"tenants/acme", "tenants/globex"} <= set(tenants)


def test_a_key_records_what_it_is_who_made_it_and_when(service: Service) -> None:
    key = service.acme.create_key(
        "tenants/acme",
        "recorded",
        purpose=Purpose.ENCRYPT,
        display_name="Payroll",
        labels={"team": "hr"},
        rotation_period=timedelta(hours=48),
    )
    assert key == service.acme.get_key("tenants/acme/keys/recorded")
    assert UUID(key.uid).version == 4
    assert (key.purpose, key.suite, key.protection_level) == (
        Purpose.ENCRYPT,
        Suite.AES_256_GCM,
        ProtectionLevel.SOFTWARE,
    )
    assert (key.display_name, dict(key.labels), key.rotation_period) == ("Payroll", {"team": "hr"}, timedelta(hours=48))
    assert key.creator == "tenants/acme/principals/app"
    assert key.create_time == key.rotate_time
    assert key.primary_version == 1
    rotated = service.acme.rotate_key(key.name)
    assert (rotated.primary_version, rotated.create_time) == (2, key.create_time)
    assert rotated.rotate_time > key.create_time


def test_keys_rotate_every_day_unless_told_otherwise(service: Service) -> None:
    key = service.acme.get_key("tenants/acme/keys/encrypt")
    assert key.rotation_period is None
    assert key.effective_policy.rotation_period == timedelta(hours=24)
    assert service.acme.get_key("tenants/acme/keys/deterministic").rotation_period is None


def test_an_update_changes_what_it_names_and_nothing_else(service: Service) -> None:
    key = service.acme.create_key(
        "tenants/acme", "updated", purpose=Purpose.ENCRYPT, display_name="before", labels={"a": "1"}
    )
    changed = service.acme.update_key(key.name, display_name="after")
    assert (changed.display_name, dict(changed.labels)) == ("after", {"a": "1"})
    assert changed.etag != key.etag
    with pytest.raises(errors.Conflict):
        service.acme.update_key(key.name, display_name="lost", etag=key.etag)
    assert service.acme.get_key(key.name).display_name == "after"


def test_a_retry_with_the_etag_seen_cannot_rotate_twice(service: Service) -> None:
    key = service.acme.create_key("tenants/acme", "once", purpose=Purpose.ENCRYPT)
    service.acme.rotate_key(key.name, etag=key.etag)
    with pytest.raises(errors.Conflict):
        service.acme.rotate_key(key.name, etag=key.etag)
    assert service.acme.get_key(key.name).primary_version == 2


def test_rotations_at_once_leave_versions_without_gaps_and_one_primary(service: Service) -> None:
    name = service.acme.create_key("tenants/acme", "raced", purpose=Purpose.ENCRYPT).name
    outcomes: list[str] = []

    def rotate() -> None:
        for _ in range(5):
            try:
                service.acme.rotate_key(name)
                outcomes.append("rotated")
            except errors.Conflict:
                outcomes.append("conflict")

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    versions = list(service.acme.list_key_versions(name))
    assert len(outcomes) == 20
    assert [version.version for version in versions] == list(range(1, outcomes.count("rotated") + 2))
    assert [version.primary for version in versions] == [False] * (len(versions) - 1) + [True]


def test_a_new_kek_version_wraps_what_is_new_and_says_what_hangs_on_each(service: Service) -> None:
    before = list(service.globex.list_keks("tenants/globex"))
    rotated = service.operator.rotate_kek("tenants/globex", primary_version=before[-1].version)
    with pytest.raises(errors.Conflict):
        service.operator.rotate_kek("tenants/globex", primary_version=before[-1].version)
    service.globex.create_key("tenants/globex", "after-rotation", purpose=Purpose.ENCRYPT)
    after = list(service.globex.list_keks("tenants/globex"))
    assert [kek.version for kek in after] == [*(kek.version for kek in before), rotated.version]
    assert [kek.primary for kek in after] == [False] * len(before) + [True]
    assert {kek.uid for kek in after} == {before[0].uid}
    assert after[-1].wrapped_key_versions >= 1  # the older ones are re-wrapped meanwhile
    assert after[-1].wraps_reserved >= 1
    assert after[-1].hsm_key_id.startswith("pkcs11:token=kms;")
    assert sum(kek.wrapped_key_versions for kek in before) + 1 == sum(kek.wrapped_key_versions for kek in after)


def test_a_tenants_keks_are_its_own_business(service: Service) -> None:
    for act in (service.acme.list_keks, service.acme.rotate_kek):
        with pytest.raises(errors.NotFound):
            list(act("tenants/globex"))  # type: ignore[call-overload]


def test_the_count_of_encryptions_is_never_less_than_what_was_made(service: Service) -> None:
    name = service.acme.create_key("tenants/acme", "counted", purpose=Purpose.ENCRYPT).name
    assert [v.encryptions_reserved for v in service.acme.list_key_versions(name)] == [0]
    service.acme.encrypt_batch(name, [b"x"] * 9_000).complete()
    [version] = service.acme.list_key_versions(name)
    assert version.encryptions_reserved >= 9_000
    assert version.encryptions_limit == 2**32 - 2**24
    deterministic = next(iter(service.acme.list_key_versions("tenants/acme/keys/deterministic")))
    assert deterministic.encryptions_limit is None
