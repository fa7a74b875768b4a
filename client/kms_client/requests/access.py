"""Requests to AccessService."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from google.protobuf.field_mask_pb2 import FieldMask

from ..methods import ACCESS
from ..responses import access
from ..responses.reading import nothing, page
from ..v1 import access_pb2
from ..values import AccessExplanation, AccessPrincipal, Conditions, Effect, Grant, PrincipalKind, Role
from .crypto import Context, pairs
from .messages import Listing, Request, build, timestamp


def create_principal(
    parent: str, principal_id: str, kind: PrincipalKind | int, display_name: str
) -> Request[AccessPrincipal]:
    """AccessService.CreatePrincipal."""
    message = build(
        access_pb2.CreatePrincipalRequest,
        parent=parent,
        principal_id=principal_id,
        principal=build(access_pb2.Principal, kind=int(kind), display_name=display_name),
    )
    return Request(f"{ACCESS}/CreatePrincipal", message, access.principal)


def get_principal(name: str) -> Request[AccessPrincipal]:
    """AccessService.GetPrincipal."""
    return Request(f"{ACCESS}/GetPrincipal", build(access_pb2.GetPrincipalRequest, name=name), access.principal)


def list_principals(parent: str, page_size: int) -> Listing:
    """AccessService.ListPrincipals."""
    read = page("principals", access.principal)
    return lambda token: Request(
        f"{ACCESS}/ListPrincipals",
        build(access_pb2.ListPrincipalsRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def update_principal(name: str, display_name: str, etag: str) -> Request[AccessPrincipal]:
    """AccessService.UpdatePrincipal."""
    message = build(
        access_pb2.UpdatePrincipalRequest,
        principal=build(access_pb2.Principal, name=name, display_name=display_name, etag=etag),
        update_mask=FieldMask(paths=["display_name"]),
    )
    return Request(f"{ACCESS}/UpdatePrincipal", message, access.principal)


def block_principal(name: str, reason: str, until: datetime | None) -> Request[AccessPrincipal]:
    """AccessService.BlockPrincipal."""
    ends = {} if until is None else {"end_time": timestamp(until, "end_time")}
    message = build(access_pb2.BlockPrincipalRequest, name=name, reason=reason, **ends)
    return Request(f"{ACCESS}/BlockPrincipal", message, access.principal)


def unblock_principal(name: str) -> Request[AccessPrincipal]:
    """AccessService.UnblockPrincipal."""
    return Request(f"{ACCESS}/UnblockPrincipal", build(access_pb2.UnblockPrincipalRequest, name=name), access.principal)


def create_grant(
    parent: str,
    *,
    effect: Effect | int,
    role: str,
    permissions: Sequence[str],
    resource: str,
    conditions: Conditions,
    expire_time: datetime | None,
    reason: str,
) -> Request[Grant]:
    """AccessService.CreateGrant."""
    context = [
        build(access_pb2.ContextCondition, key=key, values=list(values)) for key, values in conditions.context.items()
    ]
    ends = {} if expire_time is None else {"expire_time": timestamp(expire_time, "grant.expire_time")}
    grant = build(
        access_pb2.Grant,
        effect=int(effect),
        role=role,
        permissions=list(permissions),
        resource=resource,
        conditions=build(
            access_pb2.Conditions,
            context=context,
            classes=list(conditions.classes),
            networks=list(conditions.networks),
        ),
        reason=reason,
        **ends,
    )
    return Request(
        f"{ACCESS}/CreateGrant", build(access_pb2.CreateGrantRequest, parent=parent, grant=grant), access.grant
    )


def list_grants(parent: str, page_size: int) -> Listing:
    """AccessService.ListGrants."""
    read = page("grants", access.grant)
    return lambda token: Request(
        f"{ACCESS}/ListGrants",
        build(access_pb2.ListGrantsRequest, parent=parent, page_size=page_size, page_token=token),
        read,
    )


def delete_grant(name: str) -> Request[None]:
    """AccessService.DeleteGrant."""
    return Request(f"{ACCESS}/DeleteGrant", build(access_pb2.DeleteGrantRequest, name=name), nothing)


def list_roles() -> Request[list[Role]]:
    """AccessService.ListRoles."""
    return Request(f"{ACCESS}/ListRoles", access_pb2.ListRolesRequest(), access.roles)


def explain_access(
    principal: str, permission: str, resource: str, context: Context | None, address: str
) -> Request[AccessExplanation]:
    """AccessService.ExplainAccess."""
    message = build(
        access_pb2.ExplainAccessRequest,
        principal=principal,
        permission=permission,
        resource=resource,
        context=pairs(context),
        address=address,
    )
    return Request(f"{ACCESS}/ExplainAccess", message, access.explanation)
