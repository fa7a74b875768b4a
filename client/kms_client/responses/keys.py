"""From messages to values: keys, their versions, KEKs, and how a stop reaches the nodes."""

from __future__ import annotations

from ..formats.suites import ProtectionLevel, Purpose, Suite
from ..v1 import keys_pb2
from ..values import (
    Classification,
    Kek,
    KekState,
    Key,
    KeyState,
    KeyVersion,
    NodeStop,
    Propagation,
    StoppedKey,
    StoppedKeyVersion,
    StopState,
)
from .places import version_census
from .policies import effective_policy
from .reading import known, last_number, period_if, time, time_if


def key(message: keys_pb2.Key) -> Key:
    """Read a Key."""
    return Key(
        name=message.name,
        uid=message.uid,
        display_name=message.display_name,
        purpose=known(Purpose, message.purpose),
        suite=known(Suite, message.suite),
        protection_level=known(ProtectionLevel, message.protection_level),
        primary_version=message.primary_version,
        state=known(KeyState, message.state),
        state_reason=message.state_reason,
        state_time=time(message.state_time),
        create_time=time(message.create_time),
        rotate_time=time(message.rotate_time),
        creator=message.creator,
        etag=message.etag,
        labels=dict(message.labels),
        policy=message.policy,
        rotation_period=period_if(message, "rotation_period"),
        encryption_limit=message.encryption_limit if message.HasField("encryption_limit") else None,
        cache_lifetime=period_if(message, "cache_lifetime"),
        quarantine_period=period_if(message, "quarantine_period"),
        grace_period=period_if(message, "grace_period"),
        automatic_retirement=message.automatic_retirement if message.HasField("automatic_retirement") else None,
        effective_policy=effective_policy(message.effective_policy),
        destroy_time=time_if(message, "destroy_time"),
        next_rotation_time=time_if(message, "next_rotation_time"),
        places_complete_time=time_if(message, "places_complete_time"),
        classification=known(Classification, message.classification),
        leasable=message.leasable,
    )


def key_version(message: keys_pb2.KeyVersion) -> KeyVersion:
    """Read a KeyVersion."""
    return KeyVersion(
        name=message.name,
        version=last_number(message.name),
        primary=message.primary,
        kek=message.kek,
        create_time=time(message.create_time),
        encryptions_reserved=message.encryptions_reserved,
        encryptions_limit=message.encryptions_limit or None,
        encryptions_rotate_at=message.encryptions_rotate_at or None,
        state=known(KeyState, message.state),
        state_reason=message.state_reason,
        state_time=time(message.state_time),
        stop_time=time_if(message, "stop_time"),
        destroy_time=time_if(message, "destroy_time"),
        last_use_time=time_if(message, "last_use_time"),
        refused_uses=message.refused_uses,
        last_refused_time=time_if(message, "last_refused_time"),
        census=version_census(message.census),
        expose_time=time_if(message, "expose_time"),
    )


def kek(message: keys_pb2.Kek) -> Kek:
    """Read a Kek."""
    return Kek(
        name=message.name,
        uid=message.uid,
        version=last_number(message.name),
        primary=message.primary,
        hsm_key_id=message.hsm_key_id,
        create_time=time(message.create_time),
        wrapped_key_versions=message.wrapped_key_versions,
        wraps_reserved=message.wraps_reserved,
        state=known(KekState, message.state),
        destroy_time=time_if(message, "destroy_time"),
        next_rotation_time=time_if(message, "next_rotation_time"),
    )


def propagation(message: keys_pb2.Propagation) -> Propagation:
    """Read a Propagation."""
    return Propagation(
        commit_time=time(message.commit_time),
        complete=message.complete,
        last_stop=period_if(message, "last_stop"),
        nodes=tuple(
            NodeStop(node.node, known(StopState, node.state), period_if(node, "after")) for node in message.nodes
        ),
    )


def stopped_key(message: keys_pb2.SuspendKeyResponse | keys_pb2.RevokeKeyResponse) -> StoppedKey:
    """Read a SuspendKeyResponse or a RevokeKeyResponse."""
    return StoppedKey(key(message.key), propagation(message.propagation))


def stopped_key_version(message: keys_pb2.RevokeKeyVersionResponse) -> StoppedKeyVersion:
    """Read a RevokeKeyVersionResponse."""
    return StoppedKeyVersion(key_version(message.key_version), key(message.key), propagation(message.propagation))
