"""What operators can measure, as Prometheus metrics of a registry of their own; they exist whether anybody reads them or not.

Labels come from sets that are known at start: never a tenant, a key, a caller or a message. Whatever else arrives
becomes `other`, so that no caller can grow the registry.
"""

from __future__ import annotations

import asyncio
import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from kms.core.ports import HealthStatus, PartHealth

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
CACHES: Final = frozenset({"access", "dek", "key"})

# Seconds. A cached unary call takes well under 1 ms, a batch of 10,000 some 20 ms, a call is cut off at 30 s.
_CALL_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_BATCH_VALUES: Final = (1, 10, 100, 1_000, 10_000, 100_000)


class CacheStatistics(Protocol):
    """What a cache counts about itself; read at every scrape."""

    hits: int
    misses: int
    evictions: int

    def __len__(self) -> int:
        """Return the number of entries."""
        ...


class ScheduleStatistics(Protocol):
    """What the scheduler counts about itself; read at every scrape. Its keys come from the program."""

    @property
    def rotations(self) -> Mapping[str, int]: ...  # noqa: D102

    @property
    def claimed(self) -> Mapping[str, int]: ...  # noqa: D102

    @property
    def destroyed(self) -> Mapping[str, int]: ...  # noqa: D102

    @property
    def failures(self) -> int: ...  # noqa: D102


class AdmissionStatistics(Protocol):
    """What stands before the work counts about itself; read at every scrape. Its keys come from the program."""

    @property
    def waiting(self) -> int: ...  # noqa: D102

    @property
    def refusals(self) -> Mapping[str, int]: ...  # noqa: D102


class EventStatistics(Protocol):
    """What the recorder of security events counts about itself; read at every scrape."""

    dropped: int

    @property
    def counts(self) -> Mapping[tuple[str, str], int]: ...  # noqa: D102


class AuditStatistics(Protocol):
    """What the audit writer counts about itself; read at every scrape."""

    events: int
    groups: int
    refused: int


class SinkStatistics(Protocol):
    """What the delivery to one sink counts about itself; read at every scrape. Its name comes from the configuration."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def delivered(self) -> int: ...  # noqa: D102

    @property
    def failures(self) -> int: ...  # noqa: D102


class ScrubStatistics(Protocol):
    """What the look at all records counts about itself; read at every scrape."""

    records: int
    lies: int
    passes: int
    ended_at: datetime | None


class CheckpointStatistics(Protocol):
    """What the maker of checkpoints counts about itself; read at every scrape."""

    made: int
    failures: int

    @property
    def serial(self) -> int: ...  # noqa: D102

    @property
    def anchor_age(self) -> float: ...  # noqa: D102


class Metrics:
    """All metrics of one daemon; the methods never raise for a strange label.

    The three about calls belong to the event loop's thread; the others are safe to call from any.
    """

    def __init__(self, methods: Iterable[str], version: str) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._methods = frozenset(methods)
        self._parts: Callable[[], Mapping[str, PartHealth]] = dict
        self._caches: dict[str, CacheStatistics] = {}
        self._in_flight = 0
        # Series that exist from the start: a rate over one that appears with its first event misses that event.
        self._finished = {method: _Finished() for method in (*self._methods, OTHER)}
        self._token_operations: Callable[[], Mapping[str, int]] = dict
        self._token_restarts: Callable[[], int] = int
        self._schedule: ScheduleStatistics | None = None
        self._admission: AdmissionStatistics | None = None
        self._events: EventStatistics | None = None
        self._audit: AuditStatistics | None = None
        self._sinks: list[SinkStatistics] = []
        self._checkpoints: CheckpointStatistics | None = None
        self._scrub: ScrubStatistics | None = None
        self._lease: Callable[[], float] = float
        self._epoch: Callable[[], int] = int
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
        self._log_lines_dropped = Gauge(
            "kms_log_lines_dropped", "Log lines lost since the start for want of a reader.", registry=registry
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

    def watch_token(self, operations: Callable[[], Mapping[str, int]], restarts: Callable[[], int]) -> None:
        """Ask at every scrape how often each kind of operation was asked of the token, and how often its host restarted.

        The kinds must come from the program, not from callers.
        """
        self._token_operations, self._token_restarts = operations, restarts

    def watch_cache(self, name: str, cache: CacheStatistics) -> None:
        """Read a cache's own counts at every scrape.

        Raises:
            ValueError: *name* is none of CACHES.
        """
        if name not in CACHES:
            raise ValueError(f"{name} is no cache's name")
        self._caches[name] = cache

    def watch_schedule(self, schedule: ScheduleStatistics) -> None:
        """Read the scheduler's own counts at every scrape."""
        self._schedule = schedule

    def watch_admission(self, admission: AdmissionStatistics) -> None:
        """Read at every scrape how many calls wait for their turn, and how many each limit has refused."""
        self._admission = admission

    def watch_events(self, events: EventStatistics) -> None:
        """Read the counts of security events at every scrape."""
        self._events = events

    def watch_audit(self, audit: AuditStatistics) -> None:
        """Read the audit writer's own counts at every scrape."""
        self._audit = audit

    def watch_sink(self, sink: SinkStatistics) -> None:
        """Read a sink's own counts at every scrape."""
        self._sinks.append(sink)

    def watch_scrub(self, scrub: ScrubStatistics) -> None:
        """Read how far the look at all records is at every scrape."""
        self._scrub = scrub

    def watch_checkpoints(self, checkpoints: CheckpointStatistics) -> None:
        """Read the counts of checkpoints at every scrape."""
        self._checkpoints = checkpoints

    def watch_lease(self, remaining: Callable[[], float], epoch: Callable[[], int]) -> None:
        """Ask at every scrape how many seconds of this node's lease are left, and which revocation it acts on."""
        self._lease, self._epoch = remaining, epoch

    def watch_health(self, parts: Callable[[], Mapping[str, PartHealth]]) -> None:
        """Ask *parts* for the health of each part at every scrape; its keys must come from the program, not from callers."""
        self._parts = parts

    def watch_log(self, dropped: Callable[[], int]) -> None:
        """Ask *dropped* for the number of lost log lines at every scrape."""
        self._log_lines_dropped.set_function(lambda: float(dropped()))

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

    def health(self) -> Mapping[str, PartHealth]:
        """Return the health of each part that is watched."""
        return self._parts()

    def watched(self) -> Iterator[Metric]:
        """Yield what is read from other objects at scrape time."""
        yield from self._call_families()
        yield from self._admission_families()
        yield from self._cache_families()
        yield from self._token_families()
        yield from self._schedule_families()
        yield from self._lease_families()
        yield from self._event_families()
        yield from self._checkpoint_families()
        yield from self._scrub_families()
        yield from self._health_families()

    def _call_families(self) -> Iterator[Metric]:
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

    def _admission_families(self) -> Iterator[Metric]:
        if self._admission is None:
            return
        yield GaugeMetricFamily(
            "kms_calls_waiting", "Calls that wait for their turn to work.", value=self._admission.waiting
        )
        refused = CounterMetricFamily("kms_calls_refused", "Calls that a limit has refused.", labels=["limit"])
        for limit, count in self._admission.refusals.items():
            refused.add_metric([limit], count)
        yield refused

    def _token_families(self) -> Iterator[Metric]:
        operations = CounterMetricFamily(
            "kms_token_operations", "Operations asked of the PKCS#11 token.", labels=["operation"]
        )
        for operation, count in self._token_operations().items():
            operations.add_metric([operation], count)
        yield operations
        yield CounterMetricFamily(
            "kms_token_host_restarts", "Token host processes started after the first.", value=self._token_restarts()
        )

    def _schedule_families(self) -> Iterator[Metric]:
        schedule = self._schedule
        if schedule is None:
            return
        for name, text, label, counts in (
            ("rotations", "Key versions that the scheduler replaced.", "cause", schedule.rotations),
            ("due_claimed", "Keys and tenants with due work that this node claimed.", "subject", schedule.claimed),
            ("destroyed", "What the scheduler destroyed at the end of its time.", "subject", schedule.destroyed),
        ):
            family = CounterMetricFamily(f"kms_{name}", text, labels=[label])
            for value, count in counts.items():
                family.add_metric([value], count)
            yield family
        yield CounterMetricFamily(
            "kms_schedule_failures", "Due work that could not be done and is tried again.", value=schedule.failures
        )

    def _lease_families(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "kms_lease_remaining_seconds", "How long this node may go on without the database.", value=self._lease()
        )
        yield GaugeMetricFamily(
            "kms_revocation_epoch", "The newest revocation that this node acts on.", value=self._epoch()
        )

    def _event_families(self) -> Iterator[Metric]:
        if self._events is not None:
            events = CounterMetricFamily("kms_security_events", "Security events.", labels=["type", "severity"])
            for labels, count in self._events.counts.items():
                events.add_metric(list(labels), count)
            yield events
            yield CounterMetricFamily(
                "kms_security_events_dropped", "Security events lost for want of room.", value=self._events.dropped
            )
        if (audit := self._audit) is not None:
            yield CounterMetricFamily("kms_audit_events", "Audit events made durable.", value=audit.events)
            yield CounterMetricFamily("kms_audit_groups", "Commits that made them durable.", value=audit.groups)
            yield CounterMetricFamily("kms_audit_refused", "Audit events not known to be durable.", value=audit.refused)
        delivered = CounterMetricFamily("kms_sink_items", "Items that a sink has taken.", labels=["sink"])
        failures = CounterMetricFamily("kms_sink_failures", "Deliveries that have failed.", labels=["sink"])
        for sink in self._sinks:
            delivered.add_metric([sink.name], sink.delivered)
            failures.add_metric([sink.name], sink.failures)
        yield delivered
        yield failures

    def _checkpoint_families(self) -> Iterator[Metric]:
        seen = self._checkpoints
        if seen is None:
            return
        yield CounterMetricFamily("kms_checkpoints", "Checkpoints that this node has anchored.", value=seen.made)
        yield CounterMetricFamily(
            "kms_checkpoint_failures", "Checkpoints that could not be made, stored or anchored.", value=seen.failures
        )
        yield GaugeMetricFamily(
            "kms_checkpoint_serial", "The newest checkpoint that this node knows.", value=seen.serial
        )
        yield GaugeMetricFamily(
            "kms_anchor_age_seconds",
            "Time since this node last anchored; 0 while there is nothing new.",
            value=seen.anchor_age,
        )

    def _scrub_families(self) -> Iterator[Metric]:
        seen = self._scrub
        if seen is None:
            return
        yield CounterMetricFamily(
            "kms_integrity_passes", "Looks at all stored records that have ended.", value=seen.passes
        )
        yield GaugeMetricFamily(
            "kms_integrity_records", "Records that the present look, or the last one, has verified.", value=seen.records
        )
        yield GaugeMetricFamily(
            "kms_integrity_lies", "Records that the last look found not to be what was written.", value=seen.lies
        )
        yield GaugeMetricFamily(
            "kms_integrity_ended_timestamp_seconds",
            "When the last look at all stored records ended; 0 for never.",
            value=0 if seen.ended_at is None else seen.ended_at.timestamp(),
        )

    def _cache_families(self) -> Iterator[Metric]:
        counts = {
            "hits": CounterMetricFamily("kms_cache_hits", "Look-ups that found a live entry.", labels=["cache"]),
            "misses": CounterMetricFamily("kms_cache_misses", "Look-ups that found none.", labels=["cache"]),
            "evictions": CounterMetricFamily(
                "kms_cache_evictions", "Entries that left for want of room.", labels=["cache"]
            ),
        }
        entries = GaugeMetricFamily("kms_cache_entries", "Entries held.", labels=["cache"])
        for name, cache in self._caches.items():
            for count, family in counts.items():
                family.add_metric([name], getattr(cache, count))
            entries.add_metric([name], len(cache))
        yield from counts.values()
        yield entries

    def _health_families(self) -> Iterator[Metric]:
        status = GaugeMetricFamily("kms_health", "1 for the status that a part has, else 0.", labels=["part", "status"])
        seconds = GaugeMetricFamily(
            "kms_health_response_seconds", "Time a part's last health check took.", labels=["part"]
        )
        for part, health in self._parts().items():
            for candidate in HealthStatus:
                status.add_metric([part, candidate.value], 1.0 if health.status is candidate else 0.0)
            seconds.add_metric([part], health.response_time)
        yield status
        yield seconds


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
