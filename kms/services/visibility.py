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
    require_own(caller, name)
    return await ready_tenant(storage, name)


def require_own(caller: Principal, name: TenantName) -> None:
    """Let an operator pass, and a principal of that tenant.

    Raises:
        NotFound: it is another's.
    """
    if caller.tenant not in (None, name.tenant):
        raise NotFound(str(name))


async def ready_tenant(storage: Storage, name: TenantName) -> Tenant:
    """Return a tenant to whoever may see it.

    Raises:
        NotFound: no such tenant.
    """
    async with storage.transaction() as work:
        tenant = await work.tenants.get(name.tenant)
    if tenant is None or not tenant.ready:
        raise NotFound(str(name))
    return tenant
