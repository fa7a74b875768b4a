"""Counting encryptions: blocks are reserved durably before they are used, so that no crash loses a count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SMALLEST_BLOCK: Final = 2**12
LARGEST_BLOCK: Final = 2**20
# A block should last at least this long, so that a node reserves less than once a second.
BLOCK_SECONDS: Final = 10.0
# A block is at most this part of what is left before the stop: nodes lose little of a small limit in their blocks.
PART_OF_REST: Final = 16


def next_block(previous: int, lasted: float, left: int | None = None) -> int:
    """Return the size of the next block, given the last one and how many seconds it lasted (0 for none before).

    *left* is how many are left before the stop, as far as known; None where there is no stop. Where less than
    PART_OF_REST are left, a block holds one.
    """
    if previous == 0:
        size = SMALLEST_BLOCK
    elif lasted < BLOCK_SECONDS:
        size = min(previous * 2, LARGEST_BLOCK)
    else:
        size = max(previous // 2, SMALLEST_BLOCK)
    return size if left is None else min(size, max(left // PART_OF_REST, 1))


@dataclass(slots=True)
class Allowance:
    """What is left of the block that this process has reserved for one version; owned by one event loop."""

    left: int = 0
    block: int = 0
    since: float = 0.0
    reserved: int = 0  # by all nodes together, when this process last reserved

    def take(self, count: int) -> bool:
        """Use *count* encryptions; False (and nothing is used) when the block does not hold them."""
        if count > self.left:
            return False
        self.left -= count
        return True

    def refill(self, size: int, now: float, reserved: int = 0) -> None:
        """Add a block that has been reserved durably, after which all nodes together have *reserved* so many."""
        self.left += size
        self.block = size
        self.since = now
        self.reserved = reserved
