"""What `kms` shows of who may do what, and of what was noticed: principals, credentials, approvals, security events."""

from __future__ import annotations

from kms_client import (
    AccessExplanation,
    AccessPrincipal,
    Approval,
    Caller,
    Grant,
    PinnedCertificate,
    QuorumRule,
    Role,
    SecurityEvent,
    SecurityEventSum,
    Token,
)

from .output import Record
from .records import choice, moment


def of_approval(approval: Approval) -> Record:
    """Return all fields of a request for approval; the request itself as it would be sent."""
    return {
        "name": approval.name,
        "state": choice(approval.state),
        "method": approval.method,
        "permission": approval.permission,
        "resources": list(approval.resources),
        "requester": approval.requester,
        "reason": approval.reason,
        "request": approval.request_json,
        "digest": approval.digest,
        "needed": approval.needed,
        "approvals": sum(vote.approved for vote in approval.votes),
        "votes": [
            {
                "principal": vote.principal,
                "approved": vote.approved,
                "comment": vote.comment,
                "vote_time": moment(vote.vote_time),
                "credential": vote.credential,
            }
            for vote in approval.votes
        ],
        "create_time": moment(approval.create_time),
        "expire_time": moment(approval.expire_time),
        "state_time": moment(approval.state_time),
    }


def of_quorum_rule(rule: QuorumRule) -> Record:
    """Return all fields of a quorum rule."""
    return {
        "name": rule.name,
        "permission": rule.permission,
        "approvals": rule.approvals,
        "is_default": rule.is_default,
        "update_time": moment(rule.update_time),
        "updater": rule.updater,
    }


def of_principal(principal: AccessPrincipal) -> Record:
    """Return all fields of a principal."""
    return {
        "name": principal.name,
        "kind": choice(principal.kind),
        "display_name": principal.display_name,
        "blocked": principal.blocked,
        "block_end_time": moment(principal.block_end_time),
        "block_reason": principal.block_reason,
        "create_time": moment(principal.create_time),
        "creator": principal.creator,
        "etag": principal.etag,
    }


def of_grant(grant: Grant) -> Record:
    """Return all fields of a grant."""
    conditions = grant.conditions
    return {
        "name": grant.name,
        "effect": choice(grant.effect),
        "role": grant.role,
        "permissions": list(grant.permissions),
        "resource": grant.resource,
        "conditions": {
            "context": {key: list(values) for key, values in conditions.context.items()},
            "classes": list(conditions.classes),
            "networks": list(conditions.networks),
        },
        "expire_time": moment(grant.expire_time),
        "reason": grant.reason,
        "create_time": moment(grant.create_time),
        "creator": grant.creator,
    }


def of_role(role: Role) -> Record:
    """Return all fields of a role."""
    return {"name": role.name, "permissions": list(role.permissions)}


def of_explanation(explanation: AccessExplanation) -> Record:
    """Return a decision, and every grant that was looked at."""
    return {
        "allowed": explanation.allowed,
        "rule": choice(explanation.rule),
        "grant": explanation.grant or None,
        "looks": [
            {"grant": of_grant(look.grant), "applies": look.applies, "reason": look.reason}
            for look in explanation.looks
        ],
    }


def of_token(token: Token) -> Record:
    """Return all fields of a token, which has no secret any more."""
    limits = token.limits
    return {
        "name": token.name,
        "principal": token.principal,
        "display_name": token.display_name,
        "state": choice(token.state),
        "scopes": [choice(scope) for scope in token.scopes],
        "allowed_networks": list(token.allowed_networks),
        "allowed_origins": list(token.allowed_origins),
        "limits": {
            "requests_per_minute": limits.requests_per_minute,
            "requests_per_hour": limits.requests_per_hour,
            "requests_per_day": limits.requests_per_day,
            "requests_per_second": limits.requests_per_second,
            "burst": limits.burst,
        },
        "create_time": moment(token.create_time),
        "creator": token.creator,
        "expire_time": moment(token.expire_time),
        "revoke_time": moment(token.revoke_time),
        "revoker": token.revoker,
        "revoke_reason": token.revoke_reason,
        "successor": token.successor,
        "overlap_end_time": moment(token.overlap_end_time),
        "last_use_time": moment(token.last_use_time),
        "use_count": token.use_count,
    }


def of_pin(pin: PinnedCertificate) -> Record:
    """Return all fields of a pinned certificate."""
    return {
        "principal": pin.principal,
        "fingerprint": pin.fingerprint,
        "create_time": moment(pin.create_time),
        "creator": pin.creator,
    }


def of_caller(caller: Caller) -> Record:
    """Return who one is to the daemon."""
    return {
        "principal": caller.principal,
        "credential_kind": caller.credential_kind,
        "credential_id": caller.credential_id,
        "scopes": [choice(scope) for scope in caller.scopes],
        "address": caller.address,
        "origin": caller.origin,
    }


def of_security_event(event: SecurityEvent) -> Record:
    """Return all fields of a security event."""
    return {
        "name": event.name,
        "type": event.type,
        "severity": choice(event.severity),
        "category": event.category,
        "risk": event.risk,
        "first_time": moment(event.first_time),
        "last_time": moment(event.last_time),
        "count": event.count,
        "create_time": moment(event.create_time),
        "description": event.description,
        "indicators": list(event.indicators),
        "blocked": event.blocked,
        "address": event.address,
        "principal": event.principal,
        "credential_kind": event.credential_kind,
        "credential_id": event.credential_id,
        "method": event.method,
        "resource": event.resource,
        "request_id": event.request_id,
        "answer": event.answer,
        "outcome": event.outcome,
        "notes": event.notes,
        "false_alarm": event.false_alarm,
        "incident": event.incident,
        "resolved": event.resolved,
        "resolve_time": moment(event.resolve_time),
        "resolver": event.resolver,
        "etag": event.etag,
    }


def of_security_event_sum(one: SecurityEventSum) -> Record:
    """Return all fields of one sum of security events."""
    return {
        "day": one.day.isoformat(),
        "type": one.type,
        "severity": choice(one.severity),
        "events": one.events,
        "occurrences": one.occurrences,
        "resolved": one.resolved,
    }
