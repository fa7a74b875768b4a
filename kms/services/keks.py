"""KEK versions: made, looked at when they are due, and shown. docs/rotation-cycle.md has the steps of their life.

The token is outside the database's transaction, so making a KEK version, and destroying one (services.kek_retirement),
takes three steps: the intent is stored, the token acts, the outcome is stored. A crash may leave an intent without an
outcome; settle() carries every such intent through at the next start. Doing a step twice does it once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol, assert_never

import structlog

from kms.core.errors import Conflict, CorruptRecord, KmsError, NotFound
from kms.core.events import Severity
from kms.core.keyring import Kek, KekState, Tenant
from kms.core.names import Principal, TenantName, TenantUid
from kms.core.operations import Operation, OperationEvent, OperationKind, OperationState
from kms.core.policy import NEVER
from kms.core.ports import Counter, CreatedKek, KekDestroyer, KekVault, Storage
from kms.core.rotation import (
    DestroyKek,
    KekAction,
    KekPolicy,
    RestoreKek,
    RetireKek,
    Rewrap,
    RotateKek,
    due_keks,
    next_due_kek,
)
from kms.core.suites import WRAP_ROTATE
from kms.failpoints import reach
from kms.services.audit import UNRECORDED, Act, Acts
from kms.services.counting import UsageCounters
from kms.services.kek_lineages import kek_lineage_of, wrapped_in
from kms.services.kek_retirement import KekRetirement, ReceiptMaker
from kms.services.operations import Operations
from kms.services.uninterrupted import Uninterrupted
from kms.services.visibility import visible_tenant

_log = structlog.get_logger(__name__)

SCHEDULER: Final = "scheduler"  # who asked for what nobody asked for

# Between two looks at a tenant whose KEK versions have work that is under way, or has failed.
SOON: Final = timedelta(minutes=1)
# A tenant is looked at as often as this even where nothing waits for a time: settings and clocks may have changed.
LONGEST_LOOK: Final = timedelta(days=1)
# A re-wrap that has failed is tried again after this time.
REWRAP_AGAIN: Final = timedelta(hours=1)
MOST_TRIES: Final = 5  # of a change of a tenant that collides with another


class KekKeeper(KekVault, KekDestroyer, Protocol):
    """Makes KEKs, and destroys them."""


@dataclass(frozen=True, slots=True)
class KekStatus:
    """A KEK version, how much hangs on it, and for the primary one when it is to be replaced."""

    kek: Kek
    primary: bool
    wrapped_key_versions: int
    wraps_reserved: int
    next_rotation_at: datetime | None = None


class Keks:
    """KEK versions of all tenants."""

    def __init__(
        self,
        storage: Storage,
        vault: KekKeeper,
        usage: UsageCounters,
        operations: Operations,
        policy: KekPolicy,
        now: Callable[[], datetime],
        *,
        receipt: ReceiptMaker | None = None,
        wake: Callable[[], None] = lambda: None,
        trail: Acts = UNRECORDED,
    ) -> None:
        """Prepare.

        Args:
            storage: the database.
            vault: the token.
            usage: counts wraps.
            operations: carries out re-wraps.
            policy: when KEKs rotate, and how long they are in quarantine: not shorter than the backup horizon.
            now: the wall clock.
            receipt: makes receipts of destruction; None for none.
            wake: lets the scheduler look for tenants that are due.
            trail: records what the scheduler does.
        """
        self._storage = storage
        self._vault = vault
        self._usage = usage
        self._operations = operations
        self._policy = policy
        self._now = now
        self._wake = wake
        self._retirement = KekRetirement(storage, vault, policy.quarantine, now, receipt)
        self._trail = trail
        self._acts = Uninterrupted()

    async def rotate(self, caller: Principal, name: TenantName, seen: int) -> tuple[Tenant, KekStatus]:
        """Make the next KEK version the one that wraps what is new; the scheduler sees to the rest.

        Raises:
            Conflict: the primary version is not *seen* (where that is not 0).
        """
        tenant = await visible_tenant(self._storage, caller, name)
        tenant, kek = await self._rotate(tenant, str(caller), seen)
        self._wake()
        return tenant, KekStatus(kek, kek.version == tenant.primary_kek, 0, 0, self._next_rotation(tenant, kek))

    async def rotate_used(self, tenant: Tenant, seen: int) -> None:
        """Replace a tenant's primary KEK version, which has to be *seen*, for the scheduler.

        Raises:
            Conflict: the primary version is another.
        """
        async with self._act("kek.rotated", tenant, seen + 1, cause="count"):
            await self.rotate(Principal(None, SCHEDULER), tenant.name, seen)

    async def rotate_for_count(self, tenant_uid: TenantUid, version: int) -> None:
        """Replace a KEK version that has made as many wraps as it should, where it still is the primary one."""
        async with self._storage.transaction(tenant_uid) as work:
            tenant = await work.tenants.by_uid(tenant_uid)
        if tenant is not None and tenant.primary_kek == version:
            await self._carry_out(RotateKek(tenant, version))
            self._wake()

    async def _rotate(self, tenant: Tenant, by: str, seen: int) -> tuple[Tenant, Kek]:
        if seen not in (0, tenant.primary_kek):
            raise Conflict(f"the primary version is {tenant.primary_kek}, not {seen}")
        version = tenant.primary_kek + 1
        async with self._storage.transaction(tenant.uid, write=True) as work:
            # An intent that a failed call left behind is carried through instead of adding another.
            if await work.keks.get(tenant.uid, version) is None:
                await work.keks.add(Kek(tenant.uid, tenant.kek, version, KekState.PENDING, self._now(), created_by=by))
        reach("rotate_kek.intent_stored")
        return await self.activate(tenant, version)

    async def activate(self, tenant: Tenant, version: int) -> tuple[Tenant, Kek]:
        """Carry a stored intent through; returns the tenant and the KEK version as they then are.

        It goes on when the caller goes away: while the token makes the key nobody else may get the lock, or two nodes
        of one token make two keys.
        """
        return await self._acts.run(self._activate(tenant, version))

    async def _activate(self, tenant: Tenant, version: int) -> tuple[Tenant, Kek]:
        # One lock for the whole token: with AES-KW the first KEK of all brings the bind key, of which there may be one.
        async with self._storage.exclusive("kek"):
            async with self._storage.transaction(tenant.uid) as work:
                pending = await work.keks.get(tenant.uid, version)
                current = await work.tenants.by_uid(tenant.uid)
            if pending is None or current is None:
                raise NotFound(tenant.name.kek(version))
            if pending.state is not KekState.PENDING:
                return current, pending
            created = await self._vault.create_kek(pending.uid, version)
            reach("create_kek.in_token")
            current, kek = await self._store_outcome(pending, created)
            reach("create_kek.committed")
        _log.info("kek.activated", tenant=tenant.slug, version=version)
        return current, kek

    async def _store_outcome(self, pending: Kek, created: CreatedKek) -> tuple[Tenant, Kek]:
        made = replace(
            pending,
            state=KekState.ACTIVE,
            mechanism=created.mechanism,
            canary=created.canary,
            hsm_key_id=created.hsm_key_id,
        )
        for attempt in range(1, MOST_TRIES + 1):
            try:
                async with self._storage.transaction(pending.tenant, write=True) as work:
                    tenant = await work.tenants.by_uid(pending.tenant)
                    if tenant is None:
                        raise CorruptRecord(f"tenant {pending.tenant} is not there")
                    kek = await work.keks.replace(made)
                    # Due now: what older versions wrap is to be re-wrapped.
                    tenant = tenant.with_primary_kek(kek.version)
                    tenant = await work.tenants.replace(replace(tenant, due_at=self._now()))
                    reach("create_kek.before_commit")
                    return tenant, kek
            except Conflict:  # when to look at it next may be planned at the same moment
                if attempt == MOST_TRIES:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def settle(self) -> int:
        """Carry through every intent that a crash left without an outcome; returns how many were.

        One that cannot be is left: nobody sees it, the next start or the next call for it tries again, and the other
        tenants do not wait for that.
        """
        async with self._storage.transaction() as work:
            intents = [*await work.keks.pending(), *await work.keks.destroying()]
        settled = 0
        for tenant, kek in intents:
            reach("settle.before")
            _log.warning("kek.intent_found", tenant=tenant.slug, version=kek.version, state=kek.state)
            try:
                async with self._act("kek.settled", tenant, kek.version, found=kek.state.value):
                    if kek.state is KekState.DESTROYING:
                        await self._retirement.destroy(tenant, kek)
                    else:
                        await self.activate(tenant, kek.version)
                settled += 1
            except KmsError as error:
                _log.error("kek.intent_left", tenant=tenant.slug, version=kek.version, reason=str(error))
        return settled

    async def look(self, tenant: Tenant, *, may_destroy: bool = True) -> None:
        """Do what is due with a tenant's KEK versions, and plan the next look."""
        # What these do decides what else is due.
        _, due = await self._due(tenant.uid, may_destroy)
        again = [await self._carry_out(action) for action in due if isinstance(action, RotateKek | RestoreKek)]
        tenant, due = await self._due(tenant.uid, may_destroy)
        again += [await self._carry_out(action) for action in due if not isinstance(action, RotateKek | RestoreKek)]
        await self._plan(tenant, again=any(again))

    async def _due(self, tenant_uid: TenantUid, may_destroy: bool) -> tuple[Tenant, list[KekAction]]:
        async with self._storage.transaction(tenant_uid) as work:
            lineage = await kek_lineage_of(work, tenant_uid)
        actions = due_keks(self._now(), lineage, self._policy, may_destroy=may_destroy)
        tenant = lineage.tenant
        [wraps] = await self._usage.reserved([Counter(tenant.uid, tenant.kek, tenant.primary_kek)])
        rotation = RotateKek(tenant, tenant.primary_kek)
        if wraps >= WRAP_ROTATE and rotation not in actions:
            actions.insert(0, rotation)
        return tenant, actions

    async def _carry_out(self, action: KekAction) -> bool:
        """Do one thing that is due; returns whether to look again soon, because it is under way or has failed."""
        tenant = action.tenant
        try:
            match action:
                case RotateKek():
                    async with self._act("kek.rotated", tenant, action.seen + 1):
                        await self._rotate(tenant, SCHEDULER, action.seen)
                case Rewrap():
                    return await self._rewrap(tenant, action.remaining)
                case RetireKek():
                    return await self._retire(tenant, action.kek)
                case RestoreKek():
                    async with self._act("kek.restored", tenant, action.kek.version):
                        await self._retirement.restore(tenant, action.kek)
                case DestroyKek():
                    async with self._act("kek.destroyed", tenant, action.kek.version, Severity.HIGH):
                        await self._retirement.destroy(tenant, action.kek)
                case _:
                    assert_never(action)
        except Conflict:  # another node, or a caller, was faster
            return True
        except KmsError as error:
            _log.warning("kek.delayed", tenant=tenant.slug, action=type(action).__name__, reason=str(error))
            return True
        return False

    async def _retire(self, tenant: Tenant, kek: Kek) -> bool:
        """Begin a quarantine, once the calls that began before the KEK was rotated are over: those may yet wrap by it."""
        async with self._storage.transaction(tenant.uid) as work:
            primary = await work.keks.get(tenant.uid, tenant.primary_kek)
        if primary is None or self._now() < primary.created_at + SOON:
            return True
        async with self._act("kek.retired", tenant, kek.version, Severity.MEDIUM):
            await self._retirement.retire(tenant, kek)
        return False

    def _act(
        self, action: str, tenant: Tenant, version: int, severity: Severity = Severity.LOW, **details: str
    ) -> AbstractAsyncContextManager[Act]:
        return self._trail.act(
            action,
            tenant=tenant.uid,
            resource=tenant.name.kek(version),
            resource_type="kek",
            by=SCHEDULER,
            severity=severity,
            details=details,
        )

    async def _rewrap(self, tenant: Tenant, remaining: int) -> bool:
        """Begin to re-wrap, or go on, unless somebody has stopped that since the KEK was rotated last."""
        target = f"{tenant.name}/keks"
        async with self._storage.transaction(tenant.uid) as work:
            if await work.operations.find(tenant.uid, OperationKind.REWRAP, target, OperationState.RUNNING):
                return True
            primary = await work.keks.get(tenant.uid, tenant.primary_kek)
            ended = [
                operation
                for state in (OperationState.CANCELLED, OperationState.FAILED)
                if (operation := await work.operations.find(tenant.uid, OperationKind.REWRAP, target, state))
                and primary is not None
                and operation.created_at >= primary.created_at
            ]
        last: Operation | None = max(ended, key=lambda operation: operation.updated_at, default=None)
        if last is None:
            await self._operations.start(tenant, OperationKind.REWRAP, target, SCHEDULER, remaining)
            return True
        if last.state is OperationState.CANCELLED:
            return False
        if last.updated_at + REWRAP_AGAIN <= self._now():
            await self._operations.change(tenant, last.uid, OperationEvent.RESUME)
        return True

    async def _plan(self, tenant: Tenant, *, again: bool) -> None:
        """Store when to look next at a tenant as it was when what is due was found."""
        now = self._now()
        async with self._storage.transaction(tenant.uid) as work:
            lineage = await kek_lineage_of(work, tenant.uid)
        times = [now + (SOON if again else LONGEST_LOOK)]
        if (due := next_due_kek(lineage, self._policy)) is not None:
            times.append(max(due, now + SOON))
        try:
            async with self._storage.transaction(tenant.uid, write=True) as work:
                await work.tenants.replace(replace(tenant, due_at=min(times)))
        except Conflict:  # its KEK has been rotated meanwhile, so that it is due again; or another node has planned
            _log.info("kek.changed_meanwhile", tenant=tenant.slug)

    async def list_statuses(
        self, caller: Principal, name: TenantName, after: int, limit: int
    ) -> tuple[Tenant, list[KekStatus]]:
        """Return at most *limit* versions greater than *after*, ordered; one that is still being made is not shown."""
        tenant = await visible_tenant(self._storage, caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            listed = await work.keks.list_by_version(tenant.uid, after, limit)
            wrapped = await wrapped_in(work, tenant)
        keks = [kek for kek in listed if kek.state is not KekState.PENDING]
        reserved = await self._usage.reserved([Counter(tenant.uid, kek.uid, kek.version) for kek in keks])
        return tenant, [
            KekStatus(
                kek,
                kek.version == tenant.primary_kek,
                wrapped.get(kek.version, 0),
                count,
                self._next_rotation(tenant, kek),
            )
            for kek, count in zip(keks, reserved, strict=True)
        ]

    def _next_rotation(self, tenant: Tenant, kek: Kek) -> datetime | None:
        if kek.version != tenant.primary_kek or self._policy.rotation == NEVER:
            return None
        return kek.created_at + self._policy.rotation
