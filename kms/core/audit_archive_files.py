r"""The file of one month of the audit trail, as bytes: written event by event, and read back piece by piece.

file   = MAGIC || frames; frame = kind u8 || length u32 || payload
frames : HEADER (canonical JSON), CHECKPOINT* in the order of their serials (body length u32 || body || signature), of each
         stream STREAM (stream 16 || first sequence u64 || hash before it 32) and EVENT* (canonical bytes, FORMATS section
         8), BOUNDARY (body length u32 || body || signature; audit_archives.py has the body)
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final
from uuid import UUID

from .audit import StreamUid
from .audit_archives import FORMAT, ArchiveBody, Sum, message_of
from .checkpoints import SignedCheckpoint
from .checkpoints import message_of as checkpoint_message
from .checkpoints import read as read_checkpoint
from .receipts import JsonValue, json_text
from .retention import Month

MAGIC: Final = b"kms/v1/audit-archive-file\0"
LONGEST_FRAME: Final = 16 << 20  # bytes

_FRAME: Final = struct.Struct(">BI")
_LENGTH: Final = struct.Struct(">I")
_STREAM: Final = struct.Struct(">16sQ32s")

Verify = Callable[[bytes, bytes], bool]  # whether a signature (DER) of a message is the token's


class Frame(IntEnum):
    """What a frame holds."""

    HEADER = 1
    CHECKPOINT = 2
    EVENT = 3
    BOUNDARY = 4
    STREAM = 5


def _framed(kind: Frame, payload: bytes) -> bytes:
    if len(payload) > LONGEST_FRAME:
        raise ValueError("a frame beyond its bound")
    return _FRAME.pack(kind, len(payload)) + payload


def _pair(body: bytes, signature: bytes) -> bytes:
    return _LENGTH.pack(len(body)) + body + signature


def _split(payload: bytes) -> tuple[bytes, bytes]:
    if len(payload) < _LENGTH.size or len(payload) < _LENGTH.size + _LENGTH.unpack_from(payload)[0]:
        raise ValueError("a signed frame is cut off")
    end = _LENGTH.size + _LENGTH.unpack_from(payload)[0]
    return payload[_LENGTH.size : end], payload[end:]


def _header(installation: UUID, month: Month) -> bytes:
    fields: dict[str, JsonValue] = {"format": FORMAT, "installation": str(installation), "month": str(month)}
    return json_text(fields).encode()


def _month_of(header: bytes) -> Month:
    try:
        return Month.parse(json.loads(header)["month"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError("the header makes no sense") from error


class ArchiveFile:
    """Makes the bytes of a file in their order: begin(), checkpoint()*, then stream() and event()* again and again, end()."""

    def __init__(self, installation: UUID, month: Month) -> None:
        self._sum = Sum(installation, month)
        self._head = MAGIC + _framed(Frame.HEADER, _header(installation, month))
        self._digest = hashlib.sha256()
        self._size = 0
        self._checkpoint = 0

    @property
    def events(self) -> int:
        """How many events it has so far."""
        return self._sum.events

    def begin(self) -> bytes:
        """Return the first bytes."""
        return self._counted(self._head)

    def checkpoint(self, checkpoint: SignedCheckpoint) -> bytes:
        """Return the bytes of the next checkpoint."""
        self._checkpoint = checkpoint.serial
        return self._counted(_framed(Frame.CHECKPOINT, _pair(checkpoint.body, checkpoint.signature)))

    def stream(self, stream: StreamUid, first: int, before: bytes | None) -> bytes:
        """Return the bytes that begin a stream; *before* is the hash before its first event, None at its beginning.

        Raises:
            ValueError: as Sum.begin().
        """
        self._sum.begin(stream, first, before)
        return self._counted(_framed(Frame.STREAM, _STREAM.pack(stream.bytes, first, self._sum.at.before)))

    def event(self, canonical: bytes, stored: bytes) -> bytes:
        """Return the bytes of the stream's next event, whose hash is *stored*.

        Raises:
            ValueError: as Sum.add(); or the hash is another.
        """
        stream, sequence, digest = self._sum.add(canonical)
        if digest != stored:
            raise ValueError(f"stream {stream}: event {sequence} is not what its hash says")
        return self._counted(_framed(Frame.EVENT, canonical))

    def body(self, serial: int, previous: bytes, checkpoint_serial: int) -> ArchiveBody:
        """Return what is to be signed; *checkpoint_serial* is that of the archive before, for a file without checkpoints."""
        return self._sum.body(
            serial=serial,
            previous=previous,
            checkpoint_serial=self._checkpoint or checkpoint_serial,
            content_sha256=self._digest.digest(),
            content_size=self._size,
        )

    @staticmethod
    def end(body: str, signature: bytes) -> bytes:
        """Return the last bytes."""
        return _framed(Frame.BOUNDARY, _pair(body.encode(), signature))

    def _counted(self, data: bytes) -> bytes:
        self._digest.update(data)
        self._size += len(data)
        return data


class ArchiveCheck:
    """Verifies a file that is fed to it in pieces of any size, with nothing but the public key and the installation's id."""

    def __init__(self, installation: UUID, verify: Verify) -> None:
        self._installation = installation
        self._verify = verify
        self._rest = b""
        self._begun = False
        self._sum: Sum | None = None
        self._content = hashlib.sha256()
        self._content_size = 0
        self._whole = hashlib.sha256()
        self._size = 0
        self._heads: dict[tuple[StreamUid, int], bytes] = {}
        self._newest: SignedCheckpoint | None = None
        self._streams = False  # whether the first stream has begun
        self._found: tuple[ArchiveBody, bytes] | None = None

    @property
    def sha256(self) -> bytes:
        """The hash of all that was fed, 32 bytes."""
        return self._whole.digest()

    @property
    def size(self) -> int:
        """How many bytes were fed."""
        return self._size

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            ValueError: the file is not what was signed; the message says what is wrong.
        """
        self._whole.update(data)
        self._size += len(data)
        rest = self._rest + data
        position = 0
        if not self._begun:
            if len(rest) < len(MAGIC):
                self._rest = rest
                return
            if not rest.startswith(MAGIC):
                raise ValueError("no archive of the audit trail")
            self._begun, position = True, len(MAGIC)
            self._count(rest[:position])
        while len(rest) - position >= _FRAME.size:
            kind, length = _FRAME.unpack_from(rest, position)
            if length > LONGEST_FRAME:
                raise ValueError("a frame beyond its bound")
            end = position + _FRAME.size + length
            if end > len(rest):
                break
            self._take(kind, rest[position : position + _FRAME.size], rest[position + _FRAME.size : end])
            position = end
        self._rest = rest[position:]

    def finish(self) -> tuple[ArchiveBody, bytes]:
        """Return what is signed and its signature, after the last bytes.

        Raises:
            ValueError: as feed(); or the file is cut off.
        """
        if self._rest or self._found is None:
            raise ValueError("the file is cut off")
        return self._found

    def _take(self, kind: int, head: bytes, payload: bytes) -> None:
        if self._found is not None:
            raise ValueError("bytes after the boundary")
        if kind == Frame.BOUNDARY:
            self._boundary(payload)
            return
        self._count(head + payload)
        if kind == Frame.HEADER:
            self._header(payload)
        elif self._sum is None:
            raise ValueError("the header is missing")
        elif kind == Frame.CHECKPOINT:
            self._checkpoint(payload)
        elif kind == Frame.STREAM:
            self._stream(self._sum, payload)
        elif kind == Frame.EVENT and self._streams:
            self._event(self._sum, payload)
        else:
            raise ValueError("a frame of an unknown kind, or in a wrong place")

    def _header(self, payload: bytes) -> None:
        if self._sum is not None:
            raise ValueError("a second header")
        month = _month_of(payload)
        if payload != _header(self._installation, month):
            raise ValueError("the archive of another installation, or of another format")
        self._sum = Sum(self._installation, month)

    def _checkpoint(self, payload: bytes) -> None:
        body, signature = _split(payload)
        checkpoint = read_checkpoint(body, signature)
        newest = self._newest
        if self._streams or (newest is not None and checkpoint.checkpoint.previous != newest.hash):
            raise ValueError(f"checkpoint {checkpoint.serial} does not follow the one before")
        if checkpoint.checkpoint.installation != self._installation or not self._verify(
            checkpoint_message(body), signature
        ):
            raise ValueError(f"checkpoint {checkpoint.serial} is forged")
        self._newest = checkpoint
        self._heads.update({(head.stream, head.sequence): head.hash for head in checkpoint.checkpoint.heads})

    def _stream(self, total: Sum, payload: bytes) -> None:
        if len(payload) != _STREAM.size:
            raise ValueError("a stream's frame of another length")
        stream, first, before = _STREAM.unpack(payload)
        uid = StreamUid(UUID(bytes=stream))
        total.begin(uid, first, None if first == 1 else before)
        if total.at.before != before:
            raise ValueError(f"stream {uid} does not begin as it should")
        self._streams = True

    def _event(self, total: Sum, payload: bytes) -> None:
        stream, sequence, digest = total.add(payload)
        if self._heads.get((stream, sequence), digest) != digest:
            raise ValueError(f"stream {stream}: event {sequence} is not what a checkpoint says")

    def _boundary(self, payload: bytes) -> None:
        if self._sum is None:
            raise ValueError("the header is missing")
        text, signature = _split(payload)
        if not self._verify(message_of(text.decode()), signature):
            raise ValueError("the boundary is forged")
        signed = ArchiveBody.parse(text.decode())
        found = self._sum.body(
            serial=signed.serial,
            previous=signed.previous,
            checkpoint_serial=signed.checkpoint_serial if self._newest is None else self._newest.serial,
            content_sha256=self._content.digest(),
            content_size=self._content_size,
        )
        if found != signed:
            raise ValueError("the file does not hold what was signed")
        self._found = signed, signature

    def _count(self, data: bytes) -> None:
        self._content.update(data)
        self._content_size += len(data)
