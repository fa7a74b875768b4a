"""Requests to NodeService and to the standard health service."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

from ..methods import HEALTH, NODES
from ..responses import nodes
from ..v1 import nodes_pb2
from ..values import HealthStatus, Nodes, PartHealth
from .messages import Request


def list_nodes() -> Request[Nodes]:
    """NodeService.ListNodes."""
    return Request(f"{NODES}/ListNodes", nodes_pb2.ListNodesRequest(), nodes.nodes)


def get_health() -> Request[tuple[PartHealth, ...]]:
    """NodeService.GetHealth."""
    return Request(f"{NODES}/GetHealth", nodes_pb2.GetHealthRequest(), nodes.parts)


def healths() -> Request[dict[str, HealthStatus]]:
    """Health.List of grpc.health.v1."""
    return Request(f"{HEALTH}/List", Empty(), nodes.healths)


def health(service: str) -> Request[HealthStatus]:
    """Health.Check of grpc.health.v1."""
    return Request(f"{HEALTH}/Check", StringValue(value=service), nodes.health)
