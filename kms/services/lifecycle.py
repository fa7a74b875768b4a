"""The states of keys and versions: each command is one transaction, after which every node hears of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol, TypeVar

import structlog

from kms.core.errors import Conflict, NotFound, WrongKeyState
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.lifecycle import KeyEvent, KeyState, spoken
from kms.core.names import KeyName, KeyVersionName, Principal, TenantUid
from kms.core.ports import Storage
from kms.core.propagation import Propagation
from kms.core.repositories import UnitOfWork
from kms.core.rotation import planned
from kms.failpoints import reach
from kms.services.keys import Keys, current_key
from kms.services.lineages import lineage_of
from kms.services.rotating import Rotator
from kms.services.statuses import KeyStatus, VersionStatus, key_status, version_statuses

_log = structlog.get_logger(__name__)

T = TypeVar("T")

# What takes something away: every node drops all that it holds of the tenant.
_STOPS: Final = frozenset({KeyEvent.SUSPEND, KeyEvent.ARCHIVE, KeyEvent.REVOKE})
# In these a key gets a new primary version, which takes the place of the one that is revoked.
_ROTATES: Final = frozenset({KeyState.ACTIVE, KeyState.ROTATING})
# In these it never encrypts again, so that it needs no other primary version.
_NEVER_ENCRYPTS: Final = frozenset({KeyState.ARCHIVED, KeyState.REVOKED})
# Without an etag a command means the key as it is: the scheduler, which changes keys at any moment, does not stop it.
_ATTEMPTS: Final = 5


class Propagate(Protocol):
    """Tells how a stop has reached the nodes: Membership.propagation."""

    async def __call__(self, epoch: int, committed: datetime, *, wait: bool, leased: bool) -> Propagation:
        """Return what is known of it now; with *wait*, when no node uses the key any more.

        *leased*: applications may hold DEKs of it, which they use until their leases end.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoppedKey:
    """A key from which something was taken, and how that has reached the nodes."""

    status: KeyStatus
    propagation: Propagation


@dataclass(frozen=True, slots=True)
class StoppedVersion:
    """A version that was revoked, its key, and how that has reached the nodes."""

    status: KeyStatus
    version: VersionStatus
    propagation: Propagation


@dataclass(frozen=True, slots=True)
class _Step:
    """What one command has done; *epoch* is that of a stop, otherwise 0."""

    status: KeyStatus
    epoch: int
    committed: datetime


@dataclass(frozen=True, slots=True)
class _Revoked:
    """A key and its version that was revoked."""

    key: Key
    version: KeyVersion
    epoch: int


class Lifecycle:
    """Brings keys and versions from state to state."""

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        rotator: Rotator,
        drop: Callable[[TenantUid], None],
        propagation: Propagate,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._rotator = rotator
        self._drop = drop
        self._propagation = propagation
        self._now = now

    async def activate(self, caller: Principal, name: KeyName, etag: str) -> KeyStatus:
        """Let a pending key be used; its schedule begins now.

        Raises (here and below):
            WrongKeyState: its state does not allow that.
            Conflict: the key has changed since *etag*, where that is given.
        """
        return (await self._step(caller, name, etag, KeyEvent.ACTIVATE)).status

    async def suspend(self, caller: Principal, name: KeyName, etag: str, reason: str, *, wait: bool) -> StoppedKey:
        """Stop a key until resume(); with *wait* this returns when no node uses it any more."""
        return await self._stop(caller, name, etag, KeyEvent.SUSPEND, reason, wait=wait)

    async def resume(self, caller: Principal, name: KeyName, etag: str) -> KeyStatus:
        """End a suspension; a rotation that was missed meanwhile is due at once."""
        return (await self._step(caller, name, etag, KeyEvent.RESUME)).status

    async def archive(self, caller: Principal, name: KeyName, etag: str) -> KeyStatus:
        """Let a key decrypt only, for good."""
        return (await self._step(caller, name, etag, KeyEvent.ARCHIVE)).status

    async def revoke(self, caller: Principal, name: KeyName, etag: str, reason: str, *, wait: bool) -> StoppedKey:
        """Declare a key compromised, for good; *wait* as in suspend()."""
        return await self._stop(caller, name, etag, KeyEvent.REVOKE, reason, wait=wait)

    async def revoke_version(
        self, caller: Principal, name: KeyVersionName, etag: str, reason: str, *, wait: bool
    ) -> StoppedVersion:
        """Declare one version compromised, for good; a new one takes its place where it is the primary one.

        Raises:
            WrongKeyState: as above; or it is the primary version of a key that may encrypt again but not rotate now.
            HsmUnavailable, EnclaveUnavailable: what makes the new primary version does not answer: nothing has changed.
        """
        tenant = await self._keys.owner(caller, name.key)
        revoked = await self._changing(
            tenant, etag, lambda: self._revoke_version(tenant, name, etag, reason, str(caller))
        )
        committed = self._now()
        _log.warning("key_version.revoked", name=str(name), caller=str(caller))
        async with self._storage.transaction(tenant.uid) as work:
            status = await key_status(work, tenant, revoked.key)
        [version] = await version_statuses(self._storage, revoked.key, [revoked.version], self._now())
        leased = revoked.version.exposed_at is not None
        propagation = await self._propagation(revoked.epoch, committed, wait=wait, leased=leased)
        return StoppedVersion(status, version, propagation)

    async def _stop(
        self, caller: Principal, name: KeyName, etag: str, event: KeyEvent, reason: str, *, wait: bool
    ) -> StoppedKey:
        step = await self._step(caller, name, etag, event, reason)
        leased = step.status.key.leasable
        propagation = await self._propagation(step.epoch, step.committed, wait=wait, leased=leased)
        return StoppedKey(step.status, propagation)

    async def _step(self, caller: Principal, name: KeyName, etag: str, event: KeyEvent, reason: str = "") -> _Step:
        tenant = await self._keys.owner(caller, name)
        step = await self._changing(tenant, etag, lambda: self._commit(tenant, name, etag, event, reason))
        _log.info("key.state_changed", name=str(name), step=event, state=step.status.key.state, caller=str(caller))
        return step

    async def _commit(self, tenant: Tenant, name: KeyName, etag: str, event: KeyEvent, reason: str) -> _Step:
        async with self._storage.transaction(tenant.uid, write=True) as work:
            now = self._now()
            key = await current_key(work, tenant, name, etag)
            changed = key.after(event, now, reason)
            if event is KeyEvent.ACTIVATE:
                changed = replace(changed, scheduled_from=now)
                version = await _version(work, tenant, key, key.primary_version)
                await work.key_versions.replace(version.after(event, now))
            changed = await work.keys.replace(planned(await lineage_of(work, changed)))
            status = await key_status(work, tenant, changed)
            epoch = await _told(work, tenant, stop=event in _STOPS)
            reach("lifecycle.before_commit")
        reach("lifecycle.committed")
        return _Step(status, epoch, self._now())

    async def _revoke_version(self, tenant: Tenant, name: KeyVersionName, etag: str, reason: str, by: str) -> _Revoked:
        async with self._storage.transaction(tenant.uid) as work:
            key = await current_key(work, tenant, name.key, etag)
            version = await _version(work, tenant, key, name.version)
        if key.state is KeyState.DESTROYED:
            raise WrongKeyState(f"key {key.slug} is destroyed: it has nothing left to revoke")
        if version.version == key.primary_version and key.state not in _NEVER_ENCRYPTS:
            if key.state not in _ROTATES:
                raise WrongKeyState(
                    f"key {key.slug} is {spoken(key.state)}: it cannot rotate, so that nothing would take the place of"
                    f" its primary version {version.version}; revoke the key instead"
                )
            rotated = await self._rotator.rotate(tenant, key, by, revoked_for=reason)
            return _Revoked(rotated.key, rotated.replaced, rotated.epoch)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            now = self._now()
            lineage = await lineage_of(work, key)
            revoked = version.after(KeyEvent.REVOKE, now, reason=reason)
            others = [v for v in lineage.timed if v.state is KeyState.ROTATING and v.version != version.version]
            if version.state is KeyState.ROTATING and not others:
                lineage = replace(lineage, key=key.after(KeyEvent.FINISH_ROTATION, now))
            # Also where nothing of the key has changed: its revision shows that somebody else was here meanwhile.
            key = await work.keys.replace(planned(lineage, revoked))
            revoked = await work.key_versions.replace(revoked)
            epoch = await _told(work, tenant, stop=True)
            reach("lifecycle.before_commit")
        reach("lifecycle.committed")
        return _Revoked(key, revoked, epoch)

    async def _changing(self, tenant: Tenant, etag: str, act: Callable[[], Awaitable[T]]) -> T:
        """Do *act*, again where somebody else was faster, and let this node forget what it knew before."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await act()
            except Conflict:
                if etag or attempt == _ATTEMPTS:
                    raise
            finally:
                self._drop(tenant.uid)  # also where it is not known whether the commit took effect
        raise AssertionError("the last attempt returns or raises")


async def _version(work: UnitOfWork, tenant: Tenant, key: Key, number: int) -> KeyVersion:
    version = await work.key_versions.get(tenant.uid, key.uid, number)
    if version is None:
        raise NotFound(key.name(tenant).version(number))
    return version


async def _told(work: UnitOfWork, tenant: Tenant, *, stop: bool) -> int:
    """Tell all nodes, as the last statement of the transaction; returns the epoch of a stop, otherwise 0."""
    if stop:
        return await work.epochs.revoked(tenant.uid)
    await work.epochs.changed(tenant.uid)
    return 0
