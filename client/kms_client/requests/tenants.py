"""Requests to TenantService."""

from __future__ import annotations

from ..methods import TENANTS
from ..responses import tenants
from ..responses.reading import page
from ..v1 import tenants_pb2
from ..values import Tenant
from .messages import Listing, Request, build


def create_tenant(tenant_id: str, display_name: str) -> Request[Tenant]:
    """TenantService.CreateTenant."""
    message = build(
        tenants_pb2.CreateTenantRequest,
        tenant_id=tenant_id,
        tenant=build(tenants_pb2.Tenant, display_name=display_name),
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
