"""Creating, changing and rotating keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import uuid4

from kms.core.errors import AlreadyExists, Conflict, NotFound
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.lifecycle import KeyState
from kms.core.names import KeyName, KeyUid, Principal, TenantName
from kms.core.policy import Overrides
from kms.core.ports import Counter, Storage
from kms.core.rotation import planned
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.failpoints import reach
from kms.services.counting import UsageCounters
from kms.services.keyrings import Keyrings, Ring
from kms.services.lineages import lineage_of
from kms.services.rotating import Rotator
from kms.services.tenants import Tenants
from kms.services.wrapping import hold_kek


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a caller chooses for a new key."""

    slug: str
    display_name: str
    purpose: Purpose
    suite: Suite
    labels: Mapping[str, str]
    policy: str = ""
    overrides: Overrides = field(default_factory=Overrides)
    pending: bool = False


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
        rotator: Rotator,
        usage: UsageCounters,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._tenants = tenants
        self._keyrings = keyrings
        self._rotator = rotator
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
        state = KeyState.PENDING if wish.pending else KeyState.ACTIVE
        key = Key(
            uid=KeyUid(uuid4()),
            tenant=tenant.uid,
            slug=wish.slug,
            display_name=wish.display_name,
            purpose=wish.purpose,
            suite=wish.suite,
            level=ProtectionLevel.SOFTWARE,
            state=state,
            primary_version=1,
            created_at=now,
            rotated_at=now,
            scheduled_from=now,
            state_at=now,
            created_by=str(caller),
            policy=wish.policy,
            overrides=wish.overrides,
            labels=wish.labels,
        )
        async with self._storage.transaction(tenant.uid) as work:
            key = planned(await lineage_of(work, key))
        version = await self._rotator.new_version(tenant, key, str(caller), now, state=state)
        reach("create_key.dek_wrapped")
        async with self._storage.transaction(tenant.uid, write=True) as work:
            key = await work.keys.add(key)
            await work.key_versions.add(version)
            await hold_kek(work, tenant, version.kek_version)
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
        """Change display_name, labels, policy or overrides.

        Raises:
            Conflict: the key has changed since *etag* (where given), or while this call ran.
        """
        ring = await self._current(caller, name, etag)
        async with self._storage.transaction(ring.tenant.uid, write=True) as work:
            key = await work.keys.replace(planned(await lineage_of(work, replace(ring.key, **changes))))
            await work.epochs.changed(ring.tenant.uid)
        self._keyrings.forget(name)
        return Ring(ring.tenant, key)

    async def rotate(self, caller: Principal, name: KeyName, etag: str) -> Ring:
        """Make a new primary version; the older ones go on decrypting.

        Raises:
            Conflict: the key has changed since *etag* (where given), or while this call ran.
        """
        ring = await self._current(caller, name, etag)
        rotated = await self._rotator.rotate(ring.tenant, ring.key, str(caller))
        self._keyrings.forget(name)
        return Ring(ring.tenant, rotated.key)

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
