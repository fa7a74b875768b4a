"""Grants in the database."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from kms.core.access import Conditions, Effect, Grant, GrantUid, parse_network
from kms.core.canonical import Value
from kms.core.errors import Conflict, CorruptRecord, InvalidRequest
from kms.core.names import TenantUid
from kms.core.patterns import Pattern
from kms.core.roles import Role

from .access_tables import grants as g
from .integrity import page
from .records import find, find_one, remove, store
from .session import Session


def _grant(row: Row[Any]) -> Grant:
    try:
        return Grant(
            uid=row.id,
            tenant=row.tenant_id,
            principal=row.principal_id,
            effect=Effect(row.effect),
            role=None if row.role is None else Role(row.role),
            permissions=frozenset(json.loads(row.permissions)),
            resource=Pattern.parse(row.resource),
            conditions=_conditions(json.loads(row.conditions)),
            expires_at=row.expires_at,
            reason=row.reason,
            created_at=row.created_at,
            created_by=row.created_by,
            revision=row.revision,
        )
    except (InvalidRequest, AttributeError) as error:  # a rule that the record breaks is no fault of the caller's
        raise CorruptRecord("a stored grant makes no sense") from error


def _conditions(stored: dict[str, Any]) -> Conditions:
    return Conditions(
        {key: frozenset(values) for key, values in stored["context"].items()},
        frozenset(stored["classes"]),
        tuple(parse_network(network) for network in stored["networks"]),
    )


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Grants:
    """GrantRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, uid: GrantUid) -> Grant | None:
        """Return one grant."""
        query = select(g).where(g.c.tenant_id == tenant, g.c.id == uid)
        return await find_one(self._session, g, query, _grant)

    async def list_of_principal(self, tenant: TenantUid, principal: str, after: UUID | None, limit: int) -> list[Grant]:
        """Return at most *limit* grants of a principal with uids greater than *after*, ordered by uid."""
        query = select(g).where(g.c.tenant_id == tenant, g.c.principal_id == principal)
        if after is not None:
            query = query.where(g.c.id > after)
        return await find(
            self._session,
            g,
            query.order_by(g.c.id).limit(limit),
            _grant,
            groups=[(principal,)],
            wanted=page(after, limit),
        )

    async def add(self, grant: Grant) -> Grant:
        """Store a new grant with revision 1 and return it so.

        Raises:
            Conflict: that uid is taken.
        """
        conditions = {
            "context": {key: sorted(values) for key, values in grant.conditions.context.items()},
            "classes": sorted(grant.conditions.classes),
            "networks": [str(network) for network in grant.conditions.networks],
        }
        row: dict[str, Value] = {
            "tenant_id": grant.tenant,
            "id": grant.uid,
            "principal_id": grant.principal,
            "effect": grant.effect.value,
            "role": None if grant.role is None else grant.role.value,
            "permissions": _canonical(sorted(grant.permissions)),
            "resource": str(grant.resource),
            "conditions": _canonical(conditions),
            "expires_at": grant.expires_at,
            "reason": grant.reason,
            "created_at": grant.created_at,
            "created_by": grant.created_by,
        }
        otherwise = Conflict(f"grant {grant.uid} exists")
        return replace(grant, revision=await store(self._session, g, row, 0, otherwise=otherwise))

    async def remove(self, grant: Grant) -> None:
        """Remove a grant.

        Raises:
            Conflict: the stored revision is another, or it is gone; nothing of the transaction is committed then.
        """
        itself: dict[str, Value] = {
            "tenant_id": grant.tenant,
            "principal_id": grant.principal,
            "id": grant.uid,
            "revision": grant.revision,
        }
        if await remove(self._session, g, [itself]) != 1:
            conflict = Conflict(f"grant {grant.uid} was changed in between")
            self._session.spoil(conflict)
            raise conflict
