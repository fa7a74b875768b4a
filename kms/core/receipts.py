"""Receipts of destruction: what was destroyed, when, on what grounds, signed by a key in the token.

A receipt is a JSON object with sorted keys and no spaces; what is signed is RECEIPT_LABEL and its UTF-8 bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NewType
from uuid import UUID

from .names import KeyUid, TenantUid

ReceiptUid = NewType("ReceiptUid", UUID)

RECEIPT_LABEL: Final = b"kms/v1/destruction-receipt\0"

JsonValue = None | bool | int | str | list["JsonValue"] | Mapping[str, "JsonValue"]


@dataclass(frozen=True, slots=True)
class Receipt:
    """A signed receipt; *signature* is ECDSA P-256 with SHA-256, DER (RFC 3279, section 2.2.3)."""

    uid: ReceiptUid
    tenant: TenantUid
    subject: str  # the resource name of what was destroyed
    key: KeyUid | None  # None for a KEK version
    body: str
    signature: bytes
    created_at: datetime
    revision: int = 0


def body_of(fields: Mapping[str, JsonValue]) -> str:
    """Return the one text that stands for *fields*."""
    return json_text(fields)


def json_text(value: JsonValue) -> str:
    """Return the one text that stands for a JSON value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def signed_bytes(body: str) -> bytes:
    """Return what is signed."""
    return RECEIPT_LABEL + body.encode()


def moment(time: datetime) -> str:
    """Return a time as it stands in a receipt: RFC 3339, UTC, microseconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
