"""Which audit events are wanted, and how they are summed up, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from .audit import FIELDS, Category, Outcome, Phase, Retention, Sensitivity, StreamUid
from .canonical import Value
from .events import Severity


class Kind(StrEnum):
    """What the value of a field is."""

    TEXT = "text"
    NUMBER = "number"
    UID = "uid"
    BYTES = "bytes"
    TIME = "time"


def _kinds() -> dict[str, Kind]:
    others = {
        Kind.NUMBER: "risk intent_sequence key_version items failures bytes_in bytes_out duration_us sequence",
        Kind.UID: "tenant intent_stream key stream",
        Kind.BYTES: "context_digest items_digest changes",
        Kind.TIME: "kept_until at",
    }
    kinds = dict.fromkeys((*FIELDS, "stream", "sequence", "at"), Kind.TEXT)
    return kinds | {name: kind for kind, names in others.items() for name in names.split()}


# Every field of an event, by the name that it has in AuditEvent.
KINDS: Final[Mapping[str, Kind]] = MappingProxyType(_kinds())
# What the texts of these fields may be.
CHOICES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        name: tuple(one.value for one in kind)
        for name, kind in {
            "category": Category,
            "phase": Phase,
            "outcome": Outcome,
            "severity": Severity,
            "sensitivity": Sensitivity,
            "retention": Retention,
        }.items()
    }
)
BEGINNINGS: Final = ("action", "resource")  # fields of which a beginning may be wanted
AMOUNTS: Final = ("risk", "items", "failures", "bytes_in", "bytes_out", "duration_us")  # of which a least may be

EXECUTIONS: Final = "executions"  # the member of an event's details that says what was run in which enclave

# Fields along which an index leads, the best one first.
INDEXED: Final = ("request_id", "principal", "key")

_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair of the context, whose value stands in one of these forms: as it is, or hashed."""

    key: str
    forms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """All of these must hold; what is empty holds for every event."""

    since: datetime | None = None  # then or later
    until: datetime | None = None  # before
    equal: Mapping[str, tuple[Value, ...]] = field(default_factory=lambda: _NOTHING)  # one of these values
    begins: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NOTHING)  # with one of these texts
    least: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    present: tuple[str, ...] = ()  # texts that are not empty
    details: tuple[str, ...] = ()  # all of these texts stand in the details, which are canonical JSON
    pair: Pair | None = None
    within: tuple[tuple[datetime, datetime], ...] | None = None  # one of these spans, the end not included
    beyond: Mapping[StreamUid, int] = field(default_factory=lambda: _NOTHING)  # of these streams, only later numbers
    either: tuple[AuditFilter, ...] = ()  # one of these holds

    @property
    def leading(self) -> str | None:
        """The field along whose index the events are found; None for that of times."""
        return next((name for name in INDEXED if len(self.equal.get(name, ())) == 1), None)

    @property
    def plain(self) -> bool:
        """Whether what an index leads to is wanted, all of it."""
        return self == AuditFilter(since=self.since, until=self.until, equal=self.equal) and set(self.equal) <= {
            self.leading
        }


_LEAST: Final = StreamUid(UUID(int=0))
_MOST: Final = StreamUid(UUID(int=2**128 - 1))


@dataclass(frozen=True, slots=True)
class AuditPosition:
    """Where an event stands among all: by time, and where times are the same by stream and number."""

    at: datetime
    stream: StreamUid
    sequence: int


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the log: from what follows *after*, newest or oldest first, to *end*, a time that belongs to it."""

    after: AuditPosition | None = None
    end: datetime | None = None
    newest_first: bool = True

    def beyond(self, at: datetime) -> Span:
        """Return what follows the last event of that time."""
        last = AuditPosition(at, _LEAST, 0) if self.newest_first else AuditPosition(at, _MOST, 2**63 - 1)
        return replace(self, after=last, end=None)


# What events may be summed up by, beside every field that is a text or a uid.
DAY: Final = "day"  # "2026-03-01", UTC
MONTH: Final = "month"  # "2026-03", UTC
GROUPS: Final = (DAY, MONTH, *(name for name, kind in KINDS.items() if kind in (Kind.TEXT, Kind.UID)))
SUMS: Final = ("events", "items", "failures", "bytes_in", "bytes_out", "size")  # size: stored bytes
TIMES: Final = ("first_at", "last_at")


@dataclass(frozen=True, slots=True)
class AuditSum:
    """The events of one group: how many, and the sums of what they count; *size* is that of their canonical bytes."""

    group: tuple[Value, ...]
    events: int
    items: int
    failures: int
    bytes_in: int
    bytes_out: int
    size: int
    first_at: datetime
    last_at: datetime

    def plus(self, other: AuditSum) -> AuditSum:
        """Return the sum of both, which are of the same group."""
        return AuditSum(
            group=self.group,
            first_at=min(self.first_at, other.first_at),
            last_at=max(self.last_at, other.last_at),
            **{name: getattr(self, name) + getattr(other, name) for name in SUMS},
        )


@dataclass(frozen=True, slots=True)
class StreamHead:
    """A stream: its first event as far as it is stored here, and its last."""

    stream: StreamUid
    node: str
    began_at: datetime
    sequence: int
    last_at: datetime
    hash: bytes  # 32, of the last event
