"""What can be wrong with an audit trail, each with its exact place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .audit import StreamUid


class Fault(StrEnum):
    """What is wrong."""

    EDITED = "edited"  # an event is not the one whose hash stands with it
    RECHAINED = "rechained"  # the hashes fit, but not the one that a checkpoint has signed
    MISSING = "missing"  # events are missing between others, or at the beginning of a stream
    REORDERED = "reordered"  # an event stands after a later one, or twice
    BACKWARDS = "backwards"  # an event's time is before that of the one before it
    CUT_OFF = "cut off"  # the events at the end of a stream are missing
    DROPPED = "dropped"  # a whole stream is missing
    FORKED = "forked"  # two streams come after the same one, or one after events that are not the last
    UNSEALED = "unsealed"  # events that no checkpoint covers
    COLUMNS = "columns differ"  # what stands beside an event, to search by, tells something else than its bytes
    MALFORMED = "malformed"  # bytes that are no event, or of another form
    FOREIGN = "foreign"  # of another installation
    CHECKPOINT_FORGED = "checkpoint forged"  # the token has not signed it
    CHECKPOINT_MISSING = "checkpoint missing"
    CHECKPOINT_REORDERED = "checkpoint reordered"
    CHECKPOINT_DIFFERS = "checkpoint columns differ"  # as with events
    CHECKPOINT_NOT_MADE = "checkpoint not made"  # over what the database holds none can be made
    ARCHIVE_FORGED = "archive forged"  # what is recorded of archives does not prove itself
    CHECKPOINT_FORKED = "checkpoint forked"  # it names another one before it
    GAP_ACCEPTED = "gap accepted"  # a quorum has gone on from an older state
    TRAILER_FORGED = "trailer forged"
    TRAILER_WRONG = "trailer wrong"  # it counts otherwise
    TRUNCATED = "truncated"  # the file has no end


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: events *first* to *last* of a stream, or checkpoints; *text* says more."""

    fault: Fault
    stream: StreamUid | None = None
    first: int = 0
    last: int = 0
    serial: int = 0
    text: str = ""

    def __str__(self) -> str:
        parts = [self.fault.value]
        if self.stream is not None:
            events = f"event {self.first}" if self.first == self.last else f"events {self.first} to {self.last}"
            parts.append(f"{events if self.first else 'the whole'} of stream {self.stream}")
        if self.serial:
            parts.append(f"checkpoint {self.serial}")
        return ": ".join([", ".join(parts), self.text] if self.text else [", ".join(parts)])
