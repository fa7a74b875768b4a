"""Making KEK versions: the intent is stored, the token makes the key, the outcome is stored.

The token is outside the database's transaction, so a crash may leave an intent without an outcome; settle() carries
every such intent through at the next start. Doing a step twice does it once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from kms.core.errors import Conflict, KmsError, NotFound
from kms.core.keyring import Kek, KekState, Tenant
from kms.core.names import Principal, TenantName
from kms.core.ports import Counter, KekVault, Storage
from kms.failpoints import reach
from kms.services.counting import UsageCounters

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KekStatus:
    """A KEK version, and how much hangs on it."""

    kek: Kek
    primary: bool
    wrapped_key_versions: int
    wraps_reserved: int
    next_rotation_at: datetime | None = None


class Keks:
    """KEK versions of all tenants."""

    def __init__(self, storage: Storage, vault: KekVault, usage: UsageCounters, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self._vault = vault
        self._usage = usage
        self._now = now
        self._activations: set[asyncio.Task[tuple[Tenant, Kek]]] = set()

    async def rotate(self, caller: Principal, name: TenantName, seen: int) -> tuple[Tenant, KekStatus]:
        """Make the next KEK version the one that wraps what is new.

        Raises:
            Conflict: the primary version is not *seen* (where that is not 0).
        """
        tenant = await self._tenant(caller, name)
        if seen not in (0, tenant.primary_kek):
            raise Conflict(f"the primary version is {tenant.primary_kek}, not {seen}")
        version = tenant.primary_kek + 1
        async with self._storage.transaction(tenant.uid, write=True) as work:
            # An intent that a failed call left behind is carried through instead of adding another.
            if await work.keks.get(tenant.uid, version) is None:
                await work.keks.add(
                    Kek(tenant.uid, tenant.kek, version, KekState.PENDING, self._now(), created_by=str(caller))
                )
        reach("rotate_kek.intent_stored")
        tenant, kek = await self.activate(tenant, version)
        return tenant, KekStatus(kek, kek.version == tenant.primary_kek, 0, 0)

    async def activate(self, tenant: Tenant, version: int) -> tuple[Tenant, Kek]:
        """Carry a stored intent through; returns the tenant and the KEK version as they then are.

        It goes on when the caller goes away: while the token makes the key nobody else may get the lock, or two nodes
        of one token make two keys.
        """
        task = asyncio.create_task(self._activate(tenant, version))
        self._activations.add(task)
        task.add_done_callback(self._activations.discard)
        return await asyncio.shield(task)

    async def _activate(self, tenant: Tenant, version: int) -> tuple[Tenant, Kek]:
        # One lock for the whole token: with AES-KW the first KEK of all brings the bind key, of which there may be one.
        async with self._storage.exclusive("kek"):
            async with self._storage.transaction(tenant.uid) as work:
                pending = await work.keks.get(tenant.uid, version)
                current = await work.tenants.get(tenant.slug)
            if pending is None or current is None:
                raise NotFound(tenant.name.kek(version))
            if pending.state is KekState.ACTIVE:
                return current, pending
            created = await self._vault.create_kek(pending.uid, version)
            reach("create_kek.in_token")
            async with self._storage.transaction(tenant.uid, write=True) as work:
                kek = await work.keks.replace(
                    replace(
                        pending,
                        state=KekState.ACTIVE,
                        mechanism=created.mechanism,
                        canary=created.canary,
                        hsm_key_id=created.hsm_key_id,
                    )
                )
                current = await work.tenants.replace(current.with_primary_kek(version))
                reach("create_kek.before_commit")
            reach("create_kek.committed")
        _log.info("kek.activated", tenant=tenant.slug, version=version)
        return current, kek

    async def settle(self) -> int:
        """Carry through every intent that a crash left without an outcome; returns how many were.

        One that cannot be is left: nobody sees it, the next start or the next call for it tries again, and the other
        tenants do not wait for that.
        """
        async with self._storage.transaction() as work:
            pending = await work.keks.pending()
        settled = 0
        for tenant, kek in pending:
            reach("settle.before")
            _log.warning("kek.intent_found", tenant=tenant.slug, version=kek.version)
            try:
                await self.activate(tenant, kek.version)
                settled += 1
            except KmsError as error:
                _log.error("kek.intent_left", tenant=tenant.slug, version=kek.version, reason=str(error))
        return settled

    async def list_statuses(
        self, caller: Principal, name: TenantName, after: int, limit: int
    ) -> tuple[Tenant, list[KekStatus]]:
        """Return at most *limit* active versions greater than *after*, ordered."""
        tenant = await self._tenant(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            keks = [k for k in await work.keks.list_by_version(tenant.uid, after, limit) if k.state is KekState.ACTIVE]
            wrapped = await work.key_versions.count_by_kek(tenant.uid)
        reserved = await self._usage.reserved([Counter(tenant.uid, kek.uid, kek.version) for kek in keks])
        return tenant, [
            KekStatus(kek, kek.version == tenant.primary_kek, wrapped.get(kek.version, 0), count)
            for kek, count in zip(keks, reserved, strict=True)
        ]

    async def _tenant(self, caller: Principal, name: TenantName) -> Tenant:
        """Return the tenant, for its own principals and for operators."""
        if caller.tenant not in (None, name.tenant):
            raise NotFound(str(name))
        async with self._storage.transaction() as work:
            tenant = await work.tenants.get(name.tenant)
        if tenant is None or not tenant.ready:
            raise NotFound(str(name))
        return tenant
