"""How a stored audit trail is read by who verifies it: as it is stored, whatever is wrong with it. Storage implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .audit import StreamUid
from .checkpoints import SignedCheckpoint


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row of the audit log; *wrong* says what of its columns contradicts its bytes, empty for nothing."""

    sequence: int
    hash: bytes  # 32
    canonical: bytes
    wrong: str


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """One row of the checkpoints: None where it is no checkpoint; *wrong* says why, or which columns contradict it."""

    serial: int
    made: SignedCheckpoint | None
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class StreamExtent:
    """The first and the last row of a stream."""

    stream: StreamUid
    first: int
    began_at: datetime
    last: int


class AuditCheckRepository(Protocol):
    """The stored trail in one transaction over tenants; nothing of it has been verified."""

    async def rows(self, stream: StreamUid, after: int, limit: int) -> Sequence[StoredRow]:
        """Return at most *limit* (1,000) rows of a stream beyond a sequence, in order, their columns compared.

        Raises:
            CorruptRecord: a column cannot be read at all.
        """
        ...

    async def checkpoints(self, serial: int, limit: int) -> Sequence[StoredCheckpoint]:
        """Return at most *limit* (1,000) checkpoints with higher serials, in order."""
        ...

    async def newest_serial(self) -> int:
        """Return the highest serial of a checkpoint, 0 for none."""
        ...

    async def streams(self, after: StreamUid | None, limit: int) -> Sequence[StreamExtent]:
        """Return at most *limit* (500) streams beyond one, in order."""
        ...
