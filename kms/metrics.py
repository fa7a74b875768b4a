"""What operators can measure, as Prometheus metrics of a registry of their own; they exist whether anybody reads them or not.

Labels come from sets that are known at start: never a tenant, a key, a caller or a message. Whatever else arrives
becomes `other`, so that no caller can grow the registry.
"""

from __future__ import annotations

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "other"

# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
CODES: Final = frozenset(
    {
        *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
        *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
        *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
    }
)
# What a caller is not to blame for.
FAILURES: Final = ("UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")

# Seconds. A cached unary call takes well under 1 ms, a batch of 10,000 some 20 ms, a call is cut off at 30 s.
_CALL_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_BATCH_VALUES: Final = (1, 10, 100, 1_000, 10_000, 100_000)

Source: TypeAlias = Callable[[], Iterable[Metric]]


class Metrics:
    """All metrics of one daemon; the methods never raise for a strange label.

    The three about calls belong to the event loop's thread; the others are safe to call from any.
    """

    def __init__(self, methods: Iterable[str], version: str) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._methods = frozenset(methods)
        self._sources: list[Source] = [self._calls]
        self._in_flight = 0
        # Series that exist from the start: a rate over one that appears with its first event misses that event.
        self._finished = {method: _Finished() for method in (*self._methods, OTHER)}
        registry = self.registry

        self._values = Counter(
            "kms_values", "Values encrypted, decrypted or re-encrypted.", ("method", "outcome"), registry=registry
        )
        self._batch_values = Histogram(
            "kms_batch_values", "Values in one call.", ("method",), buckets=_BATCH_VALUES, registry=registry
        )
        self._lag = Histogram(
            "kms_event_loop_lag_seconds",
            "How much later than asked for the event loop woke a sleeper.",
            buckets=_LAG_SECONDS,
            registry=registry,
        )
        build = Gauge(
            "kms_build_info", "Always 1; the labels tell what runs.", ("version", "python"), registry=registry
        )
        build.labels(version, platform.python_version()).set(1)
        registry.register(_Watched(self))
        ProcessCollector(registry=registry)

    def call_started(self) -> None:
        """A call has begun; pair it with call_ended()."""
        self._in_flight += 1

    def call_ended(self) -> None:
        """A call is no longer being worked on."""
        self._in_flight -= 1

    def call_finished(self, method: str, code: str, seconds: float) -> None:
        """A call to *method* (`/package.Service/Method`) has been answered with the gRPC status *code*, by name."""
        self._finished[_known(method, self._methods)].add(_known(code, CODES), seconds)

    def values_processed(self, method: str, succeeded: int, failed: int = 0) -> None:
        """One call has worked on that many values."""
        method = _known(method, self._methods)
        self._values.labels(method, "ok").inc(succeeded)
        if failed:
            self._values.labels(method, "failed").inc(failed)
        self._batch_values.labels(method).observe(succeeded + failed)

    def answered(self) -> tuple[int, int]:
        """Return how many calls were answered since the start, and how many of them failed for reasons of the daemon's."""
        calls = failed = 0
        for finished in self._finished.values():
            calls += sum(finished.codes.values())
            failed += sum(finished.codes.get(code, 0) for code in FAILURES)
        return calls, failed

    def watch(self, source: Source) -> None:
        """Ask *source* for its metrics at every scrape (kms/metric_sources.py has them)."""
        self._sources.append(source)

    async def watch_event_loop(self, interval: float = 1.0) -> None:
        """Measure how late the running event loop wakes sleepers, every *interval* seconds, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + interval
            await asyncio.sleep(interval)
            self._lag.observe(max(0.0, loop.time() - due))

    def render(self) -> bytes:
        """Return all metrics in Prometheus's text format, as CONTENT_TYPE says."""
        return generate_latest(self.registry)

    def watched(self) -> Iterator[Metric]:
        """Yield what is read from other objects at scrape time."""
        for source in self._sources:
            yield from source()

    def _calls(self) -> Iterator[Metric]:
        calls = CounterMetricFamily("kms_calls", "Calls answered.", labels=["method", "code"])
        seconds = HistogramMetricFamily(
            "kms_call_duration_seconds", "Time from the request to its answer.", labels=["method"]
        )
        for method, finished in self._finished.items():
            for code, count in finished.codes.items():
                calls.add_metric([method, code], count)
            seconds.add_metric([method], finished.cumulative(), finished.seconds)
        yield calls
        yield seconds
        yield GaugeMetricFamily("kms_calls_in_flight", "Calls being worked on.", value=self._in_flight)


class _Finished:
    """The calls of one method that have been answered.

    Counted here and made into metrics at the scrape: prometheus_client's own counter and histogram take a lock and
    look the labels up, 2 us more for every call.
    """

    __slots__ = ("buckets", "codes", "seconds")

    def __init__(self) -> None:
        self.codes = {"OK": 0}
        self.buckets = [0] * (len(_CALL_SECONDS) + 1)
        self.seconds = 0.0

    def add(self, code: str, seconds: float) -> None:
        self.codes[code] = self.codes.get(code, 0) + 1
        self.buckets[bisect_left(_CALL_SECONDS, seconds)] += 1
        self.seconds += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        bounds = [*map(floatToGoString, _CALL_SECONDS), "+Inf"]
        return list(zip(bounds, accumulate(self.buckets), strict=True))


class _Watched(Collector):
    """Hands the registry what Metrics reads elsewhere."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.watched()


def _known(value: str, known: frozenset[str]) -> str:
    return value if value in known else OTHER
