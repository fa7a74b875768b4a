from __future__ import annotations

from datetime import UTC
from uuid import uuid4

import pytest

from kms.core.ports import HealthStatus, PartHealth
from kms.core.ports import Node as NodeRecord
from kms.rpc.nodes import NodeServicer
from kms.services.health import PartReport
from kms.v1 import nodes_pb2 as pb
from tests.node import OPERATOR, Node, now, stored_tenant

pytestmark = pytest.mark.softhsm


async def test_an_operator_sees_all_nodes_by_name_and_what_they_have_acknowledged(node: Node) -> None:
    node.membership.name = "host:1"
    await node.membership.look()
    other = NodeRecord(uuid4(), "ahost:2", now(), now(), 0)
    await node.storage.join(other)
    tenant = await stored_tenant(node.storage)
    async with node.storage.transaction(tenant.uid, write=True) as work:
        epoch = await work.epochs.revoked(tenant.uid)
    await node.membership.look()
    answer = await NodeServicer(node.membership, list).ListNodes(pb.ListNodesRequest(), OPERATOR)
    assert answer.revocation_epoch == epoch
    assert [(told.name, told.uid, told.acknowledged_epoch, told.self) for told in answer.nodes] == [
        ("ahost:2", str(other.uid), 0, False),
        ("host:1", str(node.membership.uid), epoch, True),
    ]
    assert answer.nodes[0].start_time.ToDatetime(UTC) == other.started_at
    assert answer.nodes[0].seen_time.ToDatetime(UTC) == other.seen_at


async def test_an_operator_sees_how_each_part_is_and_was(node: Node) -> None:
    gone, since = PartHealth(HealthStatus.UNHEALTHY, "slot 4711 is gone", 0.25), now()
    reports = [
        PartReport("storage", PartHealth(HealthStatus.UNKNOWN), None, 0, 0.0, 0.0),
        PartReport("token", gone, since, 8, 0.75, 0.25),
    ]
    answer = await NodeServicer(node.membership, lambda: reports).GetHealth(pb.GetHealthRequest(), OPERATOR)
    storage, token = answer.parts
    assert (storage.name, storage.status, storage.HasField("since_time")) == ("storage", pb.PartHealth.UNKNOWN, False)
    assert (token.name, token.status, token.reason) == ("token", pb.PartHealth.UNHEALTHY, "slot 4711 is gone")
    assert (token.looks, token.availability, token.error_rate) == (8, 0.75, 0.25)
    assert token.response_time.ToTimedelta().total_seconds() == 0.25
    assert token.since_time.ToDatetime(tzinfo=UTC) == since
