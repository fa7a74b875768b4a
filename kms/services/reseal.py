"""Sealing a tenant's keys anew for an upgrade of the enclave: the Runner of OperationKind.RESEAL.

What has to be done follows from the upgrade as it stands and the enclave that runs, never from the operation: so a batch may be
repeated, and an operation that began to prepare goes on to finish or to bring back. Step by step:

1. the enclave seals the next keys anew, and the KEK wraps them, outside any transaction;
2. one transaction stores them, each over the revision that was read, if the upgrade still stands as it did;
3. at the end of a pass one transaction counts what is left. Nothing: the upgrade advances. No more than does not open here:
   the operation ends with an error, and the upgrade stays. Otherwise what others have changed meanwhile takes another pass;
   but a pass that has stored nothing is the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Self

import structlog

from kms.core.enclave_ports import Enclave
from kms.core.enclave_upgrades import (
    EnclaveUpgrade,
    UpgradeEvent,
    UpgradeState,
    UpgradeUid,
    check_enclave,
    due,
    policy_for,
)
from kms.core.errors import Conflict, CorruptRecord, EnclaveUnavailable, FailedPrecondition
from kms.core.keyring import Tenant
from kms.core.names import EnclaveUpgradeName
from kms.core.operations import Operation
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.core.seals import SealCount, SealedBy, SealKind
from kms.failpoints import reach
from kms.services.blob_keys import BlobKeys
from kms.services.enclave_seals import running
from kms.services.operations import Batch
from kms.services.reseal_shelves import Blobs, Entry, KeyVersions, Shelf, Uploads
from kms.services.wrapping import DekWrapping, hold_kek

_log = structlog.get_logger(__name__)

AT_ONCE: Final = 32  # keys of one batch
# Each key takes the token two operations and the enclave one: where they answer slowly, batches get smaller.
BATCH_TIME: Final = 2.0  # seconds
_ADVANCE: Final = {
    UpgradeState.PREPARING: UpgradeEvent.PREPARE,
    UpgradeState.FINISHING: UpgradeEvent.COMPLETE,
}


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a pass for one state of the upgrade is: which kind, up to which place.

    And how many keys did not open so far, and how many were stored.
    """

    state: UpgradeState
    kind: SealKind = SealKind.KEY_VERSION
    after: str = ""
    unopened: int = 0
    stored: int = 0

    def encode(self) -> str:
        """Return the text that an operation stores."""
        return f"{self.state}:{self.kind}:{self.unopened}:{self.stored}:{self.after}"

    @classmethod
    def parse(cls, text: str, state: UpgradeState) -> Self:
        """Read what encode() returned; the beginning of a pass where that is empty, or was for another state.

        Raises:
            CorruptRecord: it is something else.
        """
        if not text:
            return cls(state)
        try:
            was, kind, unopened, stored, after = text.split(":")
            found = cls(UpgradeState(was), SealKind(kind), after, int(unopened), int(stored))
        except ValueError as error:
            raise CorruptRecord("a reseal has a cursor that makes no sense") from error
        return found if found.state is state else cls(state)


@dataclass(frozen=True, slots=True)
class _Load:
    """What is next in a pass; without a shelf its end."""

    tenant: Tenant
    upgrade: EnclaveUpgrade
    cursor: Cursor
    over: bool = False  # nothing is to be done for this upgrade, or another one does it
    shelf: Shelf[Any] | None = None
    entries: Sequence[Entry[Any]] = ()


class Reseal:
    """Brings a tenant's sealed keys to where an upgrade wants them."""

    def __init__(
        self,
        storage: Storage,
        wrapping: DekWrapping,
        keys: BlobKeys,
        enclave: Enclave | None,
        now: Callable[[], datetime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._enclave = enclave
        self._shelves: Sequence[Shelf[Any]] = (KeyVersions(wrapping), Blobs(keys), Uploads(keys))
        self._now = now
        self._clock = clock

    async def batch(self, operation: Operation) -> Batch:
        """Seal the next keys anew."""
        if self._enclave is None:
            raise EnclaveUnavailable("this node has no enclave, which an upgrade of it needs")
        runs = running(self._enclave)
        load = await self._load(operation)
        if load.over:
            return Batch("", max(operation.total - operation.done, 0), finished=True)
        check_enclave(load.upgrade, runs)
        again = Batch(operation.cursor, 0, finished=False)
        try:
            if load.shelf is None:
                return await self._end_of_pass(operation, load, runs)
            changed, after = await self._sealed_anew(load, load.shelf, runs)
            if running(self._enclave) != runs:
                raise EnclaveUnavailable("the enclave has been replaced meanwhile")
            reach("reseal.in_enclave")
            done = await self._store(load, load.shelf, changed) if changed else 0
        except Conflict as error:  # the KEK was retired, or somebody has taken the upgrade further
            _log.info("reseal.again", operation=str(operation.uid), reason=str(error))
            return again
        return Batch(replace(after, stored=after.stored + done).encode(), done, finished=False)

    async def _load(self, operation: Operation) -> _Load:
        uid = UpgradeUid(EnclaveUpgradeName.parse(operation.target, "target").upgrade)
        async with self._storage.transaction(operation.tenant) as work:
            tenant = await work.tenants.by_uid(operation.tenant)
            upgrade = await work.enclave_upgrades.get(operation.tenant, uid)
            if tenant is None or upgrade is None:
                raise CorruptRecord("a reseal is for an upgrade that is not there")
            cursor = Cursor.parse(operation.cursor, upgrade.state)
            if await _is_over(work, upgrade):
                return _Load(tenant, upgrade, cursor, over=True)
            kinds = [shelf.kind for shelf in self._shelves]
            for shelf in self._shelves[kinds.index(cursor.kind) :]:
                after = cursor.after if shelf.kind is cursor.kind else ""
                if entries := await shelf.page(work, tenant, after, AT_ONCE):
                    return _Load(tenant, upgrade, cursor, shelf=shelf, entries=entries)
        return _Load(tenant, upgrade, cursor)

    async def _sealed_anew(self, load: _Load, shelf: Shelf[Any], runs: SealedBy) -> tuple[list[Any], Cursor]:
        """Return the records as they are to be stored, and how far that is."""
        end, changed = self._clock() + BATCH_TIME, list[Any]()
        unopened, after = load.cursor.unopened, load.cursor.after
        for entry in load.entries:
            if changed and self._clock() >= end:
                break
            if due(load.upgrade, entry.wanted, entry.policy, entry.by, runs):
                try:
                    changed.append(await entry.anew(policy_for(entry.wanted, load.upgrade, runs)))
                except (CorruptRecord, FailedPrecondition) as error:
                    unopened += 1
                    _log.error(shelf.event, name=entry.name, reason=str(error))
            after = entry.place
        return changed, replace(load.cursor, kind=shelf.kind, after=after, unopened=unopened)

    async def _store(self, load: _Load, shelf: Shelf[Any], changed: Sequence[Any]) -> int:
        async with self._storage.transaction(load.tenant.uid, write=True) as work:
            await _require_same(work, load.upgrade)
            # What somebody else has changed meanwhile is met again by the next pass.
            done = await shelf.store(work, changed)
            for version in sorted({shelf.kek_version(record) for record in changed}):
                await hold_kek(work, load.tenant, version)
            reach("reseal.before_commit")
        reach("reseal.committed")
        return done

    async def _end_of_pass(self, operation: Operation, load: _Load, runs: SealedBy) -> Batch:
        upgrade, tenant, cursor = load.upgrade, load.tenant, load.cursor
        async with self._storage.transaction(tenant.uid, write=True) as work:
            await _require_same(work, upgrade)
            left = sum_due(await work.enclave_upgrades.count_seals(tenant.uid), upgrade, runs)
            forced = upgrade.state is UpgradeState.FINISHING and bool(upgrade.forced_by)
            if left > (cursor.unopened if forced else 0):
                if left > cursor.unopened and cursor.stored:
                    return Batch("", 0, finished=False)
                return Batch("", 0, finished=True, error=_unopened(left, tenant, upgrade))
            if (event := _ADVANCE.get(upgrade.state)) is not None:
                await work.enclave_upgrades.replace(upgrade.after(event, self._now()))
            reach("reseal.before_advance")
        reach("reseal.advanced")
        tell = _log.warning if left else _log.info
        tell("enclave_upgrade.advanced", name=operation.target, state=upgrade.state, left_behind=left)
        # Nothing is left of what was counted when it began, though a crash may have kept a batch out of the count.
        return Batch("", max(operation.total - operation.done, 0), finished=True)


def sum_due(counts: Sequence[SealCount], upgrade: EnclaveUpgrade, runs: SealedBy) -> int:
    """Return how many keys an upgrade has still to have sealed anew."""
    return sum(one.count for one in counts if due(upgrade, one.wanted, one.policy, one.by, runs))


async def _is_over(work: UnitOfWork, upgrade: EnclaveUpgrade) -> bool:
    if upgrade.state is UpgradeState.CANCELLED:  # the next upgrade finds what was not brought back
        if await work.enclave_upgrades.find_open(upgrade.tenant) is not None:
            return True
        counts = await work.enclave_upgrades.count_seals(upgrade.tenant)
        return all(one.policy is one.wanted for one in counts)
    return upgrade.state not in _ADVANCE


async def _require_same(work: UnitOfWork, upgrade: EnclaveUpgrade) -> None:
    """Let a transaction go on only while the upgrade stands as it was read.

    Raises:
        Conflict: it has gone on.
    """
    stored = await work.enclave_upgrades.get(upgrade.tenant, upgrade.uid)
    if stored is None or stored.state is not upgrade.state or await _is_over(work, stored):
        raise Conflict("the upgrade of the enclave has gone on meanwhile")


def _unopened(left: int, tenant: Tenant, upgrade: EnclaveUpgrade) -> str:
    why = f"{left} sealed keys of {tenant.name} do not open in the enclave that runs, or could not be stored, and stay as they are"
    named = "; the log names them (key_version.unopened, blob.unopened)"
    if upgrade.state is UpgradeState.FINISHING:
        out = "start the release that has sealed them, cancel this upgrade and begin it there, or finish with force"
        return f"{why}{named}: {out}"
    return f"{why}{named}"
