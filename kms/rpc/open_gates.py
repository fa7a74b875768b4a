"""Gates that let everything pass which is not another tenant's; each is replaced by one that decides."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kms.core.callers import Caller
from kms.rpc.gates import Ended
from kms.rpc.methods import Method


class OpenAuthorizer:
    """Leaves it to the services whose resource it is."""

    async def check(self, method: Method, caller: Caller, request: Any) -> None:
        """Let a call pass."""


class OpenQuorum:
    """Needs nobody's approval."""

    @asynccontextmanager
    async def passage(self, method: Method, caller: Caller, request: Any, approval: str) -> AsyncIterator[None]:
        """Let a request pass."""
        del method, caller, request, approval
        yield


class NoWatch:
    """Looks at nothing."""

    def ended(self, call: Ended) -> None:
        """One call has ended."""
