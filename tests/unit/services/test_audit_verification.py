"""The stored trail, written by the real writer and sealed by real checkpoints, verified over both databases."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text

from kms.core.audit import Outcome
from kms.core.audit_archives import NO_ARCHIVE, ArchiveState, AuditArchive, StreamPart, Sum, message_of
from kms.core.audit_findings import Fault
from kms.core.audit_ports import Position
from kms.core.errors import HsmUnavailable, StorageUnavailable
from kms.core.events import Severity
from kms.core.names import INSTALLATION_UID
from kms.core.retention import Month
from kms.crypto.signatures import verifier
from kms.services import audit_walk
from kms.services.archived import Archived
from kms.services.audit_verification import MOST_TOLD, SCHEDULE, AuditVerification
from kms.services.checkpoints import Checkpoints
from kms.sinks.anchor_file import FileAnchors
from storage.audit_opening import open_audit_writer
from storage.audit_writer_postgresql import PostgresqlAuditStore
from storage.audit_writer_sqlite import SqliteAuditStore
from tests.audit import new_event
from tests.node import until
from tests.streams import TestKey

# ruff: noqa: S608  no input

pytestmark = pytest.mark.softhsm  # for the daemon's loop


NO_TRIGGERS = """DO $$ DECLARE t record; BEGIN
    FOR t IN SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = 'audit' AND c.relkind IN ('r', 'p') LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', t.name);
    END LOOP; END $$"""


def now():
    return datetime.now(UTC)


class Roots:
    async def roots(self):
        return []


class Told:
    """The trail that is told of results, and who is told of security events."""

    def __init__(self):
        self.notes = []
        self.noticed = []

    async def note(self, event):
        self.notes.append(event)
        return Position(uuid4(), 1, bytes(32))


class Place:
    """An installation of two nodes over one database, whose trail is written and sealed as daemons do."""

    def __init__(self, storage, url, path, stack):
        self.storage = storage
        self.url = url
        self.stack = stack
        self.uid = uuid4()
        self.key = TestKey()
        self.secret = bytes(32)
        self.path = path
        self.told = Told()
        self.away = False
        self.written = 0

    async def sign(self, message):
        if self.away:
            raise HsmUnavailable("the token is away")
        return self.key.signature(message)

    async def public_key(self):
        return self.key.public

    async def anchor_key(self, _installation):
        return self.secret

    async def start(self, node):
        """Begin a stream of a node, under a checkpoint."""
        sqlite = self.storage._line.engine.dialect.name == "sqlite"
        store = SqliteAuditStore(self.storage, _nothing) if sqlite else PostgresqlAuditStore(self.url, _nothing)
        writer = await open_audit_writer(store, installation=self.uid, node=node, now=now)
        self.stack.push_async_callback(writer.close, 5.0)
        self.written += 1
        checkpoints = Checkpoints(
            self.storage,
            self,
            verifier(self.key.public),
            Roots(),
            FileAnchors(self.path / "anchors", self.anchor_key, node),
            lambda: writer.head,
            self.uid,
            node,
            now,
            asyncio.get_running_loop().time,
        )
        await checkpoints.seal()
        return writer, checkpoints

    async def write(self, writer, count):
        for number in range(count):
            await writer.append(new_event(number))
        self.written += count

    def verification(self, checkpoints, rows=4, storage=None, interval=timedelta(0)):
        return AuditVerification(
            storage or self.storage,
            Archived(self.storage, self.public_key),
            self.uid,
            checkpoints,
            self.told,
            self.told.noticed.append,
            now,
            interval=interval,
            first=timedelta(0),
            sleep=_at_once,
            rows=rows,
        )

    async def verified(self, checkpoints=None, **options):
        """What one verification finds."""
        verification = self.verification(checkpoints, **options)
        verification._start("operators/root")
        await verification._verify()
        state = verification.state
        assert state.failure == ""
        return state.last

    async def tamper(self, *statements):
        """Do what the triggers refuse, as who owns the database."""
        engine = self.storage._line.engine
        sqlite = engine.dialect.name == "sqlite"
        async with engine.connect() as connection:
            await connection.execution_options(kms_begin="BEGIN")
            async with connection.begin():
                if sqlite:
                    found = await connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
                    for row in list(found):
                        await connection.execute(text(f'DROP TRIGGER "{row.name}"'))
                else:
                    await connection.execute(text(NO_TRIGGERS))
                for statement in statements:
                    for table in ("audit_log", "checkpoints", "checkpoint_head"):
                        if not sqlite:
                            statement = statement.replace(f" {table} ", f" audit.{table} ")  # noqa: PLW2901
                    done = await connection.execute(text(statement))
                    assert done.rowcount, statement


async def _at_once(_seconds):
    await asyncio.sleep(0)


def _nothing(_where):
    pass


@pytest.fixture
async def place(storage, request, tmp_path):
    url = "" if storage._line.engine.dialect.name == "sqlite" else request.getfixturevalue("postgresql_url")
    async with AsyncExitStack() as stack:
        yield Place(storage, url, tmp_path, stack)


@pytest.fixture
async def trail(place):
    """Two nodes, one of which was started twice; some checkpoints."""
    first, sealing = await place.start("a:1")
    other, others = await place.start("b:1")
    await place.write(first, 7)
    await sealing.seal()
    await place.write(other, 5)
    await place.write(first, 6)
    await others.seal()
    await first.close(5.0)
    second, sealing = await place.start("a:1")
    await place.write(second, 9)
    await sealing.seal()
    place.first, place.second, place.sealing = first.head.stream, second.head.stream, sealing
    place.second_writer = second
    return place


def said(made):
    return {(finding.fault, finding.stream, finding.first, finding.last) for finding in made.findings}


@pytest.mark.parametrize("rows", [1, 1000])
async def test_a_trail_as_it_was_written_is_whole(trail, rows):
    await trail.write(trail.second_writer, 3)  # which no checkpoint covers yet
    made = await trail.verified(trail.sealing, rows=rows)
    assert (made.findings, made.problems, made.whole) == ((), 0, True)
    assert made.events == made.columns == trail.written
    assert made.streams == 3
    assert made.checkpoints == made.last_serial == trail.sealing.serial > 6
    [event] = trail.told.notes
    assert (event.action, event.outcome, event.severity) == ("audit.verified", Outcome.SUCCESS, "info")
    assert event.principal == "operators/root"
    assert json.loads(event.details)["events"] == trail.written
    assert trail.told.noticed == []


async def test_without_a_token_what_is_sealed_is_verified(trail):
    await trail.write(trail.second_writer, 3)
    trail.away = True
    made = await trail.verified(trail.sealing)
    assert made.whole
    assert made.events == trail.written - 3
    newest = await trail.storage.newest_checkpoint()
    assert made.covers == newest.checkpoint.at < made.began_at


TAMPERED = {
    "edited canonical": (
        ["UPDATE audit_log SET canonical = {edited} WHERE sequence = 5 AND stream_id = '{first}'"],
        (Fault.EDITED, Fault.COLUMNS),
    ),
    "edited column": (["UPDATE audit_log SET principal = 'x' WHERE sequence = 5 AND stream_id = '{first}'"], (Fault.COLUMNS,)),
    "edited time": (["UPDATE audit_log SET kept_until = at WHERE sequence = 5 AND stream_id = '{first}'"], (Fault.COLUMNS,)),
    "edited hash": (
        ["UPDATE audit_log SET hash = (SELECT hash FROM audit_log AS other WHERE other.sequence = 4 AND other.stream_id = '{first}') WHERE sequence = 5 AND stream_id = '{first}'"],
        (Fault.EDITED,),
    ),
    "deleted row": (["DELETE FROM audit_log WHERE sequence = 5 AND stream_id = '{first}'"], (Fault.MISSING,)),
}  # fmt: skip


async def edited_bytes(place):
    """The bytes of event 5 of the first stream with another last one, as the database takes them."""
    async with place.storage.transaction() as work:
        [(_, _, canonical)] = await work.audit.stored(place.first, 4, 5, 1)
    digits = (canonical[:-1] + bytes([canonical[-1] ^ 1])).hex()
    return f"x'{digits}'" if place.url == "" else f"decode('{digits}', 'hex')"


@pytest.mark.parametrize("what", TAMPERED)
async def test_what_was_altered_is_found_with_stream_and_number(trail, what):
    statements, faults = TAMPERED[what]
    edited = await edited_bytes(trail)
    await trail.tamper(*[one.format(first=trail.first, edited=edited) for one in statements])
    made = await trail.verified(trail.sealing)
    found = said(made)
    assert any((fault, trail.first, 5, 5) in found for fault in faults), found
    assert not made.whole
    assert {fault for fault, *_ in found} <= {*faults, Fault.EDITED}
    assert {stream for _, stream, *_ in found} == {trail.first}
    [noticed] = trail.told.noticed
    assert (noticed.event.severity, noticed.event.tenant) == (Severity.CRITICAL, INSTALLATION_UID)
    assert any(f"event 5 of stream {trail.first}" in one for one in noticed.event.indicators)
    [event] = trail.told.notes
    assert (event.outcome, event.severity) == (Outcome.FAILURE, "critical")
    assert str(trail.first) in event.details


async def test_a_column_that_cannot_be_read_hides_nothing(trail):
    never = "9223372036854775807" if trail.url == "" else "'infinity'"
    await trail.tamper(
        f"UPDATE audit_log SET kept_until = {never} WHERE sequence = 5 AND stream_id = '{trail.first}'",
        f"DELETE FROM audit_log WHERE sequence = 9 AND stream_id = '{trail.first}'",
    )
    made = await trail.verified(trail.sealing)
    assert said(made) == {(Fault.COLUMNS, trail.first, 5, 5), (Fault.MISSING, trail.first, 9, 9)}


async def test_streams_that_are_live_at_once_do_not_fill_the_memory(trail, monkeypatch):
    monkeypatch.setattr(audit_walk, "MOST_BUFFERS", 1)
    made = await trail.verified(trail.sealing, rows=1_000)
    assert (said(made), made.events) == (set(), trail.written)


@pytest.mark.parametrize(
    ("stream", "last"), [("first", 14), ("second", 10)], ids=["of a stream that has ended", "of a live stream"]
)
async def test_a_tail_that_was_cut_off_below_a_checkpoint_is_found(trail, stream, last):
    uid = getattr(trail, stream)
    await trail.tamper(f"DELETE FROM audit_log WHERE sequence > {last - 3} AND stream_id = '{uid}'")
    made = await trail.verified(trail.sealing)
    assert (Fault.CUT_OFF, uid, last - 2, last) in said(made)
    # No checkpoint can be made over it, and that is told, too.
    assert Fault.CHECKPOINT_NOT_MADE in {one.fault for one in made.findings}


async def test_a_stream_that_was_dropped_is_found(trail):
    await trail.tamper(f"DELETE FROM audit_log WHERE stream_id = '{trail.first}'")
    made = await trail.verified(trail.sealing)
    assert {stream for _, stream, *_ in said(made)} == {trail.first}
    assert {fault for fault, *_ in said(made)} == {Fault.DROPPED, Fault.CUT_OFF}
    assert max(last for *_, last in said(made)) == 14


@pytest.mark.parametrize(
    ("serial", "how"), [(2, "signature"), (2, "body"), (2, "columns"), ("newest", "signature"), ("newest", "body")]
)
async def test_a_checkpoint_that_was_altered_is_found(trail, serial, how):
    number = trail.sealing.serial if serial == "newest" else serial
    other = "(SELECT {0} FROM checkpoints AS other WHERE other.serial = 3)"
    change = {
        "signature": "signature = " + other.format("signature"),
        "body": "body = " + other.format("previous_hash"),
        "columns": "node = 'x'",
    }[how]
    await trail.tamper(f"UPDATE checkpoints SET {change} WHERE serial = {number}")
    made = await trail.verified(trail.sealing)
    fault = Fault.CHECKPOINT_DIFFERS if how == "columns" else Fault.CHECKPOINT_FORGED
    assert (fault, number) in {(one.fault, one.serial) for one in made.findings}
    forged = {Fault.CHECKPOINT_FORGED, Fault.CHECKPOINT_DIFFERS, Fault.CHECKPOINT_NOT_MADE}
    # Where the newest one is none, what it covered is not verified; and nothing else is wrong.
    assert {one.fault for one in made.findings} <= forged


async def test_a_checkpoint_that_is_gone_is_found(trail):
    await trail.tamper("DELETE FROM checkpoints WHERE serial = 3")
    made = await trail.verified(trail.sealing)
    assert {(one.fault, one.serial) for one in made.findings} == {(Fault.CHECKPOINT_MISSING, 3)}


async def test_events_that_no_checkpoint_knows_of_are_found(trail):
    columns = "at = at - {0}" if trail.url == "" else "at = at - interval '2 hours'"
    await trail.tamper(f"UPDATE audit_log SET stream_id = '{uuid4()}', {columns.format(7_200_000_000)} "
                       f"WHERE stream_id = '{trail.second}' AND sequence = 4")  # fmt: skip
    made = await trail.verified(trail.sealing)
    assert Fault.UNSEALED in {one.fault for one in made.findings}
    assert (Fault.MISSING, trail.second, 4, 4) in said(made)


async def test_events_behind_the_end_of_a_stream_are_found(trail):
    while trail.first in {head.stream for head in (await trail.storage.newest_checkpoint()).checkpoint.heads}:
        await trail.write(trail.second_writer, 1)
        await trail.sealing.seal()
    await trail.tamper(
        f"UPDATE audit_log SET stream_id = '{trail.first}', sequence = 15 "
        f"WHERE stream_id = '{trail.second}' AND sequence = 4"
    )
    made = await trail.verified()
    assert (Fault.UNSEALED, trail.first, 15, 15) in said(made)


async def test_a_trail_without_any_checkpoint_is_no_trail(trail):
    await trail.tamper("DELETE FROM checkpoints WHERE serial > 0")
    made = await trail.verified()
    assert Fault.UNSEALED not in {one.fault for one in made.findings}  # all of it has begun within the hour
    assert (made.events, made.last_serial) == (0, 0)


async def archive(place, stream, last, *, gone=True, forged=False):
    """Record an archive of a stream's beginning, and take that out of the database."""
    async with place.storage.transaction() as work:
        rows = await work.audit.stored(stream, 0, last, 1_000)
    month = Month.of(now())
    total = Sum(place.uid, month)
    total.begin(stream, 1, None)
    for _, _, canonical in rows:
        total.add(canonical)
    assert total.at == StreamPart(stream, 1, total.at.before, last, rows[-1][1])
    body = total.body(serial=1, previous=NO_ARCHIVE, checkpoint_serial=2, content_sha256=bytes(32), content_size=1).text
    signature = TestKey().signature(message_of(body)) if forged else place.key.signature(message_of(body))
    state = ArchiveState.DETACHED if gone else ArchiveState.VERIFIED
    made = AuditArchive(INSTALLATION_UID, month, body, signature, state, "f", bytes(32), 1, now())
    async with place.storage.transaction(INSTALLATION_UID, write=True) as work:
        await work.audit_archives.add(made)
    await place.tamper(f"DELETE FROM audit_log WHERE stream_id = '{stream}' AND sequence <= {last}")


@pytest.mark.parametrize("last", [3, 14], ids=["in its middle", "as a whole"])
async def test_it_goes_on_behind_what_was_archived(trail, last):
    await archive(trail, trail.first, last)
    made = await trail.verified(trail.sealing)
    assert (said(made), made.events) == (set(), trail.written - last)
    await trail.tamper(f"DELETE FROM audit_log WHERE stream_id = '{trail.second}' AND sequence = 2")
    assert (Fault.MISSING, trail.second, 2, 2) in said(await trail.verified(trail.sealing))


async def test_what_has_left_the_database_without_a_genuine_archive_is_found(trail):
    await archive(trail, trail.first, 3, forged=True)
    found = said(await trail.verified(trail.sealing))
    assert {fault for fault, *_ in found} == {Fault.ARCHIVE_FORGED, Fault.DROPPED, Fault.MISSING}
    assert (Fault.MISSING, trail.first, 2, 3) in found


async def test_a_month_that_leaves_the_database_meanwhile_is_no_fault(trail, monkeypatch):
    done = []

    class Leaving(Archived):
        async def boundaries(self):
            known = await super().boundaries()
            if not done:  # after the first look
                done.append(1)
                await archive(trail, trail.first, 3)
            return known

    monkeypatch.setattr("tests.unit.services.test_audit_verification.Archived", Leaving)
    made = await trail.verified(trail.sealing)
    assert (said(made), made.events, done) == (set(), trail.written - 3, [1])


async def test_all_findings_are_counted_and_some_are_told(trail):
    await trail.write(trail.second_writer, MOST_TOLD + 20)
    await trail.sealing.seal()
    await trail.tamper(f"UPDATE audit_log SET reason = 'x' WHERE stream_id = '{trail.second}'")
    made = await trail.verified(trail.sealing, rows=1_000)
    assert (len(made.findings), made.problems) == (MOST_TOLD, 10 + MOST_TOLD + 20)


class Failing:
    """The real storage, whose every second transaction does not begin, for a while or for ever."""

    def __init__(self, storage, failures):
        self._storage = storage
        self._left = failures
        self._turn = 0

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def transaction(self, *arguments, **options):
        self._turn += 1
        if self._left and self._turn > 1:
            self._left -= 1
            raise StorageUnavailable("the database did not answer in time")
        return self._storage.transaction(*arguments, **options)


async def test_an_outage_of_the_database_puts_it_off(trail):
    made = await trail.verified(trail.sealing, storage=Failing(trail.storage, audit_walk.TRIES - 1))
    assert made.whole


async def test_what_cannot_be_verified_is_told_and_is_no_result(trail):
    verification = trail.verification(trail.sealing, storage=Failing(trail.storage, 10**6))
    verification._start(SCHEDULE)
    await verification._verify()
    assert verification.state.last is None
    assert verification.state.failure == "the database did not answer in time"
    [event] = trail.told.notes
    assert (event.outcome, event.principal) == (Outcome.ERROR, SCHEDULE)
    assert verification.trail_check() is None


async def test_it_runs_when_asked_once_for_all_who_ask_and_when_it_is_due(trail):
    verification = trail.verification(trail.sealing)
    assert verification.state.began_at is None
    running = asyncio.create_task(verification.run())
    try:
        begun = verification.begin("operators/root")
        assert begun.began_at is not None
        assert verification.begin("operators/eve").began_at == begun.began_at
        await until(lambda: verification.state.began_at is None)
        assert [note.principal for note in trail.told.notes] == ["operators/root"]
        assert (verification.state.events, verification.state.known) == (trail.written, trail.written)
        check = verification.trail_check()
        assert (check.events, check.problems, check.detail) == (trail.written, 0, "")
        assert check.covers <= check.at
    finally:
        running.cancel()
    due = trail.verification(trail.sealing, interval=timedelta(days=1))
    running = asyncio.create_task(due.run())
    try:
        await until(lambda: due.state.last is not None and due.state.began_at is None)
        assert due.state.last.by == SCHEDULE
    finally:
        running.cancel()
