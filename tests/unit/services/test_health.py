"""The monitor: every change of a part is told once, and no check can end it or hold it up."""

from __future__ import annotations

import asyncio

import pytest
import structlog

from kms.core.errors import CorruptRecord, StorageUnavailable
from kms.core.ports import HealthStatus, PartHealth
from kms.services.health import HealthMonitor

HEALTHY, DEGRADED, UNHEALTHY = HealthStatus.HEALTHY, HealthStatus.DEGRADED, HealthStatus.UNHEALTHY


class Part:
    """A part whose check answers, or raises, what the test sets."""

    def __init__(self) -> None:
        self.answer: PartHealth | Exception | None = PartHealth(HEALTHY)

    async def check(self) -> PartHealth:
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return self.answer


class Told:
    """What the monitor has told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, HealthStatus]] = []
        self._news: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, part: str, health: PartHealth) -> None:
        self.changes.append((part, health.status))
        self._news.put_nowait(None)

    async def next_change(self) -> None:
        await self._news.get()


@pytest.fixture
def part() -> Part:
    return Part()


@pytest.fixture
def told() -> Told:
    return Told()


def monitor(told: Told, deadline: float = 20.0, **parts: Part) -> HealthMonitor:
    return HealthMonitor({name: part.check for name, part in parts.items()}, 0.001, deadline, told)


async def test_a_change_is_told_once_and_what_stays_is_not(part, told):
    watched = monitor(told, part=part)
    assert watched.latest["part"].status is HealthStatus.UNKNOWN
    for status in (HEALTHY, HEALTHY, DEGRADED, UNHEALTHY, UNHEALTHY, HEALTHY):
        part.answer = PartHealth(status)
        await watched.look()
        assert watched.latest["part"].status is status
    assert [status for _, status in told.changes] == [HEALTHY, DEGRADED, UNHEALTHY, HEALTHY]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StorageUnavailable("the database did not answer in time"), "the database did not answer in time"),
        (CorruptRecord("a stored record makes no sense"), "a stored record makes no sense"),
        (RuntimeError("pin=1234"), "the check failed: RuntimeError"),
    ],
)
async def test_a_check_that_raises_is_an_ill_part_and_the_others_are_looked_at(part, told, error, reason):
    other = Part()
    watched = monitor(told, part=part, other=other)
    part.answer = error
    with structlog.testing.capture_logs():
        await watched.look()
    assert (watched.latest["part"].status, watched.latest["part"].reason) == (UNHEALTHY, reason)
    assert told.changes == [("part", UNHEALTHY), ("other", HEALTHY)]
    part.answer = PartHealth(HEALTHY)
    await watched.look()
    assert told.changes[-1] == ("part", HEALTHY)


async def test_a_check_that_hangs_costs_its_deadline(part, told):
    watched = monitor(told, deadline=0.02, part=part)
    part.answer = None
    await watched.look()
    assert watched.latest["part"].status is UNHEALTHY
    assert "within 0.02 s" in watched.latest["part"].reason
    assert watched.latest["part"].response_time >= 0.01


async def test_it_goes_on_looking_until_it_is_cancelled(part, told):
    watched = monitor(told, part=part)
    running = asyncio.create_task(watched.run())
    with structlog.testing.capture_logs():
        async with asyncio.timeout(10):
            for answer in (PartHealth(HEALTHY), RuntimeError("x"), PartHealth(HEALTHY), RuntimeError("y")):
                part.answer = answer
                await told.next_change()
    assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
