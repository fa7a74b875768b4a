"""What others are told of: items in one order, which each sink goes through at its own pace."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NewType
from uuid import UUID

from .names import TenantUid
from .receipts import body_of, moment

OutboxUid = NewType("OutboxUid", UUID)

# A sink that is away for longer misses what is older.
KEPT: Final = timedelta(days=30)


class Topic(StrEnum):
    """What an item is about."""

    SECURITY_EVENTS = "security_events"
    APPROVALS = "approvals"
    AUDIT = "audit"  # read from the audit trail itself, not from the outbox


# What is put into the outbox by the transaction that makes it so.
PUT: Final = frozenset(Topic) - {Topic.AUDIT}


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One item; *body* is a JSON object. Its position is given when it is stored: the order of positions is that of commits."""

    uid: OutboxUid
    tenant: TenantUid
    topic: Topic
    body: str
    created_at: datetime
    position: int = 0


def line_of(item: OutboxItem) -> bytes:
    """Return an item as sinks write it: one JSON object, without the end of its line."""
    head = body_of(
        {
            "id": str(item.uid),
            "position": item.position,
            "tenant_uid": str(item.tenant),
            "time": moment(item.created_at),
            "topic": item.topic.value,
        }
    )
    return f'{head[:-1]},"body":{item.body}}}'.encode()
