from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from kms.core.keyring import Key, Tenant
from kms.core.lifecycle import KeyState
from kms.core.names import KekUid, KeyName, KeyUid, TenantName, TenantUid
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.core.wrapping import DekPlace

NOW = datetime(2025, 1, 1, tzinfo=UTC)
TENANT = Tenant(
    uid=TenantUid(UUID("11111111-1111-4111-8111-111111111111")),
    slug="acme",
    display_name="Acme",
    kek=KekUid(UUID("33333333-3333-4333-8333-333333333333")),
    primary_kek=0,
    created_at=NOW,
)
KEY = Key(
    uid=KeyUid(UUID("22222222-2222-4222-8222-222222222222")),
    tenant=TENANT.uid,
    slug="pay",
    display_name="Pay",
    purpose=Purpose.ENCRYPT,
    suite=Suite.XAES_256_GCM,
    level=ProtectionLevel.SOFTWARE,
    state=KeyState.ACTIVE,
    primary_version=4,
    created_at=NOW,
    rotated_at=NOW,
    scheduled_from=NOW,
    state_at=NOW,
    created_by="operators/admin",
    revision=9,
)


def test_a_tenant_is_ready_once_it_has_a_primary_kek():
    assert not TENANT.ready
    made = TENANT.with_primary_kek(1)
    assert made.ready
    assert made == replace(TENANT, primary_kek=1)
    assert not TENANT.ready  # the old value stays what it was


def test_resource_names():
    assert TENANT.name == TenantName("acme")
    assert KEY.name(TENANT) == KeyName("acme", "pay")


def test_a_place_holds_all_that_a_dek_is_bound_to():
    assert KEY.place(3) == DekPlace(
        TENANT.uid, KEY.uid, 3, Purpose.ENCRYPT, Suite.XAES_256_GCM, ProtectionLevel.SOFTWARE
    )


def test_rotation_makes_the_next_version_primary_and_changes_nothing_else():
    later = NOW + timedelta(hours=24)
    slot = NOW + timedelta(hours=23)
    rotated = KEY.rotated(later, slot)
    assert rotated == replace(
        KEY, primary_version=5, rotated_at=later, scheduled_from=slot, state=KeyState.ROTATING, state_at=later
    )
    assert KEY.primary_version == 4


def test_the_etag_changes_with_the_revision():
    assert KEY.etag == "9"
    assert replace(KEY, revision=10).etag != KEY.etag


def test_values_are_frozen():
    with pytest.raises(FrozenInstanceError):
        KEY.primary_version = 5  # type: ignore[misc]
