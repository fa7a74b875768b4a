"""How the audit trail is read, as a Protocol; storage implements it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from .audit import AuditEvent, StreamUid
from .audit_filters import AuditFilter, AuditSum, Span, StreamHead
from .names import TenantUid


class AuditRepository(Protocol):
    """The events of one tenant, or (tenant None, in a transaction over tenants) of all.

    Events are read from the bytes that the chain covers. What a filter finds, and sums, go by the columns beside them.

    Raises (what returns events):
        CorruptRecord: the columns of an event tell something else than its bytes; the message names the event.
    """

    async def get(self, tenant: TenantUid | None, stream: StreamUid, sequence: int) -> AuditEvent | None:
        """Return one event."""
        ...

    async def list_events(
        self, tenant: TenantUid | None, wanted: AuditFilter, span: Span, limit: int
    ) -> list[AuditEvent]:
        """Return the first *limit* events of a span that are wanted, in the span's order."""
        ...

    async def slice_end(self, tenant: TenantUid | None, wanted: AuditFilter, span: Span, rows: int) -> datetime | None:
        """Return where a slice of *rows* events that have to be looked at ends; None where there are fewer.

        A query that looks at one slice is bounded, whatever the filter and however long the trail.
        """
        ...

    async def sum_up(
        self, tenant: TenantUid | None, wanted: AuditFilter, span: Span, groups: Sequence[str], limit: int
    ) -> list[AuditSum]:
        """Return the sums of at most *limit* groups, in no order; *groups* are of GROUPS."""
        ...

    async def heads(self, limit: int) -> list[StreamHead]:
        """Return the first and last events of at most *limit* streams, those that began last first; over all tenants."""
        ...

    async def stored(self, stream: StreamUid, after: int, last: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Return at most *limit* events of a stream beyond *after* and up to *last*, as they are stored; over all tenants.

        Of each its number, its hash (32 bytes) and its bytes; nothing of them is looked at.
        """
        ...
