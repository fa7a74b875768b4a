r"""The form of an exported audit trail: what `kms audit verify` reads.

file    = "kms/v1/audit-export\0" || frames;  frame = kind u8 || length u32 || body
header      (1)  JSON: format 1, installation, whether the trail is whole from its beginning; the first frame
event       (2)  hash of the event (32) || its canonical bytes
checkpoint  (3)  length of the signature u16 || signature || body (checkpoints.py)
base        (4)  as a checkpoint: the one before the first event, from which a part of a trail goes on; second, if at all
archive     (5)  JSON: events that stand in an archive instead, for people; nothing is verified by it
trailer     (6)  length of the signature u16 || signature || JSON; the last frame. The token signs TRAILER_LABEL || JSON

Order: a checkpoint stands after every event that it covers and that no checkpoint before it covers, and before all others;
events of one stream stand in their order. So whoever verifies keeps no more than the end of each stream.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol
from uuid import UUID

from .checkpoints import SignedCheckpoint, read
from .receipts import JsonValue, json_text

MAGIC: Final = b"kms/v1/audit-export\0"
TRAILER_LABEL: Final = b"kms/v1/audit-export-trailer\0"
FORMAT: Final = 1
LONGEST_FRAME: Final = 4 << 20  # bytes of a body
CHUNK: Final = 1 << 20  # bytes that are read at once
HASH: Final = 32  # bytes
_FRAME: Final = struct.Struct(">BI")
_LENGTH: Final = struct.Struct(">H")


class Kind(IntEnum):
    """What a frame holds."""

    HEADER = 1
    EVENT = 2
    CHECKPOINT = 3
    BASE = 4
    ARCHIVE = 5
    TRAILER = 6


class NoExport(Exception):
    """The bytes are no exported trail, or cut off; the message says where."""


class Readable(Protocol):
    """An open file."""

    def read(self, size: int, /) -> bytes:
        """Return at most *size* bytes, none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Trailer:
    """What the exporter says of the whole file."""

    events: int
    checkpoints: int
    first_serial: int
    first_hash: str  # hex; empty where there is no checkpoint
    last_serial: int
    last_hash: str
    time: str


def frame(kind: Kind, body: bytes) -> bytes:
    """Return one frame.

    Raises:
        ValueError: the body is too long.
    """
    if len(body) > LONGEST_FRAME:
        raise ValueError("a frame of an exported trail is too long")
    return _FRAME.pack(kind, len(body)) + body


def beginning(installation: UUID, *, whole: bool) -> bytes:
    """Return how a file begins; *whole* says that the first event is that of the installation."""
    fields: Mapping[str, JsonValue] = {"format": FORMAT, "installation": str(installation), "whole": whole}
    return MAGIC + frame(Kind.HEADER, json_text(fields).encode())


def event_frame(digest: bytes, canonical: bytes) -> bytes:
    """Return the frame of an event, given its hash as it is stored (32 bytes)."""
    return frame(Kind.EVENT, digest + canonical)


def checkpoint_frame(made: SignedCheckpoint, *, base: bool = False) -> bytes:
    """Return the frame of a checkpoint."""
    body = _LENGTH.pack(len(made.signature)) + made.signature + made.body
    return frame(Kind.BASE if base else Kind.CHECKPOINT, body)


def archive_frame(fields: Mapping[str, JsonValue]) -> bytes:
    """Return the frame that names an archive."""
    return frame(Kind.ARCHIVE, json_text(fields).encode())


def trailer_text(trailer: Trailer) -> bytes:
    """Return the JSON of a trailer; TRAILER_LABEL and it are signed."""
    return json_text(
        {
            "checkpoints": trailer.checkpoints,
            "events": trailer.events,
            "first": {"hash": trailer.first_hash, "serial": trailer.first_serial},
            "last": {"hash": trailer.last_hash, "serial": trailer.last_serial},
            "time": trailer.time,
        }
    ).encode()


def trailer_frame(text: bytes, signature: bytes) -> bytes:
    """Return the last frame."""
    return frame(Kind.TRAILER, _LENGTH.pack(len(signature)) + signature + text)


def read_header(body: bytes) -> tuple[UUID, bool]:
    """Return the installation, and whether the trail is whole.

    Raises:
        NoExport: it is no header of this format.
    """
    try:
        fields: Any = json.loads(body)
        if fields["format"] != FORMAT or not isinstance(fields["whole"], bool):
            raise NoExport("the file is of another format")
        return UUID(fields["installation"]), fields["whole"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoExport("the header makes no sense") from error


def read_signed(body: bytes) -> tuple[bytes, bytes]:
    """Return signature and the rest of a checkpoint's or trailer's body.

    Raises:
        ValueError: it is cut off.
    """
    if len(body) < _LENGTH.size:
        raise ValueError("cut off")
    (length,) = _LENGTH.unpack_from(body)
    if len(body) < _LENGTH.size + length:
        raise ValueError("cut off")
    return body[_LENGTH.size : _LENGTH.size + length], body[_LENGTH.size + length :]


def read_checkpoint(body: bytes) -> SignedCheckpoint:
    """Return the checkpoint of a frame; its signature is not looked at.

    Raises:
        ValueError: it is none.
    """
    signature, rest = read_signed(body)
    return read(rest, signature)


def read_trailer(text: bytes) -> Trailer:
    """Return what a trailer says.

    Raises:
        ValueError: it makes no sense.
    """
    try:
        fields: Any = json.loads(text)
        first, last = fields["first"], fields["last"]
        found = Trailer(
            *(fields["events"], fields["checkpoints"], first["serial"], first["hash"], last["serial"], last["hash"]),
            fields["time"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError("a trailer makes no sense") from error
    if trailer_text(found) != text:
        raise ValueError("a trailer that is not in canonical form")
    return found


def batches(file: Readable) -> Iterator[tuple[int, list[bytes], int]]:
    """Yield the frames of a file in their order: kind, bodies of that many frames in a row, and bytes read so far.

    Events come in long rows, everything else one by one.

    Raises:
        NoExport: no exported trail, or a frame that is cut off.
        OSError: the file cannot be read.
    """
    data = file.read(CHUNK)
    if not data.startswith(MAGIC):
        raise NoExport("the file is no exported audit trail")
    position, done = len(MAGIC), 0
    while True:
        runs, position = _cut(data, position)
        for kind, bodies, end in runs:
            yield kind, bodies, done + end
        if position + _FRAME.size <= len(data) and _FRAME.unpack_from(data, position)[1] > LONGEST_FRAME:
            raise NoExport(f"the frame at byte {done + position} is too long")
        more = file.read(CHUNK)
        if not more:
            break
        done += position
        data, position = data[position:] + more, 0
    if position != len(data):
        raise NoExport(f"the file is cut off in the frame at byte {done + position}")


def _cut(data: bytes, position: int) -> tuple[list[tuple[int, list[bytes], int]], int]:
    """Cut whole frames out of bytes from a position on; returns them, and where the first one begins that is not whole."""
    runs: list[tuple[int, list[bytes], int]] = []
    head, unpack, event, end = _FRAME.size, _FRAME.unpack_from, int(Kind.EVENT), len(data)
    events: list[bytes] = []
    while position + head <= end:
        kind, length = unpack(data, position)
        begin = position + head
        if begin + length > end:
            break
        if kind == event:
            events.append(data[begin : begin + length])
        else:
            if events:
                runs.append((event, events, position))
                events = []
            runs.append((kind, [data[begin : begin + length]], begin + length))
        position = begin + length
    if events:
        runs.append((event, events, position))
    return runs, position
