"""How the audit trail tells the context of values, and which values they were, without telling either.

Contexts: canonical JSON of the caller's pairs, values as they are or as `h:` and 32 hexadecimal digits of
HMAC-SHA-256(key, tenant uid (16) || len(pair key) u32 || pair key || value).
Items: SHA-256(count u32 || length u32 of each || all items).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from .audit import LONGEST_DETAILS
from .context import TENANT_KEY, Pair
from .names import TenantUid
from .policy import AuditContext

HASHED_PREFIX: Final = "h:"
HASHED_DIGITS: Final = 32
# Made once: json.dumps() with settings of its own makes one each time, which takes as long as all the rest.
_encoder: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
_U32: Final = struct.Struct(">I").pack
_ONE: Final = struct.Struct(">II").pack


def hashed_value(key: bytes, tenant: TenantUid, name: str, value: bytes) -> str:
    """Return what stands for the value of one pair; equal values of equal pairs of a tenant look equal."""
    return _hashed(key, tenant.int, name, value)


@lru_cache(maxsize=4096)  # tables and columns come again and again
def _hashed(key: bytes, tenant: int, name: str, value: bytes) -> str:
    raw = name.encode()
    digest = hmac.digest(key, tenant.to_bytes(16) + _U32(len(raw)) + raw + value, "sha256")
    return HASHED_PREFIX + digest.hex()[:HASHED_DIGITS]


def shown_context(key: bytes, tenant: TenantUid, pairs: Iterable[Pair], how: AuditContext) -> str:
    """Return a context as the trail has it, empty where it has none; what is too long in the plain is hashed."""
    if how is AuditContext.NONE:
        return ""
    own = [(name, value) for name, value in pairs if name != TENANT_KEY]
    if how is AuditContext.PLAIN:
        shown = canonical_json({name: value.decode() for name, value in own})
        if len(shown) <= LONGEST_DETAILS:
            return shown
    # The same as canonical_json() of them, since nothing in them needs an escape: for every use of a key.
    number = tenant.int  # is hashed by itself in a tenth of the time that a UUID takes
    return "{" + ",".join([f'"{name}":"{_hashed(key, number, name, value)}"' for name, value in sorted(own)]) + "}"


def canonical_json(value: object) -> str:
    """Return the one JSON text of a value: keys sorted, no spaces, ASCII alone."""
    return _encoder.encode(value)


def items_digest(items: Sequence[bytes]) -> bytes:
    """Return the SHA-256 over items in their order, 32 bytes; empty for none."""
    if not items:
        return b""
    if len(items) == 1:
        return hashlib.sha256(_ONE(1, len(items[0])) + items[0]).digest()
    # All lengths first: one call packs them, where a length before each item would take longer than the hash itself.
    lengths = struct.pack(f">{len(items) + 1}I", len(items), *map(len, items))
    return hashlib.sha256(b"".join((lengths, *items))).digest()
