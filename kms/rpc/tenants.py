"""TenantService: parse, call, format."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.keyring import Tenant
from kms.core.names import Principal, TenantName, parse_slug
from kms.rpc.access_messages import parse_founders
from kms.rpc.fields import parse_display_name
from kms.rpc.paging import cut, parse_page
from kms.services.tenants import Tenants
from kms.v1 import tenants_pb2 as pb


class TenantServicer:
    """Serves kms.v1.TenantService."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    async def CreateTenant(self, request: pb.CreateTenantRequest, caller: Principal) -> pb.Tenant:
        """Create a tenant."""
        slug = parse_slug(request.tenant_id, "tenant_id")
        display_name = parse_display_name(request.tenant.display_name, "tenant.display_name")
        founders = parse_founders(request.founders)
        return tenant_message(await self._tenants.create(caller, slug, display_name, founders))

    async def GetTenant(self, request: pb.GetTenantRequest, caller: Principal) -> pb.Tenant:
        """Return a tenant."""
        return tenant_message(await self._tenants.get(caller, TenantName.parse(request.name)))

    async def ListTenants(self, request: pb.ListTenantsRequest, caller: Principal) -> pb.ListTenantsResponse:
        """List the tenants."""
        del caller  # only operators get here, and they see all
        page = parse_page(request)
        tenants, token = cut(
            await self._tenants.list_by_slug(page.after_slug, page.size + 1), page, lambda tenant: tenant.slug
        )
        return pb.ListTenantsResponse(tenants=map(tenant_message, tenants), next_page_token=token)


def tenant_message(tenant: Tenant) -> pb.Tenant:
    """Format a tenant."""
    created = Timestamp()
    created.FromDatetime(tenant.created_at)
    return pb.Tenant(name=str(tenant.name), uid=str(tenant.uid), display_name=tenant.display_name, create_time=created)
