"""Brings the audit trail to one sink, stream by stream: this node's own, and what is left of those of dead nodes.

No call waits for this: events are read from the stored trail, at most a sink's batch of them at a time. Each stream
arrives in order and at least once; streams arrive beside each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from kms.core.audit import StreamUid
from kms.core.audit_lines import item_of
from kms.core.errors import KmsError
from kms.core.outbox import OutboxItem, Topic
from kms.core.ports import Storage

from .delivery import Delivery
from .sink import Sink, SinkUnavailable

_log = structlog.get_logger(__name__)

LOOK_INTERVAL: Final = 60.0  # seconds between two looks for streams that nobody delivers
MOST_STREAMS: Final = 1_000  # of which a look knows
# A stream that is told to the end is known for so long, in case that its node was only asleep.
KNOWN: Final = timedelta(days=1)


class AuditSource:
    """SinkSource of one stream: positions are sequences."""

    def __init__(self, storage: Storage, sink: str, stream: StreamUid, *, own: bool) -> None:
        """*own* is the stream that this process writes: a sink gets it from its beginning."""
        self._storage = storage
        self._sink = sink
        self._stream = stream
        self._own = own

    async def claim_sink(self, sink: str, node: UUID, now: datetime, until: datetime) -> int | None:
        """Let *node* alone deliver the stream until a time."""
        del sink  # a label, the stream's name included
        async with self._storage.transaction(write=True) as work:
            return await work.audit_feed.claim(self._sink, self._stream, node, now, until, enter=self._own)

    async def outbox_items(self, after: int, topics: Collection[Topic], limit: int) -> list[OutboxItem]:
        """Return at most *limit* events beyond a sequence, as sinks are told of them."""
        del topics
        async with self._storage.transaction() as work:
            return [item_of(row) for row in await work.audit_feed.events_after(self._stream, after, limit)]

    async def advance_sink(self, sink: str, node: UUID, position: int, until: datetime) -> bool:
        """Note that all up to a sequence has arrived; False where another node has taken over."""
        del sink
        async with self._storage.transaction(write=True) as work:
            return await work.audit_feed.advance(self._sink, self._stream, node, position, until)

    async def release_sink(self, sink: str, node: UUID, now: datetime) -> None:
        """Let any node deliver the stream."""
        del sink
        async with self._storage.transaction(write=True) as work:
            await work.audit_feed.release(self._sink, self._stream, node, now)


class AuditDelivery:
    """One sink's way through the audit trail, as far as this node goes it.

    Attributes:
        name: the sink's, with `.audit`.
    """

    def __init__(
        self,
        sink: str,
        storage: Storage,
        live: Sink,
        left: Sink,
        stream: StreamUid,
        node: UUID,
        now: Callable[[], datetime],
        random: Callable[[], float],
    ) -> None:
        """*stream* is this process's own, which goes to *live*; what is left of others goes to *left*, the same place."""
        self.name = f"{sink}.audit"
        self._sink = sink
        self._storage = storage
        self._left = left
        self._stream = stream
        self._node = node
        self._now = now
        self._random = random
        self._live = self._delivery(live, stream)
        self._taken_over = 0
        self._failures = 0

    @property
    def delivered(self) -> int:
        """Events that have arrived, since the start."""
        return self._live.delivered + self._taken_over

    @property
    def failures(self) -> int:
        """Deliveries that have failed, since the start."""
        return self._live.failures + self._failures

    @property
    def position(self) -> int:
        """The last event of this process's own stream that has arrived."""
        return self._live.position

    def wake(self) -> None:
        """There may be something new."""
        self._live.wake()

    async def run(self) -> None:
        """Deliver until cancelled; then let other nodes go on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._live.run())
            tasks.create_task(self._take_over())

    async def look(self) -> int:
        """Deliver what is left of streams that nobody delivers; returns how many events that were.

        Raises:
            SinkUnavailable: the sink does not take it.
            StorageUnavailable: the database does not answer.
        """
        now = self._now()
        async with self._storage.transaction() as work:
            left = await work.audit_feed.left(self._sink, now, MOST_STREAMS)
        before = self._taken_over
        for stream in left:
            if stream != self._stream:
                await self._bring(stream)
        async with self._storage.transaction(write=True) as work:
            await work.audit_feed.forget(self._sink, self._now() - KNOWN, MOST_STREAMS)
        return self._taken_over - before

    async def _take_over(self) -> None:
        while True:
            try:
                told = await self.look()
            except Exception as error:  # noqa: BLE001  whatever it is, it concerns this sink alone
                if not isinstance(error, (SinkUnavailable, KmsError)):
                    _log.exception("sink.failed", sink=self.name)
                self._failures += 1
                _log.warning("sink.audit_left", sink=self._sink, reason=str(error) or type(error).__name__)
            else:
                if told:
                    _log.info("sink.audit_taken_over", sink=self._sink, events=told)
            await asyncio.sleep(LOOK_INTERVAL)

    async def _bring(self, stream: StreamUid) -> None:
        delivery = self._delivery(self._left, stream)
        try:
            while await delivery.step():
                pass
        finally:
            self._taken_over += delivery.delivered
            await delivery.release()

    def _delivery(self, sink: Sink, stream: StreamUid) -> Delivery:
        source = AuditSource(self._storage, self._sink, stream, own=stream == self._stream)
        return Delivery(f"{self.name}.{stream.hex}", source, sink, (Topic.AUDIT,), self._node, self._now, self._random)
