"""CensusService: parse, call, format."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from kms.core.census import Place, PlaceCount, PlaceKind
from kms.core.errors import invalid
from kms.core.names import KeyName, PlaceName, Principal, parse_slug
from kms.rpc.fields import parse_text
from kms.services.census import MOST_COUNTS, Census, NewPlace, Places
from kms.services.statuses import KeyStatus
from kms.v1 import census_pb2 as pb

LONGEST_DESCRIPTION = 256
NEWEST_SHOWN = 1_000  # counts of one place
_LAST_SECOND = 253_402_300_799  # of the year 9999, the last that a Timestamp may hold

_KINDS = {pb.Place.Kind.Value(kind.name): kind for kind in PlaceKind}


class CensusServicer:
    """Serves kms.v1.CensusService."""

    def __init__(self, census: Census) -> None:
        self._census = census

    async def CreatePlace(self, request: pb.CreatePlaceRequest, caller: Principal) -> pb.Place:
        """Declare a place."""
        name = KeyName.parse(request.parent, "parent")
        wish = NewPlace(
            slug=parse_slug(request.place_id, "place_id"),
            kind=_parse_kind(request.place.kind),
            description=parse_text(request.place.description, "place.description", LONGEST_DESCRIPTION),
        )
        places = await self._census.create_place(caller, name, wish)
        return place_message(places.status, places.places[0], ())

    async def ListPlaces(self, request: pb.ListPlacesRequest, caller: Principal) -> pb.ListPlacesResponse:
        """List the places of a key."""
        return _places_message(await self._census.list_places(caller, KeyName.parse(request.parent, "parent")))

    async def DeletePlace(self, request: pb.DeletePlaceRequest, caller: Principal) -> Empty:
        """Remove a place."""
        await self._census.delete_place(caller, PlaceName.parse(request.name))
        return Empty()

    async def DeclarePlaces(self, request: pb.DeclarePlacesRequest, caller: Principal) -> pb.ListPlacesResponse:
        """Say whether the places are all there are."""
        return _places_message(
            await self._census.declare(caller, KeyName.parse(request.name), complete=request.complete)
        )

    async def ReportCensus(self, request: pb.ReportCensusRequest, caller: Principal) -> pb.Place:
        """Take a count."""
        name = PlaceName.parse(request.name)
        if not request.HasField("count_time"):
            raise invalid("count_time", "must be given")
        counted_at = _parse_time(request.count_time, "count_time")
        places = await self._census.report(caller, name, counted_at, _parse_counts(request.counts))
        place = places.places[0]
        return place_message(places.status, place, places.counts[place.slug])


def _parse_kind(number: int) -> PlaceKind:
    kind = _KINDS.get(number)
    if kind is None:
        raise invalid("place.kind", f"must be one of {', '.join(kind.name for kind in PlaceKind)}")
    return kind


def _parse_time(stamp: Timestamp, field: str) -> datetime:
    if not 0 <= stamp.seconds <= _LAST_SECOND or not 0 <= stamp.nanos < 1_000_000_000:
        raise invalid(field, "must be a time between the years 1970 and 9999")
    return stamp.ToDatetime(UTC)


def _parse_counts(counts: Iterable[pb.VersionCount]) -> dict[int, int]:
    found: dict[int, int] = {}
    for index, entry in enumerate(counts):
        if index >= MOST_COUNTS:
            raise invalid("counts", f"must have at most {MOST_COUNTS} entries")
        if entry.version == 0 or entry.version in found:
            raise invalid(f"counts[{index}].version", "must be a number from 1, each at most once")
        if entry.count >= 2**63:
            raise invalid(f"counts[{index}].count", "must be below 2^63")
        found[entry.version] = entry.count
    return found


def _places_message(places: Places) -> pb.ListPlacesResponse:
    key = places.status.key
    message = pb.ListPlacesResponse(declarer=key.places_complete_by)
    for place in places.places:
        message.places.append(place_message(places.status, place, places.counts.get(place.slug, ())))
    if key.places_complete_at is not None:
        message.complete_time.FromDatetime(key.places_complete_at)
    return message


def place_message(status: KeyStatus, place: Place, counts: Iterable[PlaceCount]) -> pb.Place:
    """Format a place with its counts, those of the newest versions."""
    message = pb.Place(
        name=str(PlaceName(status.tenant.slug, status.key.slug, place.slug)),
        kind=place.kind.name,
        description=place.description,
        creator=place.created_by,
        reporter=place.reported_by,
    )
    message.create_time.FromDatetime(place.created_at)
    if place.counted_at is not None:
        message.count_time.FromDatetime(place.counted_at)
    shown = sorted((count for count in counts if count.count > 0), key=lambda count: count.version)[-NEWEST_SHOWN:]
    for count in shown:
        message.counts.add(version=count.version, count=count.count)
    return message
