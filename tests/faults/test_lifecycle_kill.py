"""kill -9 of the daemon around the commit of a change of state or policy: it is whole, or it has not happened."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from kms.parts import opened_parts
from kms.settings import load
from kms.v1 import keys_pb2 as pb
from kms.v1 import keys_pb2_grpc, policies_pb2, policies_pb2_grpc
from tests.daemon import Installation, channel

PARENT = "tenants/acme"
KEY = f"{PARENT}/keys/k1"
GOLD = f"{PARENT}/policies/gold"


class Wire:
    """Calls of one tenant's principal to the daemon that runs now."""

    def __init__(self, installation: Installation) -> None:
        profile = installation.directory.parent / "clients" / "tenants-acme-principals-app" / "kms.toml"
        opened = channel(profile)
        grpc.channel_ready_future(opened).result(30)
        self.keys: Any = keys_pb2_grpc.KeyServiceStub(opened)
        self.policies: Any = policies_pb2_grpc.PolicyServiceStub(opened)


@pytest.fixture
def prepared(installation: Installation) -> Installation:
    """A key that has rotated once, and a policy that it names."""
    daemon = installation.start()
    installation.tenant("acme").close()
    wire = Wire(installation)
    wire.policies.CreatePolicy(policies_pb2.CreatePolicyRequest(parent=PARENT, policy_id="gold"))
    key = pb.Key(purpose=pb.ENCRYPT, policy=GOLD)
    wire.keys.CreateKey(pb.CreateKeyRequest(parent=PARENT, key_id="k1", key=key))
    wire.keys.RotateKey(pb.RotateKeyRequest(name=KEY))
    daemon.stop()
    return installation


def killed(installation: Installation, failpoint: str, act: Callable[[Wire], object]) -> Wire:
    """Let the daemon die at *failpoint* while it does *act*; returns calls to the next one."""
    daemon = installation.start(failpoint=failpoint)
    with pytest.raises(grpc.RpcError) as caught:
        act(Wire(installation))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
    assert daemon.process.wait(30) == -signal.SIGKILL
    installation.start()
    return Wire(installation)


COMMITS = [("before_commit", False), ("committed", True)]


@pytest.mark.parametrize(("step", "happened"), COMMITS, ids=[step for step, _ in COMMITS])
def test_a_stop_is_whole_or_has_not_happened(prepared: Installation, step: str, happened: bool) -> None:
    request = pb.RevokeKeyRequest(name=KEY, reason="leaked")
    wire = killed(prepared, f"lifecycle.{step}", lambda wire: wire.keys.RevokeKey(request))
    key = wire.keys.GetKey(pb.GetKeyRequest(name=KEY))
    assert key.state == (pb.REVOKED if happened else pb.ROTATING)
    assert key.state_reason == ("leaked" if happened else "")
    if not happened:
        assert wire.keys.RevokeKey(request).key.state == pb.REVOKED


@pytest.mark.parametrize(
    ("step", "happened"), [(f"rotate_key.{step}", happened) for step, happened in COMMITS], ids=["before", "after"]
)
def test_a_revoked_primary_version_has_its_successor_or_is_not_revoked(
    prepared: Installation, step: str, happened: bool
) -> None:
    request = pb.RevokeKeyVersionRequest(name=f"{KEY}/versions/2", reason="leaked")
    wire = killed(prepared, step, lambda wire: wire.keys.RevokeKeyVersion(request))
    versions = wire.keys.ListKeyVersions(pb.ListKeyVersionsRequest(parent=KEY)).key_versions
    expected = [pb.ROTATING, pb.REVOKED, pb.ACTIVE] if happened else [pb.ROTATING, pb.ACTIVE]
    assert [version.state for version in versions] == expected
    assert [version.primary for version in versions].index(True) == len(versions) - 1
    if not happened:
        assert wire.keys.RevokeKeyVersion(request).key.primary_version == 3


@pytest.mark.parametrize(("step", "happened"), COMMITS, ids=[step for step, _ in COMMITS])
async def test_a_new_version_of_a_policy_and_its_replanning_are_stored_together(
    prepared: Installation, step: str, happened: bool
) -> None:
    rules = policies_pb2.Policy(name=GOLD, rotation_period=Duration(seconds=3600))
    request = policies_pb2.UpdatePolicyRequest(policy=rules, update_mask={"paths": ["rotation_period"]})
    wire = killed(prepared, f"update_policy.{step}", lambda wire: wire.policies.UpdatePolicy(request))
    newest = wire.policies.GetPolicy(policies_pb2.GetPolicyRequest(name=GOLD))
    assert newest.version == (2 if happened else 1)
    prepared.close()
    async with opened_parts(load(prepared.config), compared=False) as parts:
        async with parts.storage.transaction() as work:
            tenant = await work.tenants.get("acme")
        assert tenant is not None
        async with parts.storage.transaction(tenant.uid) as work:
            operations = await work.operations.list_newest(tenant.uid, None, 9)
    assert [operation.target for operation in operations] == ([f"{GOLD}/versions/2"] if happened else [])
