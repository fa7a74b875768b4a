"""Values as messages of the API."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Collection
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.census import VersionCensus
from kms.core.classification import CLASSES, Classification, available
from kms.core.keyring import KekState, Tenant
from kms.core.lifecycle import KeyState
from kms.core.names import PolicyName
from kms.core.operations import Operation
from kms.core.policy import (
    NamedPolicy,
    Policy,
    least_quorum,
    logs_data_access,
    required_context,
    rotate_at,
    stop_at,
)
from kms.core.propagation import Propagation
from kms.core.receipts import Receipt
from kms.core.rotation import Lineage, next_due
from kms.core.suites import ProtectionLevel, Suite
from kms.services.keks import KekStatus
from kms.services.statuses import KeyStatus, VersionStatus
from kms.v1 import keys_pb2 as pb
from kms.v1 import operations_pb2, policies_pb2

_KEK_LEAVING: Final = frozenset({KekState.DESTRUCTION_SCHEDULED, KekState.DESTROYING})
_KEK_STATES: Final = MappingProxyType(
    {
        KekState.ACTIVE: pb.KEK_ACTIVE,
        KekState.DESTRUCTION_SCHEDULED: pb.KEK_DESTRUCTION_SCHEDULED,
        KekState.DESTROYING: pb.KEK_DESTRUCTION_SCHEDULED,
        KekState.DESTROYED: pb.KEK_DESTROYED,
    }
)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Format a time; None leaves the field absent."""
    if moment is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def duration(period: timedelta | None) -> Duration | None:
    """Format a length of time; None leaves the field absent."""
    if period is None:
        return None
    length = Duration()
    length.FromTimedelta(period)
    return length


def key_message(status: KeyStatus) -> pb.Key:
    """Format a key."""
    key, own = status.key, status.key.overrides
    # Of what waits for a time, a destruction stands in a field of its own.
    rotation = None if key.destroy_at is not None else next_due(Lineage(key, status.policy))
    return pb.Key(
        name=str(key.name(status.tenant)),
        uid=str(key.uid),
        display_name=key.display_name,
        purpose=key.purpose.name,
        suite=key.suite.name,
        protection_level=key.level.name,
        labels=key.labels,
        rotation_period=duration(own.rotation),
        primary_version=key.primary_version,
        create_time=timestamp(key.created_at),
        rotate_time=timestamp(key.rotated_at),
        creator=key.created_by,
        etag=key.etag,
        state=key.state.name,
        state_reason=key.state_reason,
        state_time=timestamp(key.state_at),
        policy=str(PolicyName(status.tenant.slug, key.policy)) if key.policy else "",
        encryption_limit=own.encryption_limit,
        cache_lifetime=duration(own.cache_lifetime),
        quarantine_period=duration(own.quarantine),
        grace_period=duration(own.grace),
        automatic_retirement=own.automatic_retirement,
        effective_policy=effective_policy_message(status.policy, status.policy_version, key.suite),
        destroy_time=timestamp(key.destroy_at),
        next_rotation_time=timestamp(rotation),
        places_complete_time=timestamp(key.places_complete_at),
        classification=status.policy.classification.name,
        leasable=key.leasable,
    )


def effective_policy_message(policy: Policy, version: int, suite: Suite) -> pb.EffectivePolicy:
    """Format what holds for a key; *version* is that of its named policy, 0 for the built-in one."""
    return pb.EffectivePolicy(
        rotation_period=duration(policy.rotation),
        encryption_limit=stop_at(policy, suite) or 0,
        cache_lifetime=duration(policy.cache_lifetime),
        quarantine_period=duration(policy.quarantine),
        grace_period=duration(policy.grace),
        automatic_retirement=policy.automatic_retirement,
        policy_version=version,
        required_context=sorted(required_context(policy)),
        log_data_access=logs_data_access(policy),
        approvals=least_quorum(policy),
        audit_context=f"AUDIT_CONTEXT_{policy.audit_context.name}",
    )


def version_message(key: KeyStatus, status: VersionStatus) -> pb.KeyVersion:
    """Format a key version."""
    version, uses = status.version, status.uses
    quarantined = version.state is KeyState.DESTRUCTION_SCHEDULED
    return pb.KeyVersion(
        name=key.key.name(key.tenant).version(version.version),
        primary=status.primary,
        kek=key.tenant.name.kek(version.kek_version),
        create_time=timestamp(version.created_at),
        encryptions_reserved=status.encryptions_reserved,
        encryptions_limit=stop_at(key.policy, key.key.suite) or 0,
        encryptions_rotate_at=rotate_at(key.policy, key.key.suite) or 0,
        state=version.state.name,
        state_reason=version.state_reason,
        state_time=timestamp(version.state_at),
        stop_time=timestamp(version.stopped_at),
        destroy_time=timestamp(version.until) if quarantined else None,
        last_use_time=timestamp(uses.last_used_at),
        refused_uses=uses.refused,
        last_refused_time=timestamp(uses.last_refused_at),
        census=census_message(status.census, status.next_step),
        expose_time=timestamp(version.exposed_at),
    )


def census_message(census: VersionCensus, next_step: str) -> pb.VersionCensus:
    """Format what a version still protects, and what remains to be done."""
    return pb.VersionCensus(
        known=not census.unknown,
        count=census.count,
        places=[pb.PlaceTally(place=place, count=count) for place, count in census.places],
        unknown_reasons=census.unknown,
        estimated_end_time=timestamp(census.ends_at),
        next_step=next_step,
    )


def kek_message(tenant: Tenant, status: KekStatus) -> pb.Kek:
    """Format a KEK version."""
    kek = status.kek
    return pb.Kek(
        name=tenant.name.kek(kek.version),
        uid=str(kek.uid),
        primary=status.primary,
        hsm_key_id=kek.hsm_key_id,
        create_time=timestamp(kek.created_at),
        wrapped_key_versions=status.wrapped_key_versions,
        wraps_reserved=status.wraps_reserved,
        state=_KEK_STATES[kek.state],
        destroy_time=timestamp(kek.destroy_at) if kek.state in _KEK_LEAVING else None,
        next_rotation_time=timestamp(status.next_rotation_at),
    )


def policy_message(tenant: Tenant, named: NamedPolicy) -> policies_pb2.Policy:
    """Format one version of a policy."""
    policy = named.policy
    return policies_pb2.Policy(
        name=str(PolicyName(tenant.slug, named.slug)),
        version=named.version,
        rotation_period=duration(policy.rotation),
        encryption_limit=policy.encryption_limit,
        cache_lifetime=duration(policy.cache_lifetime),
        quarantine_period=duration(policy.quarantine),
        grace_period=duration(policy.grace),
        automatic_retirement=policy.automatic_retirement,
        create_time=timestamp(named.created_at),
        creator=named.created_by,
        classification=policy.classification.name,
        required_context=policy.required_context,
        log_data_access=policy.log_data_access,
        approvals=policy.approvals,
        audit_context=f"AUDIT_CONTEXT_{policy.audit_context.name}",
    )


def class_message(classification: Classification, levels: Collection[ProtectionLevel]) -> policies_pb2.ClassRules:
    """Format what a class demands, for a node that has these levels."""
    rules = CLASSES[classification]
    return policies_pb2.ClassRules(
        classification=classification.name,
        available=available(classification, levels),
        encryption_required=rules.encryption_required,
        protection_levels=[level.name for level in rules.levels],
        purposes=[purpose.name for purpose in rules.purposes],
        suites=[suite.name for suite in rules.suites],
        required_context=rules.required_context,
        longest_rotation_period=duration(rules.longest_rotation),
        longest_cache_lifetime=duration(rules.longest_cache),
        log_data_access=rules.log_data_access,
        approvals=rules.least_approvals,
    )


def propagation_message(propagation: Propagation) -> pb.Propagation:
    """Format how a stop has reached the nodes."""
    return pb.Propagation(
        commit_time=timestamp(propagation.commit_time),
        complete=propagation.complete,
        last_stop=duration(propagation.last_stop),
        nodes=[
            pb.NodeStop(node=node.name, state=node.state.name, after=duration(node.after)) for node in propagation.nodes
        ],
    )


def receipt_message(receipt: Receipt) -> pb.DestructionReceipt:
    """Format a receipt of destruction."""
    return pb.DestructionReceipt(
        subject=receipt.subject,
        body=receipt.body,
        signature=receipt.signature,
        create_time=timestamp(receipt.created_at),
    )


def operation_message(tenant: Tenant, operation: Operation) -> operations_pb2.Operation:
    """Format an operation."""
    return operations_pb2.Operation(
        name=operation.name(tenant.name),
        kind=operation.kind.value,
        target=operation.target,
        state=operation.state.name,
        done=operation.done,
        total=operation.total,
        error=operation.error,
        requester=operation.requested_by,
        create_time=timestamp(operation.created_at),
        update_time=timestamp(operation.updated_at),
        end_time=timestamp(operation.ended_at),
        etag=str(operation.revision),
    )


def public_key_pem(der: bytes) -> str:
    """Format a SubjectPublicKeyInfo. Source: RFC 7468, section 13."""
    lines = textwrap.wrap(base64.b64encode(der).decode("ascii"), 64)
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])
