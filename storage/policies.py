"""Named policies in the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Row, func, select

from kms.core.canonical import Value
from kms.core.classification import Classification
from kms.core.errors import Conflict
from kms.core.names import TenantUid
from kms.core.policy import AuditContext, NamedPolicy, Policy

from .integrity import page
from .records import find, find_one, store, units
from .session import Session
from .tables import policies as p

_SECOND: Final = timedelta(seconds=1)
_COMMA: Final = ","  # no key of a context has one


def _policy(row: Row[Any]) -> NamedPolicy:
    return NamedPolicy(
        tenant=row.tenant_id,
        slug=row.policy_id,
        version=row.version,
        policy=Policy(
            rotation=timedelta(seconds=row.rotation_seconds),
            encryption_limit=row.encryption_limit,
            cache_lifetime=timedelta(seconds=row.cache_lifetime_seconds),
            quarantine=timedelta(seconds=row.quarantine_seconds),
            grace=timedelta(seconds=row.grace_seconds),
            automatic_retirement=bool(row.automatic_retirement),
            classification=Classification(row.classification),
            required_context=tuple(row.required_context.split(_COMMA)) if row.required_context else (),
            log_data_access=bool(row.log_data_access),
            approvals=row.approvals,
            audit_context=AuditContext(row.audit_context),
        ),
        created_at=row.created_at,
        created_by=row.created_by,
        revision=row.revision,
    )


class Policies:
    """PolicyRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, tenant: TenantUid, slug: str) -> NamedPolicy | None:
        """Return the newest version."""
        query = select(p).where(p.c.tenant_id == tenant, p.c.policy_id == slug)
        return await find_one(
            self._session,
            p,
            query.order_by(p.c.version.desc()).limit(1),
            _policy,
            groups=[(slug,)],
            wanted=lambda there: there[-1:],
        )

    async def list_by_slug(self, tenant: TenantUid, after: str, limit: int) -> list[NamedPolicy]:
        """Return the newest versions of at most *limit* policies with slugs greater than *after*, ordered."""
        newest = (
            select(p.c.policy_id, func.max(p.c.version).label("version"))
            .where(p.c.tenant_id == tenant, p.c.policy_id > after)
            .group_by(p.c.policy_id)
            .order_by(p.c.policy_id)
            .limit(limit)
            .subquery()
        )
        same = (p.c.policy_id == newest.c.policy_id) & (p.c.version == newest.c.version)
        query = select(p).join(newest, same).where(p.c.tenant_id == tenant).order_by(p.c.policy_id)
        found = await find(self._session, p, query, _policy)
        for policy in found:  # also the newest ones
            await self.get(tenant, policy.slug)
        return found

    async def list_versions(self, tenant: TenantUid, slug: str, after: int, limit: int) -> list[NamedPolicy]:
        """Return at most *limit* versions of one policy with numbers greater than *after*, ordered."""
        query = select(p).where(p.c.tenant_id == tenant, p.c.policy_id == slug, p.c.version > after)
        return await find(
            self._session,
            p,
            query.order_by(p.c.version).limit(limit),
            _policy,
            groups=[(slug,)],
            wanted=page(after, limit),
        )

    async def add(self, policy: NamedPolicy) -> NamedPolicy:
        """Store a new version with revision 1 and return it so.

        Raises:
            Conflict: that version exists.
        """
        rules = policy.policy
        row: dict[str, Value] = {
            "tenant_id": policy.tenant,
            "policy_id": policy.slug,
            "version": policy.version,
            "rotation_seconds": units(rules.rotation, _SECOND),
            "encryption_limit": rules.encryption_limit,
            "cache_lifetime_seconds": units(rules.cache_lifetime, _SECOND),
            "quarantine_seconds": units(rules.quarantine, _SECOND),
            "grace_seconds": units(rules.grace, _SECOND),
            "automatic_retirement": int(rules.automatic_retirement),
            "classification": int(rules.classification),
            "required_context": _COMMA.join(rules.required_context),
            "log_data_access": int(rules.log_data_access),
            "approvals": rules.approvals,
            "audit_context": rules.audit_context.value,
            "created_at": policy.created_at,
            "created_by": policy.created_by,
        }
        otherwise = Conflict(f"version {policy.version} of policy {policy.slug} was made in between")
        return replace(policy, revision=await store(self._session, p, row, 0, otherwise=otherwise))
