"""The system's clocks: the wall clock for what people and schedules see, the boot-time clock for leases.

The boot-time clock never goes back, and goes on while the machine sleeps, so that a lease ends in a suspended machine,
too. For drills and tests the wall clock can be moved: KMS_CLOCK_OFFSET in seconds, read once. Whoever can set the
daemon's environment can move the machine's clock anyway.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Final

OFFSET: Final = timedelta(seconds=float(os.environ.get("KMS_CLOCK_OFFSET") or 0))


def now() -> datetime:
    """Return the wall clock's time in UTC."""
    return datetime.now(UTC) + OFFSET


def boottime() -> float:
    """Return seconds since the machine was started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boottime_ns() -> int:
    """Return boottime() in whole nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
