r"""Anchors as bytes, which of many counts, and what one says of a database at the start (FORMATS, section 8).

value = fields || HMAC-SHA-256(key, fields), 32 bytes;  fields = "kms/v1/anchor\0" || canonical.py of installation id, serial,
hash, node. The key is derived in the token from the installation id that stands in the value itself.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from .audit_ports import Anchor
from .canonical import decode, encode
from .checkpoints import NOTHING, SignedCheckpoint, gap_in, message_of
from .errors import CorruptRecord

LABEL: Final = b"kms/v1/anchor\0"
LONGEST_VALUE: Final = 1_024  # bytes
SLOTS: Final = 2  # of each node, written in turn
_MAC: Final = 32  # bytes


@dataclass(frozen=True, slots=True)
class NodeAnchor:
    """An anchor, and which node has written it."""

    anchor: Anchor
    node: str


def first_anchor(installation: UUID) -> Anchor:
    """Return the anchor of an installation whose records are being sealed for the first time."""
    return Anchor(installation, 0, NOTHING)


def node_digest(node: str) -> str:
    """Return what a node's anchors are found by, 32 hexadecimal digits."""
    return hashlib.sha256(node.encode()).hexdigest()[:32]


def value_of(entry: NodeAnchor, key: bytes) -> bytes:
    """Return the bytes that stand for an anchor, under the installation's key for anchors."""
    anchor = entry.anchor
    fields = LABEL + encode([anchor.installation, anchor.serial, anchor.hash, entry.node])
    return fields + hmac.digest(key, fields, "sha256")


def claimed_installation(value: bytes) -> UUID:
    """Return the installation that a value claims to be of, before its MAC can be verified.

    Raises:
        ValueError: it is no value of an anchor.
    """
    return _fields(value)[0].installation


def open_value(value: bytes, key: bytes) -> NodeAnchor:
    """Return the anchor that a value stands for.

    Raises:
        ValueError: it is none, or its MAC is wrong.
    """
    anchor, node = _fields(value)
    if not hmac.compare_digest(hmac.digest(key, value[:-_MAC], "sha256"), value[-_MAC:]):
        raise ValueError("the MAC of an anchor is wrong")
    return NodeAnchor(anchor, node)


def _fields(value: bytes) -> tuple[Anchor, str]:
    if len(value) > LONGEST_VALUE or not value.startswith(LABEL) or len(value) < len(LABEL) + _MAC:
        raise ValueError("no anchor")
    fields: list[Any] = decode(value[len(LABEL) : -_MAC])
    if [type(field) for field in fields] != [UUID, int, bytes, str] or fields[1] < 0 or len(fields[2]) != 32:
        raise ValueError("no anchor")
    return Anchor(*fields[:3]), fields[3]


def newest_of(anchors: Iterable[Anchor]) -> Anchor | None:
    """Return the newest of anchors that have been verified; None where there is none.

    Raises:
        CorruptRecord: they are of several installations, or of two different checkpoints with one serial.
    """
    newest: Anchor | None = None
    for anchor in anchors:
        if newest is not None and anchor.installation != newest.installation:
            raise CorruptRecord("there are anchors of several installations")
        if newest is not None and anchor.serial == newest.serial and anchor.hash != newest.hash:
            raise CorruptRecord(f"there are anchors of two different checkpoints with the serial {anchor.serial}")
        if newest is None or anchor.serial > newest.serial:
            newest = anchor
    return newest


class Standing(StrEnum):
    """How a database stands to the newest anchor."""

    ADOPTING = "adopting"  # its records are being sealed for the first time
    EQUAL = "equal"
    AHEAD = "ahead"  # a crash between a checkpoint and its anchor: what is new has to be verified, and is anchored
    BEHIND = "behind"  # an older state of the database
    FOREIGN = "foreign"  # another installation's
    FORKED = "forked"  # it holds another checkpoint where the anchored one should be
    FORGED = "forged"  # a checkpoint that the token has not signed


REFUSED: Final = frozenset({Standing.BEHIND, Standing.FOREIGN, Standing.FORKED, Standing.FORGED})

Verify = Callable[[bytes, bytes], bool]  # whether a message has this signature of the token's


def standing(
    anchor: Anchor, found: SignedCheckpoint | None, between: Iterable[SignedCheckpoint], verify: Verify
) -> Standing:
    """Say how a database stands to the newest anchor.

    *found* is its newest checkpoint; *between* are its checkpoints from the anchored one to the newest, in order, which
    are looked at where it is ahead.
    """
    if found is None:
        return Standing.BEHIND if anchor.serial else Standing.ADOPTING
    if found.checkpoint.installation != anchor.installation:
        return Standing.FOREIGN
    if not is_genuine(found, verify):
        return Standing.FORGED
    if found.serial < anchor.serial:
        return Standing.BEHIND
    if found.serial == anchor.serial:
        return Standing.EQUAL if found.hash == anchor.hash else Standing.FORKED
    return _ahead(anchor, found, between, verify)


def is_genuine(found: SignedCheckpoint, verify: Verify) -> bool:
    """Whether the token has signed a checkpoint."""
    return verify(message_of(found.body), found.signature)


def _ahead(anchor: Anchor, found: SignedCheckpoint, between: Iterable[SignedCheckpoint], verify: Verify) -> Standing:
    serial, previous = anchor.serial, anchor.hash
    began = anchor.serial == 0  # before the first checkpoint there is none to compare with
    for each in between:
        if each.checkpoint.installation != anchor.installation:
            return Standing.FOREIGN
        if not is_genuine(each, verify):
            return Standing.FORGED
        if began:
            fits = (each.serial, each.checkpoint.previous) == (serial + 1, previous)
        else:
            # Where a quorum has accepted a gap and the daemon died before it was anchored, the anchored one is not there.
            fits = (each.serial, each.hash) == (serial, previous) or _accepts(each, anchor)
            began = True
        if not fits:
            return Standing.FORKED
        serial, previous = each.serial, each.hash
    return Standing.AHEAD if (serial, previous) == (found.serial, found.hash) else Standing.FORKED


def _accepts(found: SignedCheckpoint, anchor: Anchor) -> bool:
    """Whether a genuine checkpoint names the gap behind this anchor as one that was accepted."""
    try:
        gap = gap_in(found.checkpoint.note)
    except ValueError:
        return False
    after = found.serial == anchor.serial + 1
    return gap is not None and after and (gap.anchored_serial, gap.anchored_hash) == (anchor.serial, anchor.hash.hex())
