"""Keys in the database."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Row, func, select

from kms.core.canonical import Value
from kms.core.errors import AlreadyExists, Conflict, KmsError
from kms.core.keyring import Key
from kms.core.lifecycle import KeyState
from kms.core.names import KeyUid, TenantUid
from kms.core.policy import Overrides
from kms.core.suites import ProtectionLevel, Purpose, Suite

from .records import find, find_one, store, units
from .session import Session
from .tables import encryption_keys as k

# The names in the column `algorithm`; a suite without one cannot be stored.
ALGORITHMS: Final = MappingProxyType(
    {
        Suite.AES_256_GCM: "AES-256-GCM",
        Suite.XAES_256_GCM: "XAES-256-GCM",
        Suite.AES_SIV: "AES-SIV",
        Suite.HMAC_SHA_256: "HMAC-SHA-256",
        Suite.AES_256_FF1: "AES-256-FF1",
    }
)
_HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)
_SUITES: Final = MappingProxyType({name: suite for suite, name in ALGORITHMS.items()})


def _encode_labels(labels: Mapping[str, str]) -> str:
    """Return the one text that stands for these labels: JSON, sorted by code point, no spaces, no escapes but JSON's own."""
    return json.dumps(dict(labels), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _decode_labels(text: str) -> dict[str, str]:
    labels = json.loads(text)
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise ValueError("labels are pairs of texts")
    return labels


def key(row: Row[Any]) -> Key:
    """Make the value of one row."""
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
        created_at=row.created_at,
        rotated_at=row.rotated_at,
        scheduled_from=row.scheduled_from or row.rotated_at,
        state_at=row.status_at or row.created_at,
        created_by=row.created_by,
        policy=row.policy_id or "",
        overrides=Overrides(
            rotation=_period(row.rotation_interval_hours, _HOUR),
            encryption_limit=row.encryption_limit,
            cache_lifetime=_period(row.cache_lifetime_seconds, _SECOND),
            quarantine=_period(row.quarantine_seconds, _SECOND),
            grace=_period(row.grace_seconds, _SECOND),
            automatic_retirement=None if row.automatic_retirement is None else bool(row.automatic_retirement),
        ),
        labels=_decode_labels(row.labels),
        state_before=None if row.status_before is None else KeyState(row.status_before),
        state_reason=row.status_reason,
        destroy_at=row.destroy_at,
        stopped_at=row.stopped_at,
        due_at=row.due_at,
        places_complete_at=row.places_complete_at,
        places_complete_by=row.places_complete_by,
        forced_by=row.forced_by,
        leasable=bool(row.leasable),
        revision=row.revision,
    )


def _period(number: int | None, unit: timedelta) -> timedelta | None:
    return None if number is None else number * unit


def _number(period: timedelta | None, unit: timedelta) -> int | None:
    return None if period is None else units(period, unit)


class Keys:
    """KeyRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, slug: str) -> Key | None:
        """Return the key."""
        query = select(k).where(k.c.tenant_id == tenant, k.c.key_id == slug)
        return await find_one(self._session, k, query, key, groups=[(slug,)])

    async def by_uid(self, tenant: TenantUid, uid: KeyUid) -> Key | None:
        """Return the key."""
        query = select(k).where(k.c.tenant_id == tenant, k.c.id == uid)
        return await find_one(self._session, k, query, key)

    async def count(self, tenant: TenantUid) -> int:
        """Return how many keys the tenant has."""
        [[number]] = await self._session.rows(select(func.count()).select_from(k).where(k.c.tenant_id == tenant))
        return int(number)

    async def list_by_uid(self, tenant: TenantUid, uids: Collection[KeyUid]) -> list[Key]:
        """Return those of at most 1,000 keys that there are, in no order."""
        query = select(k).where(k.c.tenant_id == tenant, k.c.id.in_(uids))
        return await find(self._session, k, query, key)

    async def list_by_slug(self, tenant: TenantUid, after: str, limit: int) -> list[Key]:
        """Return at most *limit* keys with slugs greater than *after*, ordered by slug."""
        query = select(k).where(k.c.tenant_id == tenant, k.c.key_id > after)
        return await find(self._session, k, query.order_by(k.c.key_id).limit(limit), key)

    async def list_by_policy(self, tenant: TenantUid, policy: str, limit: int) -> list[Key]:
        """Return the first, by slug, of at most *limit* keys that name the policy."""
        query = select(k).where(k.c.tenant_id == tenant, k.c.policy_id == policy)
        return await find(self._session, k, query.order_by(k.c.key_id).limit(limit), key)

    async def add(self, new: Key) -> Key:
        """Store a new key with revision 1 and return it so.

        Raises:
            AlreadyExists: the tenant has a key of that slug.
        """
        return await self._store(new, 0, AlreadyExists(f"the tenant has a key {new.slug} already"))

    async def replace(self, changed: Key) -> Key:
        """Store a changed key over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        return await self._store(changed, changed.revision, Conflict(f"key {changed.slug} was changed in between"))

    async def _store(self, value: Key, came_from: int, otherwise: KmsError) -> Key:
        own = value.overrides
        row: dict[str, Value] = {
            "tenant_id": value.tenant,
            "id": value.uid,
            "key_id": value.slug,
            "display_name": value.display_name,
            "purpose": int(value.purpose),
            "algorithm": ALGORITHMS[value.suite],
            "protection_level": int(value.level),
            "status": value.state.value,
            "primary_version": value.primary_version,
            "rotation_interval_hours": _number(own.rotation, _HOUR),
            "created_at": value.created_at,
            "rotated_at": value.rotated_at,
            "created_by": value.created_by,
            "labels": _encode_labels(value.labels),
            "status_at": value.state_at,
            "status_before": None if value.state_before is None else value.state_before.value,
            "status_reason": value.state_reason,
            "policy_id": value.policy or None,
            "encryption_limit": own.encryption_limit,
            "cache_lifetime_seconds": _number(own.cache_lifetime, _SECOND),
            "quarantine_seconds": _number(own.quarantine, _SECOND),
            "grace_seconds": _number(own.grace, _SECOND),
            "automatic_retirement": None if own.automatic_retirement is None else int(own.automatic_retirement),
            "scheduled_from": value.scheduled_from,
            "due_at": value.due_at,
            "destroy_at": value.destroy_at,
            "stopped_at": value.stopped_at,
            "places_complete_at": value.places_complete_at,
            "places_complete_by": value.places_complete_by,
            "forced_by": value.forced_by,
            "leasable": int(value.leasable),
        }
        return replace(value, revision=await store(self._session, k, row, came_from, otherwise=otherwise))
