"""Carrying out what is due with one key: core/rotation decides, each action is a unit of work of its own.

Two nodes may work on the same key. Revisions and the slot of a version decide who is first; the other one reads again.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from kms.core.errors import Conflict, FailedPrecondition, WrongKeyState
from kms.core.events import Severity
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.lifecycle import Use, key_allows
from kms.core.names import KeyName
from kms.core.ports import Counter, Storage
from kms.core.rotation import (
    Action,
    DestroyKey,
    DestroyVersion,
    FinishRotation,
    Lineage,
    Reanchor,
    Rotate,
    due,
    finished,
    planned,
    postponed,
)
from kms.core.suites import ROTATED_BY_HAND
from kms.failpoints import reach
from kms.services.audit import UNRECORDED, Act, Acts
from kms.services.lineages import lineage_of
from kms.services.rotating import Rotated, Rotator

_log = structlog.get_logger(__name__)

SCHEDULER: Final = "scheduler"  # who makes versions by schedule and by count
# When to look again at a destruction that its census, or the clock, does not allow yet.
HELD_FOR: Final = timedelta(hours=1)
# Actions and conflicts of one key before the others have their turn.
MOST_STEPS: Final = 64


class Destruction(Protocol):
    """Destroys what has waited long enough, if its census allows that.

    Raises (both methods):
        FailedPrecondition: the census is not known to be zero.
    """

    async def destroy_version(self, tenant: Tenant, key: Key, version: KeyVersion) -> None:
        """Destroy a version whose quarantine is over."""
        ...

    async def destroy_key(self, tenant: Tenant, key: Key) -> None:
        """Destroy a key whose waiting period is over."""
        ...


@dataclass(slots=True)
class ScheduleCounts:
    """What the scheduler of this node has done since its start."""

    rotations: Tally[str] = field(default_factory=lambda: Tally(schedule=0, count=0))  # by cause
    claimed: Tally[str] = field(default_factory=lambda: Tally(key=0, tenant=0))
    destroyed: Tally[str] = field(default_factory=lambda: Tally(key=0, version=0))
    failures: int = 0


class DueKeys:
    """Carries out what is due with keys, one key at a time."""

    def __init__(
        self,
        storage: Storage,
        rotator: Rotator,
        destruction: Destruction | None,
        forget: Callable[[KeyName], None],
        now: Callable[[], datetime],
        trail: Acts = UNRECORDED,
    ) -> None:
        self._trail = trail
        self._storage = storage
        self._rotator = rotator
        self._destruction = destruction
        self._forget = forget  # drops what this node remembers of a key's record
        self._now = now
        self.counts = ScheduleCounts()

    async def carry_out(self, tenant: Tenant, key: Key, *, may_destroy: bool) -> bool:
        """Do all that is due with a key, as last read, and plan it; False where others kept changing it meanwhile.

        Raises:
            HsmUnavailable, EnclaveUnavailable, StorageUnavailable, VersionExhausted: try again later; what was done is durable.
            CorruptRecord: somebody has to look.
        """
        now = self._now()
        tried: set[int | None] = set()  # destructions; what is left of them afterwards is for later
        for _ in range(MOST_STEPS):
            async with self._storage.transaction(tenant.uid) as work:
                lineage = await lineage_of(work, key)
                actions = due(now, [lineage], may_destroy=may_destroy and self._destruction is not None)
                action = next((action for action in actions if _destroyed(action) not in tried), None)
                # In the same transaction, since most of what is due is a rotation.
                rotates = isinstance(action, Rotate)
                primary = await work.key_versions.get(tenant.uid, key.uid, key.primary_version) if rotates else None
            try:
                if action is None:
                    await self._plan(lineage, now)
                    return True
                if isinstance(action, Rotate):
                    async with self._act("key.rotated", tenant, key, cause="schedule"):
                        rotated = await self._rotator.replace(tenant, lineage, primary, SCHEDULER, slot=action.slot)
                    key = self._rotated(tenant, rotated, "schedule")
                elif isinstance(action, DestroyVersion | DestroyKey):
                    tried.add(_destroyed(action))
                    await self._destroy(tenant, action)
                    tenant, key = await self._read(tenant, key)
                else:
                    key = await self._change(tenant, lineage, action, now)
            except (Conflict, WrongKeyState):  # somebody else has done it, or something else
                tenant, key = await self._read(tenant, key)
            else:
                if key.due_at is None or key.due_at > now:
                    return True
        return False

    async def rotate_used(self, tenant: Tenant, counter: Counter) -> None:
        """Replace a key version that has passed its soft limit, if it still is the primary one.

        Raises:
            Conflict: somebody else changes the key at this moment.
            HsmUnavailable, EnclaveUnavailable, StorageUnavailable, VersionExhausted: try again later.
        """
        async with self._storage.transaction(tenant.uid) as work:
            key = await work.keys.by_uid(tenant.uid, counter.subject)  # type: ignore[arg-type]  # no KEK's: it was looked at
        if key is None or key.primary_version != counter.version or not key_allows(key.state, Use.ENCRYPT):
            return
        if key.purpose in ROTATED_BY_HAND:
            return  # equal values would no longer look equal
        async with self._act("key.rotated", tenant, key, cause="count"):
            rotated = await self._rotator.rotate(tenant, key, SCHEDULER)
        self._rotated(tenant, rotated, "count")

    async def _read(self, tenant: Tenant, key: Key) -> tuple[Tenant, Key]:
        """Return both as they are now: a tenant may have another primary KEK version."""
        async with self._storage.transaction(tenant.uid) as work:
            return await work.tenants.by_uid(tenant.uid) or tenant, await work.keys.by_uid(tenant.uid, key.uid) or key

    def _rotated(self, tenant: Tenant, rotated: Rotated, cause: str) -> Key:
        name = rotated.key.name(tenant)
        self._forget(name)
        self.counts.rotations[cause] += 1
        _log.info("schedule.rotated", key=str(name), version=rotated.key.primary_version, cause=cause)
        return rotated.key

    async def _change(self, tenant: Tenant, lineage: Lineage, action: FinishRotation | Reanchor, now: datetime) -> Key:
        """Carry out what needs no token; returns the key as it then is."""
        if isinstance(action, FinishRotation):
            return await self._finish(tenant, lineage, action, now)
        async with self._act("key.reanchored", tenant, lineage.key):
            key = await self._store(planned(replace(lineage, key=replace(lineage.key, scheduled_from=now))))
        _log.warning("schedule.reanchored", key=str(key.name(tenant)), was_from=str(action.key.scheduled_from))
        return key

    async def _finish(self, tenant: Tenant, lineage: Lineage, action: FinishRotation, now: datetime) -> Key:
        key, archived = finished(lineage, action.versions, now)
        async with (
            self._act("key.rotation_finished", tenant, key),
            self._storage.transaction(tenant.uid, write=True) as work,
        ):
            key = await work.keys.replace(key)
            for version in archived:
                await work.key_versions.replace(version)
            await work.epochs.changed(tenant.uid)
            reach("finish_rotation.before_commit")
        reach("finish_rotation.committed")
        self._forget(key.name(tenant))
        numbers = [version.version for version in archived]
        _log.info("schedule.rotation_finished", key=str(key.name(tenant)), archived=numbers)
        return key

    async def _destroy(self, tenant: Tenant, action: DestroyVersion | DestroyKey) -> None:
        if self._destruction is None:
            return
        try:
            if isinstance(action, DestroyVersion):
                async with self._act("key_version.destroyed", tenant, action.key, action.version.version):
                    await self._destruction.destroy_version(tenant, action.key, action.version)
            else:
                async with self._act("key.destruction_begun", tenant, action.key):
                    await self._destruction.destroy_key(tenant, action.key)
        except WrongKeyState:
            raise
        except FailedPrecondition as error:
            _log.warning("key_version.destruction_held", name=_name(tenant, action), reason=str(error))
        else:
            self.counts.destroyed["version" if isinstance(action, DestroyVersion) else "key"] += 1

    def _act(
        self, action: str, tenant: Tenant, key: Key, version: int = 0, cause: str = ""
    ) -> AbstractAsyncContextManager[Act]:
        name = key.name(tenant)
        return self._trail.act(
            action,
            tenant=tenant.uid,
            resource=name.version(version) if version else str(name),
            resource_type="key_version" if version else "key",
            by=SCHEDULER,
            severity=Severity.HIGH if "destr" in action else Severity.LOW,
            details={"cause": cause} if cause else {},
        )

    async def _plan(self, lineage: Lineage, now: datetime) -> None:
        """Say when to look next; without that a key with nothing to do would be claimed again and again."""
        key = postponed(lineage, now, now + HELD_FOR)
        if key.due_at != lineage.key.due_at:
            await self._store(key)

    async def _store(self, key: Key) -> Key:
        async with self._storage.transaction(key.tenant, write=True) as work:
            key = await work.keys.replace(key)
            reach("schedule.planned")
        return key


def _destroyed(action: Action) -> int | None:
    """The number of the version that would be destroyed, 0 for the whole key; None for all other actions."""
    if isinstance(action, DestroyVersion):
        return action.version.version
    return 0 if isinstance(action, DestroyKey) else None


def _name(tenant: Tenant, action: DestroyKey | DestroyVersion) -> str:
    name = action.key.name(tenant)
    return str(name.version(action.version.version) if isinstance(action, DestroyVersion) else name)
