"""Rows of the audit log, made from events without a detour: a call waits for them.

A row is a tuple in the order of COLUMNS. Its plain values, texts and numbers, are the event's own; the others are told
apart since each engine has its own form for them.
"""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import Any, Final, NamedTuple
from uuid import UUID

from kms.core.audit import FIELDS, AuditEvent, StreamUid

from .audit_tables import audit_log
from .types import Bytes, Int64, Words

# Bytes of an event's own part of its canonical form. All fields at their longest (kms.core.audit) would not have room;
# the event would be refused, never cut.
LONGEST_BODY: Final = 65_536

_NAMES: Final = {"tenant": "tenant_id", "key": "key_uid"}  # where a column is not called as its field
_ENUMERATIONS: Final = ("category", "phase", "outcome", "sensitivity", "retention")


def _fields_of(kind: object) -> tuple[str, ...]:
    return tuple(name for name in FIELDS if audit_log.c[_NAMES.get(name, name)].type is kind)


_WORDS: Final = _fields_of(Words)
_NUMBERS: Final = _fields_of(Int64)
_OCTETS: Final = _fields_of(Bytes)
_SPECIAL: Final = tuple(name for name in FIELDS if name not in {*_WORDS, *_NUMBERS, *_OCTETS})
# All of these are there, and nothing else: tests compare COLUMNS with the table.
WORDS: Final = len(_WORDS)
NUMBERS: Final = len(_NUMBERS)
OCTETS: Final = len(_OCTETS)

COLUMNS: Final = (
    *_WORDS,
    *_NUMBERS,
    *_OCTETS,
    *(_NAMES.get(name, name) for name in ("tenant", "key", "intent_stream", "kept_until")),
    *("stream_id", "sequence", "at", "canonical", "hash"),
)

# An enumeration's own text is found faster behind its value.
_PLAIN: Final = attrgetter(
    *(f"{name}._value_" if name in _ENUMERATIONS else name for name in (*_WORDS, *_NUMBERS, *_OCTETS))
)
_TEXTS: Final = attrgetter(*(name for name in _WORDS if name not in _ENUMERATIONS))


class Row(NamedTuple):
    """One row: the event's own values, and what the writer gives it."""

    plain: tuple[Any, ...]
    tenant: UUID
    key: UUID | None
    intent_stream: UUID | None
    kept_until: datetime | None
    stream: StreamUid
    sequence: int
    at: datetime
    canonical: bytes
    hash: bytes


def plain_values(event: AuditEvent) -> tuple[Any, ...]:
    """Return the texts, numbers and bytes of an event in the order of COLUMNS."""
    values: tuple[Any, ...] = _PLAIN(event)
    return values


def require_storable(event: AuditEvent, body: bytes) -> None:
    """Make sure that one event does not spoil the group that it is written with.

    Raises:
        ValueError: it is too long, or has a NUL in a text, which PostgreSQL cannot hold.
    """
    if len(body) > LONGEST_BODY:
        raise ValueError("an audit event that is too long")
    if "\0" in "".join(_TEXTS(event)):
        raise ValueError("an audit event with a NUL in a text")
