"""Long work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum


class OperationState(IntEnum):
    """How an operation stands."""

    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3  # `error` says why; it may be resumed
    CANCELLED = 4  # it may be resumed


@dataclass(frozen=True, slots=True)
class Operation:
    """One long work: `tenants/{tenant}/operations/{operation}`."""

    name: str
    kind: str  # `rewrap`, `rotate_keys`, `replan`, `destroy_key`, or what a newer daemon knows
    target: str  # the resource that it is about
    state: OperationState | int
    done: int
    total: int  # as counted when it began; what came later may make *done* larger
    error: str
    requester: str  # the principal, or `scheduler`
    create_time: datetime
    update_time: datetime  # when it last made progress
    end_time: datetime | None
    etag: str  # changes with every progress

    @property
    def running(self) -> bool:
        """Whether it goes on; one that has ended has succeeded, failed or been cancelled."""
        return self.state == OperationState.RUNNING
