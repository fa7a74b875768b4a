"""Which tenants a caller sees: an operator all of them, a principal its own."""

from __future__ import annotations

from kms.core.errors import NotFound
from kms.core.keyring import Tenant
from kms.core.names import Principal, TenantName
from kms.core.ports import Storage


async def visible_tenant(storage: Storage, caller: Principal, name: TenantName) -> Tenant:
    """Return a tenant to an operator or to one of its own principals.

    Raises:
        NotFound: no such tenant, or not the caller's.
    """
    if caller.tenant not in (None, name.tenant):
        raise NotFound(str(name))
    async with storage.transaction() as work:
        tenant = await work.tenants.get(name.tenant)
    if tenant is None or not tenant.ready:
        raise NotFound(str(name))
    return tenant
