"""How often blobs are read: counted in memory, written now and then.

A crash loses what has not been written, and a write whose outcome is unknown may count twice: the numbers tell people
which blobs are in use, and decide nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Final

import structlog

from kms.core.blobs import Blob, BlobUid, BlobUse
from kms.core.errors import KmsError
from kms.core.names import TenantUid
from kms.core.ports import Storage

_log = structlog.get_logger(__name__)

INTERVAL: Final = 10.0  # seconds between two writings
AT_ONCE: Final = 1_000  # blobs in one transaction
# What cannot be written waits; beyond this many blobs, reads of others are not counted.
MOST_WAITING: Final = 100_000


class BlobUseRecorder:
    """Counts the reads of blobs on this node."""

    def __init__(self, storage: Storage, now: Callable[[], datetime], interval: float = INTERVAL) -> None:
        self._storage = storage
        self._now = now
        self._interval = interval
        self._waiting: dict[TenantUid, dict[BlobUid, BlobUse]] = {}
        self._failing = False

    def read(self, blob: Blob) -> None:
        """Count one read."""
        self._merge(blob.tenant, {blob.uid: BlobUse(1, self._now())})

    async def run(self) -> None:
        """Write again and again, and once more at the end."""
        try:
            while True:
                await asyncio.sleep(self._interval)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write what has been counted; what cannot be written waits for the next time."""
        for tenant in list(self._waiting):
            seen = self._waiting.pop(tenant)
            while seen:
                batch = dict(islice(seen.items(), AT_ONCE))
                try:
                    async with self._storage.transaction(tenant, write=True) as work:
                        await work.blobs.add_uses(tenant, batch)
                except KmsError as error:
                    if not self._failing:
                        _log.warning("blob.uses_not_written", reason=str(error))
                    self._failing = True
                    self._merge(tenant, seen)
                    return
                except asyncio.CancelledError:
                    self._merge(tenant, seen)
                    raise
                for uid in batch:
                    del seen[uid]
        self._failing = False

    def _merge(self, tenant: TenantUid, seen: dict[BlobUid, BlobUse]) -> None:
        waiting = self._waiting.setdefault(tenant, {})
        for uid, use in seen.items():
            before = waiting.get(uid)
            if before is None and len(waiting) >= MOST_WAITING:
                continue
            times = [at for at in (use.last_at, before.last_at if before else None) if at is not None]
            waiting[uid] = BlobUse(use.count + (before.count if before else 0), max(times, default=None))
