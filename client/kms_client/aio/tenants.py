"""TenantService."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ..requests import tenants
from ..values import Founder, Tenant
from .calls import Calls


class TenantCalls(Calls):
    """Methods for tenants."""

    async def create_tenant(
        self,
        tenant_id: str,
        *,
        display_name: str = "",
        founders: Sequence[Founder] = (),
        deadline: float | None = None,
    ) -> Tenant:
        """Create a tenant, its first principals with their roles, and version 1 of its KEK."""
        return await self._run(tenants.create_tenant(tenant_id, display_name, founders), deadline)

    async def get_tenant(self, name: str, *, deadline: float | None = None) -> Tenant:
        """Return one tenant."""
        return await self._run(tenants.get_tenant(name), deadline)

    def list_tenants(self, *, page_size: int = 0, deadline: float | None = None) -> AsyncIterator[Tenant]:
        """Iterate over the tenants by name; pages are fetched as they are needed."""
        return self._pages(tenants.list_tenants(page_size), deadline)
