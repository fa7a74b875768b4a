"""An audit storage that is full, read-only, stopped, frozen, late or cut off in the middle.

Whoever waits is told within the bound, the writer comes back by itself, and afterwards the chain is whole and has every
event that was confirmed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kms.core.audit import AuditEvent
from kms.core.errors import AuditUnavailable
from kms.core.ports import HealthStatus
from storage.audit_store import BOUND
from storage.audit_writer import GroupCommit
from storage.audit_writer_sqlite import open_sqlite_audit
from storage.database import PLACE_WAIT
from storage.migrate import upgrade
from tests.audit import NODE, AuditLog, new_event, told, wall
from tests.postgresql_server import PostgresqlServer
from tests.sealing import open_unsealed
from tests.tcp_proxy import proxied

IN_TIME = BOUND + 1.0  # a busy machine's margin
PATIENCE = 20.0

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


class Load:
    """Callers who go on and on, and remember what was confirmed to them."""

    def __init__(self, writer: GroupCommit) -> None:
        self.writer = writer
        self.confirmed: list[int] = []
        self.refused = 0
        self.longest = 0.0
        self._next = 0

    async def one(self, **fields: Any) -> bool:
        """Write one event; whether it was confirmed."""
        number, self._next = self._next, self._next + 1
        started = time.monotonic()
        try:
            await self.writer.append(new_event(number, **fields))
        except AuditUnavailable:
            self.refused += 1
            return False
        finally:
            self.longest = max(self.longest, time.monotonic() - started)
        self.confirmed.append(number)
        return True

    async def refusal(self, **fields: Any) -> float:
        """Write until an event is refused; returns after how many seconds it was."""
        async with asyncio.timeout(PATIENCE):
            while True:
                started = time.monotonic()
                if not await self.one(**fields):
                    return time.monotonic() - started

    async def recovered(self) -> None:
        """Wait until events are taken again, without anybody's help."""
        async with asyncio.timeout(PATIENCE):
            while (await self.writer.health()).status is not HealthStatus.HEALTHY:  # noqa: ASYNC110  nothing tells it
                await asyncio.sleep(0.02)
        assert await self.one()

    def verify(self, log: AuditLog) -> list[AuditEvent]:
        """The chain is whole, has what was confirmed, once and in order, and nobody waited for longer than the bound."""
        events = log.verified(self.writer.head.stream)
        numbers = [event.items for event in events if event.action.startswith("/")]
        assert numbers == sorted(set(numbers))
        assert set(self.confirmed) <= set(numbers)
        assert len(events) == self.writer.head.sequence
        assert self.longest < IN_TIME
        return events


def unmount(place: Path) -> None:
    """Take a file system away even from who has not closed all of its files yet, as the end of a thread may take a moment."""
    subprocess.run(["umount", "--lazy", place], check=True)


@contextlib.asynccontextmanager
async def loaded(log: AuditLog, **options: Any) -> AsyncIterator[Load]:
    async with log.opened(**options) as writer:
        load = Load(writer)
        assert await load.one()
        yield load


class TestSqlite:
    """The file, and the machine's other users of it."""

    @pytest.fixture
    def log(self, tmp_path: Path) -> AuditLog:
        upgrade(tmp_path / "kms.db")
        return AuditLog(tmp_path / "kms.db")

    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        place = tmp_path / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], check=True)
        yield place
        unmount(place)

    @needs_root
    async def test_a_full_disk_refuses_and_one_with_room_again_is_written_to(self, small_disk: Path):
        upgrade(small_disk / "kms.db")
        log = AuditLog(small_disk / "kms.db")
        async with loaded(log) as load:
            assert await load.refusal(details="x" * 30_000) < IN_TIME
            room = small_disk / "kms.db-wal"
            assert room.stat().st_size > 0
            assert (await load.writer.health()).status is HealthStatus.UNHEALTHY
            subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
            await load.recovered()
            assert len(load.confirmed) > 3
            [resumed] = [event for event in load.verify(log) if event.action == "audit.resumed"]
            assert "no room left" in told(resumed)["reason"]

    async def test_a_file_that_somebody_else_locks(self, log: AuditLog):
        async with loaded(log) as load:
            other = sqlite3.connect(log.target, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            assert await load.refusal() < IN_TIME
            assert await load.refusal() < 0.5  # at once
            other.execute("ROLLBACK")
            other.close()
            await load.recovered()
            load.verify(log)

    @needs_root
    async def test_a_file_that_cannot_be_written_is_no_log(self, log: AuditLog):
        # A process that has the file open already goes on writing to it, so the daemon has to start anew.
        if subprocess.run(["chattr", "+i", log.target], check=False, stderr=subprocess.DEVNULL).returncode:
            pytest.skip("the file system has no attribute for that")
        started = time.monotonic()
        try:
            with pytest.raises(AuditUnavailable, match="read-only"):
                async with log.opened():
                    pytest.fail("a writer that cannot write")
        finally:
            subprocess.run(["chattr", "-i", log.target], check=True)
        assert time.monotonic() - started < IN_TIME
        async with loaded(log) as load:
            load.verify(log)

    async def test_a_file_that_is_moved_away_is_not_written_any_more(self, log: AuditLog):
        assert isinstance(log.target, Path)
        async with loaded(log) as load:
            aside = log.target.rename(log.target.with_suffix(".aside"))
            assert await load.refusal() < IN_TIME
            aside.rename(log.target)
            await load.recovered()
            load.verify(log)

    async def test_a_disk_that_hangs_in_the_middle_of_a_commit(self, log: AuditLog):
        hangs, goes_on = threading.Event(), threading.Event()
        goes_on.set()

        def reach(point: str) -> None:
            if point == "audit.group_written" and not goes_on.is_set():
                hangs.set()
                goes_on.wait(PATIENCE)

        async with loaded(log, reach=reach) as load:
            goes_on.clear()
            waiting = [asyncio.create_task(load.one()) for _ in range(5)]
            await asyncio.to_thread(hangs.wait, PATIENCE)
            waiting += [asyncio.create_task(load.one()) for _ in range(5)]
            assert await asyncio.gather(*waiting) == [False] * 10
            assert await load.refusal() < 0.5
            goes_on.set()
            await load.recovered()
            events = load.verify(log)
            # What was written by then is there: its callers were told that it was not known.
            assert [event.items for event in events if event.action.startswith("/")] == [0, 1, 2, 3, 4, 5, 12]

    async def test_a_transaction_that_keeps_its_turn_too_long_is_not_waited_for(self, log: AuditLog):
        assert isinstance(log.target, Path)
        database = await open_unsealed(log.target)
        writer = await open_sqlite_audit(database, installation=log.installation, node=NODE, now=wall)
        load = Load(writer)
        async with database.transaction(write=True):
            assert PLACE_WAIT / 2 < await load.refusal() < IN_TIME
        await load.recovered()
        load.verify(log)
        await writer.close(5)
        await database.close()

    async def test_neither_events_nor_transactions_starve(self, log: AuditLog):
        assert isinstance(log.target, Path)
        database = await open_unsealed(log.target)
        writer = await open_sqlite_audit(database, installation=log.installation, node=NODE, now=wall)
        load = Load(writer)
        ended = 0

        async def transactions() -> None:
            nonlocal ended
            for _ in range(30):
                async with database.transaction(write=True) as work:
                    await work.tenants.get("nobody")
                ended += 1

        async def events() -> None:
            for _ in range(30):
                assert await load.one()

        await asyncio.gather(*(transactions() for _ in range(3)), *(events() for _ in range(8)))
        assert (ended, len(load.confirmed)) == (90, 240)
        load.verify(log)
        await writer.close(5)
        await database.close()


@pytest.mark.postgresql
class TestPostgresql:
    """The server, and the line to it."""

    @pytest.fixture
    def log(self, unsteady_url: str) -> AuditLog:
        return AuditLog(unsteady_url)

    async def test_a_server_that_is_stopped_and_started_again(self, log: AuditLog, postgresql_server):
        async with loaded(log) as load:
            postgresql_server.stop()
            assert await load.refusal() < IN_TIME
            assert await load.refusal() < 0.5
            postgresql_server.start()
            await load.recovered()
            load.verify(log)

    async def test_a_restart_that_nobody_noticed_costs_nobody_an_event(self, log: AuditLog, postgresql_server):
        async with loaded(log) as load:
            postgresql_server.stop()
            postgresql_server.start()
            assert await load.one()
            assert [event.action for event in load.verify(log)].count("audit.resumed") == 0

    async def test_a_server_that_is_frozen(self, log: AuditLog, postgresql_server):
        async with loaded(log) as load:
            postgresql_server.freeze()
            waiting = [asyncio.create_task(load.one()) for _ in range(20)]
            assert await asyncio.gather(*waiting) == [False] * 20
            assert await load.refusal() < 0.5
            postgresql_server.thaw()
            await load.recovered()
            load.verify(log)

    async def test_closing_while_the_server_is_frozen_does_not_hang(self, log: AuditLog, postgresql_server):
        async with loaded(log) as load:
            postgresql_server.freeze()
            waiting = asyncio.create_task(load.one())
            await asyncio.sleep(0)
            started = time.monotonic()
            await load.writer.close(0.2)
            assert time.monotonic() - started < 5
            assert await waiting is False
            postgresql_server.thaw()

    async def test_an_answer_that_comes_after_the_event_was_given_up(self, log: AuditLog):
        """The line holds back what was sent, and delivers all of it much later."""
        assert isinstance(log.target, str)
        with proxied(log.target) as proxy:
            async with loaded(log, url=proxy.url) as load:
                proxy.freeze()
                assert await asyncio.gather(*(load.one() for _ in range(5))) == [False] * 5
                proxy.heal()
                await load.recovered()
                load.verify(log)

    async def test_what_comes_through_late_collides_with_what_was_written_instead(self, log: AuditLog):
        """The writer has reached the server by another way, and has written the same rows, before the line moves again."""
        assert isinstance(log.target, str)
        with proxied(log.target) as proxy:
            async with loaded(log, url=proxy.url) as load:
                proxy.freeze()
                store: Any = load.writer._store
                store._parameters = {**store._parameters, **psycopg.conninfo.conninfo_to_dict(log.target)}
                assert await asyncio.gather(*(load.one() for _ in range(5))) == [False] * 5
                await load.recovered()
                rows = len(log.rows())
                proxy.heal()
                assert await load.one()
                await self.settled(log)
                assert len(log.rows()) == rows + 1
                load.verify(log)

    async def test_what_comes_through_late_and_first_is_found(self, log: AuditLog):
        """The late attempt is committed just before the writer tries again: the second one collides, and is not needed."""
        assert isinstance(log.target, str)
        with proxied(log.target) as proxy:
            async with loaded(log, url=proxy.url) as load:
                proxy.freeze()
                store: Any = load.writer._store
                write, tried = store.write, []

                async def after_the_late_one(rows: Any) -> None:
                    if tried:
                        proxy.heal()
                        async with asyncio.timeout(PATIENCE):
                            while len(log.rows()) < 2 + len(rows):  # noqa: ASYNC110  another server process
                                await asyncio.sleep(0.02)
                        store.write = write
                    tried.append(len(rows))
                    await write(rows)

                store.write = after_the_late_one
                store._parameters = {**store._parameters, **psycopg.conninfo.conninfo_to_dict(log.target)}
                assert await asyncio.gather(*(load.one() for _ in range(5))) == [False] * 5
                await load.recovered()
                assert tried == [5, 5]
                load.verify(log)

    async def settled(self, log: AuditLog) -> None:
        """Wait until no other transaction is open."""
        assert isinstance(log.target, str)
        asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
        async with asyncio.timeout(PATIENCE):
            with psycopg.connect(log.target, autocommit=True) as connection:
                while connection.execute(asked).fetchone() != (1,):  # noqa: ASYNC110  another server process
                    await asyncio.sleep(0.02)

    def terminated(self, log: AuditLog) -> int:
        """End every other connection to the database; returns how many there were."""
        assert isinstance(log.target, str)
        with psycopg.connect(log.target, autocommit=True) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchall()
        return len(ended)

    async def test_a_connection_killed_between_insert_and_commit(self, log: AuditLog):
        ended: list[int] = []
        armed = False

        def reach(point: str) -> None:
            nonlocal armed
            if armed and point == "audit.group_written":
                armed = False
                ended.append(self.terminated(log))

        async with loaded(log, reach=reach) as load:
            armed = True
            assert await load.one()  # written again, within the bound
            assert ended == [1]
            load.verify(log)

    @pytest.mark.parametrize("way", ["backend", "line"])
    async def test_a_connection_killed_during_commit(self, log: AuditLog, way: str):
        """A commit takes half a second; meanwhile the server's process is ended, or the line is, and nobody is told."""
        async with loaded(log) as load:
            month = wall().strftime("%Y_%m")
            log.execute(
                "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END'"
            )
            log.execute(
                f"CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON audit.audit_log_{month} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()"
            )
            event = asyncio.create_task(load.one())
            await self.committing(log)
            if way == "backend":
                assert self.terminated(log) == 1
            else:
                load.writer._store.cut()
            assert await event
            await self.settled(log)
            assert [each.items for each in load.verify(log)] == [0, 0, 1]

    async def committing(self, log: AuditLog) -> None:
        assert isinstance(log.target, str)
        asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'COMMIT' AND state = 'active'"
        async with asyncio.timeout(PATIENCE):
            with psycopg.connect(log.target, autocommit=True) as connection:
                while connection.execute(asked).fetchone() != (1,):  # noqa: ASYNC110  another server process
                    await asyncio.sleep(0.01)

    @needs_root
    async def test_a_full_disk(self, log: AuditLog, postgresql_server: PostgresqlServer):
        place = postgresql_server.directory / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0777", "tmpfs", place], check=True)
        month = wall().strftime("%Y_%m")
        try:
            owner = postgresql_server.directory.stat()
            os.chown(place, owner.st_uid, owner.st_gid)
            with psycopg.connect(log.target, autocommit=True) as connection:
                connection.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
            log.execute(f"ALTER TABLE audit.audit_log_{month} SET TABLESPACE small")
            async with loaded(log) as load:
                # PostgreSQL compresses long texts, so these must not repeat.
                assert await load.refusal(details=os.urandom(20_000).hex()) < IN_TIME
                assert "no room" in (await load.writer.health()).reason
                subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
                await load.recovered()
                load.verify(log)
        finally:
            log.execute(f"ALTER TABLE audit.audit_log_{month} SET TABLESPACE pg_default")
            with psycopg.connect(log.target, autocommit=True) as connection:
                connection.execute("DROP TABLESPACE IF EXISTS small")
            unmount(place)
            place.rmdir()

    async def test_a_month_without_a_partition_refuses_until_there_is_one(self, log: AuditLog):
        shown = wall()
        async with loaded(log, now=lambda: shown) as load:
            shown = shown.replace(year=shown.year + 2)
            assert await load.refusal() < IN_TIME
            log.execute("SELECT audit.add_partition(%s::date)", shown.date().isoformat())
            await load.recovered()
            load.verify(log)
