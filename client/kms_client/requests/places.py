"""Requests to CensusService."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ..methods import CENSUS
from ..responses import places
from ..responses.reading import nothing
from ..v1 import census_pb2
from ..values import Place, PlaceKind, Places
from .messages import Request, build, timestamp


def create_place(parent: str, place_id: str, kind: PlaceKind, description: str) -> Request[Place]:
    """CensusService.CreatePlace."""
    message = build(
        census_pb2.CreatePlaceRequest,
        parent=parent,
        place_id=place_id,
        place=build(census_pb2.Place, kind=int(kind), description=description),
    )
    return Request(f"{CENSUS}/CreatePlace", message, places.place)


def list_places(parent: str) -> Request[Places]:
    """CensusService.ListPlaces."""
    return Request(f"{CENSUS}/ListPlaces", build(census_pb2.ListPlacesRequest, parent=parent), places.places)


def delete_place(name: str) -> Request[None]:
    """CensusService.DeletePlace."""
    return Request(f"{CENSUS}/DeletePlace", build(census_pb2.DeletePlaceRequest, name=name), nothing)


def declare_places(name: str, complete: bool) -> Request[Places]:
    """CensusService.DeclarePlaces."""
    message = build(census_pb2.DeclarePlacesRequest, name=name, complete=complete)
    return Request(f"{CENSUS}/DeclarePlaces", message, places.places)


def report_census(name: str, counts: Mapping[int, int], count_time: datetime) -> Request[Place]:
    """CensusService.ReportCensus.

    Raises:
        InvalidRequest: *count_time* has no time zone, or a version or count is out of range.
    """
    message = build(
        census_pb2.ReportCensusRequest,
        name=name,
        count_time=timestamp(count_time, "count_time"),
        counts=[
            build(census_pb2.VersionCount, version=version, count=count) for version, count in sorted(counts.items())
        ],
    )
    return Request(f"{CENSUS}/ReportCensus", message, places.place)
