"""The audit trail of calls: which event each of them is (docs/audit.md), durable before it is answered.

A change is two events, its intent and its outcome; a reading, a use of a key and a refusal are one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from kms.core.audit import AuditEvent, Category, Outcome, Phase
from kms.core.audit_ports import Position
from kms.core.errors import AuditUnavailable, DeadlineExceeded, KmsError, Unavailable
from kms.core.events import Severity
from kms.core.names import INSTALLATION_UID, Principal, TenantUid
from kms.failpoints import reach
from kms.rpc.call_events import CallEvents, Known, call_resources, known
from kms.rpc.gates import Ended
from kms.rpc.resources import Resource
from kms.rpc.strangers import Strangers
from kms.services.access import Accesses
from kms.services.audit import RISKS, AuditTrail, looked_at, shown_details

MOST_KNOWN: Final = 10_000  # principals of whom it is remembered how events name them
ITEMS_TURN: Final = 256  # events of items at once, so that other calls have their turns
SEALING: Final = 10.0  # seconds for a checkpoint
STRANGERS_INTERVAL: Final = 60.0  # seconds between two sums of refusals that have no event of their own

_ABANDONED: Final = DeadlineExceeded("the caller has gone before anything was done")

Seal = Callable[[], Awaitable[None]]


async def no_seal() -> None:
    """Make no checkpoint."""


class AuditedCalls:
    """CallTrail: one event, or two, for each call."""

    def __init__(
        self,
        trail: AuditTrail,
        accesses: Accesses,
        context_key: bytes,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        seal: Seal = no_seal,
    ) -> None:
        """Prepare.

        Args:
            trail: writes the events.
            accesses: knows roles.
            context_key: under which values of contexts are hashed, 32 bytes.
            now: the time of the day.
            clock: seconds that never jump.
            seal: makes a checkpoint that covers all that is durable.
        """
        self._trail = trail
        self._accesses = accesses
        self._events = CallEvents(context_key)
        self._now = now
        self._seal = seal
        self._known: dict[Principal, Known] = {}
        self._strangers = Strangers(clock)

    async def began(self, call: Ended) -> Position:
        """Return when the intent of a change is durable."""
        event = await self._event(call, Phase.INTENT)
        intent = asyncio.ensure_future(self._trail.note(event))
        try:
            position = await asyncio.shield(intent)
        except asyncio.CancelledError:
            intent.add_done_callback(lambda done: self._abandoned(call, done))
            raise
        except AuditUnavailable as error:
            raise AuditUnavailable("the audit trail cannot be written, so nothing has been done; try again") from error
        reach("audit.intent_durable")
        return position

    async def ended(self, call: Ended) -> None:
        """Return when a call's outcome, or refusal, is durable, and anchored where its method asks for that."""
        if call.caller is None and not self._strangers.has_event(call.address):
            return
        if call.intent is not None:
            reach("audit.change_done")
        try:
            event = await self._event(call, Phase.ACT if call.intent is None else Phase.OUTCOME)
        except asyncio.CancelledError:
            self.left(call)
            raise
        try:
            first = self._trail.append(event)
            if _each_item(call):
                await self._note_items(event, call, first)
            else:
                await first
        except AuditUnavailable as error:
            raise AuditUnavailable(_unwritten(call)) from error
        if call.intent is not None:
            reach("audit.outcome_durable")
            if call.method.anchored and call.error is None:
                await self._anchored()

    def left(self, call: Ended) -> None:
        """Write a call's event without waiting; one whose intent could not be written, or awaited, has none here."""
        if call.begun and call.intent is None:
            return
        if call.caller is None and not self._strangers.has_event(call.address):
            return
        who = None if call.caller is None else self._known.get(call.caller.principal)
        tenant = INSTALLATION_UID if who is None else who.tenant
        self._trail.leave(
            self._made(call, Phase.ACT if call.intent is None else Phase.OUTCOME, who, tenant, call_resources(call))
        )

    async def run(self) -> None:
        """Write, every now and then, how many refusals had no event of their own, until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(STRANGERS_INTERVAL)
                await self.tell_strangers()
        finally:
            await self.tell_strangers()

    async def tell_strangers(self) -> None:
        """Write sums of refusals that had no event of their own; what cannot be written is told the next time."""
        for sum_ in self._strangers.taken():
            event = AuditEvent(
                action="calls.refused",
                category=Category.AUTHENTICATION,
                outcome=Outcome.FAILURE,
                code="UNAUTHENTICATED",
                severity=Severity.MEDIUM,
                risk=RISKS[Severity.MEDIUM],
                address=sum_.source,
                items=sum_.count,
                failures=sum_.count,
                details=shown_details({"refusals": sum_.count, "seconds": round(sum_.seconds)}),
            )
            try:
                await self._trail.note(event)
            except AuditUnavailable:
                self._strangers.put_back(sum_)

    def _abandoned(self, call: Ended, intent: asyncio.Future[Position]) -> None:
        """Nobody has waited for a call's intent, and so nothing has been done: say so, once the intent has its place."""
        if intent.cancelled() or intent.exception() is not None:
            return
        call.intent, call.code, call.error = intent.result(), "CANCELLED", _ABANDONED
        self.left(call)

    async def _anchored(self) -> None:
        done = "the change has been made and recorded, but is not anchored yet"
        try:
            async with asyncio.timeout(SEALING):
                await self._seal()
        except TimeoutError as error:
            raise AuditUnavailable(f"{done}: no checkpoint in time") from error
        except Unavailable as error:
            raise AuditUnavailable(f"{done}: {error}") from error

    async def _note_items(self, event: AuditEvent, call: Ended, first: Awaitable[Position]) -> None:
        """Write one event for each item of a batch, beside that of the batch; they wait together, in turns."""
        waiting = [asyncio.ensure_future(first)]
        try:
            for start in range(0, len(call.noted.items), ITEMS_TURN):
                indexes = range(start, min(start + ITEMS_TURN, len(call.noted.items)))
                made = [self._events.item(event, call.noted, index) for index in indexes]
                waiting += [asyncio.ensure_future(self._trail.note(one)) for one in made]
                await asyncio.gather(*waiting)
                waiting = []
        finally:
            for task in waiting:
                task.add_done_callback(looked_at)

    async def _event(self, call: Ended, phase: Phase) -> AuditEvent:
        who = None
        if call.caller is not None:
            principal = call.caller.principal
            who = self._remembered(principal) or await self._who(principal)
        resources = call_resources(call)
        tenant = INSTALLATION_UID if who is None else who.tenant
        if call.caller is not None and call.caller.principal.tenant is None and resources:
            # What operators do to a tenant is for that tenant to see.
            tenant = await self._tenant(resources[0].tenant)
        return self._made(call, phase, who, tenant, resources)

    def _made(
        self, call: Ended, phase: Phase, who: Known | None, tenant: TenantUid, resources: tuple[Resource, ...]
    ) -> AuditEvent:
        event = self._events.made(call, phase, who, tenant, resources)
        if phase is not Phase.INTENT:
            self._trail.put_changes(event, call.noted, call.request_id)
        return event

    def _remembered(self, principal: Principal) -> Known | None:
        """Return how events name a principal, where that is as it was."""
        held = self._known.get(principal)
        if held is None or held.access is not self._accesses.peek(principal):
            return None
        return held if held.until is None or held.until > self._now() else None

    async def _who(self, principal: Principal) -> Known | None:
        """Return how events name a principal; what is not known because the database is away is what was known last."""
        try:
            access = await self._accesses.of(principal)
        except KmsError:
            return self._known.get(principal)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        made = self._known[principal] = known(principal, access, self._now())
        return made

    async def _tenant(self, slug: str | None) -> TenantUid:
        if slug is None:
            return INSTALLATION_UID
        try:
            return await self._accesses.tenant_uid(slug) or INSTALLATION_UID
        except KmsError:
            return INSTALLATION_UID


def _each_item(call: Ended) -> bool:
    """Whether each item of a batch has an event of its own."""
    return call.error is None and len(call.noted.items) > 1 and any(key.each_item for key in call.noted.keys)


def _unwritten(call: Ended) -> str:
    if call.intent is not None:
        return (
            "the audit trail cannot be written: the change may have been made, and its intent is recorded; look before"
            " you try again"
        )
    return "the audit trail cannot be written, so there is no answer; try again"
