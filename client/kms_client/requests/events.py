"""Requests to SecurityEventService."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from ..formats.errors import invalid
from ..methods import EVENTS
from ..responses import events
from ..responses.reading import page
from ..v1 import events_pb2
from ..values import SecurityEvent, SecurityEventSum, Severity
from .messages import Listing, Request, build, timestamp


def list_security_events(
    parent: str, since: datetime | None, severity: Severity | None, kind: str, unresolved: bool, page_size: int
) -> Listing:
    """SecurityEventService.ListSecurityEvents."""
    read = page("security_events", events.event)
    wanted: dict[str, Any] = {} if since is None else {"since": timestamp(since, "since")}
    if severity is not None:
        wanted["severity"] = int(severity)
    return lambda token: Request(
        f"{EVENTS}/ListSecurityEvents",
        build(
            events_pb2.ListSecurityEventsRequest,
            parent=parent,
            page_size=page_size,
            page_token=token,
            type=kind,
            unresolved=unresolved,
            **wanted,
        ),
        read,
    )


def get_security_event(name: str) -> Request[SecurityEvent]:
    """SecurityEventService.GetSecurityEvent."""
    message = build(events_pb2.GetSecurityEventRequest, name=name)
    return Request(f"{EVENTS}/GetSecurityEvent", message, events.event)


def update_security_event(
    name: str, notes: str | None, false_alarm: bool | None, incident: str | None, resolved: bool | None, etag: str
) -> Request[SecurityEvent]:
    """SecurityEventService.UpdateSecurityEvent; what is None stays as it is.

    Raises:
        InvalidRequest: there is nothing to change.
    """
    given = {"notes": notes, "false_alarm": false_alarm, "incident": incident, "resolved": resolved}
    fields = {field: value for field, value in given.items() if value is not None}
    if not fields:
        raise invalid("update_mask", "there must be something to change")
    message = build(
        events_pb2.UpdateSecurityEventRequest,
        security_event=build(events_pb2.SecurityEvent, name=name, etag=etag, **fields),
        update_mask=FieldMask(paths=list(fields)),
    )
    return Request(f"{EVENTS}/UpdateSecurityEvent", message, events.event)


def summarize_security_events(parent: str, days: int) -> Request[list[SecurityEventSum]]:
    """SecurityEventService.SummarizeSecurityEvents."""
    message = build(events_pb2.SummarizeSecurityEventsRequest, parent=parent, days=days)
    return Request(f"{EVENTS}/SummarizeSecurityEvents", message, events.sums)
