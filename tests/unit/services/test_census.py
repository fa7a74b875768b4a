"""The registry of places and counts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kms.core.census import MOST_PLACES, REPORT_SLACK, PlaceKind
from kms.core.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidRequest, NotFound
from kms.core.names import PlaceName, Principal
from kms.services.census import MOST_COUNTS, NewPlace
from kms.services.statuses import version_statuses
from tests.lifespan import PLACE, Lifespan

pytestmark = pytest.mark.softhsm

STRANGER = Principal("globex", "app")


async def counts(life: Lifespan, place: str = PLACE) -> dict[int, int]:
    places = await life.census.list_places(life.caller, life.name)
    return {count.version: count.count for count in places.counts.get(place, ())}


async def test_a_place_is_declared_once(life: Lifespan) -> None:
    await life.key()
    await life.declare()
    with pytest.raises(AlreadyExists, match=PLACE):
        await life.declare()
    places = await life.census.list_places(life.caller, life.name)
    assert [(place.slug, place.kind, place.counted_at) for place in places.places] == [(PLACE, PlaceKind.COLUMN, None)]
    assert places.status.key.places_complete_at == life.time


async def test_a_key_has_a_bounded_number_of_places(life: Lifespan) -> None:
    await life.key()
    for number in range(MOST_PLACES):
        await life.declare(place=f"place-{number}", complete=False)
    with pytest.raises(FailedPrecondition, match="which is the limit"):
        await life.declare()
    assert len((await life.census.list_places(life.caller, life.name)).places) == MOST_PLACES


async def test_a_version_that_is_not_reported_any_more_has_none_left(life: Lifespan) -> None:
    await life.key()
    await life.rotate()
    await life.declare()
    await life.count(v1=10, v2=1)
    life.pass_time(hours=1)
    await life.count(v1=4, v2=7)
    life.pass_time(hours=1)
    await life.count(v2=11)
    assert await counts(life) == {1: 0, 2: 11}
    [first, _] = (await life.census.list_places(life.caller, life.name)).counts[PLACE]
    assert (first.previous_count, first.previous_at) == (4, life.time - timedelta(hours=1))


async def test_the_end_is_estimated_from_two_counts(life: Lifespan) -> None:
    await life.key()
    await life.encrypt(10)
    await life.rotate()
    await life.declare()
    await life.count(v1=10)
    life.pass_time(hours=1)
    await life.count(v1=8)
    ring = await life.ring()
    [standing] = await version_statuses(life.storage, ring.key, [await life.version(1)], life.time)
    assert standing.census.ends_at == life.time + timedelta(hours=4)
    assert standing.next_step == f"re-encrypt 8 values in {PLACE}, then count again"


async def test_an_older_count_does_not_replace_a_newer_one(life: Lifespan) -> None:
    await life.key()
    place = await life.declare()
    await life.count(v1=5)
    with pytest.raises(FailedPrecondition, match="newer count"):
        await life.census.report(life.caller, place, life.time - timedelta(seconds=1), {})
    assert await counts(life) == {1: 5}


async def test_a_count_is_not_of_the_future_and_names_versions_that_there_are(life: Lifespan) -> None:
    await life.key()
    place = await life.declare()
    with pytest.raises(InvalidRequest, match="count_time: must not be in the future"):
        await life.census.report(life.caller, place, life.time + REPORT_SLACK + timedelta(seconds=1), {})
    with pytest.raises(InvalidRequest, match="no version 2"):
        await life.census.report(life.caller, place, life.time, {1: 1, 2: 1})
    with pytest.raises(InvalidRequest, match=f"at most {MOST_COUNTS}"):
        await life.census.report(life.caller, place, life.time, dict.fromkeys(range(1, MOST_COUNTS + 2), 1))
    assert await counts(life) == {}


async def test_a_clock_that_is_ahead_does_not_make_a_count_later_than_its_report(life: Lifespan) -> None:
    await life.key()
    place = await life.declare()
    places = await life.census.report(life.caller, place, life.time + REPORT_SLACK, {1: 1})
    assert [place.counted_at for place in places.places] == [life.time]
    await life.census.report(life.caller, place, life.time, {1: 2})  # it holds up no later one
    assert await counts(life) == {1: 2}


async def test_a_new_place_is_a_change_of_its_key(life: Lifespan) -> None:
    await life.key()
    status = await life.keys.get(life.caller, life.name)
    await life.declare(complete=False)
    with pytest.raises(Conflict):  # a decision by the places that there were before, about to be stored
        async with life.storage.transaction(status.tenant.uid, write=True) as work:
            await work.keys.replace(status.key)


async def test_a_place_that_is_removed_takes_the_declaration_with_it(life: Lifespan) -> None:
    await life.key()
    place = await life.declare()
    await life.declare(place="archive")
    await life.count(v1=5)
    await life.census.delete_place(life.caller, place)
    places = await life.census.list_places(life.caller, life.name)
    assert [place.slug for place in places.places] == ["archive"]
    assert places.status.key.places_complete_at is None
    assert places.counts == {}
    with pytest.raises(NotFound, match=PLACE):
        await life.census.delete_place(life.caller, place)


async def test_another_tenants_places_are_not_found(life: Lifespan) -> None:
    await life.key()
    await life.declare()
    name = PlaceName("acme", "k1", PLACE)
    with pytest.raises(NotFound):
        await life.census.list_places(STRANGER, life.name)
    with pytest.raises(NotFound):
        await life.census.create_place(STRANGER, life.name, NewPlace("other", PlaceKind.OTHER, ""))
    with pytest.raises(NotFound):
        await life.census.report(STRANGER, name, life.time, {1: 0})
    with pytest.raises(NotFound):
        await life.census.declare(STRANGER, life.name, complete=True)
    with pytest.raises(NotFound):
        await life.census.delete_place(STRANGER, name)
    assert len((await life.census.list_places(life.caller, life.name)).places) == 1
