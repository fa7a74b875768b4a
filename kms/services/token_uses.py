"""How often API tokens are used: counted in memory, written now and then.

A crash loses what has not been written, and a write whose outcome is unknown may count twice: the numbers tell people
which tokens are in use, and decide nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Final

import structlog

from kms.core.errors import KmsError
from kms.core.names import TenantUid
from kms.core.ports import TokenUseRecords
from kms.core.tokens import ApiToken, TokenUid, TokenUse

_log = structlog.get_logger(__name__)

INTERVAL: Final = 30.0  # seconds between two writings
AT_ONCE: Final = 1_000  # tokens in one transaction
# What cannot be written waits; beyond this many tokens, uses of others are lost.
MOST_WAITING: Final = 100_000

_Place = tuple[TenantUid, TokenUid]


class TokenUseRecorder:
    """Counts the uses of tokens on this node."""

    def __init__(self, records: TokenUseRecords, now: Callable[[], datetime], interval: float = INTERVAL) -> None:
        self._records = records
        self._now = now
        self._interval = interval
        self._waiting: dict[_Place, TokenUse] = {}
        self._failing = False

    def used(self, token: ApiToken) -> None:
        """Count one use."""
        self._merge((token.tenant, token.uid), TokenUse(1, self._now()))

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
        while self._waiting:
            batch = dict(islice(self._waiting.items(), AT_ONCE))
            for place in batch:
                del self._waiting[place]
            written = False
            try:
                await self._records.add_token_uses(batch)
                written = True
            except KmsError as error:
                if not self._failing:
                    _log.warning("token.uses_not_written", reason=str(error))
                self._failing = True
                return
            finally:
                if not written:
                    for place, use in batch.items():
                        self._merge(place, use)
        self._failing = False

    def _merge(self, place: _Place, seen: TokenUse) -> None:
        waiting = self._waiting.get(place)
        if waiting is None:
            if len(self._waiting) < MOST_WAITING:
                self._waiting[place] = seen
            return
        times = [at for at in (waiting.last_used_at, seen.last_used_at) if at is not None]
        self._waiting[place] = TokenUse(waiting.count + seen.count, max(times, default=None))
