"""Principals, grants and explanations from and to messages of the API."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from kms.core.access import (
    Conditions,
    Effect,
    Grant,
    PrincipalKind,
    PrincipalRecord,
    Rule,
    parse_network,
)
from kms.core.errors import invalid
from kms.core.names import GrantName, Principal, parse_slug
from kms.core.patterns import Pattern
from kms.core.roles import GRANTABLE, Role
from kms.rpc.fields import LONGEST_REASON, parse_text
from kms.rpc.messages import timestamp
from kms.services.access import Explanation
from kms.services.grants import NewGrant
from kms.services.principals import Founder
from kms.services.tenants import MOST_FOUNDERS
from kms.v1 import access_pb2 as pb

_KINDS: Final = MappingProxyType(
    {pb.Principal.SERVICE: PrincipalKind.SERVICE, pb.Principal.PERSON: PrincipalKind.PERSON}
)
_EFFECTS: Final = MappingProxyType({pb.Grant.ALLOW: Effect.ALLOW, pb.Grant.DENY: Effect.DENY})
_RULES: Final = MappingProxyType(
    {
        Rule.GRANT: pb.AccessExplanation.GRANT,
        Rule.BUILT_IN: pb.AccessExplanation.BUILT_IN,
        Rule.BLOCKED: pb.AccessExplanation.BLOCKED,
        Rule.DEFAULT: pb.AccessExplanation.DEFAULT,
    }
)


def parse_kind(number: pb.Principal.Kind, field: str, otherwise: pb.Principal.Kind) -> PrincipalKind:
    """Read the kind of a principal; *otherwise* where it is not given."""
    kind = _KINDS.get(number or otherwise)
    if kind is None:
        raise invalid(field, "must be SERVICE or PERSON")
    return kind


def parse_role(text: str, field: str) -> Role:
    """Read a role that a principal of a tenant may have."""
    if text not in GRANTABLE:
        raise invalid(field, f"must be one of {', '.join(GRANTABLE)}")
    return Role(text)


def parse_future(message: Any, name: str, field: str, now: datetime) -> datetime | None:
    """Read a time that has not come yet; None where it is absent."""
    if not message.HasField(name):
        return None
    rule = "must be a time in the future"
    try:
        moment: datetime = getattr(message, name).ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(field, rule) from error
    if moment <= now:
        raise invalid(field, rule)
    return moment


def parse_founders(founders: Any) -> list[Founder]:
    """Read the founders of a new tenant."""
    if len(founders) > MOST_FOUNDERS:
        raise invalid("founders", f"must have at most {MOST_FOUNDERS} entries")
    parsed = []
    for index, founder in enumerate(founders):
        field = f"founders[{index}]"
        slug = parse_slug(founder.principal_id, f"{field}.principal_id")
        if not founder.roles:
            raise invalid(f"{field}.roles", "must have at least one entry")
        roles = frozenset(parse_role(role, f"{field}.roles") for role in founder.roles)
        parsed.append(Founder(slug, parse_kind(founder.kind, f"{field}.kind", pb.Principal.PERSON), roles))
    if len({founder.slug for founder in parsed}) != len(parsed):
        raise invalid("founders", "must name each principal once")
    return parsed


def parse_grant(message: pb.Grant, now: datetime) -> NewGrant:
    """Read what is asked for a new grant."""
    effect = _EFFECTS.get(message.effect or pb.Grant.ALLOW)
    if effect is None:
        raise invalid("grant.effect", "must be ALLOW or DENY")
    return NewGrant(
        effect=effect,
        role=parse_role(message.role, "grant.role") if message.role else None,
        permissions=frozenset(message.permissions),
        resource=Pattern.parse(message.resource, "grant.resource") if message.resource else None,
        conditions=_parse_conditions(message.conditions),
        expires_at=parse_future(message, "expire_time", "grant.expire_time", now),
        reason=parse_text(message.reason, "grant.reason", LONGEST_REASON),
    )


def _parse_conditions(message: pb.Conditions) -> Conditions:
    context = {condition.key: frozenset(condition.values) for condition in message.context}
    if len(context) != len(message.context):
        raise invalid("grant.conditions.context", "must have each key once")
    return Conditions(
        context, frozenset(message.classes), tuple(parse_network(network) for network in message.networks)
    )


def principal_message(name: Principal, record: PrincipalRecord, now: datetime) -> pb.Principal:
    """Format a principal; a block that has ended is none."""
    blocked = record.blocked_at(now)
    return pb.Principal(
        name=str(name),
        kind=record.kind.name,
        display_name=record.display_name,
        blocked=blocked,
        block_end_time=timestamp(record.blocked_until) if blocked else None,
        block_reason=record.blocked_reason if blocked else "",
        create_time=timestamp(record.created_at),
        creator=record.created_by,
        etag=record.etag,
    )


def grant_message(principal: Principal, grant: Grant) -> pb.Grant:
    """Format a grant."""
    conditions = grant.conditions
    return pb.Grant(
        name=str(GrantName(principal, grant.uid)),
        effect=grant.effect.name,
        role=grant.role or "",
        permissions=sorted(grant.permissions),
        resource=str(grant.resource),
        conditions=pb.Conditions(
            context=[
                pb.ContextCondition(key=key, values=sorted(values))
                for key, values in sorted(conditions.context.items())
            ],
            classes=sorted(conditions.classes),
            networks=[str(network) for network in conditions.networks],
        ),
        expire_time=timestamp(grant.expires_at),
        reason=grant.reason,
        create_time=timestamp(grant.created_at),
        creator=grant.created_by,
    )


def explanation_message(principal: Principal, explanation: Explanation) -> pb.AccessExplanation:
    """Format a decision and what was looked at."""
    decision = explanation.decision
    return pb.AccessExplanation(
        allowed=decision.allowed,
        rule=_RULES[decision.rule],
        grant="" if decision.grant is None else str(GrantName(principal, decision.grant.uid)),
        looks=[
            pb.GrantLook(grant=grant_message(principal, look.grant), applies=look.applies, reason=look.reason)
            for look in explanation.looks
        ],
    )
