"""Where ciphertexts live, and what a key version still protects: unknown is not zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum


class PlaceKind(IntEnum):
    """What kind of thing holds the ciphertexts."""

    COLUMN = 1
    BLOBS = 2
    DATA_KEYS = 3
    OTHER = 4


@dataclass(frozen=True, slots=True)
class Place:
    """A place where ciphertexts of one key live: `tenants/{tenant}/keys/{key}/places/{place}`."""

    name: str
    kind: PlaceKind | int
    description: str
    create_time: datetime
    creator: str
    count_time: datetime | None  # when the last whole count began; None: never counted
    reporter: str
    counts: Mapping[int, int]  # of the last count, by version; at most the 1,000 newest


@dataclass(frozen=True, slots=True)
class Places:
    """The places of one key, and whether they are declared to be all there are."""

    places: tuple[Place, ...]
    complete_time: datetime | None  # since when; None: they are not
    declarer: str


@dataclass(frozen=True, slots=True)
class VersionCensus:
    """What a key version still protects, as far as that is known."""

    known: bool = False  # whether *count* is the whole truth
    count: int = 0  # ciphertexts counted so far
    places: Mapping[str, int] = field(default_factory=dict)  # where they are: place ids and counts
    unknown_reasons: tuple[str, ...] = ()
    estimated_end_time: datetime | None = None  # when the count will be zero at the present pace
    next_step: str = ""  # what remains to be done before the version is gone

    @property
    def zero(self) -> bool:
        """Whether the version is known to protect nothing."""
        return self.known and self.count == 0
