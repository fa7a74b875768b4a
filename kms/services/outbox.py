"""What is told to others, but for security events: approvers of what waits for them; and the end of what is old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final
from uuid import uuid4

import structlog

from kms.core.errors import KmsError
from kms.core.names import TenantUid
from kms.core.outbox import KEPT, OutboxItem, OutboxUid, Topic
from kms.core.ports import Outbox, Storage
from kms.core.receipts import JsonValue, body_of

_log = structlog.get_logger(__name__)

PRUNE_EVERY: Final = 3600.0  # seconds
PRUNE_AT_ONCE: Final = 1_000


def approval_item(tenant: TenantUid, step: str, fields: Mapping[str, JsonValue], now: datetime) -> OutboxItem:
    """Return what tells of a step of an approval, such as `approval_requested`, for the transaction that makes it."""
    return OutboxItem(OutboxUid(uuid4()), tenant, Topic.APPROVALS, body_of({**fields, "step": step}), now)


class OutboxNotifier:
    """Tells approvers through the sinks."""

    def __init__(self, storage: Storage, now: Callable[[], datetime], stored: Callable[[], None]) -> None:
        """*stored* is called when sinks have something new to tell."""
        self._storage = storage
        self._now = now
        self._stored = stored

    async def approval_requested(self, tenant: TenantUid, fields: Mapping[str, JsonValue]) -> None:
        """Store that an approval is wanted; *fields* hold its name, the requester and what is asked for, no secrets.

        Raises:
            StorageUnavailable: it could not be stored.
        """
        async with self._storage.transaction(tenant, write=True) as work:
            await work.outbox.add_all([approval_item(tenant, "approval_requested", fields, self._now())])
        self._stored()


class OutboxPruner:
    """Removes what is older than KEPT, told or not."""

    def __init__(self, outbox: Outbox, now: Callable[[], datetime]) -> None:
        self._outbox = outbox
        self._now = now

    async def run(self) -> None:
        """Prune again and again, until cancelled."""
        while True:
            try:
                await self.prune()
            except KmsError as error:
                _log.warning("outbox.not_pruned", reason=str(error))
            await asyncio.sleep(PRUNE_EVERY)

    async def prune(self) -> int:
        """Remove all that is too old; returns how many items that were."""
        removed = 0
        while (some := await self._outbox.prune_outbox(self._now() - KEPT, PRUNE_AT_ONCE)) > 0:
            removed += some
        return removed
