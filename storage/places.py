"""Places of ciphertexts, and what was counted there, in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Row, delete, select

from kms.core.census import MOST_PLACES, Place, PlaceCount, PlaceKind
from kms.core.errors import AlreadyExists, Conflict, KmsError
from kms.core.names import KeyUid, TenantUid

from .records import Value, read, require_own, store, store_all
from .session import Session
from .tables import place_counts as c
from .tables import places as p

MOST_VERSIONS: Final = 1_000  # in one query
_PLACE = tuple(column for column in p.c if column.name != "mac")
_COUNT = tuple(column for column in c.c if column.name != "mac")


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
        query = select(*_PLACE).where(p.c.tenant_id == tenant, p.c.key_uid == key)
        return read(await self._session.rows(query.order_by(p.c.place_id).limit(MOST_PLACES)), _place)

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
        of_place = (c.c.tenant_id == place.tenant, c.c.key_uid == place.key, c.c.place_id == place.slug)
        await self._session.change(delete(c).where(*of_place))
        itself = (p.c.tenant_id == place.tenant, p.c.key_uid == place.key, p.c.place_id == place.slug)
        if await self._session.change(delete(p).where(*itself, p.c.revision == place.revision)) != 1:
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
        query = select(*_COUNT).where(c.c.tenant_id == tenant, c.c.key_uid == key)
        if versions is not None:
            query = query.where(c.c.version.in_(versions))
        if place is not None:
            query = query.where(c.c.place_id == place)
        return read(await self._session.rows(query.order_by(c.c.version, c.c.place_id)), _count)

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
