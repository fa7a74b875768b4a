"""SecurityEventService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from ..requests import events
from ..values import SecurityEvent, SecurityEventSum, Severity
from .calls import Calls


class EventCalls(Calls):
    """Methods for security events."""

    def list_security_events(
        self,
        parent: str,
        *,
        since: datetime | None = None,
        severity: Severity | None = None,
        type: str = "",  # noqa: A002  the field's name in the API
        unresolved: bool = False,
        page_size: int = 0,
        deadline: float | None = None,
    ) -> AsyncIterator[SecurityEvent]:
        """Iterate over the events of *parent*, a tenant or `installation`, those that were stored last first.

        *since* is about the time of storing, *severity* means this one or a worse one.
        """
        return self._pages(events.list_security_events(parent, since, severity, type, unresolved, page_size), deadline)

    async def get_security_event(self, name: str, *, deadline: float | None = None) -> SecurityEvent:
        """Return one event."""
        return await self._run(events.get_security_event(name), deadline)

    async def update_security_event(
        self,
        name: str,
        *,
        notes: str | None = None,
        false_alarm: bool | None = None,
        incident: str | None = None,
        resolved: bool | None = None,
        etag: str = "",
        deadline: float | None = None,
    ) -> SecurityEvent:
        """Note what an investigation has found: change what is given and leave the rest.

        Raises:
            InvalidRequest: there is nothing to change; nothing has been sent.
        """
        request = events.update_security_event(name, notes, false_alarm, incident, resolved, etag)
        return await self._run(request, deadline)

    async def summarize_security_events(
        self, parent: str, *, days: int = 30, deadline: float | None = None
    ) -> list[SecurityEventSum]:
        """Return the sums of the last *days* (1 to 366, today included), by day (UTC), type and severity."""
        return await self._run(events.summarize_security_events(parent, days), deadline)
