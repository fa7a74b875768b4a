"""From messages to values: nodes and health."""

from __future__ import annotations

from google.protobuf.wrappers_pb2 import Int32Value

from ..v1 import nodes_pb2
from ..values import HealthStatus, Node, Nodes
from .reading import time


def nodes(message: nodes_pb2.ListNodesResponse) -> Nodes:
    """Read a ListNodesResponse."""
    return Nodes(
        tuple(
            Node(
                uid=node.uid,
                name=node.name,
                start_time=time(node.start_time),
                seen_time=time(node.seen_time),
                acknowledged_epoch=node.acknowledged_epoch,
                is_self=node.self,
            )
            for node in message.nodes
        ),
        message.revocation_epoch,
    )


def health(message: Int32Value) -> HealthStatus:
    """Read a HealthCheckResponse; a status that this release does not know is UNKNOWN."""
    return HealthStatus(message.value) if message.value in HealthStatus.__members__.values() else HealthStatus.UNKNOWN
