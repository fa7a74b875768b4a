"""How many approvals a permission needs in a tenant: the tenant's own rule, else the installation's default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from kms.core.approvals import QuorumRule
from kms.core.errors import Conflict
from kms.core.keyring import Tenant
from kms.core.names import Principal, QuorumRuleName, TenantName, TenantUid
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.services.visibility import visible_tenant

_log = structlog.get_logger(__name__)


class QuorumRules:
    """The quorum rules of all tenants.

    Attributes:
        default: how many approvals are needed where a tenant has no rule.
    """

    def __init__(self, storage: Storage, default: int, now: Callable[[], datetime]) -> None:
        self.default = default
        self._storage = storage
        self._now = now

    async def needed(self, tenant: TenantUid, permissions: Sequence[str]) -> int:
        """Return how many approvals a request needs that takes all of these permissions: the highest number."""
        async with self._storage.transaction(tenant) as work:
            return await self.needed_in(work, tenant, permissions)

    async def needed_in(self, work: UnitOfWork, tenant: TenantUid, permissions: Sequence[str]) -> int:
        """Return the same inside a transaction."""
        rules = [await work.quorum_rules.get(tenant, permission) for permission in permissions]
        return max(self.default if rule is None else rule.approvals for rule in rules)

    async def list_all(self, caller: Principal, parent: TenantName) -> tuple[Tenant, list[QuorumRule]]:
        """Return the tenant's own rules, ordered by permission.

        Raises:
            NotFound: no such tenant, or not the caller's.
        """
        tenant = await visible_tenant(self._storage, caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            return tenant, await work.quorum_rules.list_all(tenant.uid)

    async def update(
        self, caller: Principal, name: QuorumRuleName, approvals: int, present: int
    ) -> tuple[Tenant, QuorumRule]:
        """Set how many approvals a permission needs from now on, where *present* is what holds now.

        Whether this lowers a number, and so needs the quorum of that permission too, was judged by *present*.

        Raises:
            Conflict: another number than *present* holds now.
        """
        tenant = await visible_tenant(self._storage, caller, name.parent)
        async with self._storage.transaction(tenant.uid, write=True) as work:
            rule = await work.quorum_rules.get(tenant.uid, name.permission)
            holds = self.default if rule is None else rule.approvals
            if present != holds:
                raise Conflict(f"{name.permission} needs {holds} approvals now, not {present}")
            revision = 0 if rule is None else rule.revision
            changed = QuorumRule(tenant.uid, name.permission, approvals, self._now(), str(caller), revision)
            changed = await work.quorum_rules.put(changed)
        _log.warning("quorum.rule_changed", name=str(name), approvals=approvals, before=present, caller=str(caller))
        return tenant, changed
