"""For how long a node may go on answering without a word from the database: a lease, in seconds of the boot-time clock.

A lease begins before the query that it comes from. So a node that has not seen a revocation holds a lease that began
before the revocation was durable, and that lease ends within the deadline, whatever becomes of the node's line to the
database. Two nodes' clocks are never compared: each measures a duration of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

# Seconds between the last look at a lease and the moment at which the answer has left the daemon: one turn of the event
# loop, which is measured (kms_event_loop_lag_seconds) and takes some milliseconds; and clocks that differ in rate.
MARGIN: Final = 0.5
_MARGIN: Final = timedelta(seconds=MARGIN)


@dataclass(frozen=True, slots=True)
class Lease:
    """Ends at a moment of the boot-time clock, in seconds."""

    ends: float

    @classmethod
    def begun(cls, at: float, deadline: timedelta) -> Lease:
        """Return the lease for a query that was begun at *at*; it lasts the revocation deadline less MARGIN."""
        return cls(at + deadline.total_seconds() - MARGIN)

    def valid(self, now: float) -> bool:
        """Whether the lease holds at *now*."""
        return now < self.ends

    def remaining(self, now: float) -> float:
        """Return how many seconds are left, 0 where it is over."""
        return max(0.0, self.ends - now)


def lent_for(node: Lease, now: float, deadline: timedelta) -> timedelta:
    """Return for how long an application may use a DEK that a node decides at *now* to give it, from before it asked.

    No longer than the node itself may go on, nor than the deadline less MARGIN: a node that is alone with its database has
    no lease, and hears of a stop some moments after the commit. Zero where the node's lease is over.
    """
    return min(timedelta(seconds=min(node.remaining(now), deadline.total_seconds())), deadline - _MARGIN)


OVER: Final = Lease(-math.inf)
ENDLESS: Final = Lease(math.inf)  # of the one node of a database that nobody shares
