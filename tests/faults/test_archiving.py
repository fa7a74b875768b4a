"""A year of the audit trail leaves the database month by month, and nothing of it is lost, whatever is in the way."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from kms.core.audit_archives import ArchiveState
from kms.core.errors import CorruptRecord, FailedPrecondition
from kms.core.names import INSTALLATION_UID
from kms.core.operations import OperationState
from kms.core.retention import Month
from kms.services.retention import INSTALLATION
from tests.archiving import months
from tests.keyrings import new_hold
from tests.node import with_tenants
from tests.written_trail import year

# ruff: noqa: S608  no input

YEAR = Month(2024, 1)
OUT = months("2024-01", "2024-09")  # over by more than 90 days on 2025-01-15
DAY = timedelta(days=1)


class Died(BaseException):
    """The process ends here."""


async def held(storage, hold):
    async with storage.transaction(hold.tenant, write=True) as work:
        return await work.legal_holds.add(hold)


async def released(storage, hold):
    async with storage.transaction(hold.tenant, write=True) as work:
        await work.legal_holds.replace(replace(hold, released_at=hold.created_at, released_by="x"))


async def test_a_year_leaves_month_by_month_and_its_chain_is_whole_over_files_and_database(
    archiving, trail, storage, wall
):
    [acme] = await with_tenants(storage, "acme")
    streams = year(trail, YEAR, 12, acme.uid)
    total = sum(stream.sequence for stream in streams)
    node = archiving()
    last = None
    for month in months("2024-02", "2025-01"):
        last = await node.checkpoint(Month.parse(month).first + DAY, *streams[-2:], last=last)
    operation = await node.run()
    assert (operation.state, operation.done, operation.error) == (OperationState.SUCCEEDED, len(OUT), "")
    assert await node.states() == dict.fromkeys(OUT, "detached")
    assert trail.count() == sum(trail.count(Month.parse(month)) for month in months("2024-10", "2024-12"))
    assert await node.whole(streams) == total
    bodies = [body for _, body in await node.archives()]
    assert sum(body.events for body in bodies) == total - trail.count()
    assert [body.checkpoint_serial for body in bodies] == [*range(1, 10)]
    # A month later the next one goes, and nothing else.
    wall.advance(timedelta(days=31))
    await archiving().run()
    assert [*(await node.states())] == [*OUT, "2024-10"]
    assert await node.whole(streams) == total


async def test_nothing_leaves_that_is_not_wholly_older_than_hot(archiving, trail, wall):
    streams = year(trail, Month(2024, 10), 2)
    node = archiving()
    wall.now = Month(2025, 1).first + timedelta(days=29) - timedelta(microseconds=1)  # 90 days after October
    assert Month(2024, 10) not in await node.runner.due()
    wall.advance(timedelta(microseconds=1))
    assert (await node.runner.due())[-1] == Month(2024, 10)
    await node.run()
    assert await node.states() == {"2024-10": "detached"}
    assert await node.whole(streams) == sum(stream.sequence for stream in streams)


async def test_a_stream_without_gaps_goes_on_over_months_without_an_event(archiving, trail):
    stream = trail.stream()
    for month in ("2024-01", "2024-01", "2024-04", "2024-08", "2024-12"):
        stream.add(Month.parse(month).first + DAY)
    trail.write()
    for month in months("2024-02", "2024-07"):
        trail.month(Month.parse(month))
    node = archiving()
    await node.run()
    assert await node.states() == dict.fromkeys(["2024-01", "2024-04", "2024-08"], "detached")
    assert await node.whole([stream]) == 5
    async with node.storage.transaction() as work:
        there = await work.audit_months.partitions()  # none on SQLite
    assert not [month for month in there if month < Month(2024, 10)]


@pytest.mark.parametrize("at", ["exported", "verified"])
async def test_a_file_that_is_damaged_or_lost_before_its_month_has_left_is_made_again(
    archiving, trail, at, monkeypatch
):
    streams = year(trail, YEAR, 2)
    node = archiving()
    damaged = []

    def damage(name):
        if name == f"archive.{at}" and not damaged:
            damaged.append(node.file("2024-01").read_bytes())
            if at == "exported":
                node.file("2024-01").unlink()
            else:
                node.file("2024-01").write_bytes(damaged[0][:-100] + b"x" + damaged[0][-99:])
                raise Died

    monkeypatch.setattr("kms.services.archive_export.reach", damage)
    if at == "verified":
        with pytest.raises(Died):
            await node.run()
        node.wall.advance(DAY)
        node = archiving()
    await node.run()
    assert await node.states() == dict.fromkeys(["2024-01", "2024-02"], "detached")
    assert node.file("2024-01").read_bytes() == damaged[0]
    assert await node.whole(streams) == sum(stream.sequence for stream in streams)


@pytest.mark.parametrize("name", ["archive.exported", "archive.verified", "archive.detached"])
async def test_after_a_crash_between_two_steps_another_node_goes_on(archiving, trail, name, monkeypatch):
    streams = year(trail, YEAR, 3)

    reached = []

    def die(at):
        reached.append(at)
        if at == name and reached.count(name) == 2:
            raise Died

    for module in ("archive_export", "archive_removal"):
        monkeypatch.setattr(f"kms.services.{module}.reach", die)
    node = archiving()
    with pytest.raises(Died):
        await node.run()
    node.wall.advance(DAY)  # its lease is over
    other = archiving()
    operation = await other.run()
    assert operation.state is OperationState.SUCCEEDED
    assert await other.states() == dict.fromkeys(months("2024-01", "2024-03"), "detached")
    assert trail.count() == 0
    assert await other.whole(streams) == sum(stream.sequence for stream in streams)


async def test_a_crash_in_the_middle_of_an_export_or_a_removal_loses_nothing(archiving, trail, storage, monkeypatch):
    monkeypatch.setattr("kms.services.archive_export.EVENTS_AT_ONCE", 7)
    monkeypatch.setattr("kms.services.archive_removal.REMOVED_AT_ONCE", 5)
    streams = year(trail, YEAR, 2)
    tries = 0
    while True:
        tries += 1
        node = archiving()
        node.runner._slice = 0.0  # one little piece a batch
        operation = await node.start()
        for _ in range(tries * 9):
            await node.operations.step()
        operation = await node.operations._read(INSTALLATION, operation.uid)
        assert await node.whole(streams, leaving=True) == sum(stream.sequence for stream in streams)
        if operation.state is not OperationState.RUNNING:
            break
        node.wall.advance(DAY)
    assert tries > 2
    assert operation.state is OperationState.SUCCEEDED
    assert await node.states() == dict.fromkeys(["2024-01", "2024-02"], "detached")
    assert await node.whole(streams) == sum(stream.sequence for stream in streams)


async def test_an_edited_event_keeps_its_month_in_the_database_and_says_where(archiving, trail, storage):
    streams = year(trail, YEAR, 3)
    trigger = "audit_log_refuse_update" if storage._line.engine.dialect.name == "sqlite" else None
    if trigger:
        trail.execute(f"DROP TRIGGER {trigger}")
        trail.execute("UPDATE audit_log SET hash = zeroblob(32) WHERE sequence = 40")
    else:
        trail.execute("ALTER TABLE audit_log DISABLE TRIGGER ALL")
        trail.execute("ALTER TABLE audit.audit_log_2024_02 DISABLE TRIGGER ALL".replace("audit.audit", "audit"))
        trail.execute("UPDATE audit_log SET hash = decode(repeat('00', 32), 'hex') WHERE sequence = 40")
    node = archiving()
    operation = await node.run()
    assert operation.state is OperationState.FAILED
    assert "2024-02 is damaged" in operation.error
    assert await node.states() == {"2024-01": "detached"}
    assert trail.count(Month(2024, 2)) > 0
    assert streams


@pytest.mark.parametrize("whole", [True, False], ids=["of-all-times", "of-a-week"])
async def test_a_legal_hold_keeps_months_in_the_database_until_it_is_released(archiving, trail, storage, whole):
    acme, globex = await with_tenants(storage, "acme", "globex")
    streams = year(trail, YEAR, 9, acme.uid)
    march = Month(2024, 3).first
    times = {} if whole else {"from_at": march + DAY, "until_at": march + DAY * 8}
    await held(storage, new_hold(globex.uid))  # which has no events
    hold = await held(storage, new_hold(acme.uid, **times))
    node = archiving()
    assert (await node.run()).state is OperationState.SUCCEEDED
    kept = OUT if whole else ["2024-03"]
    assert {month for month, state in (await node.states()).items() if state == "verified"} == {*kept}
    assert trail.count() == sum(trail.count(Month.parse(month)) for month in kept) > 0
    assert await node.whole(streams) == sum(stream.sequence for stream in streams)
    await released(storage, hold)
    assert (await archiving().run()).state is OperationState.SUCCEEDED
    assert await node.states() == dict.fromkeys(OUT, "detached")
    assert trail.count() == 0
    assert await node.whole(streams) == sum(stream.sequence for stream in streams)


@pytest.mark.parametrize("what", ["body", "signature"])
async def test_a_swapped_boundary_is_found_and_nothing_leaves_any_more(archiving, trail, what):
    year(trail, YEAR, 9)
    node = archiving()
    node.wall.now = Month(2024, 7).first
    await node.run()
    trail.execute(
        f"UPDATE audit_archives SET {what} = (SELECT {what} FROM audit_archives WHERE month = '2024-02') "
        "WHERE month = '2024-03'"
    )
    with pytest.raises(CorruptRecord):
        await node.archives()
    with pytest.raises(CorruptRecord):
        await node.archived.boundaries()
    node.wall.now = Month(2025, 1).first
    operation = await archiving().run()
    assert operation.state is OperationState.FAILED
    assert trail.count(Month(2024, 4)) > 0


async def test_a_missing_archive_is_found(archiving, trail):
    year(trail, YEAR, 9)
    node = archiving()
    await node.run()
    trail.execute("DELETE FROM audit_archives WHERE month = '2024-04'")
    with pytest.raises(CorruptRecord, match=r"2024-05 does not follow|missing from the database"):
        await node.archives()


@pytest.mark.parametrize("where", [0.02, 0.3, 0.6, 0.9, 0.999])
async def test_an_edited_file_is_found(archiving, trail, where):
    streams = year(trail, YEAR, 2)
    node = archiving()
    last = await node.checkpoint(Month(2024, 2).first, *streams, last=None)
    assert last.serial == 1
    await node.run()
    data = bytearray(node.file("2024-01").read_bytes())
    assert await node.checked("2024-01")
    data[int(len(data) * where)] ^= 1
    node.file("2024-01").write_bytes(data)
    with pytest.raises(ValueError):
        await node.checked("2024-01")


async def test_a_file_that_is_cut_off_or_has_more_or_is_anothers_is_found(archiving, trail):
    year(trail, YEAR, 2)
    node = archiving()
    await node.run()
    data = node.file("2024-01").read_bytes()
    for wrong in (data[:-1], data[: len(data) // 2], b"", data + b"\0", data + data):
        node.file("2024-01").write_bytes(wrong)
        with pytest.raises(ValueError):
            await node.checked("2024-01")


@pytest.mark.postgresql
@pytest.mark.parametrize("storage", ["postgresql"], indirect=True)
class TestDropMonth:
    """The database's own look, whatever the daemon believes."""

    async def drop(self, storage, month):
        async with storage.transaction(INSTALLATION_UID, write=True) as work:
            return await work.audit_months.drop(Month.parse(month))

    async def test_it_refuses_what_is_not_archived(self, archiving, trail, storage):
        year(trail, YEAR, 2)
        with pytest.raises(FailedPrecondition, match="in no verified archive"):
            await self.drop(storage, "2024-01")
        assert trail.count(Month(2024, 1)) > 0

    async def test_it_refuses_events_that_came_after_the_archive(self, archiving, trail, storage):
        year(trail, YEAR, 1)
        node = archiving()
        await held(storage, new_hold(INSTALLATION_UID, "h1"))
        await node.run()
        [stored] = [archive for archive, _ in await node.archives()]
        assert stored.state is ArchiveState.VERIFIED
        late = trail.stream()
        late.add(YEAR.first + DAY)
        trail.write()
        trail.execute("UPDATE security_internal.legal_holds SET released_at = now()")
        with pytest.raises(FailedPrecondition, match="in no verified archive"):
            await self.drop(storage, "2024-01")

    async def test_it_refuses_a_month_under_a_legal_hold(self, archiving, trail, storage):
        year(trail, YEAR, 1)
        node = archiving()
        hold = await held(storage, new_hold(INSTALLATION_UID))
        await node.run()
        with pytest.raises(FailedPrecondition, match="under a legal hold"):
            await self.drop(storage, "2024-01")
        await released(storage, hold)
        assert await self.drop(storage, "2024-01")

    async def test_it_refuses_what_is_young_and_what_is_not_there(self, storage, trail, archiving):
        for month, words in (("2999-01", "too young"), ("2011-01", "no such month")):
            with pytest.raises(FailedPrecondition, match=words):
                await self.drop(storage, month)

    async def test_writers_go_on_while_months_are_taken_away(self, archiving, trail, storage):
        """One writer commits all the time; how long its longest commit took is bounded by the lock's own bound."""
        streams = year(trail, YEAR, 9)
        now = trail.stream()
        node = archiving()
        longest, written, done = 0.0, 0, asyncio.Event()

        def write():
            now.add(Month(2024, 12).first + timedelta(seconds=now.sequence))
            trail.write()

        trail.month(Month(2024, 12))

        async def writer():
            nonlocal longest, written
            loop = asyncio.get_running_loop()
            while not done.is_set():
                began = loop.time()
                await asyncio.to_thread(write)
                longest, written = max(longest, loop.time() - began), written + 1

        task = asyncio.create_task(writer())
        operation = await node.run()
        done.set()
        await task
        assert operation.state is OperationState.SUCCEEDED
        assert await node.states() == dict.fromkeys(OUT, "detached")
        assert written >= 9
        assert longest < 2.0  # the bound of an audit writer
        assert await node.whole([*streams, now]) == sum(stream.sequence for stream in [*streams, now])
