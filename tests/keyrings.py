"""Values of the core for tests, and hypothesis strategies for all that they may hold."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from kms.core.keyring import Kek, KekState, Key, KeyState, KeyVersion, Tenant
from kms.core.names import KekUid, KeyUid, TenantUid
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.core.wrapping import WrapMechanism

NOW = datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)
U32 = 2**32 - 1

_numbers = itertools.count(1)


def new_tenant(slug: str | None = None, *, primary_kek: int = 1) -> Tenant:
    return Tenant(
        uid=TenantUid(uuid.uuid4()),
        slug=slug or f"tenant-{next(_numbers)}",
        display_name="Acme",
        kek=KekUid(uuid.uuid4()),
        primary_kek=primary_kek,
        created_at=NOW,
    )


def new_kek(tenant: Tenant, version: int = 1) -> Kek:
    return Kek(tenant.uid, tenant.kek, version, KekState.PENDING, NOW, "operators/root")


def activated(kek: Kek) -> Kek:
    return replace(
        kek,
        state=KekState.ACTIVE,
        mechanism=WrapMechanism.AES_GCM,
        canary=b"\0canary",
        hsm_key_id="pkcs11:object=kek;type=secret-key",
    )


def new_key(tenant: Tenant, slug: str | None = None) -> Key:
    return Key(
        uid=KeyUid(uuid.uuid4()),
        tenant=tenant.uid,
        slug=slug or f"key-{next(_numbers)}",
        display_name="",
        purpose=Purpose.ENCRYPT,
        suite=Suite.AES_256_GCM,
        level=ProtectionLevel.SOFTWARE,
        state=KeyState.ACTIVE,
        primary_version=1,
        rotation_hours=24,
        created_at=NOW,
        rotated_at=NOW,
        created_by="operators/root",
    )


def new_version(key: Key, version: int = 1, kek_version: int = 1) -> KeyVersion:
    return KeyVersion(key.tenant, key.uid, version, b"\x01wrapped", kek_version, NOW, "operators/root")


# Everything that is Unicode text: no NUL, no half of a surrogate pair.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)
slugs = st.from_regex(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", fullmatch=True)
numbers = st.integers(1, U32)
times = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001  the zone is drawn beside it
    datetime(9000, 1, 1),  # noqa: DTZ001
    timezones=st.builds(timezone, st.timedeltas(timedelta(hours=-14), timedelta(hours=14))),
)
tenants = st.builds(
    Tenant,
    uid=st.uuids(version=4),
    slug=slugs,
    display_name=texts,
    kek=st.uuids(version=4),
    primary_kek=st.integers(0, U32),
    created_at=times,
)


def keks(tenant: Tenant) -> st.SearchStrategy[Kek]:
    pending = st.builds(
        Kek,
        tenant=st.just(tenant.uid),
        uid=st.just(tenant.kek),
        version=numbers,
        state=st.just(KekState.PENDING),
        created_at=times,
        created_by=texts,
    )
    active = st.builds(
        replace,
        pending,
        state=st.just(KekState.ACTIVE),
        mechanism=st.sampled_from(WrapMechanism),
        canary=st.binary(min_size=1, max_size=100),
        hsm_key_id=texts.filter(bool),
    )
    return pending | active


def keys(tenant: Tenant) -> st.SearchStrategy[Key]:
    return st.builds(
        Key,
        uid=st.uuids(version=4),
        tenant=st.just(tenant.uid),
        slug=slugs,
        display_name=texts,
        purpose=st.sampled_from(Purpose),
        suite=st.sampled_from(Suite),
        level=st.sampled_from(ProtectionLevel),
        state=st.sampled_from(KeyState),
        primary_version=numbers,
        rotation_hours=st.none() | st.integers(1, 87_600),
        created_at=times,
        rotated_at=times,
        created_by=texts,
        labels=st.dictionaries(texts, texts, max_size=32),
    )


def key_versions(key: Key, kek: Kek) -> st.SearchStrategy[KeyVersion]:
    return st.builds(
        KeyVersion,
        tenant=st.just(key.tenant),
        key=st.just(key.uid),
        version=numbers,
        wrapped=st.binary(min_size=1, max_size=200),
        kek_version=st.just(kek.version),
        created_at=times,
        created_by=texts,
    )
