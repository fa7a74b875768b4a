"""Stores of bodies, one of each kind, and what is put into them."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from kms.core.body_ports import BodyName, BodyStore
from kms.core.names import TenantUid
from storage.bodies.database import DatabaseBodies
from storage.bodies.directory import DirectoryBodies
from storage.database import Database
from tests.keyrings import new_tenant
from tests.postgresql_server import Databases
from tests.sealing import open_postgresql, open_sqlite


def wall() -> datetime:
    return datetime.now(UTC)


async def stream(content: bytes, size: int = 300_007) -> AsyncIterator[bytes]:
    """What a caller sends: pieces of some size that divides nothing, and now and then an empty one."""
    for start in range(0, len(content), size):
        yield content[start : start + size]
        yield b""


async def collected(store: BodyStore, name: BodyName, start: int, length: int) -> bytes:
    return b"".join([piece async for piece in store.read(name, start, length)])


class Bodies:
    """A store, and tenants that it may have bodies of."""

    def __init__(self, store: BodyStore, tenants: list[TenantUid]) -> None:
        self.store = store
        self.tenants = tenants

    def name(
        self, generation: int = 1, segment: int = 0, *, tenant: int = 0, blob: uuid.UUID | None = None
    ) -> BodyName:
        return BodyName(self.tenants[tenant], blob or uuid.uuid4(), generation, segment)


async def with_tenants(database: Database) -> list[TenantUid]:
    tenants = [new_tenant() for _ in range(2)]
    for tenant in tenants:
        async with database.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)
    return [tenant.uid for tenant in tenants]


@pytest.fixture(scope="session")
def postgresql_of_bodies(postgresql_databases: Databases, postgresql_template: str) -> Iterator[str]:
    """One database for all tests of a worker, each of which finds it without bodies."""
    name = postgresql_databases.create(postgresql_template)
    yield postgresql_databases.url(name)
    postgresql_databases.drop(name)


@pytest.fixture(params=["directory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql), "s3"])
async def bodies(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bodies]:
    """An empty store, once of each kind."""
    anybody = [TenantUid(uuid.uuid4()) for _ in range(2)]
    if request.param == "directory":
        yield Bodies(DirectoryBodies(tmp_path / "bodies"), anybody)
        return
    if request.param == "s3":
        yield Bodies(request.getfixturevalue("s3_server").bodies(f"of/{uuid.uuid4()}"), anybody)
        return
    opened: Database
    if request.param == "sqlite":
        opened = await open_sqlite(request.getfixturevalue("hostile").path)
    else:
        url = request.getfixturevalue("postgresql_of_bodies")
        with psycopg.connect(url) as connection:
            connection.execute("TRUNCATE security_internal.blob_bodies, security_internal.blob_chunks")
        opened = await open_postgresql(url, 8)
    yield Bodies(DatabaseBodies(opened, wall), await with_tenants(opened))
    await opened.close()


def noise(length: int) -> bytes:
    return os.urandom(length)
