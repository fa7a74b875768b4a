"""KEK versions in the database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sqlalchemy import Row, Select, select

from kms.core.canonical import Value
from kms.core.errors import Conflict
from kms.core.keyring import Kek, KekState, Tenant
from kms.core.names import TenantUid
from kms.core.wrapping import WrapMechanism

from . import tenants
from .integrity import page
from .records import find, find_one, store
from .session import Session
from .tables import keks as k
from .tables import tenants as t


def _kek(row: Row[Any]) -> Kek:
    return Kek(
        tenant=row.tenant_id,
        uid=row.kek_uid,
        version=row.version,
        state=KekState(row.status),
        created_at=row.created_at,
        created_by=row.created_by,
        mechanism=None if row.mechanism is None else WrapMechanism(row.mechanism),
        canary=row.canary,
        hsm_key_id=row.hsm_key_id,
        destroy_at=row.destroy_at,
        revision=row.revision,
    )


class Keks:
    """KekRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, version: int) -> Kek | None:
        """Return one version, pending ones included."""
        query = select(k).where(k.c.tenant_id == tenant, k.c.version == version)
        return await self._one(query, version)

    async def list_by_version(self, tenant: TenantUid, after: int, limit: int) -> list[Kek]:
        """Return at most *limit* versions greater than *after*, ordered, pending ones included."""
        query = select(k).where(k.c.tenant_id == tenant, k.c.version > after)
        return await find(
            self._session, k, query.order_by(k.c.version).limit(limit), _kek, groups=[()], wanted=page(after, limit)
        )

    async def pending(self) -> list[tuple[Tenant, Kek]]:
        """Return every intent to make a KEK that has no outcome, of all tenants: for the pass at start-up."""
        return await self._intents(KekState.PENDING)

    async def destroying(self) -> list[tuple[Tenant, Kek]]:
        """Return every intent to destroy a KEK that has no outcome, of all tenants: for the pass at start-up."""
        return await self._intents(KekState.DESTROYING)

    async def hold(self, tenant: TenantUid, version: int) -> Kek | None:
        """Return one version, which nobody changes before this transaction, one that writes, has ended."""
        query = select(k).where(k.c.tenant_id == tenant, k.c.version == version)
        return await self._one(query.with_for_update(read=True), version)

    async def _one(self, query: Select[Any], version: int) -> Kek | None:
        return await find_one(
            self._session,
            k,
            query,
            _kek,
            groups=[()],
            wanted=lambda there: [identity for identity in there if identity == (version,)],
        )

    async def _intents(self, state: KekState) -> list[tuple[Tenant, Kek]]:
        query = select(k).where(k.c.status == state.value).order_by(k.c.tenant_id, k.c.version)
        found = []
        for kek in await find(self._session, k, query, _kek):
            owner = select(t).where(t.c.tenant_id == kek.tenant)
            [tenant] = await find(self._session, t, owner, tenants.tenant)
            found.append((tenant, kek))
        return found

    async def add(self, kek: Kek) -> Kek:
        """Store a new version with revision 1 and return it so.

        Raises:
            Conflict: that version exists.
        """
        return await self._store(kek, 0)

    async def replace(self, kek: Kek) -> Kek:
        """Store a changed version over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        return await self._store(kek, kek.revision)

    async def _store(self, kek: Kek, came_from: int) -> Kek:
        row: dict[str, Value] = {
            "tenant_id": kek.tenant,
            "version": kek.version,
            "kek_uid": kek.uid,
            "status": kek.state.value,
            "mechanism": None if kek.mechanism is None else int(kek.mechanism),
            "canary": kek.canary,
            "hsm_key_id": kek.hsm_key_id,
            "created_at": kek.created_at,
            "created_by": kek.created_by,
            "destroy_at": kek.destroy_at,
        }
        otherwise = Conflict(f"version {kek.version} of the tenant's KEK was made or changed in between")
        return replace(kek, revision=await store(self._session, k, row, came_from, otherwise=otherwise))
