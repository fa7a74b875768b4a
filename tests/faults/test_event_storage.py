"""Events over a PostgreSQL whose line breaks or falls silent: kept, in order, each once, and no caller is held up."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from datetime import timedelta

import pytest

from kms.core.events import EventType
from kms.core.names import INSTALLATION_UID
from kms.core.outbox import Topic
from kms.services.event_recorder import Answers, EventRecorder, Noticed
from storage.breaker import PAUSE
from storage.session import BOUND
from tests.keyrings import new_event
from tests.node import now
from tests.sealing import open_postgresql
from tests.tcp_proxy import proxied

pytestmark = pytest.mark.postgresql

AT_MOST = 0.05  # seconds for an event to be taken, whatever the database does


@pytest.fixture
async def line(postgresql_url):
    with proxied(postgresql_url) as proxy:
        storage = await open_postgresql(proxy.url, bound=BOUND)
        yield proxy, storage
        proxy.heal()
        await storage.close()


@pytest.mark.parametrize("how", ["cut", "freeze"])
async def test_events_outlive_an_outage_of_the_database(line, how):
    proxy, storage = line
    recorder = EventRecorder(storage, Answers({}, timedelta(hours=1)), lambda _: [], now, time.monotonic)
    writer = asyncio.create_task(recorder.run())
    offered = 0

    def offer(count):
        nonlocal offered
        for _ in range(count):
            started = time.perf_counter()
            event = new_event(INSTALLATION_UID, EventType.TOKEN_BRUTE_FORCE, resource=f"r{offered}")
            recorder.offer(Noticed(event, None))
            assert time.perf_counter() - started < AT_MOST
            offered += 1

    async def told(count):
        async with asyncio.timeout(40):
            while True:
                with suppress(Exception):
                    items = await storage.outbox_items(0, tuple(Topic), 100)
                    if len(items) >= count:
                        return [json.loads(item.body)["resource"] for item in items]
                await asyncio.sleep(0.05)

    offer(3)
    assert await told(3) == ["r0", "r1", "r2"]
    getattr(proxy, how)()
    offer(4)
    async with asyncio.timeout(20):
        while not recorder._failing:  # noqa: ASYNC110  the log line alone would say so
            await asyncio.sleep(0.01)
    proxy.heal()
    await asyncio.sleep(PAUSE)
    offer(2)
    assert await told(9) == [f"r{index}" for index in range(9)]
    writer.cancel()
    with suppress(asyncio.CancelledError):
        await writer
    assert len(recorder) == 0
