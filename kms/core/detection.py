"""Finds what is conspicuous in how calls end; time is an argument, and what is remembered is bounded.

An event is raised once for a subject (a caller, an address, a caller with a key) when its threshold is reached. For a
window of time from then on, what follows only adds to that event's count, which is told once more at the end.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from uuid import UUID

from .events import EventType

# Subjects remembered by each detector; the ones unheard of for longest are forgotten first. Some 300 bytes each.
MOST_SUBJECTS: Final = 10_000
MOST_GROWN: Final = 10_000  # counts that nobody has asked for yet; the oldest are lost first
MINUTE: Final = 60.0  # seconds
LEARNING: Final = 10  # minutes in which a caller's volume is only learnt
WEIGHT: Final = 0.1  # of the last minute in the mean of all before


@dataclass(frozen=True, slots=True)
class Raised:
    """An event to be: *began* and *at* are by the clock of the detectors, in seconds."""

    uid: UUID
    began: float
    at: float
    count: int
    threshold: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Grown:
    """What an event that was raised before has come to, at the end of its window."""

    uid: UUID
    at: float
    count: int


@dataclass(slots=True)
class _Row:
    """What is remembered of one subject."""

    began: float
    last: float
    count: int = 0
    uid: UUID | None = None  # of the event that was raised
    raised_at: float = 0.0
    told: int = 0


class Occurrences:
    """Counts by subject, from the first one on for *within* seconds, or (None) until clear()."""

    def __init__(
        self,
        threshold: int,
        within: float | None,
        window: float,
        new_uid: Callable[[], UUID],
        most: int = MOST_SUBJECTS,
    ) -> None:
        self._threshold = threshold
        self._within = within
        self._window = window
        self._new_uid = new_uid
        self._most = most
        self._rows: OrderedDict[Hashable, _Row] = OrderedDict()
        self._raised: dict[Hashable, None] = {}  # those with an event, in the order of raising
        self._grown: deque[Grown] = deque(maxlen=MOST_GROWN)

    def __len__(self) -> int:
        """Return the number of subjects remembered."""
        return len(self._rows)

    def add(self, subject: Hashable, weight: int, now: float) -> Raised | None:
        """Count *weight* occurrences; return the event that they raise."""
        row = self._rows.get(subject)
        if row is not None and self._over(row, now):
            self._forget(subject)
            row = None
        if row is None:
            row = self._rows[subject] = _Row(now, now)
            if len(self._rows) > self._most:
                self._forget(next(iter(self._rows)))
        else:
            self._rows.move_to_end(subject)
        row.count += weight
        row.last = now
        if row.uid is not None or row.count < self._threshold:
            return None
        row.uid, row.raised_at, row.told = self._new_uid(), now, row.count
        self._raised[subject] = None
        return Raised(row.uid, row.began, now, row.count, self._threshold)

    def clear(self, subject: Hashable) -> None:
        """Begin anew with a subject; one with an event stays until its window is over, so that it raises no second one."""
        row = self._rows.get(subject)
        if row is not None and row.uid is None:
            del self._rows[subject]

    def grown(self, now: float) -> list[Grown]:
        """Return what events have come to whose windows are over; each is told once."""
        while self._raised:
            subject = next(iter(self._raised))
            if not self._over(self._rows[subject], now):
                break
            self._forget(subject)
        told = list(self._grown)
        self._grown.clear()
        return told

    def _over(self, row: _Row, now: float) -> bool:
        if row.uid is not None:
            return now >= row.raised_at + self._window
        return self._within is not None and now >= row.began + self._within

    def _forget(self, subject: Hashable) -> None:
        row = self._rows.pop(subject)
        if row.uid is not None:
            del self._raised[subject]
            if row.count > row.told:
                self._grown.append(Grown(row.uid, row.last, row.count))


@dataclass(slots=True)
class _Volume:
    """The values of one caller: those of the present minute, and a mean of the minutes before, later ones weighing more."""

    minute: int
    began: int
    values: int = 0
    mean: float = 0.0
    weight: float = 0.0  # of all minutes in the mean: 1 when there are many
    uid: UUID | None = None
    told: int = 0
    last: float = 0.0

    def usual(self) -> float:
        return self.mean / self.weight if self.weight else 0.0

    def advance(self, minute: int) -> None:
        """End the present minute, and those in which nothing happened."""
        passed = minute - self.minute
        kept = (1 - WEIGHT) ** passed
        # The minute that ends, and then passed - 1 of zero.
        self.mean = self.mean * kept + WEIGHT * self.values * (1 - WEIGHT) ** (passed - 1)
        self.weight = 1 - (1 - self.weight) * kept
        self.minute, self.values, self.uid, self.told = minute, 0, None, 0


class Volumes:
    """Compares what each caller decrypts in a minute with what it used to."""

    def __init__(self, factor: float, minimum: int, new_uid: Callable[[], UUID], most: int = MOST_SUBJECTS) -> None:
        """An event is raised by more than *factor* times the usual number, and not below *minimum* values in a minute."""
        self._factor = factor
        self._minimum = minimum
        self._new_uid = new_uid
        self._most = most
        self._volumes: OrderedDict[Hashable, _Volume] = OrderedDict()
        self._raised: dict[Hashable, None] = {}
        self._grown: deque[Grown] = deque(maxlen=MOST_GROWN)

    def __len__(self) -> int:
        """Return the number of subjects remembered."""
        return len(self._volumes)

    def add(self, subject: Hashable, values: int, now: float) -> Raised | None:
        """Count *values*; return the event that they raise, at most one a minute."""
        minute = int(now // MINUTE)
        volume = self._volumes.get(subject)
        if volume is None:
            volume = self._volumes[subject] = _Volume(minute, minute)
            if len(self._volumes) > self._most:
                self._settle(next(iter(self._volumes)))
                self._volumes.popitem(last=False)
        else:
            self._volumes.move_to_end(subject)
            if minute > volume.minute:
                self._settle(subject)
                volume.advance(minute)
        volume.values += values
        volume.last = now
        if volume.uid is not None or volume.values < self._minimum or minute < volume.began + LEARNING:
            return None
        usual = volume.usual()
        threshold = max(self._minimum, int(self._factor * usual) + 1)
        if volume.values < threshold:
            return None
        volume.uid, volume.told = self._new_uid(), volume.values
        self._raised[subject] = None
        return Raised(
            volume.uid, minute * MINUTE, now, volume.values, threshold, f"usually {usual:.0f} values a minute"
        )

    def grown(self, now: float) -> list[Grown]:
        """Return what events have come to whose minute is over; each is told once."""
        minute = int(now // MINUTE)
        for subject in [subject for subject in self._raised if self._volumes[subject].minute < minute]:
            self._settle(subject)
        told = list(self._grown)
        self._grown.clear()
        return told

    def _settle(self, subject: Hashable) -> None:
        volume = self._volumes[subject]
        if self._raised.pop(subject, self) is None and volume.uid is not None and volume.values > volume.told:
            self._grown.append(Grown(volume.uid, volume.last, volume.values))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When each detector raises an event; *window* is in seconds."""

    window: float = 60.0
    counts: Mapping[EventType, int] = field(default_factory=lambda: MappingProxyType({}))  # 1 where none is given
    volume_factor: float = 10.0
    volume_minimum: int = 10_000


class Detections:
    """All detectors of one node."""

    def __init__(self, thresholds: Thresholds, new_uid: Callable[[], UUID], most: int = MOST_SUBJECTS) -> None:
        window = thresholds.window
        self._volumes = Volumes(thresholds.volume_factor, thresholds.volume_minimum, new_uid, most)
        self._counted: dict[EventType, Occurrences] = {
            kind: Occurrences(
                thresholds.counts.get(kind, 1),
                None if kind is EventType.DECRYPT_FAILURES else window,
                window,
                new_uid,
                most,
            )
            for kind in EventType
            if kind is not EventType.DECRYPT_VOLUME
        }
        self._failures = self._counted[EventType.DECRYPT_FAILURES]
        self._detectors: tuple[Occurrences | Volumes, ...] = (*self._counted.values(), self._volumes)

    def seen(self, kind: EventType, subject: Hashable, now: float, weight: int = 1) -> Raised | None:
        """Count what has been seen of a subject; return the event that it raises."""
        return self._counted[kind].add(subject, weight, now)

    def decrypted(self, caller: Hashable, key: str, values: int, now: float) -> Raised | None:
        """Note a call that decrypted *values* and failed for none; return the event that its volume raises."""
        if len(self._failures):
            self._failures.clear((caller, key))
        return self._volumes.add(caller, values, now)

    def partly_decrypted(self, caller: Hashable, values: int, now: float) -> Raised | None:
        """Note the *values* of a call that failed for others."""
        return self._volumes.add(caller, values, now)

    def grown(self, now: float) -> list[Grown]:
        """Return what events have come to whose windows are over."""
        return [one for detector in self._detectors for one in detector.grown(now)]
