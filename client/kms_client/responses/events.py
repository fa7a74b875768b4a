"""From messages to values: security events."""

from __future__ import annotations

from datetime import date

from ..v1 import events_pb2
from ..values import SecurityEvent, SecurityEventSum, Severity
from .reading import known, time, time_if


def event(message: events_pb2.SecurityEvent) -> SecurityEvent:
    """Read a SecurityEvent."""
    return SecurityEvent(
        name=message.name,
        type=message.type,
        severity=known(Severity, message.severity),
        category=message.category,
        risk=message.risk / 100,
        first_time=time(message.first_time),
        last_time=time(message.last_time),
        count=message.count,
        create_time=time(message.create_time),
        description=message.description,
        indicators=tuple(message.indicators),
        blocked=message.blocked,
        address=message.address,
        principal=message.principal,
        credential_kind=message.credential_kind,
        credential_id=message.credential_id,
        method=message.method,
        resource=message.resource,
        request_id=message.request_id,
        answer=message.answer,
        outcome=message.outcome,
        notes=message.notes,
        false_alarm=message.false_alarm if message.HasField("false_alarm") else None,
        incident=message.incident,
        resolve_time=time_if(message, "resolve_time"),
        resolver=message.resolver,
        etag=message.etag,
    )


def sums(message: events_pb2.SummarizeSecurityEventsResponse) -> list[SecurityEventSum]:
    """Read the sums."""
    return [
        SecurityEventSum(
            day=date.fromisoformat(one.day),
            type=one.type,
            severity=known(Severity, one.severity),
            events=one.events,
            occurrences=one.occurrences,
            resolved=one.resolved,
        )
        for one in message.sums
    ]
