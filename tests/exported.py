"""An exported audit trail of two nodes and its frames one by one, for tests that tamper with it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

from kms.core.audit_check import Report, check_export
from kms.core.audit_export import (
    TRAILER_LABEL,
    Trailer,
    beginning,
    checkpoint_frame,
    event_frame,
    trailer_frame,
    trailer_text,
)
from kms.core.audit_findings import Finding
from kms.core.checkpoints import SignedCheckpoint
from kms.crypto.signatures import verifier
from tests.keyrings import NOW
from tests.streams import Stream, TestKey


@dataclass(frozen=True)
class Event:
    """One event of an export."""

    stream: Stream
    sequence: int

    @property
    def frame(self) -> bytes:
        return event_frame(self.stream.hashes[self.sequence - 1], self.stream.bytes[self.sequence - 1])


@dataclass
class Exported:
    """A trail in the order of its export, and the key that has signed it."""

    installation: UUID = field(default_factory=uuid4)
    key: TestKey = field(default_factory=TestKey)
    parts: list[Event | SignedCheckpoint | bytes] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    whole: bool = True

    def stream(self, node: str, after: Stream | None = None) -> Stream:
        start = NOW + timedelta(minutes=len(self.streams))
        made = Stream(self.installation, node, after, start=start)
        self.streams.append(made)
        return made

    @property
    def checkpoints(self) -> list[SignedCheckpoint]:
        return [part for part in self.parts if isinstance(part, SignedCheckpoint)]

    def seal(self, *streams: Stream, **changes) -> SignedCheckpoint:
        """Let a checkpoint follow with the present ends of these streams, after all events that it covers."""
        for stream in streams:
            there = sum(isinstance(part, Event) and part.stream is stream for part in self.parts)
            self.parts += [Event(stream, number) for number in range(there + 1, len(stream.bytes) + 1)]
        before = self.checkpoints[-1] if self.checkpoints else None
        made = self.key.checkpoint(self.installation, [stream.head for stream in streams], before, **changes)
        self.parts.append(made)
        return made

    def data(self, parts=None, *, trailer: bytes | None = None) -> bytes:
        """The bytes of the file, from other parts where they are given; the trailer is that of the true ones."""
        frames = [
            part.frame if isinstance(part, Event) else part if isinstance(part, bytes) else checkpoint_frame(part)
            for part in (self.parts if parts is None else parts)
        ]
        return b"".join(
            [beginning(self.installation, whole=self.whole), *frames, self.trailer() if trailer is None else trailer]
        )

    def trailer(self, parts=None) -> bytes:
        parts = self.parts if parts is None else parts
        made = [part for part in parts if isinstance(part, SignedCheckpoint)]
        first, last = (made[0], made[-1]) if made else (None, None)
        text = trailer_text(
            Trailer(
                sum(isinstance(part, Event) for part in parts),
                len(made),
                first.serial if first else 0,
                first.hash.hex() if first else "",
                last.serial if last else 0,
                last.hash.hex() if last else "",
                "2031-01-01T00:00:00Z",
            )
        )
        return trailer_frame(text, self.key.signature(TRAILER_LABEL + text))

    def check(self, data: bytes | None = None, **options) -> Report:
        return check_export(io.BytesIO(self.data() if data is None else data), verifier(self.key.public), **options)

    def findings(self, parts, **options) -> list[Finding]:
        """What is found in other parts, whose trailer is as it should be."""
        return list(self.check(self.data(parts, trailer=self.trailer(parts)), **options).findings)


def two_nodes(length: int = 6) -> Exported:
    """Node A starts twice, node B once; four checkpoints."""
    made = Exported()
    first, other = made.stream("a:00000000").extend(length), made.stream("b:00000000").extend(length)
    made.seal(first, other)
    first.extend(2)
    other.extend(length)
    made.seal(first, other)
    second = made.stream("a:00000000", first).extend(length)
    made.seal(first, other, second)
    second.extend(length)
    other.extend(2)
    made.seal(other, second)
    return made
