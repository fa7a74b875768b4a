"""Where the encrypted bodies of blobs are kept, as a Protocol: opaque bytes under names, in segments."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from .names import TenantUid
from .ports import PartHealth

MAX_PIECE: Final = 1 << 20  # bytes that go in or come out at once
MAX_BODY: Final = 64 << 30  # bytes of one body
MAX_NUMBER: Final = 2**32 - 1  # generations and segments are u32 wherever they are bound
MAX_LISTED: Final = 1_000  # bodies in one listing


@dataclass(frozen=True, slots=True, order=True)
class BodyName:
    """A segment of one generation of a blob; ordered as its text is."""

    tenant: TenantUid
    blob: UUID
    generation: int  # from 1
    segment: int  # from 0

    def __post_init__(self) -> None:
        if not 1 <= self.generation <= MAX_NUMBER:
            raise ValueError(f"generation must be from 1 to {MAX_NUMBER}")
        if not 0 <= self.segment <= MAX_NUMBER:
            raise ValueError(f"segment must be from 0 to {MAX_NUMBER}")

    def __str__(self) -> str:
        return f"{self.tenant}/{self.blob}/{self.generation:010d}/{self.segment:010d}"

    @classmethod
    def parse(cls, text: str) -> BodyName:
        """Read what str() has written.

        Raises:
            ValueError: any other text.
        """
        tenant, blob, generation, segment = text.split("/")
        name = cls(TenantUid(UUID(tenant)), UUID(blob), int(generation), int(segment))
        if str(name) != text:
            raise ValueError("no name of a body")
        return name


@dataclass(frozen=True, slots=True)
class StoredBody:
    """A whole body: how long it is in bytes, and when it was written."""

    name: BodyName
    length: int
    written_at: datetime


class BodyStore(Protocol):
    """One place for bodies.

    Raises (all methods but health):
        BodyStoreUnavailable: it refuses, has no room left, or does not answer in time.
    """

    async def write(self, name: BodyName, data: AsyncIterable[bytes]) -> int:
        """Store a body, whole and durable when this returns, or not at all; returns its length in bytes.

        A body of that name is replaced by the whole new one. Memory is bounded by a few times MAX_PIECE for any size.

        Raises:
            LimitExceeded: it is longer than MAX_BODY.
            Exception: whatever *data* raises; nothing is stored then.
        """
        ...

    def read(self, name: BodyName, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield exactly *length* bytes from *start*, in pieces of at most MAX_PIECE.

        Raises:
            BodyMissing: there is no such body, or it ends before; pieces may have been given already.
        """
        ...

    async def delete(self, name: BodyName) -> None:
        """Remove a body for good; one that is not there is removed."""
        ...

    async def list(self, tenant: TenantUid | None, after: BodyName | None, limit: int) -> list[StoredBody]:
        """Return at most *limit* (MAX_LISTED) whole bodies behind *after*, by name; of one tenant, or of all for None."""
        ...

    async def sweep(self, before: datetime) -> int:
        """Remove what writes that never ended had begun before a time; returns how many were removed at this call."""
        ...

    async def health(self) -> PartHealth:
        """Tell whether bodies can be read and written, by a cheap look."""
        ...
