"""From messages to values: policies."""

from __future__ import annotations

from ..v1 import keys_pb2, policies_pb2
from ..values import EffectivePolicy, Policy
from .reading import period, time


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
    )
