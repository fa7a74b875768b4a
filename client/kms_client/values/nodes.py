"""The daemons of an installation, and their health."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class Node:
    """A daemon that has joined and not left."""

    uid: str  # new at every start
    name: str
    start_time: datetime
    seen_time: datetime  # when it last told of itself
    acknowledged_epoch: int
    is_self: bool  # whether it is the node that answers


@dataclass(frozen=True, slots=True)
class Nodes:
    """All nodes, and the newest revocation: a node that has acknowledged it acts on all."""

    nodes: tuple[Node, ...]
    revocation_epoch: int


class HealthStatus(IntEnum):
    """Whether a part serves; the numbers of grpc.health.v1."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3
