"""Stores of bodies whose disk is full, whose writer is killed, whose server fails: nothing half done, one clear error."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from kms.core.body_ports import BodyName, BodyStore
from kms.core.errors import BodyStoreUnavailable
from kms.core.names import TenantUid
from kms.core.ports import HealthStatus
from storage.bodies.database import DatabaseBodies
from storage.bodies.directory import DirectoryBodies
from storage.bodies.objects import ObjectBodies, s3_store
from storage.session import BOUND
from storage.sqlite import SqliteDatabase
from tests.bodies import Bodies, collected, noise, stream, wall, with_tenants
from tests.contract.test_body_stores import HOUR, LONG
from tests.faults.test_audit_storage import needs_root, unmount
from tests.postgresql_server import PostgresqlServer
from tests.s3_server import FailingProxy, S3Server, failing
from tests.sealing import open_postgresql, open_sqlite

PATIENCE = 60.0  # seconds for another process, on a machine that has other things to do
IN_TIME = 30.0  # seconds for an error: some times what one request may take


def new_name() -> BodyName:
    return BodyName(TenantUid(uuid.uuid4()), uuid.uuid4(), 1, 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "bodies"


@pytest.fixture
def store(root: Path) -> DirectoryBodies:
    return DirectoryBodies(root)


def parts(root: Path) -> list[Path]:
    return list((root / "parts").iterdir())


async def discarded(root: Path) -> None:
    """Wait until what a failed write has left is removed, which nobody waits for."""
    async with asyncio.timeout(PATIENCE):
        while parts(root):  # noqa: ASYNC110  another thread
            await asyncio.sleep(0.01)


# Writes until it is killed; says when the first pieces are written.
WRITE = """
import asyncio, sys
from pathlib import Path
from kms.core.body_ports import BodyName
from storage.bodies.directory import DirectoryBodies

async def endless():
    for number in range(3):
        yield bytes(1 << 20)
    print("writing", flush=True)
    while True:
        yield bytes(1 << 20)
        await asyncio.sleep(0.05)

asyncio.run(DirectoryBodies(Path(sys.argv[1])).write(BodyName.parse(sys.argv[2]), endless()))
"""


class TestDirectory:
    """The file system."""

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        place = tmp_path / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], check=True)
        yield place
        unmount(place)

    @needs_root
    async def test_a_full_disk_refuses_and_leaves_what_was_there(self, small_disk: Path):
        store = DirectoryBodies(small_disk / "bodies")
        first, second, content = new_name(), new_name(), noise(1 << 20)
        await store.write(first, stream(content))
        with pytest.raises(BodyStoreUnavailable, match="no room left"):
            await store.write(second, stream(noise(5 << 20)))
        await discarded(small_disk / "bodies")
        assert [body.name for body in await store.list(None, None, 10)] == [first]
        assert await collected(store, first, 0, 1 << 20) == content
        await store.write(second, stream(content))  # what the failed one took is free again

    async def test_what_a_killed_writer_leaves_is_not_seen_and_is_swept(self, root: Path, store: DirectoryBodies):
        name = new_name()
        await store.write(name, stream(b"before"))
        command = [sys.executable, "-c", WRITE, str(root), str(name)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"writing\n"
            process.kill()
        [left] = parts(root)
        assert left.stat().st_size >= 2 << 20
        assert await collected(store, name, 0, 6) == b"before"
        assert [body.length for body in await store.list(None, None, 10)] == [6]
        assert await store.sweep(wall() - HOUR) == 0  # as young as a write that goes on
        assert await store.sweep(wall() + HOUR) == 1
        assert parts(root) == []
        assert await collected(store, name, 0, 6) == b"before"

    async def test_nobody_else_may_read(self, root: Path, store: DirectoryBodies):
        mask = os.umask(0)
        try:
            await store.write(new_name(), stream(b"x"))
        finally:
            os.umask(mask)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (root, *root.rglob("*")) if path.is_dir()}
        assert modes == {0o700}
        [file] = [path for path in root.rglob("*") if path.is_file()]
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

    async def test_a_directory_that_others_may_enter_is_refused(self, root: Path, store: DirectoryBodies):
        name = new_name()
        await store.write(name, stream(b"x"))
        root.chmod(0o750)
        for refused in (store.write(name, stream(b"y")), collected(store, name, 0, 1), store.delete(name)):
            with pytest.raises(BodyStoreUnavailable, match="mode has to be 0700"):
                await refused
        assert (await store.health()).status is HealthStatus.UNHEALTHY
        root.chmod(0o700)
        assert await collected(store, name, 0, 1) == b"x"

    @pytest.mark.parametrize("depth", [0, 1, 2, 3])
    async def test_links_are_refused(self, root: Path, store: DirectoryBodies, tmp_path: Path, depth: int):
        """At each step, from the tenant's directory to the file."""
        name = new_name()
        await store.write(name, stream(b"x"))
        linked = root.joinpath(*str(name).split("/")[: depth + 1])
        elsewhere = linked.rename(tmp_path / "elsewhere")
        linked.symlink_to(elsewhere)
        with pytest.raises(BodyStoreUnavailable, match="link"):
            await collected(store, name, 0, 1)
        assert await store.list(None, None, 10) == []
        if depth < 3:
            with pytest.raises(BodyStoreUnavailable, match="link"):
                await store.write(name, stream(b"y"))
            with pytest.raises(BodyStoreUnavailable, match="link"):
                await store.delete(name)
        else:
            await store.write(name, stream(b"y"))  # in place of the link
            assert elsewhere.read_bytes() == b"x"
            assert await collected(store, name, 0, 1) == b"y"

    async def test_what_is_no_file_is_refused(self, root: Path, store: DirectoryBodies):
        name = new_name()
        await store.write(name, stream(b"x"))
        path = root / str(name)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(BodyStoreUnavailable):
            await collected(store, name, 0, 1)
        assert await store.list(None, None, 10) == []

    async def test_files_of_others_are_passed_over(self, root: Path, store: DirectoryBodies):
        name = new_name()
        await store.write(name, stream(b"x"))
        (root / "lost+found").mkdir()
        (root / "readme").write_text("x")
        (root / str(name.tenant) / "x").write_text("x")
        assert [body.name for body in await store.list(None, None, 10)] == [name]

    async def test_a_directory_that_went_away_is_not_an_empty_one(self, root: Path, store: DirectoryBodies):
        name = new_name()
        await store.write(name, stream(b"x"))
        root.rename(root.with_name("unmounted"))
        for lost in (
            collected(store, name, 0, 1),
            store.list(None, None, 1),
            store.delete(name),
            store.write(name, stream(b"y")),
        ):
            with pytest.raises(BodyStoreUnavailable, match="not there"):
                await lost
        assert not root.exists()

    async def test_a_body_that_is_replaced_while_it_is_read_is_read_to_its_end(self, store: DirectoryBodies):
        name, content = new_name(), noise(3 << 20)
        await store.write(name, stream(content))
        reading = store.read(name, 0, len(content))
        got = await anext(reading)
        await store.write(name, stream(b"other"))
        got += b"".join([piece async for piece in reading])
        assert got == content

    async def test_a_file_system_that_hangs_is_not_waited_for(self, root: Path):
        store = DirectoryBodies(root, deadline=0.5)
        name = new_name()
        await store.write(name, stream(b"x"))
        path = root / "parts" / "pipe"
        os.mkfifo(path)
        # Opening a pipe that nobody writes to hangs, as does a file on a server that is gone.
        waiting = store._do(lambda: os.open(path, os.O_RDONLY))
        with pytest.raises(BodyStoreUnavailable, match="in time"):
            await waiting
        assert await collected(store, name, 0, 1) == b"x"
        with path.open("wb"):
            pass  # lets the thread go


class TestDatabase:
    """Rows."""

    @pytest.fixture
    async def bodies(self, database: SqliteDatabase) -> Bodies:
        return Bodies(DatabaseBodies(database, wall), await with_tenants(database))

    async def test_what_a_writer_left_is_swept(self, bodies: Bodies, database: SqliteDatabase):
        name, other, uid = bodies.name(), bodies.name(tenant=1), uuid.uuid4()
        await bodies.store.write(other, stream(noise(1_000)))
        async with database.transaction(name.tenant, write=True) as work:
            await work.bodies.begin(name, uid, wall())
        for number in range(20):  # more than are removed at once
            async with database.transaction(name.tenant, write=True) as work:
                await work.bodies.add_chunk(name.tenant, uid, number, b"x", wall())
        assert await bodies.store.sweep(wall() - HOUR) == 0
        assert await bodies.store.sweep(wall() + HOUR) == 1
        assert await bodies.store.sweep(wall() + HOUR) == 0
        async with database.transaction(name.tenant) as work:
            assert await work.bodies.chunk(name.tenant, uid, 0) is None
        assert [body.name for body in await bodies.store.list(None, None, 10)] == [other]

    async def test_a_write_that_was_given_up_by_the_sweep_does_not_end_well(self, bodies: Bodies):
        name = bodies.name()

        async def swept() -> AsyncIterator[bytes]:
            yield noise(2 << 20)
            assert await bodies.store.sweep(wall() + HOUR) == 1
            yield noise(1)

        with pytest.raises(BodyStoreUnavailable, match="removed"):
            await bodies.store.write(name, swept())
        assert await bodies.store.list(None, None, 10) == []
        assert await bodies.store.sweep(wall() + HOUR) == 0

    @needs_root
    async def test_a_full_disk_refuses_and_leaves_what_was_there(self, tmp_path: Path, hostile):
        place = tmp_path / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=True)
        try:
            path = place / "kms.sqlite3"
            path.write_bytes(hostile.path.read_bytes())
            path.chmod(0o600)
            opened = await open_sqlite(path, bound=BOUND)
            bodies = Bodies(DatabaseBodies(opened, wall), await with_tenants(opened))
            first, second = bodies.name(), bodies.name()
            await bodies.store.write(first, stream(b"x"))
            with pytest.raises(BodyStoreUnavailable, match="no room left"):
                await bodies.store.write(second, stream(noise(9 << 20)))
            assert await collected(bodies.store, first, 0, 1) == b"x"
            assert [body.name for body in await bodies.store.list(None, None, 10)] == [first]
            await opened.close()
        finally:
            unmount(place)

    @pytest.mark.postgresql
    async def test_a_server_that_stops_in_the_middle(self, unsteady_url: str, postgresql_server: PostgresqlServer):
        opened = await open_postgresql(unsteady_url, bound=BOUND)
        bodies = Bodies(DatabaseBodies(opened, wall), await with_tenants(opened))
        name = bodies.name()

        async def interrupted() -> AsyncIterator[bytes]:
            yield noise(2 << 20)
            await asyncio.to_thread(postgresql_server.stop)
            yield noise(2 << 20)

        started = time.monotonic()
        with pytest.raises(BodyStoreUnavailable):
            await bodies.store.write(name, interrupted())
        assert time.monotonic() - started < IN_TIME
        assert (await bodies.store.health()).status is HealthStatus.UNHEALTHY
        await asyncio.to_thread(postgresql_server.start)
        async with asyncio.timeout(PATIENCE):
            while (await bodies.store.health()).status is not HealthStatus.HEALTHY:  # noqa: ASYNC110  another process
                await asyncio.sleep(0.05)
        assert await bodies.store.list(None, None, 10) == []
        assert await bodies.store.sweep(wall() + HOUR) == 1
        await bodies.store.write(name, stream(b"again"))
        assert await collected(bodies.store, name, 0, 5) == b"again"
        await opened.close()


LONG_CALLS = 4  # of a write: begin, two parts, complete


class TestS3:
    """A server that fails at each request in turn, once or from then on."""

    @pytest.fixture
    def proxy(self, s3_server: S3Server) -> Iterator[FailingProxy]:
        with failing(s3_server.endpoint) as proxy:
            yield proxy

    def through(self, s3_server: S3Server, proxy: FailingProxy, **options: timedelta) -> BodyStore:
        return s3_server.bodies(f"of/{uuid.uuid4()}", proxy.endpoint, **options)

    async def test_a_write_is_so_many_requests(self, s3_server: S3Server, proxy: FailingProxy):
        store = self.through(s3_server, proxy)
        await store.write(new_name(), stream(b"short"))
        assert proxy.count == 1
        proxy.heal()
        await store.write(new_name(), stream(noise(LONG)))
        assert proxy.count == LONG_CALLS

    @pytest.mark.parametrize(("number", "way"), [(1, "close"), (2, "error"), (3, "close"), (4, "error")])
    async def test_one_request_that_fails_is_tried_again(
        self, s3_server: S3Server, proxy: FailingProxy, way: str, number: int
    ):
        store, name, content = self.through(s3_server, proxy), new_name(), noise(LONG)
        proxy.fail(way, number, number)
        await store.write(name, stream(content))
        assert proxy.count > LONG_CALLS
        proxy.fail(way, 1, 1)
        assert await collected(store, name, 0, LONG) == content
        proxy.fail(way, 1, 1)
        assert len(await store.list(None, None, 10)) == 1
        proxy.fail(way, 1, 1)
        await store.delete(name)
        assert await store.list(None, None, 10) == []

    @pytest.mark.parametrize("way", ["error", "close"])
    @pytest.mark.parametrize("number", range(1, LONG_CALLS + 1))
    async def test_a_server_that_fails_from_some_request_on_has_nothing_half_done(
        self, s3_server: S3Server, proxy: FailingProxy, way: str, number: int
    ):
        store, name, content = self.through(s3_server, proxy), new_name(), noise(LONG)
        await store.write(name, stream(b"before"))
        proxy.fail(way, number, 1_000)
        started = time.monotonic()
        with pytest.raises(BodyStoreUnavailable, match="object storage"):
            await store.write(name, stream(content))
        assert time.monotonic() - started < IN_TIME
        proxy.heal()
        assert await collected(store, name, 0, 6) == b"before"
        assert [body.length for body in await store.list(None, None, 10)] == [6]
        await store.write(name, stream(content))
        assert await collected(store, name, 0, LONG) == content

    @pytest.mark.parametrize("way", ["error", "close"])
    async def test_a_server_that_is_away_says_so_at_every_call(
        self, s3_server: S3Server, proxy: FailingProxy, way: str
    ):
        store, name = self.through(s3_server, proxy), new_name()
        await store.write(name, stream(b"short"))
        proxy.fail(way, 1, 1_000)
        for refused in (
            store.write(name, stream(b"other")),
            collected(store, name, 0, 5),
            store.list(None, None, 1),
            store.delete(name),
        ):
            with pytest.raises(BodyStoreUnavailable, match="object storage"):
                await refused
        assert (await store.health()).status is HealthStatus.UNHEALTHY
        proxy.heal()
        assert await collected(store, name, 0, 5) == b"short"

    async def test_a_server_that_does_not_answer_is_not_waited_for(self, s3_server: S3Server, proxy: FailingProxy):
        store, name = self.through(s3_server, proxy, timeout=timedelta(seconds=1)), new_name()
        await store.write(name, stream(b"before"))
        proxy.fail("hang", 1, 1_000)
        started = time.monotonic()
        with pytest.raises(BodyStoreUnavailable):
            await store.write(name, stream(b"other"))
        assert time.monotonic() - started < IN_TIME
        proxy.heal()
        assert await collected(store, name, 0, 6) == b"before"

    async def test_a_range_that_fails_in_the_middle_ends_the_reading(self, s3_server: S3Server, proxy: FailingProxy):
        store, name, content = self.through(s3_server, proxy), new_name(), noise(LONG)
        await store.write(name, stream(content))
        proxy.fail("error", 2, 1_000)
        got: list[bytes] = []

        async def read() -> None:
            async for piece in store.read(name, 0, LONG):
                got.append(piece)  # noqa: PERF401  what comes before the error

        with pytest.raises(BodyStoreUnavailable):
            await read()
        assert b"".join(got) == content[: 8 << 20]

    async def test_a_bucket_that_is_not_there_is_no_empty_store(self, s3_server: S3Server):
        store = ObjectBodies(s3_store(replace(s3_server.at("x"), bucket="nowhere")))
        with pytest.raises(BodyStoreUnavailable):
            await store.list(None, None, 1)
        with pytest.raises(BodyStoreUnavailable):
            await store.write(new_name(), stream(b"x"))
        assert (await store.health()).status is HealthStatus.UNHEALTHY

    def test_the_secret_is_in_no_representation(self, s3_server: S3Server):
        shown = repr(s3_server.at("x")) + repr(s3_server.bodies("x")) + repr(s3_server)
        assert s3_server.secret_access_key not in shown
