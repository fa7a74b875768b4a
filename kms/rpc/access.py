"""AccessService: parse, call, format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_address
from typing import Final

from google.protobuf.empty_pb2 import Empty

from kms.core.access import Facts, parse_permission
from kms.core.callers import Address
from kms.core.errors import invalid
from kms.core.names import GrantName, Principal, TenantName, parse_slug
from kms.core.patterns import parse_resource
from kms.core.roles import PERMISSIONS
from kms.rpc.access_messages import (
    explanation_message,
    grant_message,
    parse_future,
    parse_grant,
    parse_kind,
    principal_message,
)
from kms.rpc.authorization import Classify, class_of, known_context, unclassified
from kms.rpc.fields import parse_display_name, parse_etag, parse_mask, parse_reason
from kms.rpc.paging import cut, parse_page
from kms.services.access import Accesses
from kms.services.grants import Grants
from kms.services.principals import Principals
from kms.v1 import access_pb2 as pb

CHANGEABLE: Final = ("display_name",)


class AccessServicer:
    """Serves kms.v1.AccessService."""

    def __init__(
        self,
        principals: Principals,
        grants: Grants,
        accesses: Accesses,
        now: Callable[[], datetime],
        classify: Classify = unclassified,
    ) -> None:
        self._principals = principals
        self._grants = grants
        self._accesses = accesses
        self._now = now
        self._classify = classify

    async def CreatePrincipal(self, request: pb.CreatePrincipalRequest, caller: Principal) -> pb.Principal:
        """Create a principal."""
        parent, slug = TenantName.parse(request.parent, "parent"), parse_slug(request.principal_id, "principal_id")
        kind = parse_kind(request.principal.kind, "principal.kind", pb.Principal.SERVICE)
        display_name = parse_display_name(request.principal.display_name, "principal.display_name")
        record = await self._principals.create(caller, parent, slug, kind, display_name)
        return principal_message(Principal(parent.tenant, slug), record, self._now())

    async def GetPrincipal(self, request: pb.GetPrincipalRequest, caller: Principal) -> pb.Principal:
        """Return a principal."""
        name = Principal.parse(request.name, "name")
        return principal_message(name, await self._principals.get(caller, name), self._now())

    async def ListPrincipals(self, request: pb.ListPrincipalsRequest, caller: Principal) -> pb.ListPrincipalsResponse:
        """List a tenant's principals."""
        parent, page, now = TenantName.parse(request.parent, "parent"), parse_page(request), self._now()
        found = await self._principals.list_by_slug(caller, parent, page.after_slug, page.size + 1)
        records, token = cut(found, page, lambda record: record.slug)
        return pb.ListPrincipalsResponse(
            principals=[principal_message(Principal(parent.tenant, record.slug), record, now) for record in records],
            next_page_token=token,
        )

    async def UpdatePrincipal(self, request: pb.UpdatePrincipalRequest, caller: Principal) -> pb.Principal:
        """Change a principal."""
        name = Principal.parse_of_tenant(request.principal.name, "principal.name")
        parse_mask(request.update_mask.paths, CHANGEABLE)
        display_name = parse_display_name(request.principal.display_name, "principal.display_name")
        etag = parse_etag(request.principal.etag, "principal.etag")
        record = await self._principals.update(caller, name, etag, display_name)
        return principal_message(name, record, self._now())

    async def BlockPrincipal(self, request: pb.BlockPrincipalRequest, caller: Principal) -> pb.Principal:
        """Refuse everything to a principal."""
        name, reason = Principal.parse(request.name, "name"), parse_reason(request.reason)
        now = self._now()
        until = parse_future(request, "end_time", "end_time", now)
        return principal_message(name, await self._principals.block(caller, name, until, reason), now)

    async def UnblockPrincipal(self, request: pb.UnblockPrincipalRequest, caller: Principal) -> pb.Principal:
        """End a block."""
        name = Principal.parse(request.name, "name")
        return principal_message(name, await self._principals.unblock(caller, name), self._now())

    async def CreateGrant(self, request: pb.CreateGrantRequest, caller: Principal) -> pb.Grant:
        """Grant something, or deny it."""
        parent = Principal.parse_of_tenant(request.parent, "parent")
        return grant_message(parent, await self._grants.create(caller, parent, parse_grant(request.grant, self._now())))

    async def ListGrants(self, request: pb.ListGrantsRequest, caller: Principal) -> pb.ListGrantsResponse:
        """List a principal's grants."""
        parent, page = Principal.parse_of_tenant(request.parent, "parent"), parse_page(request)
        found = await self._grants.list_by_uid(caller, parent, page.after_uid, page.size + 1)
        grants, token = cut(found, page, lambda grant: str(grant.uid))
        return pb.ListGrantsResponse(grants=[grant_message(parent, grant) for grant in grants], next_page_token=token)

    async def DeleteGrant(self, request: pb.DeleteGrantRequest, caller: Principal) -> Empty:
        """Delete a grant."""
        await self._grants.delete(caller, GrantName.parse(request.name))
        return Empty()

    async def ListRoles(self, request: pb.ListRolesRequest, caller: Principal) -> pb.ListRolesResponse:
        """Return the built-in roles."""
        del request, caller  # they are the same for everybody
        return pb.ListRolesResponse(
            roles=[pb.Role(name=role, permissions=sorted(permissions)) for role, permissions in PERMISSIONS.items()]
        )

    async def ExplainAccess(self, request: pb.ExplainAccessRequest, caller: Principal) -> pb.AccessExplanation:
        """Say whether a principal may do something, and why."""
        principal = Principal.parse(request.principal)
        await self._principals.owner(caller, principal)
        permission, resource = parse_permission(request.permission), parse_resource(request.resource)
        address = _address(request.address)
        if _of_another(principal, resource):
            return pb.AccessExplanation(allowed=False, rule=pb.AccessExplanation.OTHER_TENANT)
        classification = await class_of(resource, self._classify)
        facts = Facts(self._now(), address, known_context(request.context), classification)
        explanation = await self._accesses.explain(principal, permission, resource, facts)
        return explanation_message(principal, explanation)


def _of_another(principal: Principal, resource: str) -> bool:
    """Whether a resource is another tenant's, or the installation's, for a tenant's principal."""
    if principal.tenant is None:
        return False
    own = str(TenantName(principal.tenant))
    return resource != own and not resource.startswith(f"{own}/")


def _address(text: str) -> Address | None:
    if not text:
        return None
    try:
        return ip_address(text)
    except ValueError as error:
        raise invalid("address", "must be an IPv4 or IPv6 address") from error
