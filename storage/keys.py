"""Keys in the database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Row, select

from kms.core.errors import AlreadyExists, Conflict, KmsError
from kms.core.keyring import Key, KeyState
from kms.core.names import TenantUid
from kms.core.suites import ProtectionLevel, Purpose, Suite

from .records import Value, read, read_one, store
from .session import Session
from .tables import encryption_keys as k

# The names in the column `algorithm`; a suite without one cannot be stored.
ALGORITHMS: Final = MappingProxyType(
    {Suite.AES_256_GCM: "AES-256-GCM", Suite.XAES_256_GCM: "XAES-256-GCM", Suite.AES_SIV: "AES-SIV"}
)
_SUITES: Final = MappingProxyType({name: suite for suite, name in ALGORITHMS.items()})

_COLUMNS = (
    k.c.tenant_id,
    k.c.id,
    k.c.key_id,
    k.c.display_name,
    k.c.purpose,
    k.c.algorithm,
    k.c.protection_level,
    k.c.status,
    k.c.primary_version,
    k.c.rotation_interval_hours,
    k.c.created_at,
    k.c.rotated_at,
    k.c.created_by,
    k.c.labels,
    k.c.revision,
)


def _encode_labels(labels: Mapping[str, str]) -> str:
    """Return the one text that stands for these labels: JSON, sorted by code point, no spaces, no escapes but JSON's own."""
    return json.dumps(dict(labels), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _decode_labels(text: str) -> dict[str, str]:
    labels = json.loads(text)
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise ValueError("labels are pairs of texts")
    return labels


def _key(row: Row[Any]) -> Key:
    return Key(
        uid=row.id,
        tenant=row.tenant_id,
        slug=row.key_id,
        display_name=row.display_name,
        purpose=Purpose(row.purpose),
        suite=_SUITES[row.algorithm],
        level=ProtectionLevel(row.protection_level),
        state=KeyState(row.status),
        primary_version=row.primary_version,
        rotation_hours=row.rotation_interval_hours,
        created_at=row.created_at,
        rotated_at=row.rotated_at,
        created_by=row.created_by,
        labels=_decode_labels(row.labels),
        revision=row.revision,
    )


class Keys:
    """KeyRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, slug: str) -> Key | None:
        """Return the key."""
        query = select(*_COLUMNS).where(k.c.tenant_id == tenant, k.c.key_id == slug)
        return read_one(await self._session.rows(query), _key)

    async def list_by_slug(self, tenant: TenantUid, after: str, limit: int) -> list[Key]:
        """Return at most *limit* keys with slugs greater than *after*, ordered by slug."""
        query = select(*_COLUMNS).where(k.c.tenant_id == tenant, k.c.key_id > after)
        return read(await self._session.rows(query.order_by(k.c.key_id).limit(limit)), _key)

    async def add(self, key: Key) -> Key:
        """Store a new key with revision 1 and return it so.

        Raises:
            AlreadyExists: the tenant has a key of that slug.
        """
        return await self._store(key, 0, AlreadyExists(f"the tenant has a key {key.slug} already"))

    async def replace(self, key: Key) -> Key:
        """Store a changed key over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        return await self._store(key, key.revision, Conflict(f"key {key.slug} was changed in between"))

    async def _store(self, key: Key, came_from: int, otherwise: KmsError) -> Key:
        row: dict[str, Value] = {
            "tenant_id": key.tenant,
            "id": key.uid,
            "key_id": key.slug,
            "display_name": key.display_name,
            "purpose": int(key.purpose),
            "algorithm": ALGORITHMS[key.suite],
            "protection_level": int(key.level),
            "status": key.state.value,
            "primary_version": key.primary_version,
            "rotation_interval_hours": key.rotation_hours,
            "created_at": key.created_at,
            "rotated_at": key.rotated_at,
            "created_by": key.created_by,
            "labels": _encode_labels(key.labels),
        }
        return replace(key, revision=await store(self._session, k, row, came_from, otherwise=otherwise))
