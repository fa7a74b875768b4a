r"""Archives of the audit trail: what is signed of the file of one month, and how the months follow one another.

body     = canonical JSON: what the file holds, of each stream where it goes on from and how far it reaches, the SHA-256 of
           all bytes before the file's last frame, and the hash of the archive before
message  = "kms/v1/audit-archive\0" || body; signed by ECDSA P-256 with SHA-256;  hash = SHA-256(message)

The same events make the same file but for the signature: an archive that was lost before its month left the database is
made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from .audit import AuditEvent, Retention, StreamUid, first_hash, next_hash
from .audit_lines import StoredEvent, event_of
from .names import TenantUid
from .receipts import json_text, moment
from .retention import Month

LABEL: Final = b"kms/v1/audit-archive\0"
NO_ARCHIVE: Final = bytes(32)  # the hash before the first
FORMAT: Final = 1
MOST_STREAMS: Final = 20_000  # of one month: a start each two minutes


class ArchiveState(StrEnum):
    """How far an archive is."""

    EXPORTED = "exported"  # the file is on the disk
    VERIFIED = "verified"  # it has been read back, and is what was signed
    DETACHED = "detached"  # the month has left the database, or is leaving it
    DELETED = "deleted"  # the file is no longer kept; what was signed of it is


@dataclass(frozen=True, slots=True)
class StreamPart:
    """The part of a stream that lies in one month; 32 bytes of each hash."""

    stream: StreamUid
    first: int
    before: bytes  # the hash before the first
    last: int
    hash: bytes  # of the last

    @property
    def events(self) -> int:
        """How many events it has: sequences have no gaps."""
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class ArchiveBody:
    """What is signed of an archive."""

    serial: int  # from 1, without gaps
    previous: bytes  # hash of the archive before, 32 bytes
    installation: UUID
    month: Month
    events: int
    first_at: str  # RFC 3339, as in receipts
    last_at: str
    streams: tuple[StreamPart, ...]  # ordered by stream
    tenants: tuple[str, ...]  # uids of those who have events in it, ordered
    checkpoint_serial: int  # of the newest checkpoint up to which the archives hold all; 0 for none
    permanent: bool  # whether an event in it is kept for ever
    kept_until: str  # the latest time until which an event in it is to be kept; empty where the rule for all holds
    content_sha256: bytes
    content_size: int

    @property
    def text(self) -> str:
        """The one text that stands for it."""
        fields: dict[str, Any] = asdict(self)
        fields |= {
            "format": FORMAT,
            "previous": self.previous.hex(),
            "installation": str(self.installation),
            "month": str(self.month),
            "content_sha256": self.content_sha256.hex(),
            "tenants": list(self.tenants),
            "streams": [
                {
                    "stream": str(part.stream),
                    "first": part.first,
                    "before": part.before.hex(),
                    "last": part.last,
                    "hash": part.hash.hex(),
                }
                for part in self.streams
            ],
        }
        return json_text(fields)

    @classmethod
    def parse(cls, text: str) -> ArchiveBody:
        """Read a body.

        Raises:
            ValueError: the text stands for none.
        """
        try:
            fields = json.loads(text)
            fields.pop("format")  # another one would not be in canonical form
            body = cls(
                **fields
                | {
                    "previous": bytes.fromhex(fields["previous"]),
                    "installation": UUID(fields["installation"]),
                    "month": Month.parse(fields["month"]),
                    "content_sha256": bytes.fromhex(fields["content_sha256"]),
                    "tenants": tuple(fields["tenants"]),
                    "streams": tuple(
                        StreamPart(
                            StreamUid(UUID(part["stream"])),
                            part["first"],
                            bytes.fromhex(part["before"]),
                            part["last"],
                            bytes.fromhex(part["hash"]),
                        )
                        for part in fields["streams"]
                    ),
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError("the body of an archive makes no sense") from error
        if body.text != text:
            raise ValueError("the body of an archive is not in canonical form")
        return body

    @property
    def hash(self) -> bytes:
        """What the next archive names it by, 32 bytes."""
        return hashlib.sha256(message_of(self.text)).digest()


@dataclass(frozen=True, slots=True)
class AuditArchive:
    """The record of an archive."""

    tenant: TenantUid  # the installation's, always
    month: Month
    body: str
    signature: bytes  # DER (RFC 3279, section 2.2.3)
    state: ArchiveState
    file_name: str
    file_sha256: bytes
    file_size: int
    created_at: datetime
    verified_at: datetime | None = None
    detached_at: datetime | None = None
    deleted_at: datetime | None = None
    deleted_by: str = ""
    revision: int = 0

    @property
    def content(self) -> ArchiveBody:
        """What is signed.

        Raises:
            ValueError: it makes no sense.
        """
        return ArchiveBody.parse(self.body)


def message_of(body: str) -> bytes:
    """Return what is signed of an archive."""
    return LABEL + body.encode()


class Sum:
    """What a body says of the events in a file, summed up event by event; the chain is verified on the way."""

    def __init__(self, installation: UUID, month: Month) -> None:
        self.events = 0
        self._installation = installation
        self._month = month
        self._parts: list[StreamPart] = []
        self._tenants: set[str] = set()
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._permanent = False
        self._kept_until: datetime | None = None

    def begin(self, stream: StreamUid, first: int, before: bytes | None) -> None:
        """Begin a stream with an event of that sequence; *before* is the hash before it, None at the stream's beginning.

        Raises:
            ValueError: streams come out of order, or a stream begins in its middle.
        """
        if self._parts and self._parts[-1].stream.bytes >= stream.bytes:
            raise ValueError(f"stream {stream}: out of order")
        if before is None:
            if first != 1:
                raise ValueError(f"stream {stream}: events before number {first} are missing")
            before = first_hash(self._installation, stream)
        if len(self._parts) >= MOST_STREAMS:
            raise ValueError(f"more than {MOST_STREAMS} streams in a month")
        self._parts.append(StreamPart(stream, first, before, first - 1, before))

    def add(self, canonical: bytes) -> tuple[StreamUid, int, bytes]:
        """Take the next event of the stream that was begun; returns stream, sequence and hash.

        Raises:
            ValueError: it is no event, not the next one, or not of this month.
        """
        part = self._parts[-1]
        event = event_of(StoredEvent(part.stream, part.last + 1, canonical, b""))
        if Month.of(event.at) != self._month:
            raise ValueError(f"stream {part.stream}: event {event.sequence} is not of {self._month}")
        digest = next_hash(part.hash, canonical)
        self._parts[-1] = replace(part, last=event.sequence, hash=digest)
        self._note(event)
        return part.stream, event.sequence, digest

    def _note(self, event: AuditEvent) -> None:
        self.events += 1
        self._tenants.add(str(event.tenant))
        self._first = event.at if self._first is None else min(self._first, event.at)
        self._last = event.at if self._last is None else max(self._last, event.at)
        until = event.kept_until
        if until is not None:
            self._kept_until = until if self._kept_until is None else max(self._kept_until, until)
        if event.retention is Retention.PERMANENT or (until is None and event.retention is not Retention.STANDARD):
            self._permanent = True

    @property
    def at(self) -> StreamPart:
        """The stream that was begun last, as far as it has come."""
        return self._parts[-1]

    def body(
        self, *, serial: int, previous: bytes, checkpoint_serial: int, content_sha256: bytes, content_size: int
    ) -> ArchiveBody:
        """Return what is to be signed."""
        return ArchiveBody(
            serial=serial,
            previous=previous,
            installation=self._installation,
            month=self._month,
            events=self.events,
            first_at="" if self._first is None else moment(self._first),
            last_at="" if self._last is None else moment(self._last),
            streams=tuple(part for part in self._parts if part.events),
            tenants=tuple(sorted(self._tenants)),
            checkpoint_serial=checkpoint_serial,
            permanent=self._permanent,
            kept_until="" if self._kept_until is None else moment(self._kept_until),
            content_sha256=content_sha256,
            content_size=content_size,
        )


@dataclass(frozen=True, slots=True)
class Reached:
    """How far archives reach into a stream."""

    sequence: int
    hash: bytes


def reached_by(archives: Iterable[ArchiveBody]) -> Mapping[StreamUid, Reached]:
    """Return how far archives, in their order, reach into each stream.

    Raises:
        ValueError: an archive is missing, or does not go on where the one before ended.
    """
    reached: dict[StreamUid, Reached] = {}
    previous = NO_ARCHIVE
    for serial, body in enumerate(archives, 1):
        if body.serial != serial or body.previous != previous:
            raise ValueError(f"archive {body.month} does not follow the one before")
        for part in body.streams:
            known = reached.get(part.stream)
            begins = (
                (1, first_hash(body.installation, part.stream)) if known is None else (known.sequence + 1, known.hash)
            )
            if (part.first, part.before) != begins:
                raise ValueError(f"archive {body.month}: stream {part.stream} does not go on where it ended before")
            reached[part.stream] = Reached(part.last, part.hash)
        previous = body.hash
    return reached
