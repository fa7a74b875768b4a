"""From messages to values: policies."""

from __future__ import annotations

from ..formats.suites import ProtectionLevel, Purpose, Suite
from ..v1 import keys_pb2, policies_pb2
from ..values import AuditContext, Classification, ClassRules, EffectivePolicy, Policy
from .reading import known, period, period_if, time


def policy(message: policies_pb2.Policy) -> Policy:
    """Read a Policy."""
    return Policy(
        name=message.name,
        version=message.version,
        rotation_period=period(message.rotation_period),
        encryption_limit=message.encryption_limit,
        cache_lifetime=period(message.cache_lifetime),
        quarantine_period=period(message.quarantine_period),
        grace_period=period(message.grace_period),
        automatic_retirement=message.automatic_retirement,
        create_time=time(message.create_time),
        creator=message.creator,
        classification=known(Classification, message.classification),
        required_context=tuple(message.required_context),
        log_data_access=message.log_data_access,
        approvals=message.approvals,
        audit_context=known(AuditContext, message.audit_context),
    )


def effective_policy(message: keys_pb2.EffectivePolicy) -> EffectivePolicy:
    """Read an EffectivePolicy."""
    return EffectivePolicy(
        rotation_period=period(message.rotation_period),
        encryption_limit=message.encryption_limit or None,
        cache_lifetime=period(message.cache_lifetime),
        quarantine_period=period(message.quarantine_period),
        grace_period=period(message.grace_period),
        automatic_retirement=message.automatic_retirement,
        policy_version=message.policy_version,
        required_context=tuple(message.required_context),
        log_data_access=message.log_data_access,
        approvals=message.approvals,
        audit_context=known(AuditContext, message.audit_context),
    )


def classes(message: policies_pb2.ListClassesResponse) -> list[ClassRules]:
    """Read a ListClassesResponse."""
    return [
        ClassRules(
            classification=known(Classification, each.classification),
            available=each.available,
            encryption_required=each.encryption_required,
            protection_levels=tuple(known(ProtectionLevel, level) for level in each.protection_levels),
            purposes=tuple(known(Purpose, purpose) for purpose in each.purposes),
            suites=tuple(known(Suite, suite) for suite in each.suites),
            required_context=tuple(each.required_context),
            longest_rotation_period=period_if(each, "longest_rotation_period"),
            longest_cache_lifetime=period(each.longest_cache_lifetime),
            log_data_access=each.log_data_access,
            approvals=each.approvals,
        )
        for each in message.classes
    ]
