"""How a stop reaches the nodes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from .keys import Key, KeyVersion


class StopState(IntEnum):
    """What is known of one node."""

    WAITING = 1  # nothing has been heard of it yet
    ACKNOWLEDGED = 2  # it has dropped the key and said so
    EXPIRED = 3  # it cannot be heard; its lease is over, so that it refuses by itself


@dataclass(frozen=True, slots=True)
class NodeStop:
    """One node, and how long after the commit it stopped; None while it is waited for."""

    node: str
    state: StopState | int
    after: timedelta | None


@dataclass(frozen=True, slots=True)
class Propagation:
    """When a stop was durable, and when the nodes have stopped."""

    commit_time: datetime
    complete: bool  # whether no node uses the key any more
    last_stop: timedelta | None  # how long after commit_time the last node stopped; None while that is not known
    nodes: tuple[NodeStop, ...]


@dataclass(frozen=True, slots=True)
class StoppedKey:
    """A key that was suspended or revoked, and how far that has come."""

    key: Key
    propagation: Propagation


@dataclass(frozen=True, slots=True)
class StoppedKeyVersion:
    """A key version that was revoked, its key with the primary version that it has now, and how far that has come."""

    key_version: KeyVersion
    key: Key
    propagation: Propagation
