r"""Audit events as values and as bytes, and the chain that they form (FORMATS, section 8).

canonical = "kms/v1/audit-event\0" || stream id (16) || sequence u64 || time i64 || fields (canonical.py), in the order of FIELDS
h(0)      = SHA-256("kms/v1/audit-stream\0" || installation id (16) || stream id (16))
h(n)      = SHA-256(h(n-1) || canonical bytes of event n), n from 1
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from operator import attrgetter
from typing import Any, Final, NewType
from uuid import UUID

from .canonical import EPOCH, INTEGER, OCTETS, SIZED, TEXT, Value, decode, encode, microseconds
from .names import INSTALLATION_UID, KeyUid, TenantUid

StreamUid = NewType("StreamUid", UUID)

NO_STREAM: Final = StreamUid(UUID(int=0))

LABEL: Final = b"kms/v1/audit-event\0"
STREAM_LABEL: Final = b"kms/v1/audit-stream\0"
_HEAD: Final = struct.Struct(">16sQq")
LONGEST_DETAILS: Final = 8_192  # bytes of each of context, details and changes
LONGEST_TEXT: Final = 1_024  # characters of every other text

# How long events are kept; docs/audit.md. Standard is the default of the field's rules: seven years.
STANDARD: Final = timedelta(days=2_557)


class Phase(StrEnum):
    """Which part of an act an event is."""

    INTENT = "intent"  # durable before a change begins
    OUTCOME = "outcome"  # durable before it is acknowledged
    ACT = "act"  # one event for the whole: a reading, a use of a key, a refusal, what the daemon notes of itself


class Category(StrEnum):
    """What kind of act it is."""

    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    DATA_ACCESS = "data_access"
    DATA_MODIFICATION = "data_modification"
    SYSTEM = "system"
    SECURITY = "security"
    ADMIN = "admin"


class Outcome(StrEnum):
    """How it ended."""

    UNKNOWN = ""  # an intent
    SUCCESS = "success"
    FAILURE = "failure"  # refused: the caller's fault or the rules'
    ERROR = "error"  # the daemon's fault, or that of what it needs
    PARTIAL = "partial"  # some items of a batch failed


class Sensitivity(StrEnum):
    """How sensitive the values in an event are."""

    NORMAL = "normal"
    SENSITIVE = "sensitive"
    HIGHLY_SENSITIVE = "highly_sensitive"


class Retention(StrEnum):
    """How long an event is kept."""

    STANDARD = "standard"
    EXTENDED = "extended"
    PERMANENT = "permanent"


@dataclass(slots=True, kw_only=True)
class AuditEvent:
    """One event. The writer gives it stream, sequence and time; whoever makes it never puts secrets or plaintext in.

    Texts are empty, and numbers 0, where something is not known or does not apply. Not frozen, since making a frozen one
    costs as much as its hash; nobody changes one that has been given to the writer.
    """

    # What happened.
    action: str  # "/kms.v1.KeyService/CreateKey", or of the daemon's own "rotation.scheduled"
    category: Category
    phase: Phase = Phase.ACT
    outcome: Outcome = Outcome.UNKNOWN
    code: str = ""  # of gRPC, "OK"
    error: str = ""  # the error's reason, "NOT_FOUND"
    error_message: str = ""
    severity: str = "info"  # of kms.core.events.Severity
    risk: int = 0  # hundredths
    # Who.
    tenant: TenantUid = INSTALLATION_UID
    principal: str = ""
    roles: str = ""  # at that time, with commas between them
    credential_kind: str = ""
    credential_id: str = ""
    address: str = ""
    user_agent: str = ""
    # Why, and what belongs together.
    request_id: str = ""
    correlation_id: str = ""
    approval: str = ""
    reason: str = ""
    intent_stream: StreamUid | None = None  # of the intent that an outcome settles
    intent_sequence: int = 0
    # Where.
    node: str = ""
    release: str = ""
    region: str = ""
    # On what.
    resource_type: str = ""
    resource: str = ""
    key: KeyUid | None = None
    key_version: int = 0
    context: str = ""  # canonical JSON; values as they are or hashed under a key, by policy
    context_digest: bytes = b""  # SHA-256 of the canonical context; of hashed ones under the same key as they
    classification: str = ""
    sensitivity: Sensitivity = Sensitivity.NORMAL
    # How much.
    items: int = 0
    failures: int = 0
    items_digest: bytes = b""  # SHA-256 over a batch's items
    bytes_in: int = 0
    bytes_out: int = 0
    duration_us: int = 0
    # More.
    details: str = ""  # canonical JSON
    changes: bytes = b""  # values before and after a change, encrypted
    retention: Retention = Retention.STANDARD
    kept_until: datetime | None = None  # None: for ever
    # Given by the writer.
    stream: StreamUid = NO_STREAM
    sequence: int = 0
    at: datetime = EPOCH


# The order in the canonical bytes; a later format has another label.
FIELDS: Final = tuple(field.name for field in fields(AuditEvent) if field.name not in {"stream", "sequence", "at"})
_KINDS: Final[dict[str, Any]] = {
    "category": Category,
    "phase": Phase,
    "outcome": Outcome,
    "sensitivity": Sensitivity,
    "retention": Retention,
}


# Parts of the canonical bytes that come again and again, with every use that one caller makes of one key, are encoded once.
# What is left is mostly empty. This makes the same bytes as encode() of all fields, in a third of the time.
_SHARED_RUNS: Final = (
    ("action", "category", "phase", "outcome", "code", "error", "error_message", "severity", "risk"),
    ("tenant", "principal", "roles", "credential_kind", "credential_id", "address", "user_agent"),
    ("node", "release", "region", "resource_type", "resource", "key", "key_version"),
    ("classification", "sensitivity"),
    ("retention", "kept_until"),
)
_SHARED: Final = attrgetter(*(f"{name}._value_" if name in _KINDS else name for run in _SHARED_RUNS for name in run))
_OWN: Final = attrgetter(
    *("request_id", "context", "context_digest", "items_digest"),
    *("items", "failures", "bytes_in", "bytes_out", "duration_us"),
)
_WHY: Final = attrgetter("correlation_id", "approval", "reason", "intent_stream", "intent_sequence")
_MORE: Final = attrgetter("details", "changes")
_NO_WHY: Final = ("", "", "", None, 0)
_NO_MORE: Final = ("", b"")
_NO_WHY_BYTES: Final = encode(_NO_WHY)
_NO_MORE_BYTES: Final = encode(_NO_MORE)
_COUNTS: Final = struct.Struct(">BqBqBI")
_SIZES: Final = struct.Struct(">BqBqBq")
MOST_SHARED: Final = 2_048
LONGEST_SHARED: Final = 2_048  # bytes of one, so that all of them together take 10 MB at most
_shared_parts: dict[tuple[Value, ...], tuple[bytes, ...]] = {}


def body_of(event: AuditEvent) -> bytes:
    """Return the part of an event's canonical bytes that is known before the writer has seen it.

    Raises:
        ValueError: an integer beyond 64 bits, a lone surrogate.
    """
    shared = _SHARED(event)
    what, who, where, sensitivity, kept = _shared_parts.get(shared) or _encoded(shared)
    request, context, digest, of_items, items, failures, bytes_in, bytes_out, took = _OWN(event)
    why, more = _WHY(event), _MORE(event)
    request, context = request.encode(), context.encode()
    try:
        return b"".join(
            (
                what,
                who,
                SIZED.pack(TEXT, len(request)),
                request,
                _NO_WHY_BYTES if why == _NO_WHY else encode(why),
                where,
                SIZED.pack(TEXT, len(context)),
                context,
                SIZED.pack(OCTETS, len(digest)),
                digest,
                sensitivity,
                _COUNTS.pack(INTEGER, items, INTEGER, failures, OCTETS, len(of_items)),
                of_items,
                _SIZES.pack(INTEGER, bytes_in, INTEGER, bytes_out, INTEGER, took),
                _NO_MORE_BYTES if more == _NO_MORE else encode(more),
                kept,
            )
        )
    except struct.error as error:
        raise ValueError("an integer beyond 64 bits") from error


def _encoded(shared: tuple[Value, ...]) -> tuple[bytes, ...]:
    if len(_shared_parts) >= MOST_SHARED:
        _shared_parts.clear()
    ends = accumulate(map(len, _SHARED_RUNS))
    made = tuple(encode(shared[end - len(run) : end]) for run, end in zip(_SHARED_RUNS, ends, strict=True))
    if sum(map(len, made)) <= LONGEST_SHARED:
        _shared_parts[shared] = made
    return made


def canonical(stream: StreamUid, sequence: int, at: datetime, body: bytes) -> bytes:
    """Return the canonical bytes of an event."""
    return LABEL + _HEAD.pack(stream.bytes, sequence, microseconds(at)) + body


def parse(data: bytes) -> AuditEvent:
    """Return the event that canonical bytes stand for.

    Raises:
        ValueError: they stand for none.
    """
    start = len(LABEL) + _HEAD.size
    if len(data) < start or not data.startswith(LABEL):
        raise ValueError("no audit event")
    stream, sequence, at = _HEAD.unpack_from(data, len(LABEL))
    values: list[Value] = decode(data[start:])
    if len(values) != len(FIELDS):
        raise ValueError("an audit event has other fields")
    named: dict[str, Any] = dict(zip(FIELDS, values, strict=True))
    for name, kind in _KINDS.items():
        named[name] = kind(named[name])
    try:
        moment = EPOCH + timedelta(microseconds=at)
    except OverflowError as error:
        raise ValueError("a time out of range") from error
    event = AuditEvent(**named, stream=StreamUid(UUID(bytes=stream)), sequence=sequence, at=moment)
    if body_of(event) != data[start:]:
        raise ValueError("an audit event that is not in canonical form")
    return event


def first_hash(installation: UUID, stream: StreamUid) -> bytes:
    """Return h(0) of a stream."""
    return hashlib.sha256(STREAM_LABEL + installation.bytes + stream.bytes).digest()


def next_hash(previous: bytes, event: bytes) -> bytes:
    """Return the hash of an event, given its canonical bytes and the hash before it."""
    return hashlib.sha256(previous + event).digest()
