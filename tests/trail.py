"""An audit writer in memory that behaves as the real one, and a trail for tests of other things."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from kms.core.audit import AuditEvent, Phase, StreamUid, body_of, canonical, first_hash, next_hash, parse
from kms.core.audit_ports import Position
from kms.core.errors import AuditUnavailable
from kms.crypto.audit_values import AuditValues
from kms.rpc.gates import Ended
from kms.services.audit import AuditTrail, Origin
from kms.services.audit_changes import Changes

INSTALLATION = UUID(int=7)
VALUES_KEY = bytes(range(32))


@dataclass
class MemoryWriter:
    """Keeps events, each durable at the next turn of the loop.

    Attributes:
        refusing: append() raises.
        failing: what append() returns raises.
        gate: while it is not set, nothing that append() returns comes.
        happened: what events and the test say, in order: `phase action`.
    """

    refusing: bool = False
    failing: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[AuditEvent] = field(default_factory=list)
    bytes: list[bytes] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()
        self.stream = StreamUid(uuid4())
        self.head = Position(self.stream, 0, first_hash(INSTALLATION, self.stream))

    def append(self, event: AuditEvent) -> Awaitable[Position]:
        if self.refusing:
            raise AuditUnavailable("too many events wait")
        # Whoever waits may be cancelled; the event is written all the same.
        return asyncio.shield(asyncio.ensure_future(self._durable(event)))

    async def _durable(self, event: AuditEvent) -> Position:
        body = body_of(event)
        await self.gate.wait()
        if self.failing:
            raise AuditUnavailable("the database does not answer")
        sequence = self.head.sequence + 1
        data = canonical(self.stream, sequence, datetime.now(UTC), body)
        self.head = Position(self.stream, sequence, next_hash(self.head.hash, data))
        self.bytes.append(data)
        self.events.append(parse(data))
        self.happened.append(f"{event.phase.value} {event.action}")
        return self.head

    def of(self, action: str, phase: Phase | None = None) -> list[AuditEvent]:
        return [event for event in self.events if event.action == action and phase in (None, event.phase)]


def make_trail(writer: MemoryWriter, **origin: Any) -> AuditTrail:
    """A trail over a writer, of node n1 and release 1.2.3."""
    values = AuditValues(VALUES_KEY, INSTALLATION)
    return AuditTrail(writer, Origin("n1", "1.2.3", **origin), Changes(values), lambda: datetime.now(UTC))


class NoTrail:
    """Writes nothing: for tests of what is not the trail."""

    async def began(self, call: Ended) -> Position:
        del call
        return Position(StreamUid(UUID(int=1)), 1, bytes(32))

    async def ended(self, call: Ended) -> None:
        """Let it be answered."""

    def left(self, call: Ended) -> None:
        """Nobody waits."""
