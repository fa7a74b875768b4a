"""What checkpoints need of the database, as a Protocol."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .audit import StreamUid
from .audit_ports import Position, TenantRoot
from .checkpoints import SignedCheckpoint


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The last durable event of a stream, and the stream that it says it came after."""

    position: Position
    succeeds: StreamUid | None


class CheckpointRecords(Protocol):
    """Stored checkpoints, and where the streams of the audit trail end; every call is a transaction of its own.

    Raises (all methods):
        StorageUnavailable: the database does not answer; the outcome of a write is then unknown.
        CorruptRecord: what is stored makes no sense.
    """

    async def newest_checkpoint(self) -> SignedCheckpoint | None:
        """Return the one with the highest serial; nothing of it has been verified."""
        ...

    async def checkpoints_after(self, serial: int, limit: int) -> list[SignedCheckpoint]:
        """Return at most *limit* (1,000) with higher serials, in order; nothing of them has been verified."""
        ...

    async def checkpoint_roots(self) -> list[TenantRoot]:
        """Return the roots that the newest one covers, ordered by tenant."""
        ...

    async def stream_ends(self, known: Collection[StreamUid], since: datetime) -> list[StreamEnd]:
        """Return, in one snapshot, where these streams end, and those that have begun since a time."""
        ...

    async def add_checkpoint(self, made: SignedCheckpoint, before: int, roots: Sequence[TenantRoot]) -> None:
        """Store a checkpoint after the one with the serial *before*, 0 for the first, and the roots that it covers.

        Raises:
            Conflict: another one has been stored meanwhile.
        """
        ...
