"""SecurityEventService: parse, call, format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.errors import invalid
from kms.core.events import LONGEST_INCIDENT, LONGEST_NOTES, EventType, EventUid, SecurityEvent, Severity
from kms.core.names import Principal, SecurityEventName, SecurityEventsParent
from kms.core.repositories import EventFilter
from kms.rpc.fields import parse_etag, parse_mask, parse_text
from kms.rpc.messages import timestamp
from kms.rpc.paging import Page, cut, parse_page
from kms.services.events import SecurityEvents
from kms.v1 import events_pb2 as pb

DEFAULT_DAYS: Final = 30
MOST_DAYS: Final = 366
FIELDS: Final = ("notes", "false_alarm", "incident", "resolved")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SEVERITIES: Final = MappingProxyType(
    {pb.SecurityEvent.Severity.Value(severity.name): severity for severity in Severity}
)


class SecurityEventServicer:
    """Serves kms.v1.SecurityEventService."""

    def __init__(self, events: SecurityEvents, now: Callable[[], datetime]) -> None:
        self._events = events
        self._now = now

    async def ListSecurityEvents(
        self, request: pb.ListSecurityEventsRequest, caller: Principal
    ) -> pb.ListSecurityEventsResponse:
        """List events."""
        parent, page = SecurityEventsParent.parse(request.parent), parse_page(request)
        found = await self._events.list_newest(caller, parent, _filter(request), _before(page), page.size + 1)
        events, token = cut(found, page, _entry)
        return pb.ListSecurityEventsResponse(
            security_events=[event_message(parent.tenant, event) for event in events], next_page_token=token
        )

    async def GetSecurityEvent(self, request: pb.GetSecurityEventRequest, caller: Principal) -> pb.SecurityEvent:
        """Return an event."""
        name = SecurityEventName.parse(request.name)
        return event_message(name.tenant, await self._events.get(caller, name))

    async def UpdateSecurityEvent(self, request: pb.UpdateSecurityEventRequest, caller: Principal) -> pb.SecurityEvent:
        """Note what an investigation has found."""
        given = request.security_event
        name = SecurityEventName.parse(given.name, "security_event.name")
        etag = parse_etag(given.etag, "security_event.etag")
        changes = _changes(given, parse_mask(request.update_mask.paths, FIELDS))
        return event_message(name.tenant, await self._events.update(caller, name, etag, changes))

    async def SummarizeSecurityEvents(
        self, request: pb.SummarizeSecurityEventsRequest, caller: Principal
    ) -> pb.SummarizeSecurityEventsResponse:
        """Sum events up by day."""
        parent = SecurityEventsParent.parse(request.parent)
        if not 0 <= request.days <= MOST_DAYS:
            raise invalid("days", f"must be 0 to {MOST_DAYS}")
        last = self._now().astimezone(UTC).date()
        first = last - timedelta(days=(request.days or DEFAULT_DAYS) - 1)
        sums = await self._events.sum_by_day(caller, parent, first, last)
        return pb.SummarizeSecurityEventsResponse(
            sums=[
                pb.SummarizeSecurityEventsResponse.Sum(
                    day=one.day.isoformat(),
                    type=one.type.value,
                    severity=one.severity.name,
                    events=one.events,
                    occurrences=one.occurrences,
                    resolved=one.resolved,
                )
                for one in sums
            ]
        )


def _filter(request: pb.ListSecurityEventsRequest) -> EventFilter:
    kind = None
    if request.type:
        try:
            kind = EventType(request.type)
        except ValueError as error:
            raise invalid("type", f"must be one of {', '.join(EventType)}") from error
    severity = Severity.INFO
    if request.severity:
        if request.severity not in _SEVERITIES:
            raise invalid("severity", "must be a Severity")
        severity = _SEVERITIES[request.severity]
    since = _moment(request.since, "since") if request.HasField("since") else None
    return EventFilter(since, severity, kind, request.unresolved)


def _moment(stamp: Timestamp, field: str) -> datetime:
    try:
        return stamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(field, "must be a time in the years 1 to 9999") from error


def _changes(given: pb.SecurityEvent, paths: Sequence[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for path in paths:
        if path == "notes":
            # Lines are allowed in notes, other control characters are not.
            parse_text(given.notes.replace("\n", " ").replace("\t", " "), "security_event.notes", LONGEST_NOTES)
            changes[path] = given.notes
        elif path == "incident":
            changes[path] = parse_text(given.incident, "security_event.incident", LONGEST_INCIDENT)
        elif path == "false_alarm":
            changes[path] = given.false_alarm if given.HasField("false_alarm") else None
        else:
            changes[path] = given.resolved
    return changes


def _entry(event: SecurityEvent) -> str:
    return f"{(event.created_at - _EPOCH) // _MICROSECOND}/{event.uid}"


def _before(page: Page) -> tuple[datetime, EventUid] | None:
    if not page.after:
        return None
    stored, _, uid = page.after.partition("/")
    try:
        return _EPOCH + int(stored) * _MICROSECOND, EventUid(UUID(uid))
    except (ValueError, OverflowError) as error:
        raise invalid("page_token", "must be the next_page_token of the same list") from error


def event_message(tenant: str | None, event: SecurityEvent) -> pb.SecurityEvent:
    """Format an event; *tenant* is the owner's slug, None for the installation."""
    return pb.SecurityEvent(
        name=str(event.name(tenant)),
        type=event.type.value,
        severity=event.severity.name,
        category=event.category.value,
        risk=event.risk,
        first_time=timestamp(event.first_at),
        last_time=timestamp(event.last_at),
        count=event.count,
        create_time=timestamp(event.created_at),
        description=event.description,
        indicators=event.indicators,
        blocked=event.blocked,
        address=event.address,
        principal=event.principal,
        credential_kind=event.credential_kind,
        credential_id=event.credential_id,
        method=event.method,
        resource=event.resource,
        request_id=event.request_id,
        answer=event.answer.value,
        outcome=event.outcome.value,
        notes=event.notes,
        false_alarm=event.false_alarm,
        incident=event.incident,
        resolved=event.resolved_at is not None,
        resolve_time=timestamp(event.resolved_at),
        resolver=event.resolved_by,
        etag=event.etag,
    )
