"""The loop that carries out what is due: nodes share the work by claims, and pause so that callers come first.

What cannot be done now, for want of the token or the database, stays claimed: until the claim is over no node tries it
again. A node that dies leaves its claims, which end by themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar
from uuid import UUID

import structlog

from kms.core.clock import ClockWatch
from kms.core.errors import Conflict, KmsError
from kms.core.keyring import Key, Tenant
from kms.core.ports import Counter, HealthStatus, PartHealth, Storage
from kms.failpoints import reach
from kms.services.due_keys import DueKeys, ScheduleCounts

_log = structlog.get_logger(__name__)

CLAIM: Final = timedelta(seconds=60)  # far longer than a batch takes; also the back-off after a failure
BATCH: Final = 50  # keys or tenants that one node claims at once
# Keys that one node works on at a time: the token of one and the database of the other. More was measured to be no
# faster, since the Python of a rotation costs more than its waiting, and would take connections from callers.
AT_ONCE: Final = 2
SHARE: Final = 0.5  # of the time; the rest is a pause after each batch
MOST_REQUESTS: Final = 10_000  # key versions beyond their soft limit; what finds no place is asked for again


T = TypeVar("T")


class KekWork(Protocol):
    """Carries out what is due with a tenant's KEK versions, and plans the tenant."""

    async def look(self, tenant: Tenant, *, may_destroy: bool) -> None:
        """Do all that is due now; nothing is destroyed without *may_destroy*."""
        ...


class Rotation:
    """Looks for due work each *interval* seconds, or when it is woken."""

    def __init__(
        self,
        storage: Storage,
        keys: DueKeys,
        keks: KekWork | None,
        rotate_kek: Callable[[Tenant, int], Awaitable[object]],
        node: UUID,
        interval: float,
        watch: ClockWatch,
        now: Callable[[], datetime],
        boottime: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            storage: shares the work.
            keys: carries out what is due with keys.
            keks: the same for tenants' KEK versions; without it they are left alone.
            rotate_kek: replaces a tenant's primary KEK version, which has to be the one given.
            node: this node among those that share the work.
            interval: seconds.
            watch: what was known of the clocks when this process started.
            now: the wall clock.
            boottime: seconds since the machine was started.
        """
        self._storage = storage
        self._keys = keys
        self._keks = keks
        self._rotate_kek = rotate_kek
        self._node = node
        self._interval = interval
        self._watch = watch
        self._now = now
        self._boottime = boottime
        self._held = ""
        self._woken = asyncio.Event()
        # In the order in which they came; a dictionary for want of an ordered set.
        self._requested: dict[Counter, None] = {}

    @property
    def counts(self) -> ScheduleCounts:
        """What this node has done since its start."""
        return self._keys.counts

    def wake(self) -> None:
        """Look for due work now."""
        self._woken.set()

    def request(self, counter: Counter) -> None:
        """Ask for the rotation of a key version, or KEK version, that has passed its soft limit; never waits."""
        if len(self._requested) < MOST_REQUESTS:
            self._requested[counter] = None
            self._woken.set()

    async def health(self) -> PartHealth:
        """Say whether anything keeps this node from what is due."""
        return PartHealth(HealthStatus.DEGRADED if self._held else HealthStatus.HEALTHY, self._held)

    async def run(self) -> None:
        """Carry out what is due until cancelled."""
        while True:
            self._woken.clear()
            began = time.perf_counter()
            try:
                more = await self.step()
            except KmsError as error:
                more = False
                self._failed("the look for due work", error)
            if more:
                await asyncio.sleep((time.perf_counter() - began) * (1 / SHARE - 1))
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._woken.wait()

    async def step(self) -> bool:
        """Carry out one batch of what is due; returns whether it did anything, so that there may be more.

        Raises:
            StorageUnavailable: it cannot be asked what is due.
        """
        asked = await self._carry_out_requests()
        keys = await self._carry_out_keys()
        tenants = await self._carry_out_tenants()
        return asked or keys or tenants

    async def _carry_out_requests(self) -> bool:
        batch = [*self._requested][:BATCH]
        for counter in batch:
            del self._requested[counter]
        done = await self._at_once(batch, self._replace_used)
        for counter in batch:
            if counter not in done:
                self._requested[counter] = None
        return bool(done)

    async def _replace_used(self, counter: Counter) -> bool:
        async with self._storage.transaction(counter.tenant) as work:
            tenant = await work.tenants.by_uid(counter.tenant)
        if tenant is None:
            return True
        with suppress(Conflict):
            if counter.subject != tenant.kek:
                await self._keys.rotate_used(tenant, counter)
            elif counter.version == tenant.primary_kek:
                await self._rotate_kek(tenant, counter.version)
            return True
        return False

    async def _carry_out_keys(self) -> bool:
        now = self._now()
        claimed = await self._storage.claim_keys(self._node, now, now + CLAIM, BATCH)
        if not claimed:
            return False
        reach("schedule.claimed")
        self.counts.claimed["key"] += len(claimed)
        done = await self._at_once(claimed, self._carry_out_key)
        reach("schedule.before_release")
        await self._storage.release(self._node, [key.uid for _, key in done])
        return bool(done)

    async def _carry_out_key(self, claimed: tuple[Tenant, Key]) -> bool:
        tenant, key = claimed
        return await self._keys.carry_out(tenant, key, may_destroy=self._may_destroy())

    async def _carry_out_tenants(self) -> bool:
        if self._keks is None:
            return False
        now = self._now()
        claimed = await self._storage.claim_tenants(self._node, now, now + CLAIM, BATCH)
        if not claimed:
            return False
        self.counts.claimed["tenant"] += len(claimed)
        done = await self._at_once(claimed, self._look_at_keks)
        await self._storage.release(self._node, [tenant.uid for tenant in done])
        return bool(done)

    async def _look_at_keks(self, tenant: Tenant) -> bool:
        if self._keks is not None:
            await self._keks.look(tenant, may_destroy=self._may_destroy())
        return True

    async def _at_once(self, items: Sequence[T], work: Callable[[T], Awaitable[bool]]) -> list[T]:
        """Do *work* for all items, some at a time; returns those that are done. One that fails holds up no other."""
        waiting, done = iter(items), list[T]()

        async def some() -> None:
            for item in waiting:
                try:
                    if await work(item):
                        done.append(item)
                except KmsError as error:
                    self._failed(_name(item), error)
                except Exception:  # noqa: BLE001  a mistake of ours in one kind of work must not end the daemon
                    self.counts.failures += 1
                    _log.exception("schedule.failed", subject=_name(item))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(AT_ONCE, len(items))):
                tasks.create_task(some())
        return done

    def _may_destroy(self) -> bool:
        boot = self._boottime()
        self._watch = self._watch.observed(self._now(), boot)
        held = self._watch.held(boot) or ""
        if held and not self._held:
            _log.warning("destruction.held", reason=held)
        self._held = held
        return not held

    def _failed(self, subject: str, error: KmsError) -> None:
        self.counts.failures += 1
        _log.warning("schedule.failed", subject=subject, reason=str(error), error=error.reason)


def _name(item: object) -> str:
    match item:
        case (Tenant() as tenant, Key() as key):
            return str(key.name(tenant))
        case Tenant():
            return str(item.name)
        case _:
            return str(item)
