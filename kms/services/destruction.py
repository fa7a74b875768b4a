"""Retiring versions and destroying keys: a census that is known to be zero, a quarantine, then a receipt.

Step by step, for a version: (1) retirement, refused above zero or where the census is unknown; (2) quarantine, in which
a use is refused, reported, and makes the census unknown again; (3) destruction, which looks at the census once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import uuid4

import structlog

from kms.acting import acting_under
from kms.core.errors import Conflict, FailedPrecondition, NotFound, WrongKeyState, invalid
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.lifecycle import KeyEvent, KeyState
from kms.core.names import KeyName, KeyVersionName, Principal, TenantName, TenantUid
from kms.core.operations import Operation, OperationKind, OperationState, OperationUid
from kms.core.policy import DEFAULT_WAITING
from kms.core.ports import Storage
from kms.core.receipts import JsonValue, Receipt, moment
from kms.core.rotation import planned
from kms.failpoints import reach
from kms.services.keys import Keys, current_key
from kms.services.lineages import lineage_of, policy_of
from kms.services.operations import Batch
from kms.services.receipts import Receipts
from kms.services.statuses import KeyStatus, VersionStatus, key_status, version_statuses

_log = structlog.get_logger(__name__)

ERASED_AT_ONCE: Final = 100  # versions of a key in one transaction
STOPPED: Final = (KeyState.ARCHIVED, KeyState.REVOKED)
LIVE: Final = tuple(state for state in KeyState if state is not KeyState.DESTROYED)


class Destruction:
    """Ends versions and keys."""

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        receipts: Receipts,
        wake: Callable[[], None],
        horizon: timedelta,
        drop: Callable[[TenantUid], None],
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._receipts = receipts
        self._wake = wake
        self._horizon = horizon
        self._drop = drop
        self._now = now

    async def retire_version(
        self, caller: Principal, name: KeyVersionName, *, force: bool = False
    ) -> tuple[KeyStatus, VersionStatus]:
        """Begin the quarantine of an archived or revoked version; with *force* whatever its census says, then and later.

        Raises:
            WrongKeyState: it is neither.
            FailedPrecondition: its census is not known to be zero; the message says what is missing.
        """
        status = await self._keys.get(caller, name.key)
        version = await self._version(status.tenant, status.key, name.version)
        forced_by = _forced_by(caller) if force else ""
        status, version = await self._retire(status, version, f"retired by {caller}", forced_by)
        return status, (await self._statuses(status.key, [version]))[0]

    async def retire_automatically(self, status: KeyStatus) -> int:
        """Begin the quarantine of the key's versions that are known to protect nothing, where its policy says so."""
        async with self._storage.transaction(status.tenant.uid) as work:
            policy, _ = await policy_of(work, status.key)
        if not policy.automatic_retirement:
            return 0
        retired = after = 0
        while versions := await self._in_states(status.key, STOPPED, after):
            after = versions[-1].version
            for version, standing in zip(versions, await self._statuses(status.key, versions), strict=True):
                if not standing.census.zero:
                    continue
                try:
                    status, _ = await self._retire(status, version, "retired by the policy")
                except (Conflict, FailedPrecondition) as error:  # changed meanwhile: the next count tries again
                    _log.info("key_version.not_retired", version=version.version, reason=str(error))
                    return retired
                retired += 1
        return retired

    async def _retire(
        self, status: KeyStatus, version: KeyVersion, reason: str, forced_by: str = ""
    ) -> tuple[KeyStatus, KeyVersion]:
        tenant, key = status.tenant, status.key
        name = key.name(tenant).version(version.version)
        now = self._now()
        async with self._storage.transaction(tenant.uid) as work:
            lineage = await lineage_of(work, key)
        until = now + max(lineage.policy.quarantine, self._horizon)
        retired = version.after(KeyEvent.SCHEDULE_DESTRUCTION, now, until=until, reason=reason)
        retired = replace(retired, forced_by=forced_by)
        if not forced_by:
            [standing] = await self._statuses(key, [version])
            _require_zero(name, standing)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            # The key, too: with a declaration in between it would be another revision. A count that came in between is
            # seen at the end of the quarantine.
            key = await work.keys.replace(planned(lineage, retired))
            retired = await work.key_versions.replace(retired)
            status = await key_status(work, tenant, key)
            await work.epochs.revoked(tenant.uid)
            reach("retire_version.before_commit")
        reach("retire_version.committed")
        self._drop(tenant.uid)
        tell = _log.warning if forced_by else _log.info
        tell("key_version.quarantined", name=name, until=moment(until), forced_by=forced_by)
        return status, retired

    async def cancel_retirement(self, caller: Principal, name: KeyVersionName) -> tuple[KeyStatus, VersionStatus]:
        """End the quarantine of a version: it is again what it was before.

        Raises:
            WrongKeyState: it is not in quarantine.
        """
        status = await self._keys.get(caller, name.key)
        tenant = status.tenant
        version = await self._version(tenant, status.key, name.version)
        restored = version.after(KeyEvent.CANCEL_DESTRUCTION, self._now(), reason=f"retirement cancelled by {caller}")
        async with self._storage.transaction(tenant.uid, write=True) as work:
            key = await work.keys.replace(planned(await lineage_of(work, status.key), restored))
            restored = await work.key_versions.replace(restored)
            status = await key_status(work, tenant, key)
            await work.epochs.revoked(tenant.uid)
        self._drop(tenant.uid)
        return status, (await self._statuses(status.key, [restored]))[0]

    async def schedule_key(
        self,
        caller: Principal,
        name: KeyName,
        etag: str,
        reason: str,
        waiting: timedelta | None,
        *,
        force: bool = False,
    ) -> KeyStatus:
        """Begin the waiting period of a key, None for the default one; with *force* whatever the census of its versions says.

        Raises:
            InvalidRequest: the waiting period is shorter than the backup horizon.
            WrongKeyState: it is destroyed, or scheduled already.
            FailedPrecondition: the census of a version is not known to be zero.
            Conflict: the key has changed since *etag*.
        """
        if waiting is not None and waiting < self._horizon:
            raise invalid("waiting_period", f"must not be shorter than the backup horizon, {self._horizon}")
        waiting = max(DEFAULT_WAITING, self._horizon) if waiting is None else waiting
        status = await self._current(caller, name, etag)
        tenant, now = status.tenant, self._now()
        key = replace(status.key.after(KeyEvent.SCHEDULE_DESTRUCTION, now, reason), destroy_at=now + waiting)
        if force:
            key = replace(key, forced_by=_forced_by(caller))
            _log.warning("key.destruction_forced", name=str(name), forced_by=key.forced_by)
        else:
            await self._require_all_zero(tenant, status.key)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            key = await work.keys.replace(planned(await lineage_of(work, key)))
            status = await key_status(work, tenant, key)
            await work.epochs.revoked(tenant.uid)
            reach("schedule_key_destruction.before_commit")
        reach("schedule_key_destruction.committed")
        self._drop(tenant.uid)
        return status

    async def cancel_key(self, caller: Principal, name: KeyName, etag: str) -> KeyStatus:
        """End the waiting period of a key: it is again what it was before.

        Raises:
            WrongKeyState: it does not wait for its destruction, or that has begun.
            Conflict: the key has changed since *etag*.
        """
        status = await self._current(caller, name, etag)
        tenant, key = status.tenant, status.key
        if key.state is KeyState.DESTRUCTION_SCHEDULED and key.destroy_at is None:
            raise WrongKeyState(f"{name} is being destroyed: it is too late to cancel that")
        key = key.after(KeyEvent.CANCEL_DESTRUCTION, self._now(), f"destruction cancelled by {caller}")
        async with self._storage.transaction(tenant.uid, write=True) as work:
            key = await work.keys.replace(planned(await lineage_of(work, key)))
            status = await key_status(work, tenant, key)
            await work.epochs.revoked(tenant.uid)
        self._drop(tenant.uid)
        return status

    async def list_receipts(
        self, caller: Principal, parent: TenantName | KeyName, after: str, limit: int
    ) -> list[Receipt]:
        """Return at most *limit* receipts of *parent* and what lay below it, with subjects greater than *after*."""
        return await self._receipts.list_below(caller, parent, after, limit)

    async def signing_key(self) -> bytes:
        """Return the public key that verifies receipts, as DER SubjectPublicKeyInfo."""
        return await self._receipts.public_key()

    async def destroy_version(self, tenant: Tenant, key: Key, version: KeyVersion) -> None:
        """Destroy a version whose quarantine is over, with a receipt; the scheduler calls it.

        Raises:
            FailedPrecondition: its census is no longer known to be zero, or its quarantine is not over.
            Conflict: the key has changed since it was read.
        """
        name = key.name(tenant).version(version.version)
        now = self._now()
        if version.until is None or version.until > now:
            raise FailedPrecondition(f"{name} is in quarantine until later")
        [standing] = await self._statuses(key, [version])
        if not version.forced_by:
            _require_zero(name, standing)
        destroyed = version.after(KeyEvent.DESTROY, now, reason=version.state_reason)
        fields = {**_version_fields(key, version, standing), **_force(version.forced_by)}
        receipt = await self._receipts.make(
            tenant, name, key.uid, {**fields, "act": "key version destroyed", **self._grounds(key, version.state_at)}
        )
        reach("destroy_version.signed")
        async with self._storage.transaction(tenant.uid, write=True) as work:
            await work.keys.replace(planned(await lineage_of(work, key), destroyed))
            await work.key_versions.replace(destroyed)
            # Signing takes its time, in which somebody may have found some.
            if not version.forced_by and any(
                count.count for count in await work.places.counts(tenant.uid, key.uid, [version.version])
            ):
                raise FailedPrecondition(f"values of {name} have been counted at this moment")
            await work.receipts.add(receipt)
            await work.epochs.revoked(tenant.uid)
            reach("destroy_version.before_commit")
        reach("destroy_version.committed")
        self._drop(tenant.uid)
        _log.warning("key_version.destroyed", name=name)

    async def destroy_key(self, tenant: Tenant, key: Key) -> None:
        """Begin the destruction of a key whose waiting period is over: from now on there is no way back.

        Raises:
            FailedPrecondition: the census of a version is no longer known to be zero.
            Conflict: the key has changed since it was read.
        """
        now = self._now()
        if key.destroy_at is None or key.destroy_at > now:
            raise FailedPrecondition(f"{key.name(tenant)} waits for its destruction until later")
        if not key.forced_by:
            await self._require_all_zero(tenant, key)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            key = await work.keys.replace(planned(await lineage_of(work, replace(key, destroy_at=None))))
            await work.operations.add(
                Operation(
                    uid=OperationUid(uuid4()),
                    tenant=tenant.uid,
                    kind=OperationKind.DESTROY_KEY,
                    target=str(key.name(tenant)),
                    state=OperationState.RUNNING,
                    requested_by="scheduler",
                    created_at=now,
                    updated_at=now,
                    total=key.primary_version,
                )
            )
            await work.epochs.changed(tenant.uid)
            reach("destroy_key.begun")
        self._wake()

    def _grounds(self, key: Key, scheduled_at: datetime) -> dict[str, JsonValue]:
        complete = key.places_complete_at
        return {
            "scheduled_at": moment(scheduled_at),
            "places_complete_since": None if complete is None else moment(complete),
            "places_declared_by": key.places_complete_by,
            # Copies of the database and of what it wrapped may exist for so long before they are overwritten.
            "backup_horizon_seconds": self._horizon // timedelta(seconds=1),
        }

    async def _require_all_zero(self, tenant: Tenant, key: Key) -> None:
        after = 0
        while versions := await self._in_states(key, LIVE, after):
            for version, standing in zip(versions, await self._statuses(key, versions), strict=True):
                _require_zero(key.name(tenant).version(version.version), standing)
            after = versions[-1].version

    async def _current(self, caller: Principal, name: KeyName, etag: str) -> KeyStatus:
        tenant = await self._keys.owner(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            return await key_status(work, tenant, await current_key(work, tenant, name, etag))

    async def _statuses(self, key: Key, versions: Sequence[KeyVersion]) -> list[VersionStatus]:
        return await version_statuses(self._storage, key, versions, self._now())

    async def _in_states(self, key: Key, states: tuple[KeyState, ...], after: int) -> list[KeyVersion]:
        async with self._storage.transaction(key.tenant) as work:
            return await work.key_versions.list_in_states(key.tenant, key.uid, states, after, ERASED_AT_ONCE)

    async def _version(self, tenant: Tenant, key: Key, number: int) -> KeyVersion:
        async with self._storage.transaction(tenant.uid) as work:
            version = await work.key_versions.get(tenant.uid, key.uid, number)
        if version is None:
            raise NotFound(key.name(tenant).version(number))
        return version


class KeyDestruction:
    """Erases the versions of a key whose destruction has begun, then the key, with one receipt."""

    def __init__(self, storage: Storage, receipts: Receipts, horizon: timedelta, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self._receipts = receipts
        self._horizon = horizon
        self._now = now

    async def batch(self, operation: Operation) -> Batch:
        """Erase the next versions; the last batch ends the key."""
        name = KeyName.parse(operation.target)
        async with self._storage.transaction(operation.tenant) as work:
            tenant = await work.tenants.by_uid(operation.tenant)
            key = await work.keys.get(operation.tenant, name.key)
            if tenant is None or key is None:
                raise NotFound(operation.target)
            live = await work.key_versions.list_in_states(tenant.uid, key.uid, LIVE, 0, ERASED_AT_ONCE)
        if key.state is KeyState.DESTROYED:
            return Batch("", 0, finished=True)
        if key.state is not KeyState.DESTRUCTION_SCHEDULED or key.destroy_at is not None:
            raise FailedPrecondition(f"{name} is not to be destroyed")
        now = self._now()
        if live:
            async with self._storage.transaction(tenant.uid, write=True) as work:
                for version in live:
                    await work.key_versions.replace(
                        version.after(KeyEvent.DESTROY_WITH_KEY, now, reason=key.state_reason)
                    )
                await work.epochs.revoked(tenant.uid)
                reach("destroy_key.versions_before_commit")
            return Batch(str(live[-1].version), len(live), finished=False)
        receipt = await self._receipts.make(
            tenant,
            operation.target,
            key.uid,
            {
                "act": "key destroyed",
                "uid": str(key.uid),
                "versions": key.primary_version,
                "reason": key.state_reason,
                "scheduled_at": moment(key.state_at),
                "backup_horizon_seconds": self._horizon // timedelta(seconds=1),
                **_force(key.forced_by),
            },
        )
        async with self._storage.transaction(tenant.uid, write=True) as work:
            await work.keys.replace(
                replace(key.after(KeyEvent.DESTROY, now, key.state_reason), due_at=None, destroy_at=None)
            )
            await work.receipts.add(receipt)
            await work.epochs.revoked(tenant.uid)
            reach("destroy_key.before_commit")
        reach("destroy_key.committed")
        _log.warning("key.destroyed", name=operation.target)
        return Batch("", 0, finished=True)


def _forced_by(caller: Principal) -> str:
    approval = acting_under()
    return f"{caller} under {approval}" if approval else f"{caller}, whom nobody had to approve"


def _force(by: str) -> dict[str, JsonValue]:
    return {"forced_by": by} if by else {}


def _require_zero(name: str, standing: VersionStatus) -> None:
    found = standing.census
    if found.unknown:
        raise FailedPrecondition(f"what {name} protects is not known: {'; '.join(found.unknown)}")
    if found.count:
        where = ", ".join(f"{count} in {place}" for place, count in found.places)
        raise FailedPrecondition(f"{name} still protects {found.count} values: {where}")


def _version_fields(key: Key, version: KeyVersion, standing: VersionStatus) -> dict[str, JsonValue]:
    return {
        "uid": str(key.uid),
        "version": version.version,
        "purpose": key.purpose.name,
        "suite": key.suite.name,
        "created_at": moment(version.created_at),
        "reason": version.state_reason,
        "kek_version": version.kek_version,
        "encryptions_reserved": standing.encryptions_reserved,
        "uses_refused": standing.uses.refused,
    }
