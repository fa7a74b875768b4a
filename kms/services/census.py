"""Where ciphertexts live and how many of each version there are, as whoever stores them declares and reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from kms.core.census import (
    MOST_PLACES,
    REPORT_SLACK,
    Place,
    PlaceCount,
    PlaceKind,
)
from kms.core.errors import AlreadyExists, FailedPrecondition, NotFound, invalid
from kms.core.names import KeyName, PlaceName, Principal
from kms.core.ports import Storage
from kms.services.keys import Keys
from kms.services.statuses import KeyStatus

MOST_COUNTS: Final = 2_000  # versions in one report
AT_ONCE: Final = 1_000  # versions looked up in one query


@dataclass(frozen=True, slots=True)
class NewPlace:
    """What a caller chooses for a new place."""

    slug: str
    kind: PlaceKind
    description: str


@dataclass(frozen=True, slots=True)
class Places:
    """The places of a key with their counts, by place."""

    status: KeyStatus
    places: Sequence[Place]
    counts: Mapping[str, Sequence[PlaceCount]]


class Census:
    """The registry of places."""

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        counted: Callable[[KeyStatus], Awaitable[object]],
        now: Callable[[], datetime],
    ) -> None:
        """*counted* is called after every report: a version may have become free to retire."""
        self._storage = storage
        self._keys = keys
        self._counted = counted
        self._now = now

    async def create_place(self, caller: Principal, name: KeyName, wish: NewPlace) -> Places:
        """Declare a place.

        Raises:
            AlreadyExists: the key has a place of that slug.
            FailedPrecondition: it has as many as it may have.
            Conflict: the key was changed meanwhile.
        """
        status = await self._keys.get(caller, name)
        tenant, key = status.tenant, status.key
        async with self._storage.transaction(tenant.uid, write=True) as work:
            there = await work.places.list_of_key(tenant.uid, key.uid)
            if any(place.slug == wish.slug for place in there):
                raise AlreadyExists(f"{name}/places/{wish.slug} exists")
            if len(there) >= MOST_PLACES:
                raise FailedPrecondition(f"{name} has {MOST_PLACES} places, which is the limit")
            # The key, too: whoever has decided by its places at this moment, or adds another, finds another revision.
            await work.keys.replace(key)
            place = await work.places.add(
                Place(
                    tenant=tenant.uid,
                    key=key.uid,
                    slug=wish.slug,
                    kind=wish.kind,
                    description=wish.description,
                    created_at=self._now(),
                    created_by=str(caller),
                )
            )
        return Places(status, [place], {})

    async def list_places(self, caller: Principal, name: KeyName) -> Places:
        """Return all places of a key."""
        return await self._places(await self._keys.get(caller, name))

    async def delete_place(self, caller: Principal, name: PlaceName) -> None:
        """Remove a place and its counts; the places are then no longer declared complete.

        Raises:
            NotFound: no such place.
        """
        status = await self._keys.get(caller, name.parent)
        async with self._storage.transaction(status.tenant.uid, write=True) as work:
            place = _named(await work.places.list_of_key(status.tenant.uid, status.key.uid), name)
            await work.keys.replace(replace(status.key, places_complete_at=None, places_complete_by=""))
            await work.places.remove(place)
            await work.epochs.changed(status.tenant.uid)

    async def declare(self, caller: Principal, name: KeyName, *, complete: bool) -> Places:
        """Say whether the places are all there are."""
        status = await self._keys.get(caller, name)
        at, by = (self._now(), str(caller)) if complete else (None, "")
        async with self._storage.transaction(status.tenant.uid, write=True) as work:
            key = await work.keys.replace(replace(status.key, places_complete_at=at, places_complete_by=by))
            await work.epochs.changed(status.tenant.uid)
        return await self._places(replace(status, key=key))

    async def report(
        self, caller: Principal, name: PlaceName, counted_at: datetime, reported: Mapping[int, int]
    ) -> Places:
        """Take a whole count of one place that began at *counted_at*; a version that is not named has none.

        Raises:
            InvalidRequest: a time in the future, or a version that the key does not have.
            FailedPrecondition: a newer count has been reported.
        """
        status = await self._keys.get(caller, name.parent)
        tenant, key = status.tenant, status.key
        now = self._now()
        if counted_at > now + REPORT_SLACK:
            raise invalid("count_time", "must not be in the future")
        # Whose clock is ahead has not counted later than now.
        counted_at = min(counted_at, now)
        if len(reported) > MOST_COUNTS:
            raise invalid("counts", f"must have at most {MOST_COUNTS} entries, has {len(reported)}")
        if beyond := [version for version in reported if version > key.primary_version]:
            raise invalid("counts", f"must name versions of the key, which has no version {min(beyond)}")
        async with self._storage.transaction(tenant.uid, write=True) as work:
            place = _named(await work.places.list_of_key(tenant.uid, key.uid), name)
            # A count that a clock made which has gone back since, tells nothing and holds up nobody.
            if place.counted_at is not None and counted_at < place.counted_at <= self._now() + REPORT_SLACK:
                raise FailedPrecondition(f"{name} has a newer count")
            counts = await work.places.counts(tenant.uid, key.uid, place=place.slug)
            stored = {count.version: count for count in counts}
            place = await work.places.replace(replace(place, counted_at=counted_at, reported_by=str(caller)))
            merged = _merged(place, stored, reported, counted_at)
            await work.places.put_counts(merged)
        await self._counted(status)
        return Places(status, [place], {place.slug: [count for count in merged if count.count > 0]})

    async def _places(self, status: KeyStatus) -> Places:
        async with self._storage.transaction(status.tenant.uid) as work:
            places = await work.places.list_of_key(status.tenant.uid, status.key.uid)
            counts = await work.places.counts(status.tenant.uid, status.key.uid)
        by_place: dict[str, list[PlaceCount]] = {}
        for count in counts:
            by_place.setdefault(count.place, []).append(count)
        return Places(status, places, by_place)


def _named(places: Sequence[Place], name: PlaceName) -> Place:
    for place in places:
        if place.slug == name.place:
            return place
    raise NotFound(str(name))


def _merged(
    place: Place, stored: Mapping[int, PlaceCount], reported: Mapping[int, int], counted_at: datetime
) -> list[PlaceCount]:
    """Return what to store: the reported versions, and zero for those that had some and are not reported any more."""
    merged = []
    for version in sorted({*reported, *(v for v, count in stored.items() if count.count > 0)}):
        before = stored.get(version)
        if before is None:
            fresh = PlaceCount(place.tenant, place.key, place.slug, version, reported[version], counted_at)
        else:
            fresh = replace(
                before,
                count=reported.get(version, 0),
                counted_at=counted_at,
                previous_count=before.count,
                previous_at=before.counted_at,
            )
        merged.append(fresh)
    return merged
