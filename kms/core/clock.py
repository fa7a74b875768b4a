"""Whether the wall clock may be trusted with a destruction: values in, values out, the clocks are read elsewhere.

What was destroyed too early is lost, what is destroyed late is merely late. So destruction is held wherever the wall
clock contradicts the boot-time clock (CLOCK_BOOTTIME: it never jumps, and goes on while the machine sleeps), or what
a node stored before this one started. Rotation goes on: a jump makes at most one version too many for each key.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Self

# Time synchronisation of a healthy machine corrects far less between two looks.
LARGEST_STEP: Final = timedelta(minutes=5)
# An installation that seems to have stood still for longer has stood still, or its clock is ahead: a day to notice that.
LONGEST_SILENCE: Final = timedelta(days=7)
SILENCE_HOLD: Final = timedelta(hours=24)
# A node was seen later than now: its clock was ahead, or ours is behind.
LARGEST_LEAD: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ClockWatch:
    """What one process has seen of its clocks; *boot* is in seconds since any fixed moment."""

    now: datetime
    boot: float
    stepped: str = ""  # how the clock has jumped; for the life of the process
    silence: str = ""  # for the first SILENCE_HOLD
    released_at: float = 0.0  # boot time at which that ends
    last_seen: datetime | None = None  # where that lay ahead at the start

    @classmethod
    def started(cls, now: datetime, boot: float, last_seen: datetime | None) -> Self:
        """Begin at the start of a process; *last_seen* is when any node last stored the time, None if none ever has."""
        if last_seen is None:
            return cls(now, boot)
        if now - last_seen > LONGEST_SILENCE:
            silence = f"no node was seen for {_shown(now - last_seen)} before the start: the clock may be ahead"
            return cls(now, boot, silence=silence, released_at=boot + SILENCE_HOLD.total_seconds())
        return cls(now, boot, last_seen=last_seen if last_seen - now > LARGEST_LEAD else None)

    def observed(self, now: datetime, boot: float) -> ClockWatch:
        """Return what is known after another look at both clocks."""
        step = now - self.now - timedelta(seconds=boot - self.boot)
        stepped = self.stepped
        if not stepped and abs(step) > LARGEST_STEP:
            direction = "forward" if step > timedelta(0) else "back"
            stepped = f"the clock has jumped {direction} by {_shown(abs(step))}: check it, then restart the node"
        return replace(self, now=now, boot=boot, stepped=stepped)

    def held(self, boot: float) -> str | None:
        """Return why nothing may be destroyed at this boot time; None where it may."""
        if self.stepped:
            return self.stepped
        if self.silence and boot < self.released_at:
            return f"{self.silence}; for {_shown(timedelta(seconds=self.released_at - boot))} more"
        now = self.now + timedelta(seconds=boot - self.boot)
        if self.last_seen is not None and now <= self.last_seen:
            return f"a node was seen {_shown(self.last_seen - now)} ahead of this clock: one of the two is wrong"
        return None


def _shown(length: timedelta) -> str:
    """The length in words, to the second."""
    return str(timedelta(seconds=round(length.total_seconds())))
