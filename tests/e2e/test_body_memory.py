"""A body goes through a store in memory that does not grow with it: 192 MiB in a process of its own, its peak looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.migrate import upgrade
from tests.s3_server import S3Server

LENGTH = 192 << 20
ADDED = 80 << 20  # bytes: some parts of 8 MiB in obstore, which its allocator keeps for a while; far below LENGTH

RUN = """
import asyncio, resource, sys, uuid
from datetime import UTC, datetime
from pathlib import Path
from kms.core.body_ports import BodyName
from tests.bodies import with_tenants

LENGTH = int(sys.argv[1])
PIECE = bytes(range(256)) * 4096

async def pieces(length):
    for _ in range(length >> 20):
        yield PIECE

async def through(store, name, length):
    assert await store.write(name, pieces(length)) == length
    read = 0
    async for piece in store.read(name, 0, length):
        read += len(piece)
    assert read == length

async def main():
    kind, where = sys.argv[2:4]
    tenant, database = uuid.uuid4(), None
    if kind == "directory":
        from storage.bodies.directory import DirectoryBodies
        store = DirectoryBodies(Path(where))
    elif kind == "sqlite":
        from storage.bodies.database import DatabaseBodies
        from tests.sealing import open_sqlite
        database = await open_sqlite(Path(where))
        tenant = (await with_tenants(database))[0]
        store = DatabaseBodies(database, lambda: datetime.now(UTC))
    else:
        from tests.s3_server import S3Server
        store = S3Server(where).bodies(f"memory/{tenant}")
    name = BodyName(tenant, uuid.uuid4(), 1, 0)
    await through(store, name, 16 << 20)  # what is loaded and kept once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await through(store, name, LENGTH)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
    if database is not None:
        await database.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "kind", ["directory", pytest.param("sqlite", marks=pytest.mark.soak), pytest.param("s3", marks=pytest.mark.soak)]
)
def test_memory_does_not_grow_with_a_body(kind: str, tmp_path: Path, request: pytest.FixtureRequest):
    where = str(tmp_path / "bodies")
    if kind == "sqlite":
        upgrade(Path(where))
    if kind == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        where = server.endpoint
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(LENGTH), kind, where],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < ADDED
