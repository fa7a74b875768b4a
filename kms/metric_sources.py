"""What is read from other objects at every scrape: what each kind of them counts, and the metrics that it becomes.

A source is a callable that yields metrics; Metrics.watch() takes it. Labels come from the program or the configuration.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kms.core.ports import HealthStatus, PartHealth


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


def admission_metrics(admission: AdmissionStatistics) -> Iterator[Metric]:
    """How many calls wait for their turn, and how many each limit has refused."""
    yield GaugeMetricFamily("kms_calls_waiting", "Calls that wait for their turn to work.", value=admission.waiting)
    yield _counter("kms_calls_refused", "Calls that a limit has refused.", "limit", admission.refusals)


def token_metrics(operations: Mapping[str, int], restarts: int) -> Iterator[Metric]:
    """How often each kind of operation was asked of the token, and how often its host was started again."""
    yield _counter("kms_token_operations", "Operations asked of the PKCS#11 token.", "operation", operations)
    yield CounterMetricFamily(
        "kms_token_host_restarts", "Token host processes started after the first.", value=restarts
    )


def schedule_metrics(schedule: ScheduleStatistics) -> Iterator[Metric]:
    """What the scheduler has done, and what it could not do."""
    yield _counter("kms_rotations", "Key versions that the scheduler replaced.", "cause", schedule.rotations)
    yield _counter(
        "kms_due_claimed", "Keys and tenants with due work that this node claimed.", "subject", schedule.claimed
    )
    yield _counter(
        "kms_destroyed", "What the scheduler destroyed at the end of its time.", "subject", schedule.destroyed
    )
    yield CounterMetricFamily(
        "kms_schedule_failures", "Due work that could not be done and is tried again.", value=schedule.failures
    )


def lease_metrics(remaining: float, epoch: int) -> Iterator[Metric]:
    """How many seconds of this node's lease are left, and which revocation it acts on."""
    yield GaugeMetricFamily(
        "kms_lease_remaining_seconds", "How long this node may go on without the database.", value=remaining
    )
    yield GaugeMetricFamily("kms_revocation_epoch", "The newest revocation that this node acts on.", value=epoch)


def security_event_metrics(events: EventStatistics) -> Iterator[Metric]:
    """The security events that this node has noticed, and lost."""
    family = CounterMetricFamily("kms_security_events", "Security events.", labels=["type", "severity"])
    for labels, count in events.counts.items():
        family.add_metric(list(labels), count)
    yield family
    yield CounterMetricFamily(
        "kms_security_events_dropped", "Security events lost for want of room.", value=events.dropped
    )


def audit_metrics(audit: AuditStatistics) -> Iterator[Metric]:
    """What the audit writer has made durable."""
    yield CounterMetricFamily("kms_audit_events", "Audit events made durable.", value=audit.events)
    yield CounterMetricFamily("kms_audit_groups", "Commits that made them durable.", value=audit.groups)
    yield CounterMetricFamily("kms_audit_refused", "Audit events not known to be durable.", value=audit.refused)


def sink_metrics(sinks: Collection[SinkStatistics]) -> Iterator[Metric]:
    """What each sink has taken."""
    delivered = {sink.name: sink.delivered for sink in sinks}
    failures = {sink.name: sink.failures for sink in sinks}
    yield _counter("kms_sink_items", "Items that a sink has taken.", "sink", delivered)
    yield _counter("kms_sink_failures", "Deliveries that have failed.", "sink", failures)


def checkpoint_metrics(checkpoints: CheckpointStatistics) -> Iterator[Metric]:
    """How far the trail is anchored."""
    yield CounterMetricFamily("kms_checkpoints", "Checkpoints that this node has anchored.", value=checkpoints.made)
    yield CounterMetricFamily(
        "kms_checkpoint_failures",
        "Checkpoints that could not be made, stored or anchored.",
        value=checkpoints.failures,
    )
    yield GaugeMetricFamily(
        "kms_checkpoint_serial", "The newest checkpoint that this node knows.", value=checkpoints.serial
    )
    yield GaugeMetricFamily(
        "kms_anchor_age_seconds",
        "Time since this node last anchored; 0 while there is nothing new.",
        value=checkpoints.anchor_age,
    )


def scrub_metrics(scrub: ScrubStatistics) -> Iterator[Metric]:
    """How far the look at all records is, and what it has found."""
    yield CounterMetricFamily(
        "kms_integrity_passes", "Looks at all stored records that have ended.", value=scrub.passes
    )
    yield GaugeMetricFamily(
        "kms_integrity_records", "Records that the present look, or the last one, has verified.", value=scrub.records
    )
    yield GaugeMetricFamily(
        "kms_integrity_lies", "Records that the last look found not to be what was written.", value=scrub.lies
    )
    yield GaugeMetricFamily(
        "kms_integrity_ended_timestamp_seconds",
        "When the last look at all stored records ended; 0 for never.",
        value=0 if scrub.ended_at is None else scrub.ended_at.timestamp(),
    )


def cache_metrics(caches: Mapping[str, CacheStatistics]) -> Iterator[Metric]:
    """What the caches hold, and how often that was of use."""
    for name, text in (
        ("hits", "Look-ups that found a live entry."),
        ("misses", "Look-ups that found none."),
        ("evictions", "Entries that left for want of room."),
    ):
        counts = {label: getattr(cache, name) for label, cache in caches.items()}
        yield _counter(f"kms_cache_{name}", text, "cache", counts)
    entries = GaugeMetricFamily("kms_cache_entries", "Entries held.", labels=["cache"])
    for label, cache in caches.items():
        entries.add_metric([label], len(cache))
    yield entries


def health_metrics(parts: Mapping[str, PartHealth]) -> Iterator[Metric]:
    """How each part of the daemon is."""
    status = GaugeMetricFamily("kms_health", "1 for the status that a part has, else 0.", labels=["part", "status"])
    seconds = GaugeMetricFamily("kms_health_response_seconds", "Time a part's last health check took.", labels=["part"])
    for part, health in parts.items():
        for candidate in HealthStatus:
            status.add_metric([part, candidate.value], 1.0 if health.status is candidate else 0.0)
        seconds.add_metric([part], health.response_time)
    yield status
    yield seconds


def log_metrics(dropped: int) -> Iterator[Metric]:
    """How many log lines nobody has read."""
    yield GaugeMetricFamily(
        "kms_log_lines_dropped", "Log lines lost since the start for want of a reader.", value=dropped
    )


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
