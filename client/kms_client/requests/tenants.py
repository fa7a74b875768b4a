"""Requests to TenantService."""

from __future__ import annotations

from collections.abc import Sequence

from ..methods import TENANTS
from ..responses import tenants
from ..responses.reading import page
from ..v1 import tenants_pb2
from ..values import Founder, Tenant
from .messages import Listing, Request, build


def create_tenant(tenant_id: str, display_name: str, founders: Sequence[Founder]) -> Request[Tenant]:
    """TenantService.CreateTenant."""
    first = [
        build(tenants_pb2.Founder, principal_id=founder.principal_id, kind=int(founder.kind), roles=list(founder.roles))
        for founder in founders
    ]
    message = build(
        tenants_pb2.CreateTenantRequest,
        tenant_id=tenant_id,
        tenant=build(tenants_pb2.Tenant, display_name=display_name),
        founders=first,
    )
    return Request(f"{TENANTS}/CreateTenant", message, tenants.tenant)


def get_tenant(name: str) -> Request[Tenant]:
    """TenantService.GetTenant."""
    return Request(f"{TENANTS}/GetTenant", build(tenants_pb2.GetTenantRequest, name=name), tenants.tenant)


def list_tenants(page_size: int) -> Listing:
    """TenantService.ListTenants."""
    read = page("tenants", tenants.tenant)
    return lambda token: Request(
        f"{TENANTS}/ListTenants",
        build(tenants_pb2.ListTenantsRequest, page_size=page_size, page_token=token),
        read,
    )
