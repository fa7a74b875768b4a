"""States and policies over the wire, against a real daemon."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from kms.v1 import keys_pb2 as pb
from kms.v1 import keys_pb2_grpc, policies_pb2, policies_pb2_grpc
from tests.daemon import Installation, Service, channel

PARENT = "tenants/acme"
HOUR = 3600
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def wire(service: Service) -> grpc.Channel:
    return channel(service.acme_profile)


@pytest.fixture(scope="session")
def keys(wire: grpc.Channel) -> Any:
    return keys_pb2_grpc.KeyServiceStub(wire)


@pytest.fixture(scope="session")
def policies(wire: grpc.Channel) -> Any:
    return policies_pb2_grpc.PolicyServiceStub(wire)


@pytest.fixture
def slug() -> str:
    """A name that no other test of this worker has."""
    return f"life-{next(_numbers)}"


def create(keys: Any, slug: str, *, pending: bool = False, **fields: Any) -> pb.Key:
    key = pb.Key(**({"purpose": pb.ENCRYPT} | fields))
    return keys.CreateKey(pb.CreateKeyRequest(parent=PARENT, key_id=slug, key=key, pending=pending))


def get(keys: Any, slug: str) -> pb.Key:
    return keys.GetKey(pb.GetKeyRequest(name=f"{PARENT}/keys/{slug}"))


def refused(act: Callable[[], Any]) -> tuple[str, str, str]:
    """Make a call that must fail; returns code, reason and message."""
    with pytest.raises(grpc.RpcError) as caught:
        act()
    error: Any = caught.value
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo.FromString(status.details[0].value)
    return error.code().name, info.reason, error.details()


def test_a_key_from_pending_to_revoked(keys: Any, slug: str) -> None:
    pending = create(keys, slug, pending=True)
    assert (pending.state, pending.primary_version) == (pb.PENDING, 1)
    name = pending.name
    assert refused(lambda: keys.RotateKey(pb.RotateKeyRequest(name=name))) == (
        "FAILED_PRECONDITION",
        "WRONG_KEY_STATE",
        f"key {slug} is pending: it cannot rotate",
    )
    active = keys.ActivateKey(pb.ActivateKeyRequest(name=name))
    assert active.state == pb.ACTIVE
    assert active.next_rotation_time.ToDatetime(UTC) == active.state_time.ToDatetime(UTC) + timedelta(hours=24)
    assert keys.RotateKey(pb.RotateKeyRequest(name=name)).state == pb.ROTATING

    before = datetime.now(UTC)
    suspended = keys.SuspendKey(pb.SuspendKeyRequest(name=name, reason="audit", wait=True))
    assert (suspended.key.state, suspended.key.state_reason) == (pb.SUSPENDED, "audit")
    assert suspended.propagation.complete
    assert before <= suspended.propagation.commit_time.ToDatetime(UTC) <= datetime.now(UTC)
    assert suspended.propagation.last_stop.ToTimedelta() < timedelta(seconds=10)
    assert refused(lambda: keys.SuspendKey(pb.SuspendKeyRequest(name=name, reason="again")))[2] == (
        f"key {slug} is suspended: it cannot suspend"
    )
    assert keys.ResumeKey(pb.ResumeKeyRequest(name=name)).state == pb.ACTIVE
    assert keys.ArchiveKey(pb.ArchiveKeyRequest(name=name)).state == pb.ARCHIVED
    assert refused(lambda: keys.ResumeKey(pb.ResumeKeyRequest(name=name)))[:2] == (
        "FAILED_PRECONDITION",
        "WRONG_KEY_STATE",
    )
    revoked = keys.RevokeKey(pb.RevokeKeyRequest(name=name, reason="key file on a lost laptop"))
    assert (revoked.key.state, revoked.key.state_reason) == (pb.REVOKED, "key file on a lost laptop")
    assert get(keys, slug) == revoked.key


def test_a_revoked_version_is_replaced_and_the_key_goes_on(service: Service, keys: Any, slug: str) -> None:
    name = create(keys, slug).name
    service.acme.encrypt(name, b"before")
    answer = keys.RevokeKeyVersion(pb.RevokeKeyVersionRequest(name=f"{name}/versions/1", reason="leaked", wait=True))
    assert (answer.key_version.state, answer.key_version.primary) == (pb.REVOKED, False)
    assert (answer.key.state, answer.key.primary_version) == (pb.ACTIVE, 2)
    assert service.acme.encrypt(name, b"after").version == 2
    versions = keys.ListKeyVersions(pb.ListKeyVersionsRequest(parent=name)).key_versions
    assert [(version.state, version.state_reason) for version in versions] == [(pb.REVOKED, "leaked"), (pb.ACTIVE, "")]
    keys.SuspendKey(pb.SuspendKeyRequest(name=name, reason="x"))
    request = pb.RevokeKeyVersionRequest(name=f"{name}/versions/2", reason="leaked, too")
    assert refused(lambda: keys.RevokeKeyVersion(request))[2].endswith("revoke the key instead")


def test_an_etag_decides_where_it_is_given(keys: Any, slug: str) -> None:
    first = create(keys, slug)
    stopped = keys.SuspendKey(pb.SuspendKeyRequest(name=first.name, reason="x", etag=first.etag)).key
    assert stopped.etag != first.etag
    stale = pb.RevokeKeyRequest(name=first.name, reason="x", etag=first.etag)
    assert refused(lambda: keys.RevokeKey(stale))[:2] == ("ABORTED", "CONFLICT")
    assert get(keys, slug) == stopped


def test_another_tenants_key_cannot_be_stopped(service: Service, keys: Any) -> None:
    theirs = "tenants/globex/keys/encrypt"
    for act in (
        lambda: keys.SuspendKey(pb.SuspendKeyRequest(name=theirs, reason="x")),
        lambda: keys.RevokeKey(pb.RevokeKeyRequest(name=theirs, reason="x")),
        lambda: keys.ArchiveKey(pb.ArchiveKeyRequest(name=theirs)),
        lambda: keys.RevokeKeyVersion(pb.RevokeKeyVersionRequest(name=f"{theirs}/versions/1", reason="x")),
    ):
        assert refused(act)[:2] == ("NOT_FOUND", "NOT_FOUND")
    assert service.globex.encrypt(theirs, b"x").version >= 1


def test_policies_end_to_end(keys: Any, policies: Any, slug: str) -> None:
    gold = policies_pb2.Policy(
        rotation_period=Duration(seconds=12 * HOUR), encryption_limit=10_000, grace_period=Duration(seconds=120)
    )
    request = policies_pb2.CreatePolicyRequest(parent=PARENT, policy_id=slug, policy=gold)
    made = policies.CreatePolicy(request)
    assert (made.version, made.quarantine_period.seconds) == (1, 7 * 24 * HOUR)
    assert refused(lambda: policies.CreatePolicy(request))[:2] == ("ALREADY_EXISTS", "ALREADY_EXISTS")

    key = create(keys, slug, policy=made.name, cache_lifetime=Duration(seconds=10))
    assert (key.policy, key.effective_policy.policy_version) == (made.name, 1)
    assert key.effective_policy.encryption_limit == 10_000
    assert key.next_rotation_time.ToDatetime() == key.create_time.ToDatetime() + timedelta(hours=12)

    change = policies_pb2.UpdatePolicyRequest(
        policy=policies_pb2.Policy(name=made.name, version=1, rotation_period=Duration(seconds=HOUR)),
        update_mask={"paths": ["rotation_period"]},
    )
    assert policies.UpdatePolicy(change).version == 2
    assert refused(lambda: policies.UpdatePolicy(change))[:2] == ("ABORTED", "CONFLICT")
    key = get(keys, slug)
    assert key.effective_policy.policy_version == 2
    assert key.next_rotation_time.ToDatetime() == key.create_time.ToDatetime() + timedelta(hours=1)
    listed = policies.ListPolicyVersions(policies_pb2.ListPolicyVersionsRequest(parent=made.name)).policies
    assert [policy.rotation_period.seconds for policy in listed] == [12 * HOUR, HOUR]
    assert made == listed[0]  # a version never changes
    newest = policies.GetPolicy(policies_pb2.GetPolicyRequest(name=made.name))
    assert newest == listed[1]
    assert newest in policies.ListPolicies(policies_pb2.ListPoliciesRequest(parent=PARENT)).policies

    changed = keys.UpdateKey(
        pb.UpdateKeyRequest(
            key=pb.Key(name=key.name, grace_period=Duration(seconds=60)),
            update_mask={"paths": ["grace_period", "cache_lifetime", "policy"]},
        )
    )
    assert (changed.policy, changed.grace_period.seconds) == ("", 60)
    assert not changed.HasField("cache_lifetime")
    assert changed.effective_policy.cache_lifetime.seconds == 300


def test_a_state_and_a_policy_survive_a_kill(installation: Installation) -> None:
    """What was acknowledged is durable: the daemon is killed at once after each answer."""
    daemon = installation.start()
    installation.tenant("acme").close()
    profile = installation.directory.parent / "clients" / "tenants-acme-principals-app" / "kms.toml"

    def restarted() -> tuple[Any, Any]:
        nonlocal daemon
        daemon.process.kill()
        daemon.stop()
        daemon = installation.start()
        fresh = channel(profile)
        grpc.channel_ready_future(fresh).result(30)
        return keys_pb2_grpc.KeyServiceStub(fresh), policies_pb2_grpc.PolicyServiceStub(fresh)

    keys, policies = restarted()
    made = policies.CreatePolicy(policies_pb2.CreatePolicyRequest(parent=PARENT, policy_id="gold"))
    key = create(keys, "k1", policy=made.name)
    keys, policies = restarted()
    stopped = keys.SuspendKey(pb.SuspendKeyRequest(name=key.name, reason="fire")).key
    request = policies_pb2.UpdatePolicyRequest(
        policy=policies_pb2.Policy(name=made.name, grace_period=Duration(seconds=60)),
        update_mask={"paths": ["grace_period"]},
    )
    policies.UpdatePolicy(request)
    keys, policies = restarted()
    shown = get(keys, "k1")
    assert (shown.state, shown.state_reason, shown.etag) == (pb.SUSPENDED, "fire", stopped.etag)
    assert (shown.effective_policy.policy_version, shown.effective_policy.grace_period.seconds) == (2, 60)
