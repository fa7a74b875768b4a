"""Verifying an audit trail: every event in the chain of its stream, every stream's end in a checkpoint, one chain of those.

The verifier is given events and checkpoints in the order of an export (audit_export.py) and keeps the end of each stream,
never events. The way of a whole trail is short: one look at the head of an event, one hash. Only what does not fit is
looked at closely, and what an event says is read only where a stream begins, or where the strict form is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from struct import Struct
from struct import error as struct_error
from typing import Any, Final
from uuid import UUID

from .anchors import Verify
from .audit import LABEL, StreamUid, first_hash, parse
from .audit_export import HASH
from .audit_findings import Fault, Finding
from .audit_ports import Position
from .checkpoints import NOTHING, SignedCheckpoint, gap_in, message_of

MOST_FINDINGS: Final = 1_000  # are kept; more are counted
MOST_GAPS: Final = 1_000  # of one stream, whose events may still come
_OR_BEFORE: Final = "or the one before it together with its hash"

_LABELLED: Final = Struct(f">{HASH}s{len(LABEL)}s16sQq")
_PREFIX: Final = HASH


@dataclass(slots=True)
class _Gap:
    """Events that have not come, and the hash before the first of them, where it is known."""

    first: int
    last: int
    before: bytes | None


@dataclass(slots=True)
class _Stream:
    """How far one stream is."""

    sequence: int
    hash: bytes
    time: int
    sealed: int = 0
    segment: int = 0  # of checkpoints, in which its last event stood
    node: str = ""
    before: Position | None = None  # where its first event says that the stream before it ended
    gaps: list[_Gap] = field(default_factory=list)  # events that may still come, out of their order
    based: bool = False  # its beginning is not in this file
    archived: int = 0  # up to there its events stand in archives


class Verifier:
    """Verifies one trail."""

    def __init__(
        self, installation: UUID, verify: Verify, *, whole: bool = True, strict: bool = False, tail: bool = False
    ) -> None:
        """Prepare.

        Args:
            installation: the trail's.
            verify: whether the token's signing key has signed a message.
            whole: the trail goes back to the installation's first event.
            strict: read each event to the end, and refuse what is not in canonical form.
            tail: events after the last checkpoint are no fault.
        """
        self._installation = installation
        self._verify = verify
        self._whole = whole
        self._strict = strict
        self._tail = tail
        self._streams: dict[bytes, _Stream] = {}
        self._newest: SignedCheckpoint | None = None
        self._forged = 0  # checkpoints since the newest that is genuine
        self._touched: set[bytes] = set()  # streams with events since the last checkpoint
        self.findings: list[Finding] = []
        self.suppressed = 0
        self.events = 0
        self.checkpoints = 0
        self.first: SignedCheckpoint | None = None

    @property
    def newest(self) -> SignedCheckpoint | None:
        """The last checkpoint that was genuine."""
        return self._newest

    @property
    def streams(self) -> int:
        """How many streams there are."""
        return len(self._streams)

    def found(self, fault: Fault, stream: bytes | None = None, first: int = 0, last: int = 0, **more: Any) -> None:
        """Note a fault."""
        if len(self.findings) >= MOST_FINDINGS:
            self.suppressed += 1
            return
        uid = None if stream is None else StreamUid(UUID(bytes=stream))
        self.findings.append(Finding(fault, uid, first, last or first, **more))

    def take_events(self, bodies: Iterable[bytes]) -> None:
        """Take events in their order: of each its stored hash (32 bytes) and its canonical bytes."""
        streams, unpack, label, hashed, skip = self._streams, _LABELLED.unpack_from, LABEL, sha256, _PREFIX
        touched, strict, count = self._touched, self._strict, 0
        uid, state = b"", _Stream(0, b"", 0)
        for body in bodies:
            count += 1
            try:
                digest, mark, stream, sequence, time = unpack(body)
            except struct_error:
                self.found(Fault.MALFORMED, text=f"event {self.events + count} of the file is too short")
                continue
            if stream != uid:
                known = streams.get(stream)
                if known is None:
                    if mark == label:
                        self._begin(stream, sequence, body)
                    else:
                        self.found(Fault.MALFORMED, text=f"event {self.events + count} of the file is none")
                    continue
                uid, state = stream, known
                touched.add(stream)
            if sequence == state.sequence + 1 and mark == label and time >= state.time and not strict:
                if hashed(state.hash + body[skip:]).digest() != digest:
                    self.found(Fault.EDITED, stream, sequence, text=_OR_BEFORE)
                state.sequence, state.hash, state.time = sequence, digest, time
            else:
                touched.add(stream)
                self._look(stream, state, sequence, time, mark == label, body)
        self.events += count

    def _begin(self, stream: bytes, sequence: int, body: bytes) -> None:
        """Take the first event of a stream that is in the file."""
        digest, canonical = body[:HASH], body[HASH:]
        if sequence < 1:
            self.found(Fault.MALFORMED, stream, text="an event without a number")
            return
        state = self._streams[stream] = _Stream(sequence, digest, 0)
        self._touched.add(stream)
        if sequence != 1:
            state.gaps = [_Gap(1, sequence - 1, None)]
        elif sha256(first_hash(self._installation, StreamUid(UUID(bytes=stream))) + canonical).digest() != digest:
            self.found(Fault.EDITED, stream, 1)
        self._read(stream, state, sequence, canonical)

    def _read(self, stream: bytes, state: _Stream, sequence: int, canonical: bytes) -> None:
        """Read an event to its end."""
        try:
            event = parse(canonical)
        except ValueError as error:
            self.found(Fault.MALFORMED, stream, sequence, text=str(error))
            return
        state.time = max(state.time, _LABELLED.unpack_from(bytes(HASH) + canonical)[4])
        if sequence != 1:
            return
        state.node = event.node
        try:
            details = json.loads(event.details)
            if details["previous_stream"] is not None:
                before = StreamUid(UUID(details["previous_stream"]))
                state.before = Position(before, details["previous_sequence"], bytes.fromhex(details["previous_hash"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.found(Fault.MALFORMED, stream, 1, text="it does not name the stream before")

    def _look(
        self,
        stream: bytes,
        state: _Stream,
        sequence: int,
        time: int,
        labelled: bool,
        body: bytes,
    ) -> None:
        """Take an event that is not simply the next one, or read every one to its end."""
        digest, canonical = body[:HASH], body[HASH:]
        if not labelled:
            self.found(Fault.MALFORMED, stream, sequence, text="it is no event")
            return
        if sequence <= state.sequence:
            self.found(Fault.REORDERED, stream, sequence, text=f"it stands after event {state.sequence}")
            before = _fill(state, sequence, digest)
            if before is not None and sha256(before + canonical).digest() != digest:
                self.found(Fault.EDITED, stream, sequence, text=_OR_BEFORE)
            return
        if sequence > state.sequence + 1:
            if len(state.gaps) >= MOST_GAPS:
                self._missing(stream, state)
            state.gaps.append(_Gap(state.sequence + 1, sequence - 1, state.hash))
        elif sha256(state.hash + canonical).digest() != digest:
            self.found(Fault.EDITED, stream, sequence, text=_OR_BEFORE)
        if time < state.time:
            self.found(Fault.BACKWARDS, stream, sequence)
        state.sequence, state.hash, state.time = sequence, digest, max(time, state.time)
        if self._strict:
            self._read(stream, state, sequence, canonical)

    def _missing(self, stream: bytes, state: _Stream) -> None:
        """Tell of events that have not come."""
        for gap in state.gaps:
            self.found(Fault.MISSING, stream, gap.first, gap.last)
        state.gaps.clear()

    def take_base(self, made: SignedCheckpoint) -> None:
        """Take the checkpoint from which a part of a trail goes on."""
        if self._newest is not None or self._streams or self._whole:
            self.found(Fault.CHECKPOINT_REORDERED, serial=made.serial, text="nothing goes on from it here")
            return
        if not self._genuine(made):
            return
        self._newest = made
        for head in made.checkpoint.heads:
            self._streams[head.stream.bytes] = _Stream(head.sequence, head.hash, 0, sealed=head.sequence, based=True)

    def take_archived(self, end: Position) -> None:
        """Take how far a stream stands in archives, whose signatures have been verified; it goes on behind that."""
        self._streams[end.stream.bytes] = _Stream(
            end.sequence, end.hash, 0, sealed=end.sequence, based=True, archived=end.sequence
        )

    def take_unreadable(self, serial: int, text: str) -> None:
        """Take what stands in the place of a checkpoint and is none."""
        self.checkpoints += 1
        self._forged += 1
        self.found(Fault.CHECKPOINT_FORGED, serial=serial, text=text)

    def end_of(self, stream: StreamUid) -> int | None:
        """Return the last event of a stream that was taken; None for a stream that is not known."""
        state = self._streams.get(stream.bytes)
        return None if state is None else state.sequence

    def take_checkpoint(self, made: SignedCheckpoint) -> None:
        """Take a checkpoint, which stands after all that it covers."""
        self.checkpoints += 1
        if not self._genuine(made):
            self._forged += 1
            return
        said = made.checkpoint
        if self._newest is not None and made.serial <= self._newest.serial:
            self.found(Fault.CHECKPOINT_REORDERED, serial=made.serial, text=f"it stands after {self._newest.serial}")
            return
        self._link(made)
        for head in said.heads:
            self._compare(head, made.serial)
        covered = {head.stream.bytes for head in said.heads}
        for stream in sorted(self._touched - covered):
            state = self._streams[stream]
            if state.sealed < state.sequence:
                self.found(
                    Fault.UNSEALED,
                    stream,
                    state.sealed + 1,
                    state.sequence,
                    serial=made.serial,
                    text="it stands after them and does not cover them",
                )
                state.sealed = state.sequence
        self._touched.clear()
        self._newest, self._forged = made, 0
        self.first = self.first or made

    def _genuine(self, made: SignedCheckpoint) -> bool:
        if made.checkpoint.installation != self._installation:
            self.found(Fault.FOREIGN, serial=made.serial, text=f"of installation {made.checkpoint.installation}")
            return False
        if not self._verify(message_of(made.body), made.signature):
            self.found(Fault.CHECKPOINT_FORGED, serial=made.serial)
            return False
        return True

    def _link(self, made: SignedCheckpoint) -> None:
        """Compare a checkpoint with the one before it."""
        before = 0 if self._newest is None else self._newest.serial
        if self._newest is None and not self._whole:
            return
        try:
            gap = gap_in(made.checkpoint.note)
        except ValueError:
            gap = None
        if gap is not None and (gap.found_serial, gap.found_hash) == (before, self._hash_of_newest):
            self.found(
                Fault.GAP_ACCEPTED,
                serial=made.serial,
                text=f"by {', '.join(gap.approvers)}, from {gap.found_serial} behind {gap.anchored_serial}: {gap.reason}",
            )
            return
        # Those that were forged stand in the place of those that are missing.
        if made.serial != before + 1 + self._forged:
            self.found(Fault.CHECKPOINT_MISSING, serial=before + 1, text=f"the next one is {made.serial}")
        elif not self._forged and made.checkpoint.previous.hex() != self._hash_of_newest:
            self.found(
                Fault.CHECKPOINT_FORKED, serial=made.serial, text=f"it names another one than {before} before it"
            )

    @property
    def _hash_of_newest(self) -> str:
        return (NOTHING if self._newest is None else self._newest.hash).hex()

    def _compare(self, head: Position, serial: int) -> None:
        """Compare where a checkpoint says that a stream ends with where it does."""
        stream = head.stream.bytes
        state = self._streams.get(stream)
        if state is None:
            self.found(Fault.DROPPED, stream, 1, head.sequence, serial=serial, text="no event of it is there")
            # Told once: the next checkpoint names it again.
            self._streams[stream] = _Stream(head.sequence, head.hash, 0, sealed=head.sequence, based=True)
            return
        if head.sequence < state.archived:
            return  # of the time that stands in archives
        self._missing(stream, state)
        if state.sequence < head.sequence:
            self.found(Fault.CUT_OFF, stream, state.sequence + 1, head.sequence, serial=serial)
            state.sequence, state.hash = head.sequence, head.hash
        elif state.sequence > head.sequence:
            self.found(
                Fault.UNSEALED,
                stream,
                head.sequence + 1,
                state.sequence,
                serial=serial,
                text="they stand before it and it does not cover them",
            )
        elif state.hash != head.hash:
            self.found(Fault.RECHAINED, stream, state.sealed + 1, head.sequence, serial=serial)
            state.hash = head.hash
        state.sealed = state.sequence

    def finish(self) -> None:
        """Look at what only the end shows."""
        for stream, state in self._streams.items():
            self._missing(stream, state)
            if state.sealed < state.sequence and not self._tail:
                self.found(
                    Fault.UNSEALED,
                    stream,
                    state.sealed + 1,
                    state.sequence,
                    text="they stand after the last checkpoint",
                )
        self._successions()

    def _successions(self) -> None:
        """Compare each stream with the one that it says it came after."""
        after: dict[bytes, bytes] = {}
        first: dict[str, bytes] = {}
        for stream, state in self._streams.items():
            if state.based or not state.node:
                continue
            if state.before is None:
                other = first.setdefault(state.node, stream)
                if other != stream:
                    self.found(Fault.FORKED, stream, 1, text=f"stream {UUID(bytes=other)} is the node's first, too")
                continue
            named = state.before.stream.bytes
            other = after.setdefault(named, stream)
            if other != stream:
                text = f"stream {UUID(bytes=other)} comes after {state.before.stream}, too"
                self.found(Fault.FORKED, stream, 1, text=text)
                continue
            self._succeeds(stream, state.before)

    def _succeeds(self, stream: bytes, before: Position) -> None:
        named = before.stream.bytes
        state = self._streams.get(named)
        later = f"stream {UUID(bytes=stream)} comes after it"
        if state is None:
            self.found(Fault.DROPPED, named, 1, before.sequence, text=later)
        elif state.sequence < before.sequence:
            self.found(Fault.CUT_OFF, named, state.sequence + 1, before.sequence, text=later)
        elif state.sequence > before.sequence:
            self.found(Fault.FORKED, named, before.sequence + 1, state.sequence, text=f"{later}, and not after these")
        elif state.hash != before.hash:
            self.found(Fault.RECHAINED, named, 1, before.sequence, text=later)

    def expect(self, serial: int, digest: str) -> None:
        """Compare with a checkpoint that is known from elsewhere, such as an anchor; its hash in hexadecimal digits."""
        found = self._newest
        if found is None or found.serial < serial:
            newest = 0 if found is None else found.serial
            self.found(Fault.CHECKPOINT_MISSING, serial=serial, text=f"the newest is {newest}")
        elif found.serial == serial and found.hash.hex() != digest.lower():
            self.found(Fault.CHECKPOINT_FORKED, serial=serial, text="it is another one than the one that is known")


def _fill(state: _Stream, sequence: int, digest: bytes) -> bytes | None:
    """Take an event out of the gap that it belongs to; returns the hash before it, where it is known."""
    for index, gap in enumerate(state.gaps):
        if gap.first <= sequence <= gap.last:
            before = gap.before if sequence == gap.first else None
            rest = [_Gap(gap.first, sequence - 1, gap.before), _Gap(sequence + 1, gap.last, digest)]
            state.gaps[index : index + 1] = [part for part in rest if part.first <= part.last]
            return before
    return None
