r"""Checkpoints of the audit trail as values and as bytes: one chain for the whole installation (FORMATS, section 8).

body      = fields (canonical.py): serial, hash of the checkpoint before, installation id, number of heads, of each head
            (ordered by stream) stream id, sequence and hash, digest of the roots, time, node, note
message   = "kms/v1/audit-checkpoint\0" || body; signed by ECDSA P-256 with SHA-256
hash      = SHA-256(message || length of the signature u16 || signature)
roots     = SHA-256 over all tenants, ordered by uid, of tenant uid (16) || epoch u64 || root (32)

The first checkpoint has serial 1 and 32 zero bytes for the one before. Heads are those of all streams that may go on, and
of those that have events since the checkpoint before. A note is canonical JSON; it is empty but in a checkpoint that goes on
after a gap which a quorum has accepted.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final
from uuid import UUID

from .audit import StreamUid
from .audit_ports import Position, TenantRoot
from .canonical import Value, decode, encode
from .receipts import json_text

LABEL: Final = b"kms/v1/audit-checkpoint\0"
NOTHING: Final = bytes(32)  # the hash before the first
MOST_HEADS: Final = 10_000
LONGEST_NOTE: Final = 8_192  # bytes

_ROOT: Final = struct.Struct(">16sQ32s")
_LENGTH: Final = struct.Struct(">H")
_BEFORE: Final = 4  # fields before the heads
_OF_HEAD: Final = 3
_AFTER: Final = 4


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one checkpoint says; 32 bytes of each hash."""

    serial: int
    previous: bytes
    installation: UUID
    heads: tuple[Position, ...]  # ordered by stream
    roots: bytes
    at: datetime
    node: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint, its bytes, and its signature: DER (RFC 3279, section 2.2.3)."""

    checkpoint: Checkpoint
    body: bytes
    signature: bytes

    @property
    def serial(self) -> int:
        """Its number, from 1."""
        return self.checkpoint.serial

    @property
    def hash(self) -> bytes:
        """What the next one and anchors name it by, 32 bytes."""
        return hash_of(self.body, self.signature)


@dataclass(frozen=True, slots=True)
class AcceptedGap:
    """What a quorum has accepted: that the installation goes on from what was found, behind what was anchored."""

    anchored_serial: int
    anchored_hash: str  # hex
    found_serial: int
    found_hash: str
    reason: str
    approvers: tuple[str, ...]


def body_of(checkpoint: Checkpoint) -> bytes:
    """Return the canonical bytes of a checkpoint.

    Raises:
        ValueError: heads out of order or too many of them, a hash of another length, a note that is too long.
    """
    heads = checkpoint.heads
    if len(heads) > MOST_HEADS or len(checkpoint.note.encode()) > LONGEST_NOTE or checkpoint.serial < 1:
        raise ValueError("a checkpoint beyond its bounds")
    if any(first.stream.bytes >= second.stream.bytes for first, second in pairwise(heads)):
        raise ValueError("the heads of a checkpoint are ordered by stream")
    if any(len(data) != 32 for data in (checkpoint.previous, checkpoint.roots, *(head.hash for head in heads))):
        raise ValueError("a hash has 32 bytes")
    values: list[Value] = [checkpoint.serial, checkpoint.previous, checkpoint.installation, len(heads)]
    for head in heads:
        values += (head.stream, head.sequence, head.hash)
    return encode([*values, checkpoint.roots, checkpoint.at, checkpoint.node, checkpoint.note])


def message_of(body: bytes) -> bytes:
    """Return what is signed."""
    return LABEL + body


def hash_of(body: bytes, signature: bytes) -> bytes:
    """Return a checkpoint's hash, 32 bytes."""
    return hashlib.sha256(LABEL + body + _LENGTH.pack(len(signature)) + signature).digest()


def parse(body: bytes) -> Checkpoint:
    """Return the checkpoint that canonical bytes stand for.

    Raises:
        ValueError: they stand for none.
    """
    values: list[Any] = decode(body)
    if len(values) < _BEFORE + _AFTER or (len(values) - _BEFORE - _AFTER) % _OF_HEAD:
        raise ValueError("a checkpoint has other fields")
    serial, previous, installation, count = values[:_BEFORE]
    flat = values[_BEFORE:-_AFTER]
    if not isinstance(count, int) or len(flat) != _OF_HEAD * count:
        raise ValueError("a checkpoint has other heads")
    kinds = [int, bytes, UUID, int, *(UUID, int, bytes) * count, bytes, datetime, str, str]
    if [type(value) for value in values] != kinds:
        raise ValueError("a checkpoint has fields of other types")
    heads = tuple(
        Position(StreamUid(flat[start]), flat[start + 1], flat[start + 2]) for start in range(0, len(flat), _OF_HEAD)
    )
    checkpoint = Checkpoint(serial, previous, installation, heads, *values[-_AFTER:])
    if body_of(checkpoint) != body:
        raise ValueError("a checkpoint that is not in canonical form")
    return checkpoint


def read(body: bytes, signature: bytes) -> SignedCheckpoint:
    """Put a checkpoint together from its bytes; the signature is not looked at.

    Raises:
        ValueError: the bytes stand for none.
    """
    return SignedCheckpoint(parse(body), body, signature)


def roots_digest(roots: Iterable[TenantRoot]) -> bytes:
    """Return the digest that stands in a checkpoint for the roots of all tenants, 32 bytes."""
    ordered = sorted(roots, key=lambda root: root.tenant.bytes)
    return hashlib.sha256(b"".join(_ROOT.pack(root.tenant.bytes, root.epoch, root.root) for root in ordered)).digest()


def note_of(gap: AcceptedGap) -> str:
    """Return the note that names an accepted gap."""
    return json_text(
        {
            "accepted": {
                "anchored_hash": gap.anchored_hash,
                "anchored_serial": gap.anchored_serial,
                "approvers": list(gap.approvers),
                "found_hash": gap.found_hash,
                "found_serial": gap.found_serial,
                "reason": gap.reason,
            }
        }
    )


def gap_in(note: str) -> AcceptedGap | None:
    """Return the accepted gap that a note names, if it names one.

    Raises:
        ValueError: the note makes no sense.
    """
    if not note:
        return None
    try:
        fields = json.loads(note)["accepted"]
        return AcceptedGap(**(fields | {"approvers": tuple(fields["approvers"])}))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError("the note of a checkpoint makes no sense") from error
