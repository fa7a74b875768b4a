"""Where the audit writer puts its rows, as it sees either database."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

from kms.core.audit import StreamUid
from kms.core.audit_ports import Position

from .audit_rows import Row

# Seconds from an event until its answer, whatever the store does; and for one call of a store.
BOUND: Final = 2.0

T = TypeVar("T")


class NotWritten(Exception):
    """The store has refused: nothing was written, and nothing will be."""


class OutcomeUnknown(Exception):
    """The store did not say what became of it."""


class Collided(NotWritten):
    """The store has refused since something stands there already, perhaps an attempt that was given up."""


class AuditStore(Protocol):
    """Where the rows go; its calls raise NotWritten or OutcomeUnknown, and come one after the other."""

    async def write(self, rows: Sequence[Row]) -> None:
        """Return once all rows are durable, in one commit."""
        ...

    async def last(self, stream: StreamUid) -> tuple[int, bytes] | None:
        """Return the number and hash of a stream's last event; None where it has none."""
        ...

    async def newest(self, node: str) -> Position | None:
        """Return the last event of the stream that a node began last; None where it began none."""
        ...

    def cut(self) -> None:
        """Let a call that hangs end soon, with OutcomeUnknown."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


async def bounded(store: AuditStore, call: Coroutine[Any, Any, T]) -> T:
    """Wait for a call of a store, which is cut off after BOUND."""
    # A library's call on a frozen server cannot be cancelled, but ends when its line is cut.
    watch = asyncio.get_running_loop().call_later(BOUND, store.cut)
    try:
        return await call
    finally:
        watch.cancel()
