"""From messages to values: principals, grants and explanations."""

from __future__ import annotations

from ..v1 import access_pb2
from ..values import (
    AccessExplanation,
    AccessPrincipal,
    AccessRule,
    Conditions,
    Effect,
    Grant,
    GrantLook,
    PrincipalKind,
    Role,
)
from .reading import known, time, time_if


def principal(message: access_pb2.Principal) -> AccessPrincipal:
    """Read a Principal."""
    return AccessPrincipal(
        name=message.name,
        kind=known(PrincipalKind, message.kind),
        display_name=message.display_name,
        blocked=message.blocked,
        block_end_time=time_if(message, "block_end_time"),
        block_reason=message.block_reason,
        create_time=time(message.create_time),
        creator=message.creator,
        etag=message.etag,
    )


def grant(message: access_pb2.Grant) -> Grant:
    """Read a Grant."""
    conditions = message.conditions
    return Grant(
        name=message.name,
        effect=known(Effect, message.effect),
        role=message.role,
        permissions=tuple(message.permissions),
        resource=message.resource,
        conditions=Conditions(
            {condition.key: tuple(condition.values) for condition in conditions.context},
            tuple(conditions.classes),
            tuple(conditions.networks),
        ),
        expire_time=time_if(message, "expire_time"),
        reason=message.reason,
        create_time=time(message.create_time),
        creator=message.creator,
    )


def roles(message: access_pb2.ListRolesResponse) -> list[Role]:
    """Read the roles."""
    return [Role(role.name, tuple(role.permissions)) for role in message.roles]


def explanation(message: access_pb2.AccessExplanation) -> AccessExplanation:
    """Read an AccessExplanation."""
    return AccessExplanation(
        allowed=message.allowed,
        rule=known(AccessRule, message.rule),
        grant=message.grant,
        looks=tuple(GrantLook(grant(look.grant), look.applies, look.reason) for look in message.looks),
    )
