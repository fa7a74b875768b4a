"""Wrapped DEKs in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row, func, literal, select, tuple_

from kms.core.canonical import Value
from kms.core.errors import Conflict, KmsError
from kms.core.keyring import KeyVersion
from kms.core.lifecycle import KeyState
from kms.core.names import KeyUid, TenantUid
from kms.core.seals import SealedBy
from kms.core.suites import ProtectionLevel

from .integrity import page
from .records import find, find_one, store, store_unchanged
from .session import Session
from .tables import encryption_keys as k
from .tables import key_versions as v
from .types import Int64, Uid

_WRAPPED = v.c.status != KeyState.DESTROYED.value


def _version(row: Row[Any]) -> KeyVersion:
    return KeyVersion(
        tenant=row.tenant_id,
        key=row.key_uid,
        version=row.version,
        wrapped=row.wrapped,
        kek_version=row.kek_version,
        created_at=row.created_at,
        created_by=row.created_by,
        state=KeyState(row.status),
        state_at=row.status_at or row.created_at,
        state_before=None if row.status_before is None else KeyState(row.status_before),
        state_reason=row.status_reason,
        stopped_at=row.stopped_at,
        until=row.waits_until,
        due_at=row.scheduled_for,
        forced_by=row.forced_by,
        exposed_at=row.exposed_at,
        sealed_by=_sealed_by(row),
        revision=row.revision,
    )


def _sealed_by(row: Row[Any]) -> SealedBy | None:
    if row.seal_mrenclave is None:
        return None
    return SealedBy(row.seal_mrenclave, row.seal_mrsigner, row.seal_isv_svn, bool(row.seal_simulated))


class KeyVersions:
    """KeyVersionRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, key: KeyUid, version: int) -> KeyVersion | None:
        """Return one version."""
        query = select(v).where(v.c.tenant_id == tenant, v.c.key_uid == key, v.c.version == version)
        return await find_one(
            self._session,
            v,
            query,
            _version,
            groups=[(key,)],
            wanted=lambda there: [identity for identity in there if identity == (key, version)],
        )

    async def list_by_version(self, tenant: TenantUid, key: KeyUid, after: int, limit: int) -> list[KeyVersion]:
        """Return at most *limit* versions greater than *after*, ordered."""
        query = select(v).where(v.c.tenant_id == tenant, v.c.key_uid == key, v.c.version > after)
        return await find(
            self._session,
            v,
            query.order_by(v.c.version).limit(limit),
            _version,
            groups=[(key,)],
            wanted=page(after, limit),
        )

    async def list_timed(self, tenant: TenantUid, key: KeyUid) -> list[KeyVersion]:
        """Return the versions that wait for a time (`until`), ordered by number."""
        query = select(v).where(v.c.tenant_id == tenant, v.c.key_uid == key, v.c.waits_until.is_not(None))
        return await find(self._session, v, query.order_by(v.c.version), _version)

    async def list_in_states(
        self, tenant: TenantUid, key: KeyUid, states: Sequence[KeyState], after: int, limit: int
    ) -> list[KeyVersion]:
        """Return at most *limit* versions in one of these states with numbers greater than *after*, ordered."""
        query = select(v).where(
            v.c.tenant_id == tenant,
            v.c.key_uid == key,
            v.c.version > after,
            v.c.status.in_([state.value for state in states]),
        )
        return await find(self._session, v, query.order_by(v.c.version).limit(limit), _version)

    async def list_wrapped_by(
        self, tenant: TenantUid, kek_version: int, after: tuple[KeyUid, int] | None, limit: int
    ) -> list[KeyVersion]:
        """Return at most *limit* versions, not destroyed, that one KEK version wraps.

        Ordered by key and number, from those beyond *after*.
        """
        query = select(v).where(v.c.tenant_id == tenant, v.c.kek_version == kek_version, _WRAPPED)
        if after is not None:
            key, version = after
            # Compared as a pair, which both engines look up in the index.
            query = query.where(tuple_(v.c.key_uid, v.c.version) > tuple_(literal(key, Uid), literal(version, Int64)))
        return await find(self._session, v, query.order_by(v.c.key_uid, v.c.version).limit(limit), _version)

    async def list_sealed(self, tenant: TenantUid, after: tuple[KeyUid, int] | None, limit: int) -> list[KeyVersion]:
        """Return at most *limit* versions, not destroyed, of keys of level ENCLAVE.

        Ordered by key and number, from those beyond *after*.
        """
        sealed = select(k.c.id).where(k.c.tenant_id == tenant, k.c.protection_level == ProtectionLevel.ENCLAVE.value)
        query = select(v).where(v.c.tenant_id == tenant, v.c.key_uid.in_(sealed), _WRAPPED)
        if after is not None:
            key, version = after
            query = query.where(tuple_(v.c.key_uid, v.c.version) > tuple_(literal(key, Uid), literal(version, Int64)))
        return await find(self._session, v, query.order_by(v.c.key_uid, v.c.version).limit(limit), _version)

    async def count_by_kek(self, tenant: TenantUid) -> dict[int, int]:
        """Return how many key versions, not destroyed, each KEK version of the tenant wraps; without those that wrap none."""
        wraps = func.count().label("wraps")
        query = select(v.c.kek_version, wraps).where(v.c.tenant_id == tenant, _WRAPPED).group_by(v.c.kek_version)
        return {row.kek_version: row.wraps for row in await self._session.rows(query)}

    async def add(self, version: KeyVersion) -> KeyVersion:
        """Store a new version with revision 1 and return it so.

        Raises:
            Conflict: that version exists, or one that was made for the same scheduled time, or another active one.
        """
        return await self._store(version, 0, Conflict(f"version {version.version} of the key was made in between"))

    async def replace(self, version: KeyVersion) -> KeyVersion:
        """Store a changed version over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        otherwise = Conflict(f"version {version.version} of the key was changed in between")
        return await self._store(version, version.revision, otherwise)

    async def replace_unchanged(self, versions: Sequence[KeyVersion]) -> int:
        """Store changed versions over the revisions that they came from, but for those whose stored revision is another.

        Returns how many were stored.
        """
        return await store_unchanged(self._session, v, [(row_of(version), version.revision) for version in versions])

    async def _store(self, version: KeyVersion, came_from: int, otherwise: KmsError) -> KeyVersion:
        revision = await store(self._session, v, row_of(version), came_from, otherwise=otherwise)
        return replace(version, revision=revision)


def row_of(version: KeyVersion) -> dict[str, Value]:
    """Return all columns of a version but its revision and MAC."""
    by = version.sealed_by
    return {
        "tenant_id": version.tenant,
        "key_uid": version.key,
        "version": version.version,
        "wrapped": version.wrapped,
        "kek_version": version.kek_version,
        "created_at": version.created_at,
        "created_by": version.created_by,
        "status": version.state.value,
        "status_at": version.state_at,
        "status_before": None if version.state_before is None else version.state_before.value,
        "status_reason": version.state_reason,
        "stopped_at": version.stopped_at,
        "waits_until": version.until,
        "scheduled_for": version.due_at,
        "forced_by": version.forced_by,
        "exposed_at": version.exposed_at,
        "seal_mrenclave": None if by is None else by.mrenclave,
        "seal_mrsigner": None if by is None else by.mrsigner,
        "seal_isv_svn": None if by is None else by.isv_svn,
        "seal_simulated": None if by is None else int(by.simulated),
    }
