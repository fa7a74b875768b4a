"""When versions were last used, and uses that were refused in quarantine: noted in memory, written now and then.

Noting a use costs one attribute. A time is that of the writing, rounded up to the minute: never earlier than the use, so
that a count of ciphertexts which began before it is not taken for the last word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final
from weakref import WeakValueDictionary

import structlog

from kms.core.census import Uses
from kms.core.errors import KmsError
from kms.core.lifecycle import Use
from kms.core.ports import Counter, UseRecords

_log = structlog.get_logger(__name__)

INTERVAL: Final = 30.0  # seconds between two writings
GATHERING: Final = 0.5  # seconds from a refusal to its writing, so that many are one
MINUTE: Final = timedelta(minutes=1)
AT_ONCE: Final = 1_000  # versions in one transaction
# What cannot be written waits; beyond this many versions, what is new about others is lost.
MOST_WAITING: Final = 100_000


class Marks:
    """Says of one version on this node what has been done with it since the last writing."""

    __slots__ = ("__weakref__", "counter", "decrypted", "used", "written_until")

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.used = False  # encrypted
        self.decrypted = False
        self.written_until: tuple[datetime | None, datetime | None] = (None, None)  # used, decrypted


class UseRecorder:
    """Gathers the uses of this node's versions."""

    def __init__(self, records: UseRecords, now: Callable[[], datetime], interval: float = INTERVAL) -> None:
        self._records = records
        self._now = now
        self._interval = interval
        self._marks: WeakValueDictionary[Counter, Marks] = WeakValueDictionary()
        # Those that somebody may have marked since the last writing, although their versions may be forgotten already.
        self._held: list[Marks] = []
        self._waiting: dict[Counter, Uses] = {}
        self._logged: dict[Counter, datetime] = {}
        self._soon = asyncio.Event()
        self._failing = False

    def marks(self, counter: Counter) -> Marks:
        """Return where the uses of a version are noted, the same object for all that hold it."""
        marks = self._marks.get(counter)
        if marks is None:
            marks = self._marks[counter] = Marks(counter)
            self._held.append(marks)
            if len(self._held) >= MOST_WAITING:
                self._soon.set()
        return marks

    def refused(self, counter: Counter, name: str, use: Use, count: int) -> None:
        """Note that *count* uses of a version were refused because it, or its key, waits for its destruction."""
        now = self._now()
        self._merge(counter, Uses(refused=count, last_refused_at=now))
        self._soon.set()
        logged = self._logged.get(counter)
        if logged is None or not logged <= now < logged + MINUTE:
            self._logged[counter] = now
            _log.warning("key_version.used_in_quarantine", name=name, use=use, count=count)

    async def run(self) -> None:
        """Write again and again, soon after a refusal, and once more at the end."""
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._interval):
                        await self._soon.wait()
                        await asyncio.sleep(GATHERING)
                await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write what has been noted; what cannot be written waits for the next time."""
        self._soon.clear()
        now = self._now()
        self._gather(_next_minute(now))
        self._held.clear()  # those whose versions are forgotten go now
        self._held.extend(self._marks.values())
        self._logged = {counter: at for counter, at in self._logged.items() if at <= now < at + MINUTE}
        while self._waiting:
            batch = dict(islice(self._waiting.items(), AT_ONCE))
            for counter in batch:
                del self._waiting[counter]
            written = False
            try:
                await self._records.add_uses(batch)
                written = True
            except KmsError as error:
                if not self._failing:
                    _log.warning("key_version.uses_not_written", reason=str(error))
                self._failing = True
                return
            finally:
                if not written:  # a refusal may then be counted twice, which says no less
                    for counter, uses in batch.items():
                        self._merge(counter, uses)
        self._failing = False

    def _gather(self, until: datetime) -> None:
        for marks in self._held:
            used, decrypted = marks.used or marks.decrypted, marks.decrypted
            marks.used = marks.decrypted = False
            at = (until if used else None, until if decrypted else None)
            # The same minute again says nothing new.
            if at not in ((None, None), marks.written_until):
                marks.written_until = at
                self._merge(marks.counter, Uses(*at))

    def _merge(self, counter: Counter, seen: Uses) -> None:
        waiting = self._waiting.get(counter)
        if waiting is None:
            if len(self._waiting) < MOST_WAITING:
                self._waiting[counter] = seen
            return
        self._waiting[counter] = replace(
            waiting,
            last_used_at=_later(waiting.last_used_at, seen.last_used_at),
            last_decrypted_at=_later(waiting.last_decrypted_at, seen.last_decrypted_at),
            refused=waiting.refused + seen.refused,
            last_refused_at=_later(waiting.last_refused_at, seen.last_refused_at),
        )


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((at for at in (one, other) if at is not None), default=None)


def _next_minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0) + MINUTE
