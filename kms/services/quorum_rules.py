"""How many approvals a permission needs in a tenant: the tenant's own rule, else the installation's default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from kms.core.approvals import QuorumRule
from kms.core.errors import Conflict
from kms.core.keyring import Tenant
from kms.core.names import Principal, QuorumRuleName, TenantName, TenantUid
from kms.core.policy import least_quorum
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.services.lineages import find_policy, policy_of
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

    async def needed(self, tenant: TenantUid, permissions: Sequence[str], resources: Sequence[str] = ()) -> int:
        """Return how many approvals a request needs that takes all of these permissions on these resources.

        That is the highest number of the rules of these permissions, and of the classes of these keys and policies.
        """
        async with self._storage.transaction(tenant) as work:
            return await self.needed_in(work, tenant, permissions, resources)

    async def needed_in(
        self, work: UnitOfWork, tenant: TenantUid, permissions: Sequence[str], resources: Sequence[str] = ()
    ) -> int:
        """Return the same inside a transaction."""
        rules = [await work.quorum_rules.get(tenant, permission) for permission in permissions]
        classes = [await _of_class(work, tenant, resource) for resource in resources]
        return max([self.default if rule is None else rule.approvals for rule in rules] + classes)

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


async def _of_class(work: UnitOfWork, tenant: TenantUid, resource: str) -> int:
    """Return how many approvals the class of a key, or of a policy, asks for at least; 0 for what has no class."""
    match resource.split("/"):
        case ["tenants", _, "keys", slug, *_]:
            key = await work.keys.get(tenant, slug)
            return 0 if key is None else least_quorum((await policy_of(work, key))[0])
        case ["tenants", _, "policies", slug]:
            found = await find_policy(work, tenant, slug)
            return 0 if found is None else least_quorum(found[0])
        case _:
            return 0
