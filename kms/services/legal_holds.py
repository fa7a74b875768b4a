"""Legal holds: made and released, and never removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from kms.core.errors import FailedPrecondition, LimitExceeded, NotFound
from kms.core.names import INSTALLATION_UID, LegalHoldName, Principal, SecurityEventsParent, TenantName, TenantUid
from kms.core.ports import Storage
from kms.core.retention import MOST_HOLDS, LegalHold
from kms.services.visibility import visible_tenant

_log = structlog.get_logger(__name__)


class LegalHolds:
    """The holds of tenants, for their principals and for operators; those of the installation for operators."""

    def __init__(self, storage: Storage, now: Callable[[], datetime]) -> None:
        self._storage = storage
        self._now = now

    async def create(self, caller: Principal, name: LegalHoldName, wanted: LegalHold) -> LegalHold:
        """Store a hold; owner, id, time and author are filled in.

        Raises:
            NotFound: no such tenant, or not the caller's.
            AlreadyExists: the tenant has, or has had, a hold of that id.
            LimitExceeded: too many are not released.
        """
        owner = await self._owner(caller, name.parent, str(name.parent))
        hold = replace(
            wanted, tenant=owner, hold_id=name.hold, created_at=self._now(), created_by=str(caller), revision=0
        )
        async with self._storage.transaction(owner, write=True) as work:
            if await work.legal_holds.count_active(owner) >= MOST_HOLDS:
                raise LimitExceeded(f"{name.parent} has {MOST_HOLDS} legal holds that are not released")
            hold = await work.legal_holds.add(hold)
        _log.warning("legal_hold.created", hold=str(name), caller=str(caller))
        return hold

    async def release(self, caller: Principal, name: LegalHoldName) -> LegalHold:
        """Release a hold: what it kept may leave the database, and be removed when it is old.

        Raises:
            NotFound: no such hold, or not the caller's.
            FailedPrecondition: it is released already.
        """
        owner = await self._owner(caller, name.parent, str(name))
        async with self._storage.transaction(owner, write=True) as work:
            hold = await work.legal_holds.get(owner, name.hold)
            if hold is None:
                raise NotFound(str(name))
            if hold.released_at is not None:
                raise FailedPrecondition(f"{name} is released already")
            hold = await work.legal_holds.replace(replace(hold, released_at=self._now(), released_by=str(caller)))
        _log.warning("legal_hold.released", hold=str(name), caller=str(caller))
        return hold

    async def list_after(
        self, caller: Principal, parent: SecurityEventsParent, after: str, limit: int
    ) -> list[LegalHold]:
        """Return at most *limit* holds, released or not, with ids greater than *after*, ordered.

        Raises:
            NotFound: no such tenant, or not the caller's.
        """
        owner = await self._owner(caller, parent, str(parent))
        async with self._storage.transaction(owner) as work:
            return await work.legal_holds.list_after(owner, after, limit)

    async def _owner(self, caller: Principal, parent: SecurityEventsParent, asked: str) -> TenantUid:
        if parent.tenant is None:
            if caller.tenant is not None:
                raise NotFound(asked)
            return INSTALLATION_UID
        try:
            return (await visible_tenant(self._storage, caller, TenantName(parent.tenant))).uid
        except NotFound as error:
            raise NotFound(asked) from error
