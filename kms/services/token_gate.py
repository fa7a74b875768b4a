"""Recognises API tokens as callers show them, from a bounded memory of those that there are.

What is remembered of a token lives no longer than the revocation deadline, and is dropped when its tenant's records
change, so that a token that is revoked ends everywhere within that time. A token that there is not is not remembered:
whoever tries many prefixes pushes nobody out of memory, and waits for one of few places to ask the database from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Final

import structlog

from kms.core.callers import Address
from kms.core.errors import Denied, StorageUnavailable
from kms.core.names import TenantUid
from kms.core.ports import Storage
from kms.core.tokens import MISPLACED, ApiToken, PresentedToken, refusal, token_refused
from kms.crypto.cache import DekCache
from kms.services.token_uses import TokenUseRecorder

_log = structlog.get_logger(__name__)

LOOKUPS: Final = 4  # prefixes that are looked up at a time
LOOKUP_WAIT: Final = 2.0  # seconds for a place among them


class TokenGate:
    """Says whose a token is."""

    def __init__(
        self,
        storage: Storage,
        uses: TokenUseRecorder,
        now: Callable[[], datetime],
        clock: Callable[[], float],
        *,
        entries: int,
        lifetime: float,
    ) -> None:
        """*entries* tokens are remembered for *lifetime* seconds at most."""
        self._storage = storage
        self._uses = uses
        self._now = now
        self._held: DekCache[str, ApiToken | None] = DekCache(entries, lifetime, clock)
        self._places = asyncio.Semaphore(LOOKUPS)

    async def authenticate(self, shown: PresentedToken, address: Address | None, origin: str) -> ApiToken:
        """Return the token that was shown, and count its use.

        Raises:
            Unauthenticated: it is unknown, wrong, expired, replaced or revoked: one answer for all.
            Denied: it may not be used from that address or origin: one answer for both.
            StorageUnavailable: the database does not answer in time.
        """
        token = await self._held.get(shown.prefix, lambda: self._look_up(shown.prefix))
        refused = refusal(token, shown, self._now(), address, origin)
        if token is not None and refused is None:
            self._uses.used(token)
            return token
        # Of what was shown only what is known to be no secret: the prefix of a token that there is.
        known = {} if token is None else {"name": token.prefix, "owner": str(token.principal)}
        _log.info("token.refused", cause=refused, address=str(address or ""), **known)
        if refused in MISPLACED:
            raise Denied("the API token may not be used from here")
        error = token_refused()
        error.credential = shown.prefix  # tries with one token count together, wherever they come from
        raise error

    def forget(self, tenants: AbstractSet[TenantUid]) -> None:
        """Drop what is held of these tenants, and look-ups that are running: a listener of Membership."""

        def concerned(prefix: str) -> bool:
            token = self._held.peek(prefix)
            return token is None or token.tenant in tenants

        self._held.drop_where(concerned)

    def sweep(self) -> None:
        """Forget what has outlived its time."""
        self._held.sweep()

    def __len__(self) -> int:
        return len(self._held)

    async def _look_up(self, prefix: str) -> ApiToken | None:
        try:
            async with asyncio.timeout(LOOKUP_WAIT):
                await self._places.acquire()
        except TimeoutError as error:
            raise StorageUnavailable("too many unknown API tokens are being looked up") from error
        try:
            async with self._storage.transaction() as work:
                return await work.tokens.by_prefix(prefix)
        finally:
            self._places.release()
