"""Work that goes on when whoever asked for it goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Uninterrupted:
    """Runs acts to their end: while the token makes or destroys a key, nobody else may get the lock for that."""

    def __init__(self) -> None:
        self._acts: set[asyncio.Task[Any]] = set()

    async def run(self, act: Coroutine[Any, Any, T]) -> T:
        """Return what *act* returns; a caller that is cancelled leaves it running."""
        task = asyncio.create_task(act)
        self._acts.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._acts.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that a failure after its caller left is no noise
