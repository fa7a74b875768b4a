"""What a sink is: somewhere outside to which items are delivered in order, each at least once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kms.core.outbox import OutboxItem


class SinkUnavailable(Exception):
    """A sink has not taken what it was given; the message says why and holds no secret."""


class Sink(Protocol):
    """One sink; its calls come one after another."""

    @property
    def at_once(self) -> int:
        """How many items deliver() takes at most; they must take less time than a lease."""
        ...

    async def deliver(self, items: Sequence[OutboxItem]) -> int:
        """Deliver items in their order, within a bound of time; returns how many, from the first on, have arrived.

        Raises:
            SinkUnavailable: not even the first one has, as far as is known.
        """
        ...
