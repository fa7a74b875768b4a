"""Creating, changing and rotating keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from kms.core.errors import AlreadyExists, Conflict, NotFound
from kms.core.keyring import Key, KeyState, KeyVersion, Tenant
from kms.core.names import KeyName, KeyUid, Principal, TenantName
from kms.core.ports import Counter, Storage
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.failpoints import reach
from kms.services.counting import UsageCounters
from kms.services.keyrings import Keyrings, Ring
from kms.services.tenants import Tenants
from kms.services.wrapping import DekWrapping


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a caller chooses for a new key."""

    slug: str
    display_name: str
    purpose: Purpose
    suite: Suite
    labels: Mapping[str, str]
    rotation_hours: int | None


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A key version, and how much it has been used."""

    version: KeyVersion
    primary: bool
    encryptions_reserved: int


class Keys:
    """The keys of all tenants."""

    def __init__(
        self,
        storage: Storage,
        tenants: Tenants,
        keyrings: Keyrings,
        wrapping: DekWrapping,
        usage: UsageCounters,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._tenants = tenants
        self._keyrings = keyrings
        self._wrapping = wrapping
        self._usage = usage
        self._now = now

    async def create(self, caller: Principal, parent: TenantName, wish: NewKey) -> Ring:
        """Create a key with version 1 as its primary.

        Raises:
            AlreadyExists: the slug is taken.
        """
        tenant = await self._tenants.get(caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            if await work.keys.get(tenant.uid, wish.slug) is not None:
                raise AlreadyExists(f"{KeyName(tenant.slug, wish.slug)} exists")
        now = self._now()
        key = Key(
            uid=KeyUid(uuid4()),
            tenant=tenant.uid,
            slug=wish.slug,
            display_name=wish.display_name,
            purpose=wish.purpose,
            suite=wish.suite,
            level=ProtectionLevel.SOFTWARE,
            state=KeyState.ACTIVE,
            primary_version=1,
            rotation_hours=wish.rotation_hours,
            created_at=now,
            rotated_at=now,
            created_by=str(caller),
            labels=wish.labels,
        )
        version = await self._new_version(caller, tenant, key, now)
        reach("create_key.dek_wrapped")
        async with self._storage.transaction(tenant.uid, write=True) as work:
            key = await work.keys.add(key)
            await work.key_versions.add(version)
            reach("create_key.before_commit")
        reach("create_key.committed")
        return Ring(tenant, key)

    async def get(self, caller: Principal, name: KeyName) -> Ring:
        """Return a key as it is now.

        Raises:
            NotFound: no such key, or another tenant's.
        """
        if caller.tenant != name.tenant:
            raise NotFound(str(name))
        try:
            tenant = await self._tenants.get(caller, name.parent)
        except NotFound as error:
            raise NotFound(str(name)) from error
        async with self._storage.transaction(tenant.uid) as work:
            key = await work.keys.get(tenant.uid, name.key)
        if key is None:
            raise NotFound(str(name))
        return Ring(tenant, key)

    async def list_by_slug(
        self, caller: Principal, parent: TenantName, after: str, limit: int
    ) -> tuple[Tenant, list[Key]]:
        """Return at most *limit* keys with slugs greater than *after*, ordered."""
        tenant = await self._tenants.get(caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            return tenant, await work.keys.list_by_slug(tenant.uid, after, limit)

    async def update(self, caller: Principal, name: KeyName, etag: str, changes: Mapping[str, Any]) -> Ring:
        """Change display_name, labels or rotation_hours.

        Raises:
            Conflict: the key has changed since *etag* (where given), or while this call ran.
        """
        ring = await self._current(caller, name, etag)
        async with self._storage.transaction(ring.tenant.uid, write=True) as work:
            key = await work.keys.replace(replace(ring.key, **changes))
        self._keyrings.forget(name)
        return Ring(ring.tenant, key)

    async def rotate(self, caller: Principal, name: KeyName, etag: str) -> Ring:
        """Make a new primary version; the older ones go on decrypting.

        Raises:
            Conflict: the key has changed since *etag* (where given), or while this call ran.
        """
        ring = await self._current(caller, name, etag)
        now = self._now()
        key = ring.key.rotated(now)
        version = await self._new_version(caller, ring.tenant, key, now)
        reach("rotate_key.dek_wrapped")
        async with self._storage.transaction(ring.tenant.uid, write=True) as work:
            # The key first: its revision decides which of two concurrent rotations wins.
            key = await work.keys.replace(key)
            await work.key_versions.add(version)
            reach("rotate_key.before_commit")
        reach("rotate_key.committed")
        self._keyrings.forget(name)
        return Ring(ring.tenant, key)

    async def list_versions(
        self, caller: Principal, name: KeyName, after: int, limit: int
    ) -> tuple[Ring, list[VersionStatus]]:
        """Return at most *limit* versions greater than *after*, ordered."""
        ring = await self.get(caller, name)
        async with self._storage.transaction(ring.tenant.uid) as work:
            versions = await work.key_versions.list_by_version(ring.tenant.uid, ring.key.uid, after, limit)
        counters = [Counter(ring.tenant.uid, ring.key.uid, version.version) for version in versions]
        reserved = await self._usage.reserved(counters)
        return ring, [
            VersionStatus(version, version.version == ring.key.primary_version, count)
            for version, count in zip(versions, reserved, strict=True)
        ]

    async def _current(self, caller: Principal, name: KeyName, etag: str) -> Ring:
        ring = await self.get(caller, name)
        if etag not in ("", ring.key.etag):
            raise Conflict(f"{name} has changed since that etag")
        return ring

    async def _new_version(self, caller: Principal, tenant: Tenant, key: Key, now: datetime) -> KeyVersion:
        wrapped, kek_version = await self._wrapping.generate(tenant, key, key.primary_version)
        return KeyVersion(
            tenant=tenant.uid,
            key=key.uid,
            version=key.primary_version,
            wrapped=wrapped,
            kek_version=kek_version,
            created_at=now,
            created_by=str(caller),
        )
