from __future__ import annotations

from datetime import UTC
from uuid import uuid4

import pytest

from kms.core.ports import Node as NodeRecord
from kms.rpc.nodes import NodeServicer
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
    answer = await NodeServicer(node.membership).ListNodes(pb.ListNodesRequest(), OPERATOR)
    assert answer.revocation_epoch == epoch
    assert [(told.name, told.uid, told.acknowledged_epoch, told.self) for told in answer.nodes] == [
        ("ahost:2", str(other.uid), 0, False),
        ("host:1", str(node.membership.uid), epoch, True),
    ]
    assert answer.nodes[0].start_time.ToDatetime(UTC) == other.started_at
    assert answer.nodes[0].seen_time.ToDatetime(UTC) == other.seen_at
