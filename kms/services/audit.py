"""The audit trail as services see it: what the daemon does by itself, and what completes every event.

An act that changes something is two events: its intent, durable before it begins, and its outcome, durable before it
counts as done. An intent that cannot be written puts the act off.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import structlog

from kms.acting import Noted, noting
from kms.core.audit import (
    LONGEST_DETAILS,
    LONGEST_TEXT,
    NO_STREAM,
    STANDARD,
    AuditEvent,
    Category,
    Outcome,
    Phase,
    Retention,
    Sensitivity,
)
from kms.core.audit_contexts import canonical_json
from kms.core.audit_ports import AuditWriter, Position
from kms.core.errors import AuditUnavailable, CorruptRecord, KmsError, Unavailable
from kms.core.events import Severity
from kms.core.names import INSTALLATION_UID, TenantUid
from kms.failpoints import reach
from kms.services.audit_changes import Changes

_log = structlog.get_logger(__name__)

EXTENDED: Final = timedelta(days=3_653)
RISKS: Final[Mapping[str, int]] = {
    Severity.INFO: 0,
    Severity.LOW: 20,
    Severity.MEDIUM: 40,
    Severity.HIGH: 70,
    Severity.CRITICAL: 90,
}
_NOWHERE: Final = Position(NO_STREAM, 0, bytes(32))


@dataclass(frozen=True, slots=True)
class Origin:
    """What all events of one process have in common."""

    node: str
    release: str
    region: str = ""
    standard: timedelta = STANDARD
    extended: timedelta = EXTENDED


@dataclass(slots=True)
class Act:
    """One act of the daemon's own; who carries it out may say more of how it ended."""

    intent: Position
    noted: Noted
    details: dict[str, Any] = field(default_factory=dict)


class Acts(Protocol):
    """What services tell of what the daemon does by itself: AuditTrail."""

    def act(
        self,
        action: str,
        *,
        tenant: TenantUid = INSTALLATION_UID,
        resource: str = "",
        resource_type: str = "",
        by: str = "",
        reason: str = "",
        severity: Severity = Severity.INFO,
        category: Category = Category.SYSTEM,
        details: Mapping[str, Any] | None = None,
    ) -> AbstractAsyncContextManager[Act]:
        """Surround an act: its intent before, its outcome after.

        Raises:
            AuditUnavailable: before the block: nothing has been done. After it: the outcome is not known to be durable.
        """
        ...

    async def note(self, event: AuditEvent) -> Position:
        """Return when an event is durable.

        Raises:
            AuditUnavailable: it is not known to be.
        """
        ...


class Unrecorded:
    """Acts of services that no daemon runs, as in benches; what the daemon runs gets its trail (kms/daemon.py)."""

    @asynccontextmanager
    async def act(self, action: str, **about: Any) -> AsyncIterator[Act]:
        """Surround an act."""
        del action, about
        with noting() as noted:
            yield Act(_NOWHERE, noted)

    async def note(self, event: AuditEvent) -> Position:
        """Write nothing."""
        del event
        return _NOWHERE


UNRECORDED: Final = Unrecorded()


class AuditTrail:
    """Writes events; it satisfies kms.core.audit_ports.Trail."""

    def __init__(self, writer: AuditWriter, origin: Origin, changes: Changes, now: Callable[[], datetime]) -> None:
        """*changes* encrypts values before and after a change."""
        self._writer = writer
        self._origin = origin
        self._changes = changes
        self._now = now
        self._day = 0
        self._kept: dict[Retention, datetime | None] = {}

    def append(self, event: AuditEvent) -> Awaitable[Position]:
        """Complete an event and give it its place; the result, once awaited, says that it is durable.

        Raises (from the call, or from the result):
            AuditUnavailable: it is not known to be durable.
        """
        origin = self._origin
        event.node = event.node or origin.node
        event.release = event.release or origin.release
        event.region = event.region or origin.region
        event.kept_until = event.kept_until or self._kept_until(event.retention)
        try:
            return self._writer.append(event)
        except (ValueError, TypeError) as error:  # a mistake of ours: no answer without its event all the same
            _log.exception("audit.unwritable", action=event.action, request_id=event.request_id)
            raise AuditUnavailable("this cannot be written to the audit trail") from error

    async def note(self, event: AuditEvent) -> Position:
        """Return when an event is durable; node, release and retention are filled in where they are empty.

        Raises:
            AuditUnavailable: it is not known to be.
        """
        return await self.append(event)

    def leave(self, event: AuditEvent) -> None:
        """Write an event for which nobody waits; where that is not possible, its intent is settled at the next start."""
        with suppress(AuditUnavailable):
            asyncio.ensure_future(self.append(event)).add_done_callback(looked_at)

    @asynccontextmanager
    async def act(
        self,
        action: str,
        *,
        tenant: TenantUid = INSTALLATION_UID,
        resource: str = "",
        resource_type: str = "",
        by: str = "",
        reason: str = "",
        severity: Severity = Severity.INFO,
        category: Category = Category.SYSTEM,
        details: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Act]:
        """Surround what the daemon does by itself: its intent before, its outcome after, with what it has changed.

        *by* is who has it done, such as `scheduler`.

        Raises:
            AuditUnavailable: before the block: nothing has been done. After it: the outcome is not known to be durable.
        """

        def event(phase: Phase) -> AuditEvent:
            return AuditEvent(
                action=action,
                category=category,
                phase=phase,
                tenant=tenant,
                resource=resource,
                resource_type=resource_type,
                principal=by,
                reason=clean(reason),
                severity=severity,
                risk=RISKS[severity],
                retention=Retention.EXTENDED,
            )

        began = time.perf_counter()
        intent = event(Phase.INTENT)
        intent.details = shown_details(details or {})
        position = await self.note(intent)
        reach("audit.intent_durable")

        def outcome(noted: Noted, told: Mapping[str, Any], error: BaseException | None) -> AuditEvent:
            made = event(Phase.OUTCOME)
            made.intent_stream, made.intent_sequence = position.stream, position.sequence
            made.details = shown_details({**(details or {}), **told})
            made.duration_us = int((time.perf_counter() - began) * 1_000_000)
            set_outcome(made, error)
            self.put_changes(made, noted, f"{position.stream}/{position.sequence}")
            return made

        with noting() as noted:
            act = Act(position, noted)
            try:
                yield act
            except asyncio.CancelledError as error:
                self.leave(outcome(noted, act.details, error))
                raise
            except Exception as error:
                try:
                    await self.note(outcome(noted, act.details, error))
                except AuditUnavailable:
                    _log.warning("audit.outcome_unwritten", action=action, resource=resource)
                raise
        reach("audit.change_done")
        await self.note(outcome(noted, act.details, None))
        reach("audit.outcome_durable")

    def put_changes(self, event: AuditEvent, noted: Noted, subject: str) -> None:
        """Add to an event, encrypted, what its act has changed; *subject* is its request id, or its intent's place."""
        if noted.changes:
            event.changes = self._changes.sealed(noted.changes, noted.left_out, subject)
            if event.sensitivity is Sensitivity.NORMAL:
                event.sensitivity = Sensitivity.SENSITIVE

    def _kept_until(self, retention: Retention) -> datetime | None:
        """Return the end of the day on which the time is over, so that it is worked out once a day."""
        now = self._now()
        if now.toordinal() != self._day:
            self._day = now.toordinal()
            tomorrow = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            self._kept = {
                Retention.STANDARD: tomorrow + self._origin.standard,
                Retention.EXTENDED: tomorrow + self._origin.extended,
                Retention.PERMANENT: None,
            }
        return self._kept[retention]


def looked_at(done: asyncio.Future[Any]) -> None:
    """Take the exception of what nobody waits for, so that it is no noise."""
    if not done.cancelled():
        done.exception()


def set_outcome(event: AuditEvent, error: BaseException | None) -> None:
    """Say how an act ended."""
    if error is None:
        event.outcome = Outcome.SUCCESS
        return
    event.outcome = outcome_of(error)
    if isinstance(error, KmsError):
        event.error, event.error_message = error.reason, clean(str(error))
    else:  # whose text is not written for anybody to read
        event.error = "CANCELLED" if isinstance(error, asyncio.CancelledError) else "INTERNAL"
    severity = Severity.LOW if event.outcome is Outcome.FAILURE else Severity.MEDIUM
    if isinstance(error, CorruptRecord):
        severity = Severity.CRITICAL
    if RISKS[severity] > event.risk:
        event.severity, event.risk = severity, RISKS[severity]


def outcome_of(error: BaseException) -> Outcome:
    """Return whose fault an error is: FAILURE the caller's or the rules', ERROR the daemon's or its surroundings'."""
    fault = not isinstance(error, KmsError) or type(error) is KmsError or error.reason == "DEADLINE_EXCEEDED"
    return Outcome.ERROR if fault or isinstance(error, Unavailable | CorruptRecord) else Outcome.FAILURE


def clean(text: str) -> str:
    """Return a text that every database takes, at most LONGEST_TEXT characters."""
    return text[:LONGEST_TEXT].replace("\0", "\ufffd")


def shown_details(details: Mapping[str, Any], always: Mapping[str, Any] | None = None) -> str:
    """Return details as canonical JSON; what is too long is told by its length and digest alone.

    What is in *always*, which has to be short, is told all the same.
    """
    if not details and not always:
        return ""
    always = always or {}
    text = canonical_json({**details, **always})
    if len(text) <= LONGEST_DETAILS:
        return text
    left_out = {"left_out": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    return canonical_json({**left_out, **always})
