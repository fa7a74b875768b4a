"""From messages to values: nodes and health."""

from __future__ import annotations

from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import Int32Value

from ..v1 import nodes_pb2
from ..values import HealthStatus, Node, Nodes, PartHealth, PartStatus
from .reading import known, period, time, time_if


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


def parts(message: nodes_pb2.Health) -> tuple[PartHealth, ...]:
    """Read a Health."""
    return tuple(
        PartHealth(
            name=part.name,
            status=known(PartStatus, part.status),
            reason=part.reason,
            response_time=period(part.response_time),
            since_time=time_if(part, "since_time"),
            looks=part.looks,
            availability=part.availability,
            error_rate=part.error_rate,
        )
        for part in message.parts
    )


def health(message: Int32Value) -> HealthStatus:
    """Read a HealthCheckResponse; a status that this release does not know is UNKNOWN."""
    return _status(message.value)


def healths(message: Struct) -> dict[str, HealthStatus]:
    """Read a HealthListResponse, which has the bytes of a Struct of such numbers."""
    return {name: _status(one.null_value) for name, one in message.fields.items()}


def _status(value: int) -> HealthStatus:
    return HealthStatus(value) if value in HealthStatus.__members__.values() else HealthStatus.UNKNOWN
