"""What each key version still protects, and how well that is known: unknown is not zero.

A place is where ciphertexts of a key live; whoever stores them declares it and reports counts, taken from the headers
without decrypting. A version's census is known when all places of its key are declared, each has been counted as a
whole after the version stopped encrypting, and nothing has been decrypted under it since. What was encrypted shortly
before that must be stored by then: the grace of a rotation is also the time for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from .keyring import Key, KeyVersion
from .lifecycle import ENCRYPTING, KeyState
from .names import KeyUid, TenantUid

MOST_PLACES: Final = 100  # of one key
# A report from a clock that is ahead of ours by more than this is refused.
REPORT_SLACK: Final = timedelta(minutes=5)
# Uses are noted to the minute: one may be later than it says by this much.
USE_RESOLUTION: Final = timedelta(minutes=1)
# An end that is estimated further ahead tells nothing.
FURTHEST_END: Final = timedelta(days=3653)
# So many places are named in one sentence.
_MOST_NAMED: Final = 5
_FORCED: Final = "; forced, whatever it still protects"
_EXPOSED: Final = "re-encrypt all that it encrypted, for its DEK has left the daemon"


class PlaceKind(StrEnum):
    """What kind of thing holds the ciphertexts."""

    COLUMN = "column"
    BLOBS = "blobs"
    DATA_KEYS = "data_keys"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Place:
    """A place where ciphertexts of one key live, and when it was last counted."""

    tenant: TenantUid
    key: KeyUid
    slug: str
    kind: PlaceKind
    description: str
    created_at: datetime
    created_by: str
    counted_at: datetime | None = None  # when the last whole count began
    reported_by: str = ""
    revision: int = 0


@dataclass(frozen=True, slots=True)
class PlaceCount:
    """How many ciphertexts of one version a place held at its last count, and at the one before."""

    tenant: TenantUid
    key: KeyUid
    place: str
    version: int
    count: int
    counted_at: datetime
    previous_count: int | None = None
    previous_at: datetime | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Uses:
    """What has been seen of one version on all nodes, to the minute."""

    last_used_at: datetime | None = None  # encrypted or decrypted
    last_decrypted_at: datetime | None = None
    refused: int = 0  # uses refused in quarantine
    last_refused_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class VersionCensus:
    """How many ciphertexts a version protects as far as known, where, and why that is not the whole truth."""

    count: int  # counted so far
    places: tuple[tuple[str, int], ...]  # slug and count, where that is not zero
    unknown: tuple[str, ...] = ()  # reasons; empty: the count is the whole truth
    ends_at: datetime | None = None  # estimated, where the counts are going down
    undeclared: bool = False  # whether its key's places have to be declared
    uncounted: tuple[str, ...] = ()  # the places that have to be counted, or counted again
    refused: int = 0  # uses refused in quarantine

    @property
    def zero(self) -> bool:
        """Whether the version is known to protect nothing."""
        return not self.unknown and self.count == 0


def stopped_at(key: Key, version: KeyVersion) -> datetime | None:
    """Return from when on no node encrypts under the version, by itself or with its key; None while one may."""
    return min((time for time in (key.stopped_at, version.stopped_at) if time is not None), default=None)


def census(
    now: datetime,
    key: Key,
    version: KeyVersion,
    reserved: int,
    places: Sequence[Place],
    counts: Sequence[PlaceCount],
    uses: Uses,
) -> VersionCensus:
    """Return what is known of one version; *places* and *counts* are those of its key."""
    own = [count for count in counts if count.version == version.version and count.count > 0]
    stopped = stopped_at(key, version)
    encrypts = stopped is None or stopped > now
    unused = reserved == 0 and uses == Uses() and version.exposed_at is None
    if unused and not own and (version.state is KeyState.PENDING or not encrypts):
        return VersionCensus(0, ())  # it has never encrypted, and will not
    unknown: list[str] = []
    if encrypts:
        unknown.append("the version may still encrypt")
    if key.places_complete_at is None:
        unknown.append("the places of the key are not declared complete")
    elif not places:
        unknown.append("no place of the key is declared")
    faults = {place.slug: fault for place in places if (fault := _fault(now, place, stopped, uses)) is not None}
    return VersionCensus(
        count=sum(count.count for count in own),
        places=tuple((count.place, count.count) for count in own),
        unknown=(*unknown, *(f"place {slug} {fault}" for slug, fault in faults.items())),
        ends_at=None if encrypts else _end(now, own),
        undeclared=key.places_complete_at is None or not places,
        uncounted=tuple(faults),
        refused=uses.refused,
    )


def _fault(now: datetime, place: Place, stopped: datetime | None, uses: Uses) -> str | None:
    """Say why the last count of a place tells nothing of a version; None where it does."""
    counted = place.counted_at
    if counted is None:
        return "has not been counted"
    if counted > now + REPORT_SLACK:
        return "was counted by a clock that has gone back since"
    if stopped is not None and counted < stopped:
        return "has not been counted since the version stopped encrypting"
    if uses.last_decrypted_at is not None and counted < uses.last_decrypted_at + USE_RESOLUTION:
        return "has not been counted since the version last decrypted"
    if uses.last_refused_at is not None and counted < uses.last_refused_at + USE_RESOLUTION:
        return "has not been counted since a use in quarantine"
    return None


def _end(now: datetime, counts: Sequence[PlaceCount]) -> datetime | None:
    """Estimate when all of *counts* are zero, at the rate between the last two counts of each."""
    ends = []
    for count in counts:
        if count.previous_count is None or count.previous_at is None or count.previous_count <= count.count:
            return None
        passed = (count.counted_at - count.previous_at).total_seconds()
        left = passed / (count.previous_count - count.count) * count.count
        if not 0 < left <= FURTHEST_END.total_seconds():
            return None
        ends.append(count.counted_at + timedelta(seconds=left))
    # An end that has passed since the last count was estimated wrongly.
    return max((end for end in ends if end > now), default=None)


def next_step(now: datetime, key: Key, version: KeyVersion, census: VersionCensus) -> str:
    """Say what remains to be done before the version is gone."""
    if (decided := _decided(key, version, census)) is not None:
        return decided
    step = _open_step(now, key, version, census)
    exposed = version.exposed_at is not None and KeyState.REVOKED in (key.state, version.state)
    return f"{_EXPOSED}; {step}" if exposed and not census.zero else step


def _open_step(now: datetime, key: Key, version: KeyVersion, census: VersionCensus) -> str:
    """Say what is next for a version of whose end nothing is decided."""
    stopped = stopped_at(key, version)
    if stopped is not None and stopped > now:
        return f"wait until {_shown(stopped)}: nodes may still encrypt under it"
    if version.version == key.primary_version:
        return _step_of_primary(key, census)
    if not census.zero:
        return "; ".join(_missing(census) or census.unknown)
    return "wait until it is archived" if version.state is KeyState.ROTATING else "retire it"


def _decided(key: Key, version: KeyVersion, census: VersionCensus) -> str | None:
    """Say what will become of a version whose destruction is scheduled or done, or its key's."""
    if version.state is KeyState.DESTROYED:
        return "nothing"
    if key.state is KeyState.DESTROYED:
        return "nothing: it is being destroyed with its key"
    if version.state is KeyState.DESTRUCTION_SCHEDULED:
        text = f"will be destroyed{_at(version.until)}; uses refused: {census.refused}"
        return text + (_but_first("cancel the retirement", census) if not version.forced_by else _FORCED)
    if key.state is KeyState.DESTRUCTION_SCHEDULED:
        text = f"will be destroyed with its key{_at(key.destroy_at)}"
        return text + (_but_first("cancel the destruction", census) if not key.forced_by else _FORCED)
    return None


def _step_of_primary(key: Key, census: VersionCensus) -> str:
    if key.state in ENCRYPTING:
        return "rotate the key first"
    if key.state is KeyState.PENDING:
        return "activate the key, or schedule its destruction"
    if key.state is KeyState.SUSPENDED:
        return "resume the key and rotate it"
    return "; ".join([*_missing(census), "schedule the destruction of the key"])


def _but_first(undo: str, census: VersionCensus) -> str:
    """Say why a scheduled destruction will not be carried out; values can be re-encrypted only after its *undo*."""
    steps = [undo, *_missing(census)] if census.count else _missing(census)
    return f"; but first {'; '.join(steps)}" if steps else ""


def _missing(census: VersionCensus) -> list[str]:
    """Say what has to be done before the census of a version that has stopped encrypting is zero."""
    steps = []
    if census.undeclared:
        steps.append("declare the places of the key")
    if census.count:
        where = [f"{count} value{'' if count == 1 else 's'} in {place}" for place, count in census.places]
        steps.append(f"re-encrypt {_listed(where)}, then count again")
    held = {place for place, _ in census.places}
    if uncounted := [place for place in census.uncounted if place not in held]:
        steps.append(f"count {_listed(uncounted)}")
    return steps


def _listed(parts: Sequence[str]) -> str:
    more = [f"{len(parts) - _MOST_NAMED} more"] if len(parts) > _MOST_NAMED else []
    return ", ".join([*parts[:_MOST_NAMED], *more])


def _at(time: datetime | None) -> str:
    return "" if time is None else f" at {_shown(time)}"


def _shown(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
