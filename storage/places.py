"""Places of ciphertexts, and what was counted there, in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Row, select

from kms.core.canonical import Value
from kms.core.census import MOST_PLACES, Place, PlaceCount, PlaceKind
from kms.core.errors import AlreadyExists, Conflict, KmsError
from kms.core.names import KeyUid, TenantUid

from .integrity import Identity
from .records import AT_ONCE, find, remove, require_own, store, store_all
from .session import Session
from .tables import place_counts as c
from .tables import places as p

MOST_VERSIONS: Final = 1_000  # in one query


def _place(row: Row[Any]) -> Place:
    return Place(
        tenant=row.tenant_id,
        key=row.key_uid,
        slug=row.place_id,
        kind=PlaceKind(row.kind),
        description=row.description,
        created_at=row.created_at,
        created_by=row.created_by,
        counted_at=row.counted_at,
        reported_by=row.reported_by,
        revision=row.revision,
    )


def _count(row: Row[Any]) -> PlaceCount:
    return PlaceCount(
        tenant=row.tenant_id,
        key=row.key_uid,
        place=row.place_id,
        version=row.version,
        count=row._mapping["count"],  # noqa: SLF001  a row is a tuple, which has a method of that name
        counted_at=row.counted_at,
        previous_count=row.previous_count,
        previous_at=row.previous_at,
        revision=row.revision,
    )


def _row(count: PlaceCount) -> dict[str, Value]:
    return {
        "tenant_id": count.tenant,
        "key_uid": count.key,
        "place_id": count.place,
        "version": count.version,
        "count": count.count,
        "counted_at": count.counted_at,
        "previous_count": count.previous_count,
        "previous_at": count.previous_at,
    }


class Places:
    """PlaceRepository on one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def list_of_key(self, tenant: TenantUid, key: KeyUid) -> list[Place]:
        """Return all places of a key, at most MOST_PLACES, ordered by slug."""
        query = select(p).where(p.c.tenant_id == tenant, p.c.key_uid == key)
        return await find(
            self._session,
            p,
            query.order_by(p.c.place_id).limit(MOST_PLACES),
            _place,
            groups=[(key,)],
            wanted=lambda there: there[:MOST_PLACES],
        )

    async def add(self, place: Place) -> Place:
        """Store a new place with revision 1 and return it so.

        Raises:
            AlreadyExists: the key has a place of that slug.
        """
        return await self._store(place, 0, AlreadyExists(f"the key has a place {place.slug} already"))

    async def replace(self, place: Place) -> Place:
        """Store a changed place over the revision that it came from; returns it with the next revision.

        Raises:
            Conflict: the stored revision is another.
        """
        return await self._store(place, place.revision, Conflict(f"place {place.slug} was changed in between"))

    async def remove(self, place: Place) -> None:
        """Remove a place and its counts.

        Raises:
            Conflict: the stored revision is another; nothing of the transaction is committed then.
        """
        require_own(self._session, place.tenant)
        counted = await self.counts(place.tenant, place.key, place=place.slug)
        for start in range(0, len(counted), AT_ONCE):
            of_place = [_row(count) | {"revision": count.revision} for count in counted[start : start + AT_ONCE]]
            await remove(self._session, c, of_place)
        itself: dict[str, Value] = {
            "tenant_id": place.tenant,
            "key_uid": place.key,
            "place_id": place.slug,
            "revision": place.revision,
        }
        if await remove(self._session, p, [itself]) != 1:
            conflict = Conflict(f"place {place.slug} was changed in between")
            self._session.spoil(conflict)
            raise conflict

    async def counts(
        self, tenant: TenantUid, key: KeyUid, versions: Sequence[int] | None = None, *, place: str | None = None
    ) -> list[PlaceCount]:
        """Return the counts of a key, of all places or one, for these versions (at most MOST_VERSIONS) or for all.

        Ordered by version and place.
        """
        if versions is not None and len(versions) > MOST_VERSIONS:
            raise ValueError(f"at most {MOST_VERSIONS} versions at once")
        query = select(c).where(c.c.tenant_id == tenant, c.c.key_uid == key)
        if versions is not None:
            query = query.where(c.c.version.in_(versions))
        if place is not None:
            query = query.where(c.c.place_id == place)

        def wanted(there: list[Identity]) -> list[Identity]:
            return [
                (key, slug, version)
                for (key, slug, version) in there
                if (versions is None or version in versions) and place in (None, slug)
            ]

        query = query.order_by(c.c.version, c.c.place_id)
        return await find(self._session, c, query, _count, groups=[(key,)], wanted=wanted)

    async def put_counts(self, counts: Sequence[PlaceCount]) -> None:
        """Store counts: revision 0 for new ones, the others over the revision that they came from.

        Raises:
            Conflict: a stored revision is another; nothing of the transaction is committed then.
        """
        otherwise = Conflict("the counts of the place were changed in between")
        await store_all(self._session, c, [(_row(count), count.revision) for count in counts], otherwise=otherwise)

    async def _store(self, place: Place, came_from: int, otherwise: KmsError) -> Place:
        row: dict[str, Value] = {
            "tenant_id": place.tenant,
            "key_uid": place.key,
            "place_id": place.slug,
            "kind": place.kind.value,
            "description": place.description,
            "created_at": place.created_at,
            "created_by": place.created_by,
            "counted_at": place.counted_at,
            "reported_by": place.reported_by,
        }
        return replace(place, revision=await store(self._session, p, row, came_from, otherwise=otherwise))
