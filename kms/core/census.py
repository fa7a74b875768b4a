"""What each key version still protects, and how well that is known: unknown is not zero.

A place is where ciphertexts of a key live; whoever stores them declares it and reports counts, taken from the headers
without decrypting. A version's census is known when all places of its key are declared, each has been counted as a
whole after the version stopped encrypting, and nothing has been decrypted under it since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from .keyring import Key, KeyVersion
from .names import KeyUid, TenantUid

MOST_PLACES: Final = 100  # of one key
# A report from a clock that is ahead of ours by more than this is refused.
REPORT_SLACK: Final = timedelta(minutes=5)


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

    @property
    def zero(self) -> bool:
        """Whether the version is known to protect nothing."""
        return not self.unknown and self.count == 0


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
    if reserved == 0 and version.stopped_at is not None and version.stopped_at <= now:
        return VersionCensus(0, ())  # it has never encrypted, and will not
    own = [count for count in counts if count.version == version.version and count.count > 0]
    unknown: list[str] = []
    if key.places_complete_at is None:
        unknown.append("the places of the key are not declared complete")
    elif not places:
        unknown.append("no place of the key is declared")
    for place in places:
        if place.counted_at is None:
            unknown.append(f"place {place.slug} has not been counted")
        elif version.stopped_at is None or place.counted_at < version.stopped_at:
            unknown.append(f"place {place.slug} has not been counted since the version stopped encrypting")
        elif uses.last_decrypted_at is not None and place.counted_at < uses.last_decrypted_at:
            unknown.append(f"place {place.slug} has not been counted since the version last decrypted")
        elif uses.last_refused_at is not None and place.counted_at < uses.last_refused_at:
            unknown.append(f"place {place.slug} has not been counted since a use in quarantine")
    return VersionCensus(
        sum(count.count for count in own),
        tuple((count.place, count.count) for count in own),
        tuple(unknown),
        _end(own),
    )


def _end(counts: Sequence[PlaceCount]) -> datetime | None:
    """Estimate when all of *counts* are zero, at the rate between the last two counts of each."""
    ends = []
    for count in counts:
        if count.previous_count is None or count.previous_at is None or count.previous_count <= count.count:
            return None
        pace = (count.counted_at - count.previous_at) / (count.previous_count - count.count)
        ends.append(count.counted_at + pace * count.count)
    return max(ends, default=None)
