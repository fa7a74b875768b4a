"""Long work as a value: what is done, how far it is, and who carries it on. Everything long is one of these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NewType
from uuid import UUID

from .errors import FailedPrecondition
from .names import TenantName, TenantUid

OperationUid = NewType("OperationUid", UUID)

# A node that has not told of progress for so long has lost the operation; another goes on from the last progress.
LEASE: Final = timedelta(seconds=15)
# Finished operations are kept for reading so long.
KEPT: Final = timedelta(days=90)


class OperationKind(StrEnum):
    """What an operation does."""

    REWRAP = "rewrap"  # brings all DEKs of a tenant under its primary KEK version
    ROTATE_KEYS = "rotate_keys"  # rotates every key of a tenant that encrypts
    REPLAN = "replan"  # plans a tenant's keys anew after a change of a policy
    DESTROY_KEY = "destroy_key"  # erases the versions of a key whose waiting period is over
    GENERATE_REPORT = "generate_report"  # gathers what a compliance report says
    RESEAL = "reseal"  # brings a tenant's sealed keys to where an upgrade of the enclave wants them
    ARCHIVE_AUDIT = "archive_audit"  # brings months of the audit trail that are old to files


class OperationState(StrEnum):
    """How an operation stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # may be resumed
    CANCELLED = "cancelled"  # may be resumed


class OperationEvent(StrEnum):
    """What may happen to an operation."""

    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    RESUME = "resume"


TRANSITIONS: Final = MappingProxyType(
    {
        (OperationState.RUNNING, OperationEvent.SUCCEED): OperationState.SUCCEEDED,
        (OperationState.RUNNING, OperationEvent.FAIL): OperationState.FAILED,
        (OperationState.RUNNING, OperationEvent.CANCEL): OperationState.CANCELLED,
        (OperationState.FAILED, OperationEvent.RESUME): OperationState.RUNNING,
        (OperationState.CANCELLED, OperationEvent.RESUME): OperationState.RUNNING,
    }
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One long work."""

    uid: OperationUid
    tenant: TenantUid
    kind: OperationKind
    target: str  # the resource name that it is about
    state: OperationState
    requested_by: str
    created_at: datetime
    updated_at: datetime
    cursor: str = ""  # where to go on; its meaning is the kind's
    done: int = 0
    total: int = 0  # as counted when it began; what comes later may make done larger
    error: str = ""
    ended_at: datetime | None = None
    node: UUID | None = None  # who carries it on, until the lease is over
    leased_until: datetime | None = None
    revision: int = 0

    def name(self, tenant: TenantName) -> str:
        """The resource name."""
        return f"{tenant}/operations/{self.uid}"

    @property
    def etag(self) -> str:
        """Changes with every change of the operation."""
        return str(self.revision)

    def after(self, event: OperationEvent, now: datetime, error: str = "") -> Operation:
        """Return the operation after *event*.

        Raises:
            FailedPrecondition: its state does not allow that.
        """
        state = TRANSITIONS.get((self.state, event))
        if state is None:
            raise FailedPrecondition(f"operation {self.uid} is {self.state}: it cannot {event}")
        running = state is OperationState.RUNNING
        return replace(
            self,
            state=state,
            error=error,
            updated_at=now,
            ended_at=None if running else now,
            node=None,
            leased_until=now if running else None,
        )

    def taken(self, node: UUID, now: datetime) -> Operation:
        """Return the operation in the hands of *node*."""
        return replace(self, node=node, leased_until=now + LEASE)

    def progressed(self, cursor: str, done: int, now: datetime) -> Operation:
        """Return the operation after a batch that ended at *cursor* and did *done* more."""
        return replace(self, cursor=cursor, done=self.done + done, updated_at=now, leased_until=now + LEASE)
