"""Counting encryptions: blocks are reserved durably before they are used, so that no crash loses a count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SMALLEST_BLOCK: Final = 2**12
LARGEST_BLOCK: Final = 2**20
# A block should last at least this long, so that a node reserves less than once a second.
BLOCK_SECONDS: Final = 10.0


def next_block(previous: int, lasted: float) -> int:
    """Return the size of the next block, given the last one and how many seconds it lasted (0 for none before)."""
    if previous == 0:
        return SMALLEST_BLOCK
    if lasted < BLOCK_SECONDS:
        return min(previous * 2, LARGEST_BLOCK)
    return max(previous // 2, SMALLEST_BLOCK)


@dataclass(slots=True)
class Allowance:
    """What is left of the block that this process has reserved for one version; owned by one event loop."""

    left: int = 0
    block: int = 0
    since: float = 0.0

    def take(self, count: int) -> bool:
        """Use *count* encryptions; False (and nothing is used) when the block does not hold them."""
        if count > self.left:
            return False
        self.left -= count
        return True

    def refill(self, size: int, now: float) -> None:
        """Add a block that has been reserved durably."""
        self.left += size
        self.block = size
        self.since = now
