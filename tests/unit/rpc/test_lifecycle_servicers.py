"""The servicers of the lifecycle and of policies over real services: what they read, and what they show."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from kms.core.census import Uses
from kms.core.classification import Classification
from kms.core.errors import Conflict, InvalidRequest, NotFound, NotSupported, WrongKeyState
from kms.core.keyring import Kek, KekState
from kms.core.lifecycle import KeyState
from kms.core.names import KeyVersionName, Principal, TenantName
from kms.core.operations import Operation, OperationKind, OperationState, OperationUid
from kms.core.ports import Counter
from kms.core.propagation import NodeStop, Propagation, StopState
from kms.core.receipts import Receipt, ReceiptUid
from kms.core.suites import Purpose
from kms.rpc.keys import KeyServicer
from kms.rpc.messages import kek_message, operation_message, propagation_message
from kms.rpc.policies import PolicyServicer
from kms.services.keks import KekStatus
from kms.services.statuses import KeyStatus, VersionStatus
from kms.v1 import keys_pb2 as pb
from kms.v1 import operations_pb2, policies_pb2
from tests.lifecycles import key_in, stored_version
from tests.node import Node, now

pytestmark = pytest.mark.softhsm

KEY = "tenants/acme/keys/payroll"
PARENT = "tenants/acme"
HOUR = 3600


@pytest.fixture
async def acme(node: Node) -> Principal:
    return await node.tenant("acme")


@pytest.fixture
def keys(node: Node) -> KeyServicer:
    return KeyServicer(node.keys, node.keks, node.lifecycle)


@pytest.fixture
def policies(node: Node) -> PolicyServicer:
    return PolicyServicer(node.policies)


async def create(keys: KeyServicer, caller: Principal, *, pending: bool = False, **fields: Any) -> pb.Key:
    key = pb.Key(purpose=pb.ENCRYPT, **fields)
    request = pb.CreateKeyRequest(parent=PARENT, key_id="payroll", key=key, pending=pending)
    return await keys.CreateKey(request, caller)


async def update(keys: KeyServicer, caller: Principal, paths: list[str], **fields: Any) -> pb.Key:
    request = pb.UpdateKeyRequest(key=pb.Key(name=KEY, **fields), update_mask={"paths": paths})
    return await keys.UpdateKey(request, caller)


def test_the_states_of_the_api_are_those_of_the_core():
    assert set(pb.KeyState.keys()) == {"KEY_STATE_UNSPECIFIED", *(state.name for state in KeyState)}
    assert set(pb.NodeStop.State.keys()) == {"STATE_UNSPECIFIED", *(state.name for state in StopState)}
    assert set(operations_pb2.Operation.State.keys()) == {
        "STATE_UNSPECIFIED",
        *(state.name for state in OperationState),
    }


async def test_a_key_shows_what_it_has_itself_and_what_holds_for_it(keys, policies, acme):
    gold = policies_pb2.Policy(rotation_period=Duration(seconds=2 * HOUR), encryption_limit=5_000)
    await policies.CreatePolicy(policies_pb2.CreatePolicyRequest(parent=PARENT, policy_id="gold", policy=gold), acme)
    key = await create(
        keys,
        acme,
        policy="tenants/acme/policies/gold",
        cache_lifetime=Duration(seconds=30),
        quarantine_period=Duration(seconds=10 * 24 * HOUR),
        grace_period=Duration(seconds=60),
        automatic_retirement=True,
    )
    assert (key.policy, key.cache_lifetime.seconds, key.grace_period.seconds) == ("tenants/acme/policies/gold", 30, 60)
    assert (key.quarantine_period.seconds, key.automatic_retirement) == (10 * 24 * HOUR, True)
    assert not key.HasField("rotation_period")
    assert not key.HasField("encryption_limit")
    assert key.effective_policy == pb.EffectivePolicy(
        rotation_period=Duration(seconds=2 * HOUR),
        encryption_limit=5_000,
        cache_lifetime=Duration(seconds=30),
        quarantine_period=Duration(seconds=10 * 24 * HOUR),
        grace_period=Duration(seconds=60),
        automatic_retirement=True,
        policy_version=1,
        audit_context=pb.AUDIT_CONTEXT_HASHED,
    )
    assert (key.state, key.state_reason, key.state_time) == (pb.ACTIVE, "", key.create_time)
    assert key.next_rotation_time.ToDatetime() == key.create_time.ToDatetime() + timedelta(hours=2)
    assert not key.HasField("destroy_time")
    assert not key.HasField("places_complete_time")
    [listed] = (await keys.ListKeys(pb.ListKeysRequest(parent=PARENT), acme)).keys
    assert listed == key
    [version] = (await keys.ListKeyVersions(pb.ListKeyVersionsRequest(parent=KEY), acme)).key_versions
    assert (version.encryptions_limit, version.encryptions_rotate_at) == (5_000, 2_500)


async def test_a_key_without_a_policy_lives_by_the_built_in_one(keys, acme):
    key = await create(keys, acme)
    assert key.policy == ""
    assert key.effective_policy == pb.EffectivePolicy(
        rotation_period=Duration(seconds=24 * HOUR),
        encryption_limit=2**32 - 2**24,
        cache_lifetime=Duration(seconds=300),
        quarantine_period=Duration(seconds=7 * 24 * HOUR),
        grace_period=Duration(seconds=600),
        audit_context=pb.AUDIT_CONTEXT_HASHED,
    )


async def test_a_deterministic_key_has_no_next_rotation_and_no_limit(node, keys, acme):
    await node.key(acme, "fixed", Purpose.DETERMINISTIC)
    key = await keys.GetKey(pb.GetKeyRequest(name="tenants/acme/keys/fixed"), acme)
    assert not key.HasField("next_rotation_time")
    assert key.effective_policy.rotation_period == Duration()
    assert key.effective_policy.encryption_limit == 0


OVERRIDES = {
    "rotation_period": Duration(seconds=5 * HOUR),
    "encryption_limit": 9_000,
    "cache_lifetime": Duration(seconds=9),
    "quarantine_period": Duration(seconds=9 * 24 * HOUR),
    "grace_period": Duration(seconds=90),
    "automatic_retirement": True,
}


async def test_what_a_mask_names_and_the_message_lacks_goes_back_to_the_policy(keys, acme):
    plain = (await create(keys, acme)).effective_policy
    for path, value in OVERRIDES.items():
        changed = await update(keys, acme, [path], **{path: value})
        assert changed.HasField(path)
        assert getattr(changed, path) == value
        assert getattr(changed.effective_policy, path) == value
    assert all(changed.HasField(path) for path in OVERRIDES)  # one update leaves what another has set
    for path in OVERRIDES:
        changed = await update(keys, acme, [path])
        assert not changed.HasField(path)
        assert getattr(changed.effective_policy, path) == getattr(plain, path)
    await update(keys, acme, [], **OVERRIDES)  # without a mask: what the key holds
    changed = await update(keys, acme, ["*"], display_name="New")
    assert not any(changed.HasField(path) for path in OVERRIDES)
    assert changed.effective_policy == plain


async def test_false_is_not_the_same_as_absent(keys, policies, acme):
    request = policies_pb2.CreatePolicyRequest(
        parent=PARENT, policy_id="auto", policy=policies_pb2.Policy(automatic_retirement=True)
    )
    await policies.CreatePolicy(request, acme)
    await create(keys, acme, policy="tenants/acme/policies/auto")
    changed = await update(keys, acme, [], automatic_retirement=False)
    assert changed.HasField("automatic_retirement")
    assert not changed.effective_policy.automatic_retirement
    assert (await update(keys, acme, ["automatic_retirement"])).effective_policy.automatic_retirement


async def test_a_policy_of_another_tenant_or_none_at_all_is_refused(keys, acme):
    for policy, rule in (
        ("tenants/globex/policies/gold", "the key's tenant"),
        ("tenants/acme/policies/absent", "that exists"),
        ("gold", "must have the form"),
    ):
        with pytest.raises(InvalidRequest, match=rf"^key\.policy: .*{rule}"):
            await create(keys, acme, policy=policy)
    key = await create(keys, acme)
    with pytest.raises(InvalidRequest, match=r"^key\.policy"):
        await update(keys, acme, ["policy"], policy="tenants/acme/policies/absent")
    assert await keys.GetKey(pb.GetKeyRequest(name=KEY), acme) == key


# States.


async def test_a_key_goes_through_its_states_and_each_answer_shows_the_new_one(node, keys, acme):
    pending = await create(keys, acme, pending=True)
    assert (pending.state, pending.HasField("next_rotation_time")) == (pb.PENDING, False)
    with pytest.raises(WrongKeyState, match="key payroll is pending: it cannot rotate"):
        await keys.RotateKey(pb.RotateKeyRequest(name=KEY), acme)
    active = await keys.ActivateKey(pb.ActivateKeyRequest(name=KEY, etag=pending.etag), acme)
    assert (active.state, active.HasField("next_rotation_time")) == (pb.ACTIVE, True)
    rotated = await keys.RotateKey(pb.RotateKeyRequest(name=KEY), acme)
    assert (rotated.state, rotated.primary_version) == (pb.ROTATING, 2)
    stopped = await keys.SuspendKey(pb.SuspendKeyRequest(name=KEY, reason="audit", wait=True), acme)
    assert (stopped.key.state, stopped.key.state_reason) == (pb.SUSPENDED, "audit")
    assert not stopped.key.HasField("next_rotation_time")
    assert (stopped.propagation.complete, stopped.propagation.HasField("last_stop")) == (True, True)
    assert stopped.propagation.commit_time.ToDatetime(UTC) <= now()
    assert node.stops == [(1, True)]
    assert (await keys.ResumeKey(pb.ResumeKeyRequest(name=KEY), acme)).state == pb.ACTIVE
    assert (await keys.ArchiveKey(pb.ArchiveKeyRequest(name=KEY), acme)).state == pb.ARCHIVED
    revoked = await keys.RevokeKey(pb.RevokeKeyRequest(name=KEY, reason="leaked"), acme)
    assert (revoked.key.state, revoked.key.state_reason) == (pb.REVOKED, "leaked")
    assert revoked.key == await keys.GetKey(pb.GetKeyRequest(name=KEY), acme)


async def test_a_revoked_version_comes_back_with_its_key(keys, acme):
    await create(keys, acme)
    request = pb.RevokeKeyVersionRequest(name=f"{KEY}/versions/1", reason="leaked")
    answer = await keys.RevokeKeyVersion(request, acme)
    assert (answer.key_version.state, answer.key_version.state_reason) == (pb.REVOKED, "leaked")
    assert (answer.key_version.name, answer.key_version.primary) == (f"{KEY}/versions/1", False)
    assert answer.key_version.HasField("stop_time")
    assert (answer.key.primary_version, answer.key.state) == (2, pb.ACTIVE)
    assert answer.propagation.complete
    first, second = (await keys.ListKeyVersions(pb.ListKeyVersionsRequest(parent=KEY), acme)).key_versions
    assert first == answer.key_version
    assert (second.state, second.primary, second.HasField("stop_time")) == (pb.ACTIVE, True, False)


async def test_a_stale_etag_is_refused_everywhere(keys, acme):
    await create(keys, acme)
    stale = {"name": KEY, "etag": "stale"}
    for method, request in (
        (keys.ActivateKey, pb.ActivateKeyRequest(**stale)),
        (keys.SuspendKey, pb.SuspendKeyRequest(**stale, reason="x")),
        (keys.ResumeKey, pb.ResumeKeyRequest(**stale)),
        (keys.ArchiveKey, pb.ArchiveKeyRequest(**stale)),
        (keys.RevokeKey, pb.RevokeKeyRequest(**stale, reason="x")),
        (keys.RevokeKeyVersion, pb.RevokeKeyVersionRequest(name=f"{KEY}/versions/1", etag="stale", reason="x")),
    ):
        with pytest.raises(Conflict):
            await method(request, acme)


async def test_uses_and_quarantine_are_shown_of_a_version(node, keys, acme):
    name = await key_in(node, acme, "payroll", KeyState.ROTATING)
    end = now() + timedelta(days=7)
    version = await stored_version(
        node,
        acme,
        KeyVersionName(name, 1),
        lambda v: replace(v, state=KeyState.DESTRUCTION_SCHEDULED, state_before=KeyState.ARCHIVED, until=end),
    )
    used, refused = datetime(2025, 1, 1, 10, 7, tzinfo=UTC), datetime(2025, 1, 2, 11, 8, tzinfo=UTC)
    counter = Counter(version.tenant, version.key, 1)
    await node.storage.add_uses({counter: Uses(used, used, 3, refused)})
    shown = (await keys.ListKeyVersions(pb.ListKeyVersionsRequest(parent=KEY), acme)).key_versions[0]
    assert (shown.last_use_time.ToDatetime(UTC), shown.last_refused_time.ToDatetime(UTC)) == (used, refused)
    assert shown.refused_uses == 3
    assert shown.state == pb.DESTRUCTION_SCHEDULED
    assert shown.destroy_time.ToDatetime(UTC) == end
    assert shown.stop_time.ToDatetime(UTC) == version.stopped_at
    second = (await keys.ListKeyVersions(pb.ListKeyVersionsRequest(parent=KEY), acme)).key_versions[1]
    assert not second.HasField("destroy_time")
    assert not second.HasField("last_use_time")


def test_how_a_stop_reached_the_nodes_is_shown_node_by_node():
    at = datetime(2025, 1, 1, tzinfo=UTC)
    nodes = (
        NodeStop("a", StopState.ACKNOWLEDGED, timedelta(milliseconds=250)),
        NodeStop("b", StopState.EXPIRED, timedelta(seconds=5)),
        NodeStop("c", StopState.WAITING),
    )
    shown = propagation_message(Propagation(at, complete=False, nodes=nodes))
    assert shown.commit_time.ToDatetime(UTC) == at
    assert (shown.complete, shown.HasField("last_stop")) == (False, False)
    assert [(node.node, node.state) for node in shown.nodes] == [
        ("a", pb.NodeStop.ACKNOWLEDGED),
        ("b", pb.NodeStop.EXPIRED),
        ("c", pb.NodeStop.WAITING),
    ]
    assert [node.HasField("after") for node in shown.nodes] == [True, True, False]
    done = propagation_message(Propagation(at, complete=True, last_stop=timedelta(seconds=5), nodes=nodes[:2]))
    assert (done.complete, done.last_stop.seconds) == (True, 5)


async def test_a_kek_that_is_being_destroyed_waits_for_its_destruction(node, acme):
    tenant = await node.tenants.get(acme, TenantName("acme"))
    kek = Kek(tenant.uid, tenant.kek, 1, KekState.ACTIVE, now(), "operators/root", destroy_at=now())
    shown = {
        state: pb.KekState.Name(kek_message(tenant, KekStatus(replace(kek, state=state), False, 0, 0)).state)
        for state in set(KekState) - {KekState.PENDING}
    }
    assert shown == {
        KekState.ACTIVE: "KEK_ACTIVE",
        KekState.DESTRUCTION_SCHEDULED: "KEK_DESTRUCTION_SCHEDULED",
        KekState.DESTROYING: "KEK_DESTRUCTION_SCHEDULED",
        KekState.DESTROYED: "KEK_DESTROYED",
    }


# Destruction and operations, which other parts carry out.


class Destroyer:
    """Answers as the part does that destroys, and remembers what it was asked for."""

    def __init__(self, key: KeyStatus, version: VersionStatus, receipts: list[Receipt]) -> None:
        self.key = key
        self.version = version
        self.receipts = receipts
        self.asked: list[tuple[Any, ...]] = []

    async def schedule_key(self, caller, name, etag, reason, waiting, *, force) -> KeyStatus:
        self.asked.append(("schedule_key", caller, name, etag, reason, waiting, force))
        return self.key

    async def cancel_key(self, caller, name, etag) -> KeyStatus:
        self.asked.append(("cancel_key", caller, name, etag))
        return self.key

    async def retire_version(self, caller, name, *, force) -> tuple[KeyStatus, VersionStatus]:
        self.asked.append(("retire_version", caller, name, force))
        return self.key, self.version

    async def cancel_retirement(self, caller, name) -> tuple[KeyStatus, VersionStatus]:
        self.asked.append(("cancel_retirement", caller, name))
        return self.key, self.version

    async def list_receipts(self, caller, parent, after, limit) -> list[Receipt]:
        self.asked.append(("list_receipts", caller, parent, after, limit))
        return [receipt for receipt in self.receipts if receipt.subject > after][:limit]

    async def signing_key(self) -> bytes:
        return bytes(range(91))


async def test_what_destroys_gets_parsed_values(node, acme):
    name = await node.key(acme, "payroll")
    status, [version] = await node.keys.list_versions(acme, name, 0, 9)
    receipts = [
        Receipt(ReceiptUid(status.key.uid), status.tenant.uid, f"{KEY}/versions/{number}", None, "{}", b"s", now())
        for number in (1, 2, 3)
    ]
    destroyer = Destroyer(status, version, receipts)
    keys = KeyServicer(node.keys, node.keks, node.lifecycle, destroyer)
    wanted = pb.ScheduleKeyDestructionRequest(name=KEY, reason="contract over", etag="7")
    assert (await keys.ScheduleKeyDestruction(wanted, acme)).name == KEY
    wanted.waiting_period.FromTimedelta(timedelta(days=7))
    await keys.ScheduleKeyDestruction(wanted, acme)
    assert (await keys.CancelKeyDestruction(pb.CancelKeyDestructionRequest(name=KEY, etag="8"), acme)).name == KEY
    first = f"{KEY}/versions/1"
    retired = await keys.RetireKeyVersion(pb.RetireKeyVersionRequest(name=first), acme)
    cancelled = await keys.CancelKeyVersionRetirement(pb.CancelKeyVersionRetirementRequest(name=first), acme)
    assert retired.name == cancelled.name == first
    for parent in (PARENT, KEY):
        page = pb.ListDestructionReceiptsRequest(parent=parent, page_size=2)
        answer = await keys.ListDestructionReceipts(page, acme)
        assert [receipt.subject[-1] for receipt in answer.receipts] == ["1", "2"]
        page.page_token = answer.next_page_token
        answer = await keys.ListDestructionReceipts(page, acme)
        assert [receipt.subject[-1] for receipt in answer.receipts] == ["3"]
        assert answer.next_page_token == ""
    assert destroyer.asked == [
        ("schedule_key", acme, name, "7", "contract over", None, False),
        ("schedule_key", acme, name, "7", "contract over", timedelta(days=7), False),
        ("cancel_key", acme, name, "8"),
        ("retire_version", acme, KeyVersionName(name, 1), False),
        ("cancel_retirement", acme, KeyVersionName(name, 1)),
        ("list_receipts", acme, TenantName("acme"), "", 3),
        ("list_receipts", acme, TenantName("acme"), f"{KEY}/versions/2", 3),
        ("list_receipts", acme, name, "", 3),
        ("list_receipts", acme, name, f"{KEY}/versions/2", 3),
    ]
    pem = (await keys.GetSigningKey(pb.GetSigningKeyRequest(), acme)).public_key_pem
    lines = pem.splitlines()
    assert (lines[0], lines[-1]) == ("-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----")
    assert max(map(len, lines[1:-1])) == 64
    assert base64.b64decode("".join(lines[1:-1])) == bytes(range(91))
    await keys.ScheduleKeyDestruction(pb.ScheduleKeyDestructionRequest(name=KEY, reason="x", force=True), acme)
    await keys.RetireKeyVersion(pb.RetireKeyVersionRequest(name=first, force=True), acme)
    assert [asked[-1] for asked in destroyer.asked[9:]] == [True, True]


async def test_what_is_not_there_yet_is_refused_after_the_request_was_read(keys, acme):
    await create(keys, acme)
    version = f"{KEY}/versions/1"
    for method, request in (
        (keys.RotateKeys, pb.RotateKeysRequest(parent=PARENT)),
        (keys.ScheduleKeyDestruction, pb.ScheduleKeyDestructionRequest(name=KEY, reason="x")),
        (keys.CancelKeyDestruction, pb.CancelKeyDestructionRequest(name=KEY)),
        (keys.RetireKeyVersion, pb.RetireKeyVersionRequest(name=version)),
        (keys.CancelKeyVersionRetirement, pb.CancelKeyVersionRetirementRequest(name=version)),
        (keys.ListDestructionReceipts, pb.ListDestructionReceiptsRequest(parent=PARENT)),
        (keys.GetSigningKey, pb.GetSigningKeyRequest()),
    ):
        with pytest.raises(NotSupported):
            await method(request, acme)


async def test_an_operation_is_shown_whole(node, acme):
    tenant = await node.tenants.get(acme, TenantName("acme"))
    uid, at = OperationUid(tenant.uid), datetime(2025, 1, 1, tzinfo=UTC)
    operation = Operation(
        uid,
        tenant.uid,
        OperationKind.ROTATE_KEYS,
        PARENT,
        OperationState.FAILED,
        str(acme),
        at,
        at,
        "c",
        3,
        7,
        "no",
        at,
    )
    shown = operation_message(tenant, replace(operation, revision=4))
    assert shown == operations_pb2.Operation(
        name=f"tenants/acme/operations/{uid}",
        kind="rotate_keys",
        target=PARENT,
        state=operations_pb2.Operation.FAILED,
        done=3,
        total=7,
        error="no",
        requester="tenants/acme/principals/app",
        create_time=at,
        update_time=at,
        end_time=at,
        etag="4",
    )


# Policies.


async def test_a_policy_shows_what_it_was_made_with_and_the_defaults(policies, acme):
    request = policies_pb2.CreatePolicyRequest(parent=PARENT, policy_id="gold")
    made = await policies.CreatePolicy(request, acme)
    assert (made.name, made.version, made.creator) == ("tenants/acme/policies/gold", 1, "tenants/acme/principals/app")
    assert (made.rotation_period.seconds, made.encryption_limit) == (24 * HOUR, 0)
    assert (made.cache_lifetime.seconds, made.grace_period.seconds) == (300, 600)
    assert (made.quarantine_period.seconds, made.automatic_retirement) == (7 * 24 * HOUR, False)
    assert made == await policies.GetPolicy(policies_pb2.GetPolicyRequest(name=made.name), acme)
    never = policies_pb2.Policy(rotation_period=Duration(), version=77, name="ignored")
    request = policies_pb2.CreatePolicyRequest(parent=PARENT, policy_id="never", policy=never)
    made = await policies.CreatePolicy(request, acme)
    assert (made.version, made.rotation_period) == (1, Duration())


async def change(policies: PolicyServicer, caller: Principal, paths: list[str], **fields: Any) -> policies_pb2.Policy:
    policy = policies_pb2.Policy(**({"name": "tenants/acme/policies/gold"} | fields))
    request = policies_pb2.UpdatePolicyRequest(policy=policy, update_mask={"paths": paths})
    return await policies.UpdatePolicy(request, caller)


async def test_an_update_of_a_policy_changes_what_its_mask_names(policies, acme):
    given = policies_pb2.Policy(grace_period=Duration(seconds=60), encryption_limit=5_000)
    await policies.CreatePolicy(policies_pb2.CreatePolicyRequest(parent=PARENT, policy_id="gold", policy=given), acme)
    second = await change(policies, acme, ["rotation_period"], rotation_period=Duration(seconds=HOUR), version=1)
    assert (second.version, second.rotation_period.seconds, second.grace_period.seconds) == (2, HOUR, 60)
    third = await change(policies, acme, ["grace_period", "encryption_limit"])
    assert (third.version, third.grace_period.seconds, third.encryption_limit) == (3, 600, 0)
    assert third.rotation_period.seconds == HOUR
    fourth = await change(policies, acme, ["*"], automatic_retirement=True)
    assert (fourth.rotation_period.seconds, fourth.automatic_retirement) == (24 * HOUR, True)
    with pytest.raises(Conflict):
        await change(policies, acme, ["grace_period"], version=3)
    for paths, fields, field in (
        ([], {}, "update_mask"),
        (["name"], {}, "update_mask"),
        (["version"], {}, "update_mask"),
        (["grace_period"], {"grace_period": Duration(seconds=59)}, "policy.grace_period"),
        (["encryption_limit"], {"encryption_limit": 999}, "policy.encryption_limit"),
        (["grace_period"], {"name": "gold"}, "policy.name"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await change(policies, acme, paths, **fields)
        assert [violation.field for violation in caught.value.violations] == [field]
    versions = await policies.ListPolicyVersions(
        policies_pb2.ListPolicyVersionsRequest(parent="tenants/acme/policies/gold"), acme
    )
    assert [policy.version for policy in versions.policies] == [1, 2, 3, 4]
    assert versions.policies[3] == fourth


async def test_lists_of_policies_are_paged(policies, acme):
    for slug in ("p1", "p2", "p3"):
        await policies.CreatePolicy(policies_pb2.CreatePolicyRequest(parent=PARENT, policy_id=slug), acme)
    for _ in range(2):
        await change(policies, acme, ["*"], name="tenants/acme/policies/p1")
    pages = []
    for method, request in (
        (policies.ListPolicies, policies_pb2.ListPoliciesRequest(parent=PARENT, page_size=2)),
        (
            policies.ListPolicyVersions,
            policies_pb2.ListPolicyVersionsRequest(parent="tenants/acme/policies/p1", page_size=2),
        ),
    ):
        while True:
            answer = await method(request, acme)
            pages.append([(policy.name[-2:], policy.version) for policy in answer.policies])
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
    assert pages == [[("p1", 3), ("p2", 1)], [("p3", 1)], [("p1", 1), ("p1", 2)], [("p1", 3)]]


async def test_anothers_policies_are_not_found(policies, acme):
    globex = Principal("globex", "app")
    await policies.CreatePolicy(policies_pb2.CreatePolicyRequest(parent=PARENT, policy_id="gold"), acme)
    with pytest.raises(NotFound):
        await change(policies, globex, ["*"])
    with pytest.raises(NotFound):
        await policies.ListPolicies(policies_pb2.ListPoliciesRequest(parent=PARENT), globex)


async def test_classes_are_listed_for_everybody_with_what_the_table_says(policies, acme):
    for caller in (acme, Principal(None, "root")):
        answer = await policies.ListClasses(policies_pb2.ListClassesRequest(), caller)
        assert [each.classification for each in answer.classes] == list(Classification)
        assert [each.available for each in answer.classes] == [True, True, True, False]
    public, _, confidential, secret = answer.classes
    assert not public.HasField("longest_rotation_period")
    assert confidential == policies_pb2.ClassRules(
        classification="CONFIDENTIAL",
        available=True,
        encryption_required=True,
        protection_levels=["SOFTWARE", "ENCLAVE", "HSM"],
        purposes=["ENCRYPT", "DETERMINISTIC", "DATA_KEY", "INDEX", "PSEUDONYM", "FORMAT_PRESERVING"],
        suites=["AES_256_GCM", "XAES_256_GCM", "AES_SIV", "HMAC_SHA_256", "AES_256_FF1"],
        required_context=["table", "column"],
        longest_rotation_period={"seconds": 90 * 86_400},
        longest_cache_lifetime={"seconds": 300},
        log_data_access=True,
        approvals=1,
    )
    assert (list(secret.protection_levels), secret.approvals) == ([pb.ENCLAVE], 2)


async def test_a_policy_and_its_key_show_their_class_and_what_is_demanded(keys, policies, acme):
    given = policies_pb2.Policy(classification=3, required_context=["row"], approvals=2)
    request = policies_pb2.CreatePolicyRequest(parent=PARENT, policy_id="gold", policy=given)
    made = await policies.CreatePolicy(request, acme)
    assert (made.classification, list(made.required_context), made.approvals) == (3, ["row"], 2)
    assert (made.log_data_access, made.cache_lifetime.seconds) == (False, 300)
    changed = await change(policies, acme, ["required_context", "log_data_access"], log_data_access=True)
    assert (changed.classification, list(changed.required_context), changed.log_data_access) == (3, [], True)
    wish = pb.Key(purpose=pb.ENCRYPT, policy="tenants/acme/policies/gold")
    key = await keys.CreateKey(pb.CreateKeyRequest(parent=PARENT, key_id="k9", key=wish), acme)
    assert key.classification == pb.CONFIDENTIAL
    effective = key.effective_policy
    assert list(effective.required_context) == ["column", "table"]
    assert (effective.log_data_access, effective.approvals) == (True, 2)
    with pytest.raises(InvalidRequest, match=r"^policy\.classification"):
        await change(policies, acme, ["classification"], classification=9)
