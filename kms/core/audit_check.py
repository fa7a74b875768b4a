"""Verifying an exported audit trail from its first byte to its last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from .anchors import Verify
from .audit_export import (
    TRAILER_LABEL,
    Kind,
    NoExport,
    Readable,
    Trailer,
    batches,
    read_checkpoint,
    read_header,
    read_signed,
    read_trailer,
)
from .audit_findings import Fault, Finding
from .audit_verify import Verifier

# What is told and is no fault of the trail.
NOTICES: Final = frozenset({Fault.GAP_ACCEPTED})


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in an exported trail."""

    installation: UUID
    from_beginning: bool
    events: int
    streams: int
    checkpoints: int
    archives: int
    first_serial: int
    last_serial: int
    last_hash: str  # hex
    findings: tuple[Finding, ...]
    suppressed: int  # findings beyond those that are kept

    @property
    def whole(self) -> bool:
        """Whether there is no fault."""
        return all(finding.fault in NOTICES for finding in self.findings)


def check_export(
    file: Readable,
    verify: Verify,
    *,
    strict: bool = False,
    tail: bool = False,
    expected: tuple[int, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Verify a file.

    Args:
        file: open for reading bytes, at its beginning.
        verify: whether the token's signing key has signed a message.
        strict: read each event to its end.
        tail: events after the last checkpoint are no fault.
        expected: serial and hash (hex) of a checkpoint that is known from elsewhere; only the last one can be compared.
        progress: told how many bytes have been verified.

    Raises:
        NoExport: it is no exported trail at all. One that is cut off is a finding.
        OSError: it cannot be read.
    """
    runs = batches(file)
    kind, bodies, _ = next(runs, (0, [b""], 0))
    if kind != Kind.HEADER:
        raise NoExport("the file has no header")
    installation, whole = read_header(bodies[0])
    verifier = Verifier(installation, verify, whole=whole, strict=strict, tail=tail)
    reading = _Reading(verifier, verify)
    try:
        for kind, bodies, position in runs:
            reading.take(kind, bodies)
            if progress is not None:
                progress(position)
    except NoExport as error:
        verifier.found(Fault.TRUNCATED, text=str(error))
    else:
        if not reading.ended:
            verifier.found(Fault.TRUNCATED, text="the file has no trailer")
    verifier.finish()
    if expected is not None:
        verifier.expect(*expected)
    newest, first = verifier.newest, verifier.first
    return Report(
        installation,
        whole,
        verifier.events,
        verifier.streams,
        verifier.checkpoints,
        reading.archives,
        0 if first is None else first.serial,
        0 if newest is None else newest.serial,
        "" if newest is None else newest.hash.hex(),
        tuple(verifier.findings),
        verifier.suppressed,
    )


class _Reading:
    """Gives frames to the verifier."""

    def __init__(self, verifier: Verifier, verify: Verify) -> None:
        self._verifier = verifier
        self._verify = verify
        self.archives = 0
        self.ended = False

    def take(self, kind: int, bodies: list[bytes]) -> None:
        if self.ended:
            self._verifier.found(Fault.MALFORMED, text="frames stand after the trailer")
            return
        match kind:
            case Kind.EVENT:
                self._verifier.take_events(bodies)
            case Kind.CHECKPOINT | Kind.BASE:
                self._take_checkpoint(kind, bodies[0])
            case Kind.ARCHIVE:
                self.archives += 1
            case Kind.TRAILER:
                self._take_trailer(bodies[0])
            case _:
                self._verifier.found(Fault.MALFORMED, text=f"a frame is of the unknown kind {kind}")

    def _take_checkpoint(self, kind: int, body: bytes) -> None:
        try:
            made = read_checkpoint(body)
        except ValueError as error:
            after = 0 if self._verifier.newest is None else self._verifier.newest.serial
            self._verifier.found(Fault.CHECKPOINT_FORGED, text=f"what stands after {after} is none: {error}")
            return
        if kind == Kind.BASE:
            self._verifier.take_base(made)
        else:
            self._verifier.take_checkpoint(made)

    def _take_trailer(self, body: bytes) -> None:
        self.ended = True
        try:
            signature, text = read_signed(body)
            trailer = read_trailer(text)
        except ValueError as error:
            self._verifier.found(Fault.TRAILER_FORGED, text=str(error))
            return
        if not self._verify(TRAILER_LABEL + text, signature):
            self._verifier.found(Fault.TRAILER_FORGED)
            return
        self._compare(trailer)

    def _compare(self, said: Trailer) -> None:
        seen = self._verifier
        first, last = seen.first, seen.newest if seen.first is not None else None
        for what, stated, found in (
            ("events", said.events, seen.events),
            ("checkpoints", said.checkpoints, seen.checkpoints),
            ("the first checkpoint", said.first_serial, 0 if first is None else first.serial),
            ("the first hash", said.first_hash, "" if first is None else first.hash.hex()),
            ("the last checkpoint", said.last_serial, 0 if last is None else last.serial),
            ("the last hash", said.last_hash, "" if last is None else last.hash.hex()),
        ):
            if stated != found:
                seen.found(Fault.TRAILER_WRONG, text=f"{what}: {stated} by the trailer, {found} in the file")
