"""How a stop (suspension, archiving, revocation) has reached the nodes, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class StopState(StrEnum):
    """What is known of one node."""

    WAITING = "waiting"  # nothing has been heard of it yet
    ACKNOWLEDGED = "acknowledged"  # it has dropped the key and said so
    EXPIRED = "expired"  # it cannot be heard; its lease is over, so that it refuses by itself


@dataclass(frozen=True, slots=True)
class NodeStop:
    """How one node has stopped; *after* is counted from the commit, None while it is waited for."""

    name: str
    state: StopState
    after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Propagation:
    """How a stop has reached all nodes; *last_stop* is counted from the commit, None while that is not known."""

    commit_time: datetime
    complete: bool
    last_stop: timedelta | None = None
    nodes: tuple[NodeStop, ...] = ()
