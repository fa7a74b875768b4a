"""Bodies of blobs in the database of the daemon: one transaction for a short one.

The chunks of a longer one are committed one by one, and shown by one last change.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from kms.core.body_ports import MAX_PIECE, BodyName, StoredBody
from kms.core.errors import BodyMissing, BodyStoreUnavailable, Conflict, Unavailable
from kms.core.names import TenantUid
from kms.core.ports import HealthStatus, PartHealth
from storage.database import Database

from .pieces import pieces_of

REMOVED_AT_ONCE: Final = 16  # chunks in one transaction
SWEPT_AT_ONCE: Final = 100  # bodies in one sweep


class DatabaseBodies:
    """BodyStore in the tables blob_bodies and blob_chunks."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def write(self, name: BodyName, data: AsyncIterable[bytes]) -> int:
        """Store a body, whole and durable when this returns, or not at all; returns its length in bytes."""
        pieces = pieces_of(MAX_PIECE, data)
        first = await anext(pieces, b"")
        second = await anext(pieces, b"")
        if not second:
            return await self._write_short(name, first)
        return await self._write_long(name, _chained((first, second), pieces))

    async def _write_short(self, name: BodyName, piece: bytes) -> int:
        """Store a body of one piece, or none, in one transaction."""
        with _translated():
            async with self._database.transaction(name.tenant, write=True) as work:
                replaced = await work.bodies.put(name, uuid4(), piece, self._now())
        await self._remove_all(name.tenant, replaced)
        return len(piece)

    async def _write_long(self, name: BodyName, pieces: AsyncIterable[bytes]) -> int:
        uid = uuid4()
        length = number = 0
        try:
            with _translated():
                async with self._database.transaction(name.tenant, write=True) as work:
                    await work.bodies.begin(name, uid, self._now())
            async for piece in pieces:
                with _translated():
                    async with self._database.transaction(name.tenant, write=True) as work:
                        await work.bodies.add_chunk(name.tenant, uid, number, piece, self._now())
                length, number = length + len(piece), number + 1
            with _translated():
                async with self._database.transaction(name.tenant, write=True) as work:
                    replaced = await work.bodies.finish(name, uid, length, self._now())
        except Exception:
            with suppress(Unavailable):  # what cannot be removed now is swept
                await self._give_up(name.tenant, uid)
            raise
        await self._remove_all(name.tenant, replaced)
        return length

    async def read(self, name: BodyName, start: int, length: int) -> AsyncIterator[bytes]:
        """Yield exactly *length* bytes from *start*, in pieces of at most MAX_PIECE."""
        uid: UUID | None = None
        while length or uid is None:
            number, offset = divmod(start, MAX_PIECE)
            with _translated():
                async with self._database.transaction(name.tenant) as work:
                    uid = uid or await work.bodies.find(name)
                    chunk = await work.bodies.chunk(name.tenant, uid, number) if uid and length else None
            if uid is None:
                raise BodyMissing(f"body {name} is not there")
            if not length:
                return
            piece = b"" if chunk is None else chunk[offset : offset + length]
            if not piece:
                raise BodyMissing(f"body {name} ends before it should")
            start, length = start + len(piece), length - len(piece)
            yield piece

    async def delete(self, name: BodyName) -> None:
        """Remove a body for good; one that is not there is removed."""
        with _translated():
            async with self._database.transaction(name.tenant, write=True) as work:
                gone = await work.bodies.hide(name)
        for uid in gone:
            await self._remove(name.tenant, uid)

    async def list(self, tenant: TenantUid | None, after: BodyName | None, limit: int) -> list[StoredBody]:
        """Return at most *limit* (MAX_LISTED) whole bodies behind *after*, by name; of one tenant, or of all for None."""
        with _translated():
            async with self._database.transaction(tenant) as work:
                return await work.bodies.list_whole(tenant, after, limit)

    async def sweep(self, before: datetime) -> int:
        """Remove what writes that never ended had begun before a time; returns how many were removed at this call."""
        with _translated():
            async with self._database.transaction() as work:
                left = await work.bodies.list_left(before, SWEPT_AT_ONCE)
        for tenant, uid in left:
            await self._give_up(tenant, uid)
        return len(left)

    async def health(self) -> PartHealth:
        """Tell whether the tables can be read; that the database can be written to is its own part of health."""
        started = time.monotonic()
        try:
            await self.list(None, None, 1)
        except BodyStoreUnavailable as error:
            return PartHealth(HealthStatus.UNHEALTHY, str(error), time.monotonic() - started)
        return PartHealth(HealthStatus.HEALTHY, "", time.monotonic() - started)

    async def _give_up(self, tenant: TenantUid, uid: UUID) -> None:
        with _translated():
            async with self._database.transaction(tenant, write=True) as work:
                await work.bodies.give_up(tenant, uid)
        await self._remove(tenant, uid)

    async def _remove_all(self, tenant: TenantUid, replaced: Iterable[UUID]) -> None:
        for gone in replaced:
            with suppress(Unavailable):  # it is swept
                await self._remove(tenant, gone)

    async def _remove(self, tenant: TenantUid, uid: UUID) -> None:
        removed = False
        while not removed:
            with _translated():
                async with self._database.transaction(tenant, write=True) as work:
                    removed = await work.bodies.remove(tenant, uid, REMOVED_AT_ONCE)


async def _chained(first: Iterable[bytes], rest: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    for piece in first:
        yield piece
    async for piece in rest:
        yield piece


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (Unavailable, Conflict) as error:
        raise BodyStoreUnavailable(str(error)) from error
