"""The SDK's values as records of plain JSON types: times as RFC 3339 in UTC, periods in seconds, choices by name."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from enum import IntEnum

from kms_client import (
    AccessExplanation,
    AccessPrincipal,
    Approval,
    Caller,
    ClassRules,
    DestructionReceipt,
    EffectivePolicy,
    Grant,
    Kek,
    Key,
    KeyVersion,
    Node,
    Operation,
    PinnedCertificate,
    Place,
    Places,
    Policy,
    Propagation,
    QuorumRule,
    Role,
    SecurityEvent,
    SecurityEventSum,
    Tenant,
    Token,
    VersionCensus,
)

from .output import Record


def moment(time: datetime | None) -> str | None:
    """Write a time; None where there is none."""
    return None if time is None else time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def choice(value: int) -> str:
    """Name a purpose, suite, level or state as options of this command do; an unknown one is its number."""
    return value.name.lower().replace("_", "-") if isinstance(value, IntEnum) else str(value)


def _whole(period: timedelta | None) -> int | None:
    return None if period is None else int(period.total_seconds())


def _exact(period: timedelta | None) -> float | None:
    return None if period is None else period.total_seconds()


def of_tenant(tenant: Tenant) -> Record:
    """Return all fields of a tenant."""
    return {
        "name": tenant.name,
        "uid": tenant.uid,
        "display_name": tenant.display_name,
        "create_time": moment(tenant.create_time),
    }


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


def _rules(owner: Key | Policy | EffectivePolicy) -> Record:
    return {
        "rotation_period_seconds": _whole(owner.rotation_period),
        "encryption_limit": owner.encryption_limit,
        "cache_lifetime_seconds": _whole(owner.cache_lifetime),
        "quarantine_period_seconds": _whole(owner.quarantine_period),
        "grace_period_seconds": _whole(owner.grace_period),
        "automatic_retirement": owner.automatic_retirement,
    }


def _protections(owner: Policy | EffectivePolicy | ClassRules) -> Record:
    return {
        "required_context": list(owner.required_context),
        "log_data_access": owner.log_data_access,
        "approvals": owner.approvals,
    }


def of_key(key: Key) -> Record:
    """Return all fields of a key; its own rules are null where it has its policy's."""
    return {
        "name": key.name,
        "uid": key.uid,
        "display_name": key.display_name,
        "state": choice(key.state),
        "state_reason": key.state_reason,
        "state_time": moment(key.state_time),
        "purpose": choice(key.purpose),
        "suite": choice(key.suite),
        "protection_level": choice(key.protection_level),
        "primary_version": key.primary_version,
        "classification": choice(key.classification),
        "policy": key.policy,
        **_rules(key),
        "effective_policy": {
            **_rules(key.effective_policy),
            **_protections(key.effective_policy),
            "policy_version": key.effective_policy.policy_version,
        },
        "labels": dict(sorted(key.labels.items())),
        "create_time": moment(key.create_time),
        "rotate_time": moment(key.rotate_time),
        "next_rotation_time": moment(key.next_rotation_time),
        "destroy_time": moment(key.destroy_time),
        "places_complete_time": moment(key.places_complete_time),
        "creator": key.creator,
        "etag": key.etag,
    }


def _of_census(census: VersionCensus) -> Record:
    """Return all fields of a census; *count* is null where it is not known, for unknown is not zero."""
    return {
        "known": census.known,
        "count": census.count if census.known else None,
        "counted_so_far": census.count,
        "places": dict(census.places),
        "unknown_reasons": list(census.unknown_reasons),
        "estimated_end_time": moment(census.estimated_end_time),
        "next_step": census.next_step,
    }


def of_key_version(version: KeyVersion) -> Record:
    """Return all fields of a key version."""
    return {
        "name": version.name,
        "version": version.version,
        "primary": version.primary,
        "state": choice(version.state),
        "state_reason": version.state_reason,
        "state_time": moment(version.state_time),
        "kek": version.kek,
        "create_time": moment(version.create_time),
        "stop_time": moment(version.stop_time),
        "destroy_time": moment(version.destroy_time),
        "encryptions_reserved": version.encryptions_reserved,
        "encryptions_rotate_at": version.encryptions_rotate_at,
        "encryptions_limit": version.encryptions_limit,
        "last_use_time": moment(version.last_use_time),
        "refused_uses": version.refused_uses,
        "last_refused_time": moment(version.last_refused_time),
        "census": _of_census(version.census),
    }


def of_kek(kek: Kek) -> Record:
    """Return all fields of a KEK version."""
    return {
        "name": kek.name,
        "uid": kek.uid,
        "version": kek.version,
        "primary": kek.primary,
        "state": choice(kek.state),
        "hsm_key_id": kek.hsm_key_id,
        "create_time": moment(kek.create_time),
        "next_rotation_time": moment(kek.next_rotation_time),
        "destroy_time": moment(kek.destroy_time),
        "wrapped_key_versions": kek.wrapped_key_versions,
        "wraps_reserved": kek.wraps_reserved,
    }


def of_propagation(propagation: Propagation) -> Record:
    """Return all fields of a propagation; times of nodes are seconds after the commit."""
    return {
        "commit_time": moment(propagation.commit_time),
        "complete": propagation.complete,
        "last_stop_seconds": _exact(propagation.last_stop),
        "nodes": [
            {"node": node.node, "state": choice(node.state), "after_seconds": _exact(node.after)}
            for node in propagation.nodes
        ],
    }


def of_policy(policy: Policy) -> Record:
    """Return all fields of a policy."""
    return {
        "name": policy.name,
        "version": policy.version,
        "classification": choice(policy.classification),
        **_rules(policy),
        **_protections(policy),
        "create_time": moment(policy.create_time),
        "creator": policy.creator,
    }


def of_class(rules: ClassRules) -> Record:
    """Return what a class demands; without a longest rotation period there is no limit, and not by time is allowed."""
    return {
        "classification": choice(rules.classification),
        "available": rules.available,
        "encryption_required": rules.encryption_required,
        "protection_levels": [choice(level) for level in rules.protection_levels],
        "purposes": [choice(purpose) for purpose in rules.purposes],
        "suites": [choice(suite) for suite in rules.suites],
        "longest_rotation_period_seconds": _whole(rules.longest_rotation_period),
        "longest_cache_lifetime_seconds": _whole(rules.longest_cache_lifetime),
        **_protections(rules),
    }


def of_place(place: Place) -> Record:
    """Return all fields of a place; counts are by version."""
    return {
        "name": place.name,
        "kind": choice(place.kind),
        "description": place.description,
        "create_time": moment(place.create_time),
        "creator": place.creator,
        "count_time": moment(place.count_time),
        "reporter": place.reporter,
        "counts": None if place.count_time is None else {str(n): count for n, count in place.counts.items()},
    }


def of_places(places: Places) -> Record:
    """Return the places of a key, and since when they are declared to be all there are."""
    return {
        "complete_time": moment(places.complete_time),
        "declarer": places.declarer,
        "places": [of_place(place) for place in places.places],
    }


def of_operation(operation: Operation) -> Record:
    """Return all fields of an operation."""
    return {
        "name": operation.name,
        "kind": operation.kind,
        "target": operation.target,
        "state": choice(operation.state),
        "done": operation.done,
        "total": operation.total,
        "error": operation.error,
        "requester": operation.requester,
        "create_time": moment(operation.create_time),
        "update_time": moment(operation.update_time),
        "end_time": moment(operation.end_time),
        "etag": operation.etag,
    }


def of_receipt(receipt: DestructionReceipt) -> Record:
    """Return all fields of a receipt; the signature in base64."""
    return {
        "subject": receipt.subject,
        "create_time": moment(receipt.create_time),
        "body": receipt.body,
        "signature": base64.b64encode(receipt.signature).decode("ascii"),
    }


def of_node(node: Node) -> Record:
    """Return all fields of a node."""
    return {
        "uid": node.uid,
        "name": node.name,
        "start_time": moment(node.start_time),
        "seen_time": moment(node.seen_time),
        "acknowledged_epoch": node.acknowledged_epoch,
        "self": node.is_self,
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
