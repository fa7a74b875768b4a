"""Random histories of one version: it is zero only where every place was counted after all that could have filled it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from hypothesis import event, given
from hypothesis import strategies as st

from kms.core.census import Place, PlaceCount, Uses, VersionCensus, census, next_step
from kms.core.keyring import Key, KeyVersion
from kms.core.lifecycle import KeyEvent, KeyState
from tests.keyrings import NOW, active_version, new_count, new_key, new_place, new_tenant

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
GRACE = HOUR / 2
KEY = new_key(new_tenant("acme"), "payroll")


@dataclass
class History:
    """What storage would hold of version 1; the methods are what may happen."""

    now: datetime = NOW
    key: Key = KEY
    version: KeyVersion = field(default_factory=lambda: active_version(KEY))
    reserved: int = 0
    uses: Uses = field(default_factory=Uses)
    places: dict[str, Place] = field(default_factory=dict)
    counts: dict[str, PlaceCount] = field(default_factory=dict)

    def encrypt(self, *_: object) -> None:
        if self.version.state is KeyState.ACTIVE:
            self.reserved += 4096
            self.uses = replace(self.uses, last_used_at=self._minute())

    def decrypt(self, *_: object) -> None:
        self.uses = replace(self.uses, last_decrypted_at=self._minute(), last_used_at=self._minute())

    def refuse(self, *_: object) -> None:
        self.uses = replace(self.uses, refused=self.uses.refused + 1, last_refused_at=self._minute())

    def rotate(self, *_: object) -> None:
        if self.version.state is KeyState.ACTIVE:
            self.key = self.key.rotated(self.now, self.now)
            self.version = self.version.after(KeyEvent.ROTATE, self.now, until=self.now + GRACE)

    def finish(self, *_: object) -> None:
        if self.version.until is not None and self.version.until <= self.now:
            self.version = self.version.after(KeyEvent.FINISH_ROTATION, self.now)

    def declare(self, *_: object) -> None:
        self.key = replace(self.key, places_complete_at=self.now)

    def add(self, slug: str, *_: object) -> None:
        self.places.setdefault(slug, new_place(self.key, slug))

    def remove(self, slug: str, *_: object) -> None:
        if self.places.pop(slug, None) is not None:
            self.counts.pop(slug, None)
            self.key = replace(self.key, places_complete_at=None)

    def report(self, slug: str, count: int, age: timedelta) -> None:
        """Report a count that began *age* ago, or ahead of this clock."""
        if slug in self.places:
            self.places[slug] = replace(self.places[slug], counted_at=self.now - age)
            self.counts[slug] = replace(new_count(self.places[slug], 1, count), counted_at=self.now - age)

    def census(self) -> VersionCensus:
        places, counts = list(self.places.values()), list(self.counts.values())
        return census(self.now, self.key, self.version, self.reserved, places, counts, self.uses)

    def _minute(self) -> datetime:
        return self.now.replace(second=0, microsecond=0)


SLUGS = ("blobs", "crm-iban")
steps = st.tuples(
    st.sampled_from(["encrypt", "decrypt", "refuse", "rotate", "finish", "declare", "add", "remove", *["report"] * 4]),
    st.sampled_from(SLUGS),
    st.sampled_from([0, 0, 0, 7]),
    st.timedeltas(-4 * MINUTE, 90 * MINUTE),
    st.sampled_from([MINUTE / 4, 20 * MINUTE, HOUR]),
)
# What every version goes through that is ever zero; the drawn steps come before, between and after.
COURSE = ["add", "declare", "encrypt", "rotate", "finish", "report"]


@given(st.lists(st.lists(steps, max_size=3), min_size=len(COURSE) + 1, max_size=len(COURSE) + 1))
def test_a_version_is_zero_only_where_every_place_was_counted_after_all_that_could_have_filled_it(drawn):
    history = History()
    for name, before in zip([*COURSE, None], drawn, strict=True):
        for what, slug, count, age, passed in before:
            getattr(history, what)(slug, count, age)
            check(history)
            history.now += passed
        if name is not None:
            history.now += HOUR
            getattr(history, name)("crm-iban", 0, 10 * MINUTE)
            check(history)


def check(history: History) -> None:
    found, version, uses = history.census(), history.version, history.uses
    step = next_step(history.now, history.key, version, found)
    assert step
    if not found.zero:
        assert found.unknown or found.count
        assert step not in {"retire it", "wait until it is archived", "nothing"}
        return
    assert version.stopped_at is not None
    assert version.stopped_at <= history.now
    if history.reserved == 0 and uses == Uses():
        event("never encrypted")
        return
    event("known to be zero")
    assert history.key.places_complete_at is not None
    assert history.places
    for slug, place in history.places.items():
        assert place.counted_at is not None
        assert place.counted_at >= version.stopped_at
        assert slug not in history.counts or history.counts[slug].count == 0
        for used in (uses.last_decrypted_at, uses.last_refused_at):
            assert used is None or used + MINUTE <= place.counted_at
