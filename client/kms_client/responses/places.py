"""From messages to values: places and the census."""

from __future__ import annotations

from ..v1 import census_pb2, keys_pb2
from ..values import Place, PlaceKind, Places, VersionCensus
from .reading import known, time, time_if


def place(message: census_pb2.Place) -> Place:
    """Read a Place."""
    return Place(
        name=message.name,
        kind=known(PlaceKind, message.kind),
        description=message.description,
        create_time=time(message.create_time),
        creator=message.creator,
        count_time=time_if(message, "count_time"),
        reporter=message.reporter,
        counts={count.version: count.count for count in message.counts},
    )


def places(message: census_pb2.ListPlacesResponse) -> Places:
    """Read a ListPlacesResponse."""
    return Places(tuple(place(entry) for entry in message.places), time_if(message, "complete_time"), message.declarer)


def version_census(message: keys_pb2.VersionCensus) -> VersionCensus:
    """Read a VersionCensus; a daemon that tells nothing leaves it unknown."""
    return VersionCensus(
        known=message.known,
        count=message.count,
        places={tally.place: tally.count for tally in message.places},
        unknown_reasons=tuple(message.unknown_reasons),
        estimated_end_time=time_if(message, "estimated_end_time"),
        next_step=message.next_step,
    )
