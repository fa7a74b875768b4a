"""The monitor: every change of a part is told once, and no check can end it or hold it up."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
import structlog

from kms.core.errors import CorruptRecord, StorageUnavailable
from kms.core.ports import HealthStatus, PartHealth
from kms.services.health import FEWEST_CALLS, REMEMBERED, ApiHealth, HealthMonitor

MOMENT = datetime(2026, 11, 22, 12, tzinfo=UTC)
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
    return HealthMonitor({name: part.check for name, part in parts.items()}, 0.001, deadline, told, lambda: MOMENT)


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


async def test_how_often_a_part_served_is_told_of_the_looks_that_are_remembered(part, told):
    watched = monitor(told, part=part)
    (before,) = watched.reports()
    assert (before.looks, before.availability, before.error_rate, before.since) == (0, 0.0, 0.0, None)
    for status in (HEALTHY, DEGRADED, UNHEALTHY, HEALTHY):
        part.answer = PartHealth(status)
        await watched.look()
    (report,) = watched.reports()
    assert (report.name, report.looks, report.availability, report.error_rate) == ("part", 4, 0.75, 0.25)
    assert (report.health.status, report.since) == (HEALTHY, MOMENT)
    for _ in range(REMEMBERED):
        await watched.look()
    (later,) = watched.reports()
    assert (later.looks, later.availability) == (REMEMBERED, 1.0)


async def test_parts_are_reported_by_name(told):
    watched = monitor(told, token=Part(), api=Part(), storage=Part())
    assert [report.name for report in watched.reports()] == ["api", "storage", "token"]


async def test_the_api_is_degraded_while_many_of_its_last_calls_fail(told):
    counts = [1_000, 500]  # what was before it began to look does not count
    api = ApiHealth(lambda: (counts[0], counts[1]), looks=3)

    async def after(calls: int, failed: int) -> PartHealth:
        counts[0] += calls
        counts[1] += failed
        return await api.check()

    assert await after(0, 0) == PartHealth(HEALTHY, error_rate=0.0)
    assert await after(FEWEST_CALLS - 1, 10) == PartHealth(HEALTHY, error_rate=10 / (FEWEST_CALLS - 1))
    found = await after(81, 0)
    assert found == PartHealth(DEGRADED, "10 of the last 100 calls failed", error_rate=0.1)
    assert (await after(0, 0)).status is DEGRADED
    assert await after(50, 0) == PartHealth(HEALTHY, error_rate=0.0)  # the failures are older than what is remembered
    watched = HealthMonitor({"api": api.check}, 1, 1, told, lambda: MOMENT)
    await after(100, 6)
    await watched.look()
    assert watched.reports()[0].error_rate == pytest.approx(6 / 150)
    assert watched.reports()[0].availability == 1.0
