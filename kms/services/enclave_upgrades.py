"""Upgrades of enclaves for those who ask for them, and the census of seals. ADR 0014; docs/enclave.md has the officer's steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import uuid4

import structlog

from kms.core.enclave_ports import Enclave
from kms.core.enclave_upgrades import (
    LARGEST_SVN,
    MEASUREMENT_LENGTH,
    MOST_UPGRADES,
    EnclaveUpgrade,
    UpgradeEvent,
    UpgradeState,
    UpgradeUid,
    check_enclave,
    spoken,
)
from kms.core.errors import FailedPrecondition, LimitExceeded, NotFound, invalid
from kms.core.keyring import Tenant
from kms.core.names import EnclaveUpgradeName, Principal, TenantName
from kms.core.operations import Operation, OperationKind, OperationState, OperationUid
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.core.seals import SealCount, SealedBy
from kms.failpoints import reach
from kms.services.enclave_seals import running
from kms.services.reseal import sum_due
from kms.services.visibility import visible_tenant

_log = structlog.get_logger(__name__)

# Tells which other nodes of this installation run another enclave than this one, in words.
OthersElsewhere = Callable[[SealedBy], Awaitable[Sequence[str]]]
_MOST_NAMED: Final = 5  # in one message


@dataclass(frozen=True, slots=True)
class SealCensus:
    """How a tenant's keys are sealed, and who runs on the node that answers, if anybody does."""

    counts: Sequence[SealCount]
    running: SealedBy | None


class EnclaveUpgrades:
    """The upgrades of all tenants."""

    def __init__(
        self,
        storage: Storage,
        enclave: Enclave | None,
        wake: Callable[[], None],
        now: Callable[[], datetime],
        elsewhere: OthersElsewhere,
    ) -> None:
        """*wake* wakes who carries out operations; *elsewhere* is asked before an upgrade is finished."""
        self._storage = storage
        self._enclave = enclave
        self._wake = wake
        self._now = now
        self._elsewhere = elsewhere

    async def create(
        self, caller: Principal, parent: TenantName, mrenclave: bytes, isv_svn: int
    ) -> tuple[Tenant, EnclaveUpgrade]:
        """Begin an upgrade to an enclave of that measurement and security version; an operation prepares it.

        Raises:
            NotFound: no such tenant, or not the caller's.
            InvalidRequest: a length, or a number.
            FailedPrecondition: no enclave; one is open; the version is below that of the enclave that runs.
            LimitExceeded: MOST_UPGRADES.
        """
        tenant = await self._owner(caller, parent)
        if len(mrenclave) != MEASUREMENT_LENGTH:
            raise invalid("mrenclave", f"must be {MEASUREMENT_LENGTH} bytes")
        if not 0 <= isv_svn <= LARGEST_SVN:
            raise invalid("isv_svn", f"must be 0 to {LARGEST_SVN}")
        runs, now = self._running(), self._now()
        if isv_svn < runs.isv_svn:
            raise FailedPrecondition(
                f"isv_svn {isv_svn} is below {runs.isv_svn}, that of the enclave that runs: what it has sealed would not open"
            )
        upgrade = EnclaveUpgrade(
            uid=UpgradeUid(uuid4()),
            tenant=tenant.uid,
            mrenclave=mrenclave,
            isv_svn=isv_svn,
            from_mrenclave=runs.mrenclave,
            from_isv_svn=runs.isv_svn,
            # The same code opens what it has sealed at a lower version: nothing is to be prepared.
            state=UpgradeState.PREPARED if mrenclave == runs.mrenclave else UpgradeState.PREPARING,
            state_at=now,
            created_at=now,
            created_by=str(caller),
        )
        async with self._storage.transaction(tenant.uid, write=True) as work:
            before = await work.enclave_upgrades.list_all(tenant.uid)
            if len(before) >= MOST_UPGRADES:
                raise LimitExceeded(f"{tenant.name} has had {MOST_UPGRADES} upgrades of the enclave")
            if (open_one := next((one for one in before if one.is_open), None)) is not None:
                raise FailedPrecondition(f"{open_one.name(tenant.slug)} is {open_one.state}: finish or cancel it first")
            if upgrade.state is UpgradeState.PREPARING:
                upgrade = await self._with_operation(work, tenant, upgrade, caller, runs)
            upgrade = await work.enclave_upgrades.add(upgrade)
            reach("enclave_upgrade.before_commit")
        reach("enclave_upgrade.committed")
        self._tell("created", tenant, upgrade, caller)
        return tenant, upgrade

    async def get(self, caller: Principal, name: EnclaveUpgradeName) -> tuple[Tenant, EnclaveUpgrade]:
        """Return an upgrade.

        Raises:
            NotFound: no such upgrade, or one of another tenant.
        """
        tenant = await self._owner(caller, name.parent, name)
        async with self._storage.transaction(tenant.uid) as work:
            return tenant, await _stored(work, tenant, name)

    async def list_newest(
        self, caller: Principal, parent: TenantName, after: UpgradeUid | None, limit: int
    ) -> tuple[Tenant, list[EnclaveUpgrade]]:
        """Return at most *limit* upgrades, the newest first, from the one that follows *after*.

        Raises:
            NotFound: no such tenant, or not the caller's.
        """
        tenant = await self._owner(caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            found = await work.enclave_upgrades.list_all(tenant.uid)
        first = next((number for number, one in enumerate(found, 1) if one.uid == after), 0)
        return tenant, found[first : first + limit]

    async def finish(
        self, caller: Principal, name: EnclaveUpgradeName, *, force: bool
    ) -> tuple[Tenant, EnclaveUpgrade]:
        """Have the enclave that runs, which has to be the target, seal everything anew; asked for again, it goes on.

        *force*: whatever does not open in it, which stays as it is.

        Raises:
            NotFound: as get().
            FailedPrecondition: it is not prepared, or has ended; another enclave runs, here or on another node; or
                seals are there that this enclave does not open.
        """
        tenant = await self._owner(caller, name.parent, name)
        runs = self._running()
        others = await self._elsewhere(runs)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            upgrade = await _stored(work, tenant, name)
            changed = upgrade.after(UpgradeEvent.FORCE if force else UpgradeEvent.FINISH, self._now())
            check_enclave(changed, runs)
            if others:
                named = ", ".join(others[:_MOST_NAMED])
                raise FailedPrecondition(
                    f"other nodes run another enclave than the target: {named}; upgrade them first"
                )
            closed = [
                one for one in await work.enclave_upgrades.count_seals(tenant.uid) if not runs.opens(one.policy, one.by)
            ]
            if closed and not force:
                raise FailedPrecondition(_refusal(closed, tenant))
            if force:
                changed = replace(changed, forced_by=str(caller))
            changed = await self._with_operation(work, tenant, changed, caller, runs)
            upgrade = await work.enclave_upgrades.replace(changed)
            reach("enclave_upgrade.before_commit")
        reach("enclave_upgrade.committed")
        self._tell("finishing", tenant, upgrade, caller)
        return tenant, upgrade

    async def cancel(self, caller: Principal, name: EnclaveUpgradeName) -> tuple[Tenant, EnclaveUpgrade]:
        """End an upgrade; an operation of the old enclave, or of the target, brings back what was prepared.

        Raises:
            NotFound: as get().
            FailedPrecondition: it has ended.
        """
        tenant = await self._owner(caller, name.parent, name)
        runs = self._running()
        async with self._storage.transaction(tenant.uid, write=True) as work:
            upgrade = (await _stored(work, tenant, name)).after(UpgradeEvent.CANCEL, self._now())
            upgrade = await self._with_operation(work, tenant, upgrade, caller, runs)
            upgrade = await work.enclave_upgrades.replace(upgrade)
            reach("enclave_upgrade.before_commit")
        reach("enclave_upgrade.committed")
        self._tell("cancelled", tenant, upgrade, caller)
        return tenant, upgrade

    async def census(self, caller: Principal, parent: TenantName) -> tuple[Tenant, SealCensus]:
        """Count the tenant's sealed keys by kind, policies and sealer.

        Raises:
            NotFound: no such tenant, or not the caller's.
        """
        tenant = await self._owner(caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            counts = await work.enclave_upgrades.count_seals(tenant.uid)
        facts = None if self._enclave is None else self._enclave.facts
        return tenant, SealCensus(counts, None if facts is None else facts.sealer)

    async def _with_operation(
        self, work: UnitOfWork, tenant: Tenant, upgrade: EnclaveUpgrade, caller: Principal, runs: SealedBy
    ) -> EnclaveUpgrade:
        """Return the upgrade with the operation that works on it: the one that runs, or a new one."""
        target, kind = str(upgrade.name(tenant.slug)), OperationKind.RESEAL
        operation = await work.operations.find(tenant.uid, kind, target, OperationState.RUNNING)
        if operation is None:
            now = self._now()
            total = sum_due(await work.enclave_upgrades.count_seals(tenant.uid), upgrade, runs)
            operation = await work.operations.add(
                Operation(
                    OperationUid(uuid4()),
                    tenant.uid,
                    kind,
                    target,
                    OperationState.RUNNING,
                    str(caller),
                    now,
                    now,
                    total=total,
                )
            )
        return replace(upgrade, operation=operation.uid)

    def _running(self) -> SealedBy:
        if self._enclave is None:
            raise FailedPrecondition("the daemon that answers has no enclave")
        return running(self._enclave)

    def _tell(self, what: str, tenant: Tenant, upgrade: EnclaveUpgrade, caller: Principal) -> None:
        _log.warning(
            f"enclave_upgrade.{what}",
            name=str(upgrade.name(tenant.slug)),
            target=spoken(upgrade.mrenclave, upgrade.isv_svn),
            state=upgrade.state,
            caller=str(caller),
        )
        self._wake()

    async def _owner(self, caller: Principal, parent: TenantName, asked: EnclaveUpgradeName | None = None) -> Tenant:
        if caller.tenant != parent.tenant:
            raise NotFound(str(asked or parent))
        try:
            return await visible_tenant(self._storage, caller, parent)
        except NotFound as error:
            raise NotFound(str(asked or parent)) from error


async def _stored(work: UnitOfWork, tenant: Tenant, name: EnclaveUpgradeName) -> EnclaveUpgrade:
    upgrade = await work.enclave_upgrades.get(tenant.uid, UpgradeUid(name.upgrade))
    if upgrade is None:
        raise NotFound(str(name))
    return upgrade


def _refusal(closed: Sequence[SealCount], tenant: Tenant) -> str:
    sealers = sorted({spoken(one.by.mrenclave, one.by.isv_svn) for one in closed if one.by is not None})
    return (
        f"{sum(one.count for one in closed)} sealed keys of {tenant.name} do not open in the enclave that runs; they were"
        f" sealed by {'; '.join(sealers[:_MOST_NAMED])}: start that release again, cancel this upgrade, and begin it there"
        " (or finish with force, and they stay as they are)"
    )
