"""OperationService and what it shows, over real operations: pages, waits, and fields that are refused."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from google.protobuf.duration_pb2 import Duration

from kms.core.errors import InvalidRequest, NotFound
from kms.core.keyring import Kek, KekState, Tenant
from kms.core.names import Principal
from kms.core.operations import Operation, OperationKind, OperationState
from kms.rpc.keys import kek_message
from kms.rpc.operations import OperationServicer, operation_message
from kms.services.keks import KekStatus
from kms.services.operations import Batch, Operations
from kms.v1 import keys_pb2
from kms.v1 import operations_pb2 as pb
from tests.both_databases import Wall
from tests.keyrings import NOW, activated, new_kek, new_tenant
from tests.node import OPERATOR

ACME = Principal("acme", "app")


class Once:
    """Ends with its first batch."""

    async def batch(self, operation: Operation) -> Batch:
        return Batch("", operation.total, finished=True)


@pytest.fixture
def node(database, wall: Wall) -> Operations:
    return Operations(database, {OperationKind.REWRAP: Once()}, uuid4(), wall)


@pytest.fixture
def servicer(node: Operations) -> OperationServicer:
    return OperationServicer(node)


@pytest.fixture
async def tenant(database) -> Tenant:
    tenant = new_tenant("acme")
    async with database.transaction(tenant.uid, write=True) as work:
        return await work.tenants.add(tenant)


async def begun(node: Operations, tenant: Tenant, target: str = "tenants/acme/keks") -> str:
    operation = await node.start(tenant, OperationKind.REWRAP, target, "scheduler", 3)
    return operation.name(tenant.name)


async def test_an_operation_is_shown_whole(node, servicer, tenant, wall):
    name = await begun(node, tenant)
    shown = await servicer.GetOperation(pb.GetOperationRequest(name=name), ACME)
    assert (shown.name, shown.kind, shown.target, shown.requester) == (
        name,
        "rewrap",
        "tenants/acme/keks",
        "scheduler",
    )
    assert (shown.state, shown.done, shown.total, shown.error) == (pb.Operation.RUNNING, 0, 3, "")
    assert shown.create_time.ToDatetime(NOW.tzinfo) == shown.update_time.ToDatetime(NOW.tzinfo) == NOW
    assert not shown.HasField("end_time")
    wall.advance(timedelta(seconds=2))
    await node.step()
    ended = await servicer.GetOperation(pb.GetOperationRequest(name=name), OPERATOR)
    assert (ended.state, ended.done) == (pb.Operation.SUCCEEDED, 3)
    assert ended.end_time.ToDatetime(NOW.tzinfo) == NOW + timedelta(seconds=2)
    assert ended.etag != shown.etag


async def test_cancel_and_resume_answer_with_the_new_state(node, servicer, tenant):
    name = await begun(node, tenant)
    assert (await servicer.CancelOperation(pb.CancelOperationRequest(name=name), ACME)).state == pb.Operation.CANCELLED
    assert (await servicer.ResumeOperation(pb.ResumeOperationRequest(name=name), ACME)).state == pb.Operation.RUNNING


async def test_pages_hold_every_operation_once(node, servicer, tenant, wall):
    names = []
    for index in range(7):
        names.append(await begun(node, tenant, f"t{index}"))
        wall.advance(timedelta(microseconds=index % 3))
    found, token = [], ""
    while True:
        request = pb.ListOperationsRequest(parent="tenants/acme", page_size=2, page_token=token)
        page = await servicer.ListOperations(request, ACME)
        found += [operation.name for operation in page.operations]
        token = page.next_page_token
        if not token:
            break
    assert len(found) == 7
    assert set(found) == set(names)


@pytest.mark.parametrize("token", ["abc", "MQ==", "MS94", "Ly8=", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkvMQ=="])
async def test_a_token_of_another_list_is_refused(servicer, tenant, token):
    with pytest.raises(InvalidRequest, match="page_token"):
        await servicer.ListOperations(pb.ListOperationsRequest(parent="tenants/acme", page_token=token), ACME)


async def test_a_wait_ends_at_its_timeout_or_with_a_change_since_the_etag(node, servicer, tenant):
    name = await begun(node, tenant)
    async with asyncio.timeout(5):
        first = await servicer.WaitOperation(pb.WaitOperationRequest(name=name, timeout=Duration()), ACME)
        assert first.state == pb.Operation.RUNNING
        await node.step()
        second = await servicer.WaitOperation(pb.WaitOperationRequest(name=name, etag=first.etag), ACME)
    assert second.state == pb.Operation.SUCCEEDED


@pytest.mark.parametrize("given", [Duration(seconds=21), Duration(seconds=20, nanos=1), Duration(seconds=-1)])
async def test_a_timeout_out_of_bounds_is_refused(node, servicer, tenant, given):
    name = await begun(node, tenant)
    with pytest.raises(InvalidRequest, match="timeout: must be 0 to 20 seconds"):
        await servicer.WaitOperation(pb.WaitOperationRequest(name=name, timeout=given), ACME)


async def test_another_tenants_operation_is_not_found_by_any_method(node, servicer, tenant):
    name = await begun(node, tenant)
    other = Principal("globex", "app")
    for act, request in (
        (servicer.GetOperation, pb.GetOperationRequest(name=name)),
        (servicer.WaitOperation, pb.WaitOperationRequest(name=name)),
        (servicer.CancelOperation, pb.CancelOperationRequest(name=name)),
        (servicer.ResumeOperation, pb.ResumeOperationRequest(name=name)),
        (servicer.ListOperations, pb.ListOperationsRequest(parent="tenants/acme")),
    ):
        with pytest.raises(NotFound):
            await act(request, other)


@pytest.mark.parametrize("name", ["", "tenants/acme/operations/1", "tenants/acme/keys/k1"])
async def test_a_name_of_another_kind_is_refused(servicer, tenant, name):
    with pytest.raises(InvalidRequest, match="name: must have the form tenants/"):
        await servicer.GetOperation(pb.GetOperationRequest(name=name), ACME)


@pytest.mark.parametrize("state", OperationState)
def test_every_state_has_its_word(state):
    tenant = new_tenant("acme")
    operation = Operation(uuid4(), tenant.uid, OperationKind.REWRAP, "t", state, "scheduler", NOW, NOW)
    assert pb.Operation.State.Name(operation_message(tenant, operation).state) == state.name


def kek_of(tenant: Tenant, state: KekState) -> Kek:
    made = activated(new_kek(tenant))
    return Kek(**{name: getattr(made, name) for name in made.__slots__} | {"state": state, "destroy_at": NOW})


@pytest.mark.parametrize(
    ("state", "shown", "destroyed_later"),
    [
        (KekState.ACTIVE, "KEK_ACTIVE", False),
        (KekState.DESTRUCTION_SCHEDULED, "KEK_DESTRUCTION_SCHEDULED", True),
        (KekState.DESTROYING, "KEK_DESTRUCTION_SCHEDULED", True),
        (KekState.DESTROYED, "KEK_DESTROYED", False),
    ],
)
def test_a_kek_version_is_shown_with_its_state_and_times(state, shown, destroyed_later):
    tenant = new_tenant("acme")
    message = kek_message(
        tenant, KekStatus(kek_of(tenant, state), primary=False, wrapped_key_versions=1, wraps_reserved=2)
    )
    assert keys_pb2.KekState.Name(message.state) == shown
    assert message.HasField("destroy_time") == destroyed_later
    assert not message.HasField("next_rotation_time")


def test_the_primary_kek_version_shows_its_next_rotation():
    tenant = new_tenant("acme")
    status = KekStatus(
        activated(new_kek(tenant)), primary=True, wrapped_key_versions=0, wraps_reserved=0, next_rotation_at=NOW
    )
    assert kek_message(tenant, status).next_rotation_time.ToDatetime(NOW.tzinfo) == NOW
