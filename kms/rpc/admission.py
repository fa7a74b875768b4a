"""What callers may ask for at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kms.core.callers import Address, Caller
from kms.core.errors import LimitExceeded
from kms.core.names import Principal
from kms.rpc.methods import Method


class CallsInFlight:
    """Bounds the calls of one principal that are in flight."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._in_flight: Counter[Principal] = Counter()

    def arrive(self, address: Address | None) -> None:
        """Count a call that has not shown yet who makes it."""

    @asynccontextmanager
    async def turn(self, method: Method, caller: Caller, size: int, context: Any) -> AsyncIterator[None]:
        """Let a call in.

        Raises:
            LimitExceeded: the principal has as many calls in flight as it may have.
        """
        del method, size
        principal = caller.principal
        if self._in_flight[principal] >= self._most:
            raise LimitExceeded(f"{principal} has {self._most} calls in flight, which is the limit")
        self._in_flight[principal] += 1

        # Given back when the answer has left, not when it is ready: a peer that does not read keeps its calls.
        def leave(_: object) -> None:
            self._in_flight[principal] -= 1
            if not self._in_flight[principal]:
                del self._in_flight[principal]

        context.add_done_callback(leave)
        yield
