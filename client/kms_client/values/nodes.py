"""The daemons of an installation, and their health."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
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


class PartStatus(IntEnum):
    """How a part of a daemon is."""

    UNSPECIFIED = 0
    HEALTHY = 1
    DEGRADED = 2  # it serves, but something about it needs somebody
    UNHEALTHY = 3
    UNKNOWN = 4  # not looked at yet


@dataclass(frozen=True, slots=True)
class PartHealth:
    """How a part of the daemon that answers is, and was in the last hour."""

    name: str
    status: PartStatus | int
    reason: str
    response_time: timedelta  # of the last look
    since_time: datetime | None  # when the status last changed
    looks: int  # that the next two are over
    availability: float  # part of the looks at which it served, 0 to 1
    error_rate: float  # for `api` the part of the last minutes' calls that failed, else that of the looks
