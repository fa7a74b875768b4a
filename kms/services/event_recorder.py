"""Security events on their way from a call to the database: queued without waiting, answered once, stored in batches.

Step by step, for every event:
1. whoever noticed it puts it into a bounded queue, and goes on; an event that finds the queue full is counted and lost;
2. the one writer logs it, and carries out the answer that the settings name, once, within a bound;
3. it is stored together with the item that tells the sinks; while the database is away it waits in the queue.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final
from uuid import UUID, uuid4

import structlog

from kms.core.detection import Grown
from kms.core.errors import Conflict, CorruptRecord, KmsError, StorageUnavailable
from kms.core.events import KINDS, Answer, EventType, EventUid, Outcome, SecurityEvent, event_body, risk_of
from kms.core.names import INSTALLATION_UID, KeyName, Principal, TenantUid
from kms.core.outbox import OutboxItem, OutboxUid, Topic
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork

_log = structlog.get_logger(__name__)

MOST_QUEUED: Final = 10_000  # events, some 2 KiB each
MOST_OPEN: Final = 10_000  # events whose final count is still to come
AT_ONCE: Final = 200  # events in one transaction, which holds up other writers of the outbox
INTERVAL: Final = 5.0  # seconds between two writings of final counts, and of what could not be written before
ANSWER_DEADLINE: Final = 5.0  # seconds
FINAL: Final = 10.0  # seconds for what is left when the daemon ends
MOST_TENANTS: Final = 1_000  # slugs remembered with their uids
LOUD_EVERY: Final = timedelta(minutes=1)  # between two log lines about lost events
_ATTEMPTS: Final = 3

BlockPrincipal = Callable[[Principal, str, datetime], Awaitable[object]]
SuspendKey = Callable[[KeyName, str], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Noticed:
    """An event that has no owner yet, and what its answer would be about."""

    event: SecurityEvent
    tenant: str | None  # the slug of the caller's tenant
    principal: Principal | None = None
    key: KeyName | None = None
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Answers:
    """Which answer each type of event gets, and who carries them out; None: nobody can."""

    by_type: Mapping[EventType, Answer]
    block_period: timedelta
    block_principal: BlockPrincipal | None = None
    suspend_key: SuspendKey | None = None


class EventRecorder:
    """The queue and its writer.

    Attributes:
        counts: the events noticed on this node, by type and severity.
        dropped: the events that were lost for want of room.
    """

    def __init__(
        self,
        storage: Storage,
        answers: Answers,
        grown: Callable[[float], list[Grown]],
        now: Callable[[], datetime],
        clock: Callable[[], float],
        *,
        stored: Callable[[], None] = lambda: None,
        most: int = MOST_QUEUED,
    ) -> None:
        """*grown* tells final counts by *clock*; *stored* is called when sinks have something new to tell."""
        self._storage = storage
        self._answers = answers
        self._grown = grown
        self._now = now
        self._clock = clock
        self._stored = stored
        self._most = most
        self._queue: deque[Noticed] = deque()
        self._growths: dict[UUID, Grown] = {}
        self._owners: OrderedDict[UUID, TenantUid] = OrderedDict()  # of stored events whose windows may be open
        self._tenants: OrderedDict[str, TenantUid] = OrderedDict()
        self._wake = asyncio.Event()
        self._failing = False
        self._loud_after: datetime | None = None
        self.counts: dict[tuple[str, str], int] = {(kind, KINDS[kind].severity): 0 for kind in EventType}
        self.dropped = 0

    def __len__(self) -> int:
        """Return the number of events that wait."""
        return len(self._queue)

    def offer(self, noticed: Noticed) -> None:
        """Take an event, or count it as lost; never waits."""
        event = noticed.event
        self.counts[event.type, event.severity] = self.counts.get((event.type, event.severity), 0) + 1
        if len(self._queue) >= self._most:
            self.dropped += 1
            now = self._now()
            if self._loud_after is None or now >= self._loud_after:
                self._loud_after = now + LOUD_EVERY
                _log.error("security.events_dropped", dropped=self.dropped, type=event.type)
            return
        self._queue.append(noticed)
        self._wake.set()

    async def run(self) -> None:
        """Write what comes, until cancelled, and once more then."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL):
                        await self._wake.wait()
                self._wake.clear()
                await self.flush()
                if self._failing:
                    await asyncio.sleep(INTERVAL)
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(FINAL):
                    await self.flush()

    async def flush(self) -> None:
        """Write all that waits; what cannot be written waits on. Raises nothing."""
        for grown in self._grown(self._clock()):
            if len(self._growths) < MOST_OPEN:
                self._growths[grown.uid] = grown
        try:
            while self._queue:
                await self._write_some()
            await self._write_growths()
        except StorageUnavailable as error:
            if not self._failing:
                _log.warning("security.events_not_written", reason=str(error), waiting=len(self._queue))
            self._failing = True
        except Exception:  # noqa: BLE001  a mistake of ours costs the events that it is about, and no others
            _log.exception("security.writer_failed", waiting=len(self._queue))
            for _ in range(min(len(self._queue), AT_ONCE)):
                self._queue.popleft()
                self.dropped += 1
            self._growths.clear()
        else:
            if self._failing:
                _log.info("security.events_written_again")
            self._failing = False

    async def _write_some(self) -> None:
        for index in range(min(len(self._queue), AT_ONCE)):
            if not self._queue[index].answered:
                self._queue[index] = await self._answered(self._queue[index])
        batch = list(islice(self._queue, AT_ONCE))
        owned: dict[TenantUid, list[tuple[SecurityEvent, str | None]]] = {}
        for noticed in batch:
            uid = await self._owner(noticed.tenant)
            slug = None if uid == INSTALLATION_UID else noticed.tenant
            event = replace(noticed.event, tenant=uid, created_at=self._now())
            owned.setdefault(uid, []).append((event, slug))
        for tenant, events in owned.items():
            await self._store(tenant, events)
        for _ in batch:
            self._queue.popleft()
        self._stored()

    async def _store(self, tenant: TenantUid, events: Sequence[tuple[SecurityEvent, str | None]]) -> None:
        try:
            await self._add(tenant, events)
        except StorageUnavailable:
            raise
        except KmsError:
            # Some were stored by an earlier attempt whose answer was lost, or one of them can never be stored.
            for one in events:
                await self._store_alone(tenant, one)
        for event, _ in events:
            self._owners[event.uid] = tenant
        while len(self._owners) > MOST_OPEN:
            self._owners.popitem(last=False)

    async def _store_alone(self, tenant: TenantUid, one: tuple[SecurityEvent, str | None]) -> None:
        event, _ = one
        try:
            async with self._storage.transaction(tenant) as work:
                if await work.security_events.get(tenant, event.uid) is not None:
                    return
            await self._add(tenant, [one])
        except StorageUnavailable:
            raise
        except KmsError as error:
            self.dropped += 1
            _log.error("security.event_refused", type=event.type, reason=str(error))

    async def _add(self, tenant: TenantUid, events: Sequence[tuple[SecurityEvent, str | None]]) -> None:
        async with self._storage.transaction(tenant, write=True) as work:
            await work.security_events.add_all([event for event, _ in events])
            await work.outbox.add_all(
                [
                    OutboxItem(
                        OutboxUid(uuid4()),
                        tenant,
                        Topic.SECURITY_EVENTS,
                        event_body(event, slug),
                        event.created_at,
                    )
                    for event, slug in events
                ]
            )

    async def _write_growths(self) -> None:
        for uid, grown in list(self._growths.items()):
            tenant = self._owners.get(uid)
            if tenant is not None:
                await self._grow(tenant, grown)
                self._owners.pop(uid, None)
            del self._growths[uid]

    async def _grow(self, tenant: TenantUid, grown: Grown) -> None:
        at = self._now() - timedelta(seconds=max(self._clock() - grown.at, 0.0))
        for _ in range(_ATTEMPTS):
            try:
                async with self._storage.transaction(tenant, write=True) as work:
                    await _add_count(work, tenant, grown, at)
            except Conflict:
                continue  # somebody investigates it at this very moment
            return
        _log.warning("security.event_count_lost", uid=str(grown.uid), count=grown.count)

    async def _owner(self, slug: str | None) -> TenantUid:
        """Return whose event it is: the installation's where the caller is nobody's or names a tenant that is not there."""
        if slug is None:
            return INSTALLATION_UID
        known = self._tenants.get(slug)
        if known is not None:
            return known
        try:
            async with self._storage.transaction() as work:
                tenant = await work.tenants.get(slug)
        except CorruptRecord:  # which is what the event may be about
            return INSTALLATION_UID
        if tenant is None:
            return INSTALLATION_UID
        self._tenants[slug] = tenant.uid
        if len(self._tenants) > MOST_TENANTS:
            self._tenants.popitem(last=False)
        return tenant.uid

    async def _answered(self, noticed: Noticed) -> Noticed:
        event = noticed.event
        answer = self._answers.by_type.get(event.type, Answer.NONE)
        outcome, reason = Outcome.NOT_ASKED, ""
        if answer is not Answer.NONE:
            outcome, reason = await self._carried_out(answer, noticed)
        indicators = (*event.indicators, f"answer: {reason}") if reason else event.indicators
        event = replace(event, answer=answer, outcome=outcome, indicators=indicators)
        _log.warning(
            "security.event",
            uid=str(event.uid),
            type=event.type,
            severity=event.severity,
            count=event.count,
            principal=event.principal,
            address=event.address,
            resource=event.resource,
            method=event.method,
            request_id=event.request_id,
            answer=answer,
            outcome=outcome,
            reason=reason,
        )
        return replace(noticed, event=event, answered=True)

    async def _carried_out(self, answer: Answer, noticed: Noticed) -> tuple[Outcome, str]:
        act = self._act(answer, noticed)
        if isinstance(act, str):
            return Outcome.NOT_AVAILABLE, act
        try:
            async with asyncio.timeout(ANSWER_DEADLINE):
                await act
        except TimeoutError:
            return Outcome.FAILED, "it took too long"
        except KmsError as error:
            return Outcome.FAILED, str(error)
        except Exception as error:  # noqa: BLE001  whoever carries it out must not stop the writer
            _log.exception("security.answer_failed", answer=answer)
            return Outcome.FAILED, type(error).__name__
        return Outcome.DONE, ""

    def _act(self, answer: Answer, noticed: Noticed) -> Awaitable[object] | str:
        """Return what carries an answer out, or why there is nothing."""
        why, answers = f"security event {noticed.event.uid}: {noticed.event.description}", self._answers
        if answer is Answer.SUSPEND_KEY:
            if answers.suspend_key is None or noticed.key is None:
                return "there is no key to suspend"
            return answers.suspend_key(noticed.key, why)
        if answers.block_principal is None:
            return "this daemon cannot block principals"
        if noticed.principal is None or noticed.principal.tenant is None:
            return "only a tenant's principals are blocked"
        return answers.block_principal(noticed.principal, why, self._now() + answers.block_period)


async def _add_count(work: UnitOfWork, tenant: TenantUid, grown: Grown, at: datetime) -> None:
    event = await work.security_events.get(tenant, EventUid(grown.uid))
    if event is None or grown.count <= event.count:
        return
    await work.security_events.replace(
        replace(
            event,
            count=grown.count,
            last_at=max(at, event.last_at),
            risk=max(event.risk, risk_of(event.type, grown.count, event.threshold)),
        )
    )
