"""The repositories of the stored audit trail that sinks, retention and archives need, as Protocols."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

from .audit import StreamUid
from .audit_archives import AuditArchive
from .audit_lines import StoredEvent
from .names import TenantUid
from .retention import LegalHold, Month


class AuditFeedRepository(Protocol):
    """The trail stream by stream, and how far each sink is in each; for work over tenants."""

    async def claim(
        self, sink: str, stream: StreamUid, node: UUID, now: datetime, until: datetime, *, enter: bool
    ) -> int | None:
        """Let *node* alone deliver a stream to a sink until a time; returns the last sequence that has arrived.

        With *enter* the stream is entered where it is not yet; None while another node delivers, or for one not entered.
        """
        ...

    async def events_after(self, stream: StreamUid, sequence: int, limit: int) -> list[StoredEvent]:
        """Return at most *limit* events (1,000) of a stream beyond a sequence, in order."""
        ...

    async def advance(self, sink: str, stream: StreamUid, node: UUID, sequence: int, until: datetime) -> bool:
        """Note that a sink has got all of a stream up to a sequence; False where another node has taken over."""
        ...

    async def release(self, sink: str, stream: StreamUid, node: UUID, now: datetime) -> None:
        """Let any node deliver the stream."""
        ...

    async def left(self, sink: str, now: datetime, limit: int) -> list[StreamUid]:
        """Return at most *limit* (1,000) entered streams that no node delivers to a sink, and that are not told to the end."""
        ...

    async def forget(self, sink: str, before: datetime, limit: int) -> int:
        """Strike out at most *limit* (1,000) streams told to the end that nobody has claimed since *before*; returns how many."""
        ...


class AuditMonthRepository(Protocol):
    """The months of the trail: what they hold, and how they leave the database."""

    async def partitions(self) -> list[Month]:
        """Return the months that the database keeps apart, ordered; on SQLite it keeps none apart."""
        ...

    async def streams_after(self, stream: StreamUid | None, limit: int) -> list[tuple[StreamUid, int, datetime]]:
        """Return at most *limit* streams (1,000) beyond one, ordered, each with its first event's sequence and time."""
        ...

    async def events_after(self, stream: StreamUid, sequence: int, month: Month, limit: int) -> list[StoredEvent]:
        """Return at most *limit* events (1,000) of a stream beyond a sequence, in order, no later than the end of a month."""
        ...

    async def drop(self, month: Month) -> bool:
        """Take away an archived month as a whole, in a transaction of the installation; False on SQLite, which cannot.

        Raises:
            FailedPrecondition: it is refused: too young, not archived as it is, or under a legal hold.
            StorageUnavailable: somebody uses the table for too long.
        """
        ...

    async def remove(self, stream: StreamUid, first: int, last: int) -> int:
        """Delete a part of a stream (2,000 events) on SQLite; returns how many rows that were."""
        ...


class AuditArchiveRepository(Protocol):
    """Records of archives; all of them are the installation's."""

    async def get(self, tenant: TenantUid, month: Month) -> AuditArchive | None:
        """Return the archive of a month."""
        ...

    async def list_after(self, tenant: TenantUid, month: str, limit: int) -> list[AuditArchive]:
        """Return at most *limit* archives beyond a month (text, empty: from the first), in their order."""
        ...

    async def add(self, archive: AuditArchive) -> AuditArchive:
        """Store a new archive with revision 1 and return it so.

        Raises:
            Conflict: the month has one, or another month has its serial.
        """
        ...

    async def replace(self, archive: AuditArchive) -> AuditArchive:
        """Store a changed archive over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...


class LegalHoldRepository(Protocol):
    """Legal holds of tenants, and of the installation."""

    async def get(self, tenant: TenantUid, hold_id: str) -> LegalHold | None:
        """Return one hold."""
        ...

    async def list_after(self, tenant: TenantUid, after: str, limit: int) -> list[LegalHold]:
        """Return at most *limit* holds of a tenant, released or not, with ids greater than *after*, ordered."""
        ...

    async def list_active(self, tenant: TenantUid, limit: int) -> list[LegalHold]:
        """Return at most *limit* holds of a tenant that are not released, ordered by id."""
        ...

    async def count_active(self, tenant: TenantUid) -> int:
        """Return how many holds of a tenant are not released."""
        ...

    async def add(self, hold: LegalHold) -> LegalHold:
        """Store a new hold with revision 1 and return it so.

        Raises:
            AlreadyExists: the tenant has, or has had, one of that id.
        """
        ...

    async def replace(self, hold: LegalHold) -> LegalHold:
        """Store a changed hold over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        ...
