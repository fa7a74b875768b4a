"""Named policies: a change makes the next version, and plans the keys that live by it anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from kms.core.classification import WITHOUT_ENCLAVE, require_available
from kms.core.errors import (
    AlreadyExists,
    ClassViolation,
    Conflict,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    Violation,
)
from kms.core.keyring import Tenant
from kms.core.lifecycle import KeyState
from kms.core.names import PolicyName, Principal, TenantName, TenantUid
from kms.core.operations import Operation, OperationKind, OperationState, OperationUid
from kms.core.policy import BUILT_IN, NamedPolicy, Policy, effective, logs_data_access, policy_violations, violations
from kms.core.ports import Storage
from kms.core.repositories import UnitOfWork
from kms.core.suites import ProtectionLevel
from kms.failpoints import reach
from kms.services.replan import target_of
from kms.services.tenants import Tenants

# Keys of a policy that are compared with its new class before it changes. Of others that are outside of it, each is
# refused when it is used.
MOST_COMPARED: Final = 1_000


class Policies:
    """The policies of all tenants."""

    def __init__(
        self,
        storage: Storage,
        tenants: Tenants,
        now: Callable[[], datetime],
        wake: Callable[[], None],
        reread: Callable[[AbstractSet[TenantUid]], None],
        levels: frozenset[ProtectionLevel] = WITHOUT_ENCLAVE,
    ) -> None:
        """*levels* are those of keys that this node can make."""
        self._storage = storage
        self._tenants = tenants
        self._now = now
        self._wake = wake  # whoever carries out operations
        self.levels = levels
        self._reread = reread  # what this node remembers of these tenants' keys

    async def create(
        self, caller: Principal, parent: TenantName, slug: str, rules: Policy
    ) -> tuple[Tenant, NamedPolicy]:
        """Create a policy with version 1.

        Raises:
            AlreadyExists: the slug is taken.
            InvalidRequest: it breaks a rule of its class.
            NotSupported: its class needs an enclave, which this node does not have.
        """
        tenant = await self._tenants.get(caller, parent)
        if slug in BUILT_IN:
            raise AlreadyExists(f"{PolicyName(tenant.slug, slug)} is built in")
        _require_class(rules, self.levels)
        taken = AlreadyExists(f"{PolicyName(tenant.slug, slug)} exists")
        policy = NamedPolicy(tenant.uid, slug, 1, rules, self._now(), str(caller))
        async with self._storage.transaction(tenant.uid, write=True) as work:
            if await work.policies.get(tenant.uid, slug) is not None:
                raise taken
            try:
                return tenant, await work.policies.add(policy)
            except Conflict as error:
                raise taken from error

    async def get(self, caller: Principal, name: PolicyName) -> tuple[Tenant, NamedPolicy]:
        """Return the newest version; 0 is that of a built-in policy.

        Raises:
            NotFound: no such policy, or another tenant's.
        """
        tenant = await self._owner(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            return tenant, await _newest(work, tenant, name)

    async def list_by_slug(
        self, caller: Principal, parent: TenantName, after: str, limit: int
    ) -> tuple[Tenant, list[NamedPolicy]]:
        """Return the newest versions of at most *limit* stored policies with slugs greater than *after*, ordered."""
        tenant = await self._tenants.get(caller, parent)
        async with self._storage.transaction(tenant.uid) as work:
            return tenant, await work.policies.list_by_slug(tenant.uid, after, limit)

    async def list_versions(
        self, caller: Principal, name: PolicyName, after: int, limit: int
    ) -> tuple[Tenant, list[NamedPolicy]]:
        """Return at most *limit* versions of one policy with numbers greater than *after*, ordered."""
        tenant = await self._owner(caller, name)
        async with self._storage.transaction(tenant.uid) as work:
            newest = await _newest(work, tenant, name)
            if not newest.version:
                return tenant, [newest]
            return tenant, await work.policies.list_versions(tenant.uid, name.policy, after, limit)

    async def update(
        self, caller: Principal, name: PolicyName, seen: int, changes: Mapping[str, Any]
    ) -> tuple[Tenant, NamedPolicy]:
        """Make the next version: the newest one with *changes*.

        The operation that plans the keys anew is stored with it: a crash leaves both or neither.

        Raises:
            Conflict: the newest version is not *seen* (where that is not 0), or somebody made one meanwhile.
            FailedPrecondition: the policy is built in.
            InvalidRequest: it would break a rule of its class.
            ClassViolation: a key that names it would.
            NotSupported: its class needs an enclave, which this node does not have.
        """
        tenant = await self._owner(caller, name)
        now = self._now()
        async with self._storage.transaction(tenant.uid, write=True) as work:
            newest = await _newest(work, tenant, name)
            if not newest.version:
                raise FailedPrecondition(f"{name} is built in and cannot be changed")
            if seen not in (0, newest.version):
                raise Conflict(f"the newest version of {name} is {newest.version}, not {seen}")
            rules = replace(newest.policy, **changes)
            _require_class(rules, self.levels)
            await _require_keys_within(work, tenant, name, newest.policy, rules)
            policy = await work.policies.add(
                NamedPolicy(tenant.uid, newest.slug, newest.version + 1, rules, now, str(caller))
            )
            await work.operations.add(
                Operation(
                    uid=OperationUid(uuid4()),
                    tenant=tenant.uid,
                    kind=OperationKind.REPLAN,
                    target=target_of(name, policy.version),
                    state=OperationState.RUNNING,
                    requested_by=str(caller),
                    created_at=now,
                    updated_at=now,
                    total=await work.keys.count(tenant.uid),
                )
            )
            await work.epochs.changed(tenant.uid)
            reach("update_policy.before_commit")
        reach("update_policy.committed")
        self._reread({tenant.uid})
        self._wake()
        return tenant, policy

    async def _owner(self, caller: Principal, name: PolicyName) -> Tenant:
        if caller.tenant != name.tenant:
            raise NotFound(str(name))
        try:
            return await self._tenants.get(caller, name.parent)
        except NotFound as error:
            raise NotFound(str(name)) from error


async def _newest(work: UnitOfWork, tenant: Tenant, name: PolicyName) -> NamedPolicy:
    policy = await work.policies.get(tenant.uid, name.policy)
    if policy is None and name.policy in BUILT_IN:
        return NamedPolicy(tenant.uid, name.policy, 0, BUILT_IN[name.policy], tenant.created_at, "")
    if policy is None:
        raise NotFound(str(name))
    return policy


def _require_class(rules: Policy, levels: frozenset[ProtectionLevel]) -> None:
    require_available(rules.classification, levels)
    if broken := policy_violations(rules):
        raise InvalidRequest(*(Violation(f"policy.{violation.field}", violation.rule) for violation in broken))


def _bounding(policy: Policy) -> tuple[object, ...]:
    """Return what of a policy decides whether a key that names it is within its class."""
    leases = logs_data_access(policy), policy.encryption_limit  # what no leasable key may have
    return policy.classification, policy.required_context, *leases


async def _require_keys_within(work: UnitOfWork, tenant: Tenant, name: PolicyName, old: Policy, new: Policy) -> None:
    """Refuse a change after which a key would be outside of its class; the first of them is named."""
    if _bounding(new) == _bounding(old):
        return  # whatever else changes, a key that was within its class stays within
    for key in await work.keys.list_by_policy(tenant.uid, name.policy, MOST_COMPARED):
        broken = violations(
            effective(new, key.overrides, key.purpose), key.purpose, key.suite, key.level, leasable=key.leasable
        )
        if broken and key.state is not KeyState.DESTROYED:
            raise ClassViolation(f"{key.name(tenant)} would break its class: {broken[0].field} {broken[0].rule}")
