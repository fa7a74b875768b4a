"""The clock that leases are counted on."""

from __future__ import annotations

import sys
import time

if sys.platform == "linux":

    def boottime() -> float:
        """Return seconds since the machine was started, sleep included, so that a lease ends in a suspended machine, too."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

else:

    def boottime() -> float:
        """Return seconds of a clock that never goes back; whether it counts sleep is up to the system."""
        return time.monotonic()
