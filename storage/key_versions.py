"""Wrapped DEKs in the database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Row, func, select

from kms.core.errors import Conflict
from kms.core.keyring import KeyVersion
from kms.core.names import KeyUid, TenantUid

from .records import Value, read, read_one, store
from .session import Session
from .tables import key_versions as v

_COLUMNS = (
    v.c.tenant_id,
    v.c.key_uid,
    v.c.version,
    v.c.wrapped,
    v.c.kek_version,
    v.c.created_at,
    v.c.created_by,
    v.c.revision,
)


def _version(row: Row[Any]) -> KeyVersion:
    return KeyVersion(
        tenant=row.tenant_id,
        key=row.key_uid,
        version=row.version,
        wrapped=row.wrapped,
        kek_version=row.kek_version,
        created_at=row.created_at,
        created_by=row.created_by,
        revision=row.revision,
    )


class KeyVersions:
    """KeyVersionRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, key: KeyUid, version: int) -> KeyVersion | None:
        """Return one version."""
        query = select(*_COLUMNS).where(v.c.tenant_id == tenant, v.c.key_uid == key, v.c.version == version)
        return read_one(await self._session.rows(query), _version)

    async def list_by_version(self, tenant: TenantUid, key: KeyUid, after: int, limit: int) -> list[KeyVersion]:
        """Return at most *limit* versions greater than *after*, ordered."""
        query = select(*_COLUMNS).where(v.c.tenant_id == tenant, v.c.key_uid == key, v.c.version > after)
        return read(await self._session.rows(query.order_by(v.c.version).limit(limit)), _version)

    async def count_by_kek(self, tenant: TenantUid) -> dict[int, int]:
        """Return how many key versions each KEK version of the tenant wraps; those that wrap none are left out."""
        wraps = func.count().label("wraps")
        query = select(v.c.kek_version, wraps).where(v.c.tenant_id == tenant).group_by(v.c.kek_version)
        return {row.kek_version: row.wraps for row in await self._session.rows(query)}

    async def add(self, version: KeyVersion) -> KeyVersion:
        """Store a new version with revision 1 and return it so.

        Raises:
            Conflict: that version exists.
        """
        row: dict[str, Value] = {
            "tenant_id": version.tenant,
            "key_uid": version.key,
            "version": version.version,
            "wrapped": version.wrapped,
            "kek_version": version.kek_version,
            "created_at": version.created_at,
            "created_by": version.created_by,
        }
        otherwise = Conflict(f"version {version.version} of the key was made in between")
        return replace(version, revision=await store(self._session, v, row, 0, otherwise=otherwise))
