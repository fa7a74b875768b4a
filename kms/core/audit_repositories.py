"""The repositories of the stored audit trail that sinks, retention and archives need, as Protocols."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

from .audit import StreamUid
from .audit_lines import StoredEvent


class AuditFeedRepository(Protocol):
    """The trail stream by stream, and how far each sink is in each; for work over tenants."""

    async def claim(
        self, sink: str, stream: StreamUid, node: UUID, now: datetime, until: datetime, *, enter: bool
    ) -> int | None:
        """Let *node* alone deliver a stream to a sink until a time; returns the last sequence that has arrived.

        With *enter* the stream is entered where it is not yet; None while another node delivers, or for one not entered.
        """
        ...

    async def events_after(self, stream: StreamUid, sequence: int, limit: int) -> list[StoredEvent]:
        """Return at most *limit* events (1,000) of a stream beyond a sequence, in order."""
        ...

    async def advance(self, sink: str, stream: StreamUid, node: UUID, sequence: int, until: datetime) -> bool:
        """Note that a sink has got all of a stream up to a sequence; False where another node has taken over."""
        ...

    async def release(self, sink: str, stream: StreamUid, node: UUID, now: datetime) -> None:
        """Let any node deliver the stream."""
        ...

    async def left(self, sink: str, now: datetime, limit: int) -> list[StreamUid]:
        """Return at most *limit* (1,000) entered streams that no node delivers to a sink, and that are not told to the end."""
        ...

    async def forget(self, sink: str, before: datetime, limit: int) -> int:
        """Strike out at most *limit* (1,000) streams told to the end that nobody has claimed since *before*; returns how many."""
        ...
