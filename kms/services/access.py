"""What every principal may do, remembered for a bounded time and forgotten as soon as it changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kms.core.access import (
    MOST_GRANTS,
    NO_ACCESS,
    Access,
    Decision,
    Facts,
    Look,
    built_in,
    compile_access,
    decide,
    look,
)
from kms.core.errors import CorruptRecord
from kms.core.names import INSTALLATION_UID, ApprovalName, Principal, TenantUid
from kms.core.ports import Storage
from kms.crypto.cache import DekCache

MOST_PRINCIPALS: Final = 10_000  # whose access is remembered
MOST_TENANTS: Final = 10_000  # whose uid is remembered


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and every grant of the principal with why it applies or does not."""

    decision: Decision
    looks: Sequence[Look]


class Accesses:
    """Finds what a principal may do; a hit costs no wait.

    Attributes:
        cache: what is remembered, for metrics and sweeps.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        open_tenants: bool,
        lifetime: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        most: int = MOST_PRINCIPALS,
    ) -> None:
        """Prepare.

        Args:
            storage: the database.
            open_tenants: whether principals of tenants hold all roles without a grant.
            lifetime: seconds for which an access is remembered.
            clock: seconds that never jump.
            now: the time of the day, by which grants expire.
            most: how many are remembered.
        """
        self._storage = storage
        self._open = open_tenants
        self._now = now
        self.cache: DekCache[Principal, Access] = DekCache(most, lifetime, clock)
        # A tenant keeps its uid, and its slug is nobody else's.
        self._uids: dict[str, TenantUid] = {}

    def peek(self, principal: Principal) -> Access | None:
        """Return what is remembered of a principal."""
        return self.cache.peek(principal)

    async def of(self, principal: Principal) -> Access:
        """Return what a principal may do; of one that is not known, what its kind may without a grant."""
        return await self.cache.get(principal, lambda: self.read(principal))

    async def read(self, principal: Principal) -> Access:
        """Return what a principal may do as it is stored now.

        Raises:
            CorruptRecord: it has more grants than it may have, so that a deny may be among those not read.
        """
        tenant = await self._tenant_uid(principal)
        implied = built_in(principal, open_tenants=self._open)
        if tenant is None:
            return compile_access(None, None, (), implied) if implied else NO_ACCESS
        async with self._storage.transaction(tenant) as work:
            record = await work.principals.get(tenant, principal.name)
            # No grant without a principal: a foreign key.
            grants = (
                []
                if record is None
                else await work.grants.list_of_principal(tenant, principal.name, None, MOST_GRANTS + 1)
            )
        if len(grants) > MOST_GRANTS:
            raise CorruptRecord(f"{principal} has more than {MOST_GRANTS} grants")
        return compile_access(tenant, record, grants, implied)

    async def may_approve(self, principal: Principal, name: ApprovalName) -> bool:
        """Whether a principal may approve a request, by what is stored now; where it calls from is not known."""
        access = await self.read(principal)
        return decide(access, "approvals.approve", str(name), Facts(self._now())).allowed

    async def may(self, principal: Principal, permission: str, resource: str) -> bool:
        """Whether a principal has a permission on a resource; where it calls from is not known."""
        return decide(await self.of(principal), permission, resource, Facts(self._now())).allowed

    def changed(self, tenants: AbstractSet[TenantUid]) -> None:
        """Forget what is remembered of principals of these tenants; a read that is under way is not remembered."""
        self.cache.drop_where(lambda principal: self._may_be_of(principal, tenants))

    async def explain(self, principal: Principal, permission: str, resource: str, facts: Facts) -> Explanation:
        """Decide as for a call, by what is stored now, and say why."""
        access = await self.read(principal)
        decision = decide(access, permission, resource, facts)
        return Explanation(decision, [look(grant, permission, resource, facts) for grant in access.grants])

    def _may_be_of(self, principal: Principal, tenants: AbstractSet[TenantUid]) -> bool:
        if principal.tenant is None:
            return INSTALLATION_UID in tenants
        uid = self._uids.get(principal.tenant)
        return uid is None or uid in tenants

    async def tenant_uid(self, slug: str) -> TenantUid | None:
        """Return the uid of a tenant; None where there is none."""
        if (known := self._uids.get(slug)) is not None:
            return known
        async with self._storage.transaction() as work:
            tenant = await work.tenants.get(slug)
        if tenant is None or not tenant.ready:
            return None
        if len(self._uids) >= MOST_TENANTS:
            self._uids.clear()
        self._uids[slug] = tenant.uid
        return tenant.uid

    async def _tenant_uid(self, principal: Principal) -> TenantUid | None:
        return INSTALLATION_UID if principal.tenant is None else await self.tenant_uid(principal.tenant)
