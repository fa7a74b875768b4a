"""The SDK's values as records of plain JSON types: times as RFC 3339 in UTC, periods in seconds, choices by name."""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from enum import IntEnum

from kms_client import (
    ClassRules,
    DestructionReceipt,
    EffectivePolicy,
    Enclave,
    Kek,
    Key,
    KeyVersion,
    Node,
    NodeEnclave,
    Operation,
    PartHealth,
    Place,
    Places,
    Policy,
    Propagation,
    Tenant,
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
    told = {
        "required_context": list(owner.required_context),
        "log_data_access": owner.log_data_access,
        "approvals": owner.approvals,
    }
    return told if isinstance(owner, ClassRules) else {**told, "audit_context": choice(owner.audit_context)}


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
        "leasable": key.leasable,
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
        "expose_time": moment(version.expose_time),
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


def of_node_enclave(enclave: NodeEnclave) -> Record:
    """Return all fields of a node's enclave; SIMULATED stands first where it is, quote and signature are base64."""
    return {
        "name": enclave.name,
        "assurance": "SIMULATED" if enclave.simulated else "hardware",
        "node": enclave.node,
        "node_uid": enclave.node_uid,
        "active": enclave.active,
        "health": enclave.health,
        "health_reason": enclave.health_reason,
        "state": enclave.state,
        "restarts": enclave.restarts,
        **_identity(enclave),
        "attestation_status": enclave.attestation_status,
        "attestation_reason": enclave.attestation_reason,
        "quote": base64.b64encode(enclave.quote).decode("ascii"),
        "signature": base64.b64encode(enclave.signature).decode("ascii"),
        "attest_time": moment(enclave.attest_time),
        "attest_expire_time": moment(enclave.attest_expire_time),
        "create_time": moment(enclave.create_time),
        "update_time": moment(enclave.update_time),
        "revision": enclave.revision,
    }


def of_enclave(enclave: Enclave) -> Record:
    """Return all fields of an enclave; SIMULATED stands first where it is."""
    return {
        "assurance": "SIMULATED" if enclave.simulated else "hardware" if enclave.in_use else None,
        "in_use": enclave.in_use,
        "state": enclave.state,
        "reason": enclave.reason,
        "restarts": enclave.restarts,
        **_identity(enclave),
        "attest_time": moment(enclave.attest_time),
        "attest_expire_time": moment(enclave.attest_expire_time),
    }


def _identity(enclave: Enclave | NodeEnclave) -> Record:
    return {
        "backend": enclave.backend,
        "mrenclave": enclave.mrenclave.hex(),
        "mrsigner": enclave.mrsigner.hex(),
        "isv_prod_id": enclave.isv_prod_id,
        "isv_svn": enclave.isv_svn,
        "cpu_svn": enclave.cpu_svn.hex(),
        "debug": enclave.debug,
        "freshness": enclave.freshness,
        "measures": [one.name for one in enclave.measures if one.done],
        "measures_missing": [f"{one.name}: {one.detail}" for one in enclave.measures if not one.done],
        "platform_id": enclave.platform_id.hex(),
    }


def of_part(part: PartHealth) -> Record:
    """Return all fields of the health of a part."""
    return {
        "name": part.name,
        "status": choice(part.status),
        "reason": part.reason,
        "response_seconds": _exact(part.response_time),
        "since_time": moment(part.since_time),
        "looks": part.looks,
        "availability": round(part.availability, 4),
        "error_rate": round(part.error_rate, 4),
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
