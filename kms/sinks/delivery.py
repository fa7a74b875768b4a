"""Brings the outbox, or a stream of the audit trail, to one sink: in order, at least once, from a position of its own.

The position is in the database and outlives the process.

Step by step, again and again:
1. this node claims the sink for a time, so that nodes which share a database do not deliver everything twice;
2. the next items beyond the sink's position are read, and delivered;
3. the position is moved behind those that have arrived: a crash in between delivers them once more.

A sink that is away is tried again after pauses that double, and nobody else waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from kms.core.errors import KmsError
from kms.core.outbox import Topic
from kms.core.ports import SinkSource

from .sink import Sink, SinkUnavailable

_log = structlog.get_logger(__name__)

LEASE: Final = timedelta(minutes=2)
NEEDED: Final = timedelta(minutes=1)  # of the lease, for one delivery: longer than any sink takes
INTERVAL: Final = 5.0  # seconds between two looks where nobody tells of something new
FIRST_PAUSE: Final = 1.0  # seconds after a first failure
LONGEST_PAUSE: Final = 300.0


class Delivery:
    """One sink's way through the outbox, or through one stream of the audit trail.

    Attributes:
        name: the sink's.
        delivered: items that have arrived, since the start.
        failures: deliveries that have failed, since the start.
        position: the last item that has arrived; 0 while this node does not know.
    """

    def __init__(
        self,
        name: str,
        source: SinkSource,
        sink: Sink,
        topics: Collection[Topic],
        node: UUID,
        now: Callable[[], datetime],
        random: Callable[[], float],
    ) -> None:
        """*random* returns a number from 0 to 1, for the pauses after failures."""
        self.name = name
        self.delivered = 0
        self.failures = 0
        self.position = 0
        self._source = source
        self._sink = sink
        self._topics = frozenset(topics)
        self._node = node
        self._now = now
        self._random = random
        self._leased_until: datetime | None = None
        self._wake = asyncio.Event()
        self._failed = 0  # one after the other
        self._more = False  # whether the last step has left something

    def wake(self) -> None:
        """There may be something new."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; then let another node go on."""
        try:
            while True:
                pause = await self._turn()
                if pause is None:
                    continue
                if self._failed:
                    await asyncio.sleep(pause)  # what is new does not make a sink come back
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            await self.release()

    async def step(self) -> int:
        """Deliver what comes next; returns how many items that were, 0 where there is nothing or another node delivers.

        Raises:
            SinkUnavailable: the sink has taken nothing.
            StorageUnavailable: the database does not answer.
        """
        self._wake.clear()
        now = self._now()
        if self._leased_until is None or not now <= self._leased_until - NEEDED <= now + LEASE:
            position = await self._source.claim_sink(self.name, self._node, now, now + LEASE)
            if position is None:
                self._leased_until = None
                return 0
            self.position, self._leased_until = position, now + LEASE
        items = await self._source.outbox_items(self.position, self._topics, self._sink.at_once)
        self._more = len(items) == self._sink.at_once
        if not items:
            return 0
        sent = await self._sink.deliver(items)
        self._more = self._more or sent < len(items)
        until, position = self._now() + LEASE, items[sent - 1].position
        if await self._source.advance_sink(self.name, self._node, position, until):
            self.position, self._leased_until = position, until
        else:
            self._leased_until = None
        self.delivered += sent
        return sent

    async def release(self) -> None:
        """Let another node go on at once."""
        self._leased_until = None
        with suppress(KmsError):
            await self._source.release_sink(self.name, self._node, self._now())

    async def _turn(self) -> float | None:
        """Deliver once; returns how long to pause then, None for not at all."""
        try:
            sent = await self.step()
        except Exception as error:  # noqa: BLE001  whatever it is, it concerns this sink alone
            if not isinstance(error, (SinkUnavailable, KmsError)):
                _log.exception("sink.failed", sink=self.name)
            self._failed += 1
            self.failures += 1
            if self._failed == 1:
                _log.warning("sink.unavailable", sink=self.name, reason=str(error) or type(error).__name__)
            await self.release()  # another node may reach it; and it is not known what position has been stored
            doublings = min(self._failed - 1, 16)
            return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE) * (0.5 + self._random() / 2)
        if self._failed:
            _log.info("sink.available_again", sink=self.name, failures=self._failed)
        self._failed = 0
        # A few items at a time, each few with a commit of their own, would cost the database more than a short wait.
        return None if sent and self._more else INTERVAL
