"""Audit events as sinks are told of them: the event's fields, and the hash under which the chain holds it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from .audit import FIELDS, AuditEvent, StreamUid, parse
from .canonical import EPOCH
from .names import INSTALLATION_UID
from .outbox import OutboxItem, OutboxUid, Topic
from .receipts import JsonValue, body_of, moment

# In a line they stand under these names, since "time" and "tenant_uid" are the item's own.
_OWN: Final = frozenset({"tenant"})


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One row of the trail, as far as the chain covers it: canonical bytes, and the hash that is stored beside them."""

    stream: StreamUid
    sequence: int
    canonical: bytes
    hash: bytes


def event_of(row: StoredEvent) -> AuditEvent:
    """Return the event of a row.

    Raises:
        ValueError: its bytes are no event, or one of another place.
    """
    event = parse(row.canonical)
    if (event.stream, event.sequence) != (row.stream, row.sequence):
        raise ValueError("the event of another row")
    return event


def fields_of(event: AuditEvent) -> dict[str, JsonValue]:
    """Return an event's fields as JSON has them: times in RFC 3339, bytes in hexadecimal digits, empty ones left out."""
    told: dict[str, JsonValue] = {}
    for name in FIELDS:
        value = getattr(event, name)
        if name in _OWN or value in (None, "", b"", 0):
            continue
        if isinstance(value, bytes):
            told[name] = value.hex()
        elif isinstance(value, datetime):
            told[name] = moment(value)
        elif isinstance(value, UUID):
            told[name] = str(value)
        else:
            told[name] = value
    return told


def item_of(row: StoredEvent) -> OutboxItem:
    """Return what sinks are told of a row; its position is its sequence, and its id is the same every time.

    A row that is no event any more is told as damaged: what comes after it has to go on leaving.
    """
    told: dict[str, JsonValue] = {
        "stream": str(row.stream),
        "sequence": row.sequence,
        "hash": row.hash.hex(),
        "sha256": hashlib.sha256(row.canonical).hexdigest(),
    }
    tenant, at = INSTALLATION_UID, EPOCH
    try:
        event = event_of(row)
    except (ValueError, TypeError):
        told["damaged"] = True
    else:
        tenant, at = event.tenant, event.at
        told["event"] = fields_of(event)
    uid = OutboxUid(uuid5(row.stream, str(row.sequence)))
    return OutboxItem(uid, tenant, Topic.AUDIT, body_of(told), at, row.sequence)
