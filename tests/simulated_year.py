"""A year of many keys in the pure core: time is a number, and only what is due is looked at.

The world has two clocks. `running` is true; `wall` is what the node reads, and may be wrong. Everything that a scheduler
and a census service would do with the values of the core is done here, without storage, and checked against the truth.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from kms.core.census import Place, PlaceCount, Uses, census
from kms.core.clock import ClockWatch
from kms.core.keyring import ERASED, Key, KeyVersion
from kms.core.lifecycle import KeyEvent, KeyState
from kms.core.policy import DEFAULT, Policy
from kms.core.rotation import (
    CLOCK_SLACK,
    DestroyVersion,
    FinishRotation,
    Lineage,
    Reanchor,
    Rotate,
    due,
    finished,
    planned,
    reanchored,
    rotated,
)
from tests.keyrings import NOW, active_version, new_key, new_place, new_tenant

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ZERO = timedelta(0)
POLICY = replace(DEFAULT, automatic_retirement=True)
FIRST_USE = 2 * HOUR  # until something is encrypted under a new version
AGAIN = 6 * HOUR  # until a key is looked at again whose destruction is held
TENANT = new_tenant("acme")


@dataclass(slots=True)
class SimulatedKey:
    """A key, what storage would hold of it, and what is true of the applications' data."""

    key: Key
    first: KeyVersion
    place: Place
    emptied_after: timedelta | None  # how long after a version stops its last value is re-encrypted; None: never
    report_every: timedelta
    versions: dict[int, KeyVersion] = field(default_factory=dict)  # all that are not destroyed
    timed: dict[int, KeyVersion] = field(default_factory=dict)  # those of them that wait for a time
    counted: timedelta = ZERO  # when the last count began, in running time; here and below
    born: dict[int, timedelta] = field(default_factory=dict)
    stopped: dict[int, timedelta] = field(default_factory=dict)
    strays: set[int] = field(default_factory=set)  # versions of which a value has come back from somewhere
    used: dict[int, Uses] = field(default_factory=dict)  # of those that were used in quarantine
    slots: set[datetime] = field(default_factory=set)
    most: int = 0  # versions at once, those not counted that were used in quarantine
    destroyed: int = 0

    def lineage(self, policy: Policy = POLICY) -> Lineage:
        return Lineage(self.key, policy, list(self.timed.values()))

    def put(self, version: KeyVersion) -> None:
        """Store a changed version."""
        self.versions[version.version] = version
        if version.until is None:
            self.timed.pop(version.version, None)
        else:
            self.timed[version.version] = version

    def values(self, number: int, running: timedelta) -> int:
        """Return how many values of a version there truly are."""
        if number in self.strays:
            return 1
        if running < self.born.get(number, ZERO) + FIRST_USE:
            return 0
        stopped = self.stopped.get(number)
        if stopped is None or self.emptied_after is None or running < stopped:
            return 1000
        left = 1 - (running - stopped) / self.emptied_after if self.emptied_after else 0
        return max(0, round(1000 * left))


@dataclass(frozen=True, slots=True)
class Disturbances:
    """What goes wrong, and how often in a year."""

    outages: int = 12  # of a minute to 3 days
    jumps: int = 6  # of 6 minutes to 3 days, either way; the node is restarted within 2 days
    excursions: int = 2  # 40 days ahead for some hours, and back


class Year:
    """Lets time pass for *keys* of which one in *never* is never re-encrypted."""

    def __init__(self, seed: int, keys: int, days: int, *, never: int, disturbances: Disturbances) -> None:
        self.random = random.Random(seed)
        self.running, self.offset = ZERO, ZERO
        self.end = days * DAY
        self.watch = ClockWatch.started(self.wall, 0.0, None)
        self.last_seen = self.wall
        self.done: Counter[str] = Counter()
        self._way = -1  # of the last jump; the first is forward
        self._order = itertools.count()
        self._due: list[tuple[datetime, int, int]] = []  # by the wall clock; an entry, once replaced, counts no more
        self._entries: dict[int, int] = {}
        self._world: list[tuple[timedelta, int, Callable[[], None]]] = []  # by the true one
        self.keys = [self._new_key(number, stubborn=number % never == 0) for number in range(keys)]
        for number in range(keys):
            self._plan(number, self.keys[number].key.due_at)
            self._after(self._drawn(ZERO, self.keys[number].report_every), lambda n=number: self._report(n))
        self._disturb(disturbances, days)

    @property
    def wall(self) -> datetime:
        return NOW + self.running + self.offset

    @property
    def boot(self) -> float:
        return self.running.total_seconds()

    def pass_by(self) -> None:
        """Do what comes next, by either clock, until the end."""
        while True:
            at = self._world[0][0] if self._world else self.end
            if self._due:
                at = min(at, max(self.running, self._due[0][0] - NOW - self.offset))
            if at >= self.end:
                return
            self.running = max(self.running, at)
            if self._world and self._world[0][0] <= self.running:
                heapq.heappop(self._world)[2]()
            else:
                self._look()

    # --- the scheduler

    def _look(self) -> None:
        _, entry, number = heapq.heappop(self._due)
        if self._entries[number] == entry:
            self._visit(number, self.wall)

    def _visit(self, number: int, now: datetime) -> None:
        it = self.keys[number]
        self.last_seen = max(self.last_seen, now)
        self.watch = self.watch.observed(now, self.boot)
        held = self.watch.held(self.boot) is not None
        for action in due(now, [it.lineage()], may_destroy=not held):
            match action:
                case Rotate():
                    self._rotate(it, action, now)
                case FinishRotation():
                    it.key, archived = finished(it.lineage(), action.versions, now)
                    for version in archived:
                        it.put(version)
                case DestroyVersion():
                    self._destroy(it, action.version, now)
                case Reanchor():
                    assert it.key.scheduled_from > now + CLOCK_SLACK
                    it.key = reanchored(it.lineage(), now)
                case _:
                    raise AssertionError(action)
            self.done[type(action).__name__] += 1
            check(it)
        if it.key.due_at is not None and it.key.due_at <= now:
            assert held, "something stays due although nothing is held"
            self._plan(number, now + AGAIN)
        else:
            self._plan(number, it.key.due_at)

    def _rotate(self, it: SimulatedKey, action: Rotate, now: datetime) -> None:
        assert action.slot not in it.slots, "a slot twice"
        assert it.key.scheduled_from < action.slot <= now < action.slot + POLICY.rotation
        assert (action.slot - it.key.scheduled_from) % POLICY.rotation == ZERO
        it.slots.add(action.slot)
        before = it.key.primary_version
        it.key, replaced = rotated(it.lineage(), it.versions[before], now, action.slot)
        it.put(replaced)
        made = {"created_at": now, "state_at": now, "due_at": action.slot}
        it.put(replace(it.first, version=before + 1, **made))
        it.stopped[before] = self.running + POLICY.grace
        it.born[before + 1] = self.running

    def _destroy(self, it: SimulatedKey, version: KeyVersion, now: datetime) -> None:
        assert version.state is KeyState.DESTRUCTION_SCHEDULED
        if not self._census(it, version, now).zero:
            cancelled = version.after(KeyEvent.CANCEL_DESTRUCTION, now)
            it.key = planned(it.lineage(), cancelled)
            it.put(cancelled)
            self.done["cancelled"] += 1
            return
        assert it.values(version.version, self.running) == 0, "a version destroyed that still protects something"
        assert now - version.state_at >= POLICY.quarantine, "a version destroyed before its quarantine was over"
        gone = version.after(KeyEvent.DESTROY, now)
        assert gone.wrapped == ERASED
        it.key = planned(it.lineage(), gone)
        it.put(gone)
        del it.versions[version.version]
        it.destroyed += 1

    def _plan(self, number: int, at: datetime | None) -> None:
        assert at is not None  # a key that rotates by time always waits for the next rotation
        self._entries[number] = entry = next(self._order)
        heapq.heappush(self._due, (at, entry, number))

    # --- the applications

    def _report(self, number: int) -> None:
        """Count all values of a key, and retire what has none."""
        it, now = self.keys[number], self.wall
        it.place, it.counted = replace(it.place, counted_at=now), self.running
        retired = [
            version.after(KeyEvent.SCHEDULE_DESTRUCTION, now, until=now + POLICY.quarantine)
            for version in it.versions.values()
            if version.state is KeyState.ARCHIVED and self._census(it, version, now).zero
        ]
        it.key = planned(it.lineage(), *retired)
        for version in retired:
            it.put(version)
            if self.random.random() < 0.01:
                self._after(self._drawn(ZERO, 6 * DAY), lambda v=version.version: self._stray(number, v))
        self.done["retired"] += len(retired)
        check(it)
        self._plan(number, it.key.due_at)
        self._after(it.report_every, lambda: self._report(number))

    def _stray(self, number: int, version: int) -> None:
        """Use a version in quarantine, of which a value has come back; it is refused, and re-encrypted later."""
        it = self.keys[number]
        if version not in it.timed:
            return
        uses = it.used.get(version, Uses())
        it.used[version] = replace(uses, refused=uses.refused + 1, last_refused_at=self.wall)
        it.strays.add(version)
        self.done["strays"] += 1
        self._after(12 * DAY, lambda: it.strays.discard(version))

    def _census(self, it: SimulatedKey, version: KeyVersion, now: datetime):
        """Ask the core, giving it what was true at the last count."""
        number = version.version
        assert it.place.counted_at is not None
        values = it.values(number, it.counted)
        counts = [PlaceCount(it.key.tenant, it.key.uid, it.place.slug, number, values, it.place.counted_at)]
        return census(now, it.key, version, 4096, [it.place], counts, it.used.get(number, Uses()))

    # --- the world

    def _after(self, length: timedelta, act: Callable[[], None]) -> None:
        heapq.heappush(self._world, (self.running + length, next(self._order), act))

    def _drawn(self, shortest: timedelta, longest: timedelta) -> timedelta:
        return shortest + (longest - shortest) * self.random.random()

    def _new_key(self, number: int, *, stubborn: bool) -> SimulatedKey:
        began = NOW - self._drawn(ZERO, POLICY.rotation)
        key = replace(new_key(TENANT, f"key-{number}"), scheduled_from=began, places_complete_at=NOW)
        it = SimulatedKey(
            key,
            active_version(key),
            new_place(key, "table"),
            None if stubborn else self._drawn(ZERO, 3 * DAY),
            self._drawn(10 * DAY, 20 * DAY) if stubborn else self._drawn(DAY, 3 * DAY),
        )
        it.put(it.first)
        it.key = planned(it.lineage())
        return it

    def _disturb(self, wanted: Disturbances, days: int) -> None:
        for kind, count in (
            (self._outage, wanted.outages),
            (self._jump, wanted.jumps),
            (self._excursion, wanted.excursions),
        ):
            for _ in range(round(count * days / 365)):
                self._after(self._drawn(DAY, self.end), kind)

    def _start(self) -> None:
        """Start the node again; what it stored last is all that it knows."""
        self.watch = ClockWatch.started(self.wall, self.boot, self.last_seen)
        self._look_at_schedules()

    def _outage(self) -> None:
        self.done["outages"] += 1
        self.running += self._drawn(MINUTE, 3 * DAY)
        self._start()

    def _jump(self, by: timedelta | None = None) -> None:
        self.done["jumps"] += 1
        self._way = -self._way
        self.offset += by or self._drawn(6 * MINUTE, 3 * DAY) * self._way
        self.watch = self.watch.observed(self.wall, self.boot)
        assert self.watch.held(self.boot) is not None
        self._look_at_schedules()
        self._after(self._drawn(HOUR, 2 * DAY), self._start)

    def _excursion(self) -> None:
        self._jump(40 * DAY)
        self._after(self._drawn(HOUR, 8 * HOUR), lambda: self._jump(-40 * DAY))

    def _look_at_schedules(self) -> None:
        """Look at every key whose schedule lies ahead, as storage claims them."""
        for number, it in enumerate(self.keys):
            if it.key.scheduled_from > self.wall + CLOCK_SLACK:
                self._visit(number, self.wall)


def check(it: SimulatedKey) -> None:
    """Exactly one version encrypts, and it is the one that the key names."""
    active = [number for number, version in it.versions.items() if version.state is KeyState.ACTIVE]
    assert active == [it.key.primary_version]
    it.most = max(it.most, len(it.versions) - len(it.used.keys() & it.versions.keys()))
