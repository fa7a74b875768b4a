"""The exported trail over both databases: its pages make a file that verifies, whatever interrupts them."""

from __future__ import annotations

import asyncio
import io
import random
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import text

from kms.core.audit_check import check_export
from kms.core.audit_findings import Fault
from kms.core.errors import FailedPrecondition, InvalidRequest, LimitExceeded, StorageUnavailable
from kms.crypto.signatures import verifier
from kms.services.audit_exports import IDLE, MOST_EXPORTS, AuditExports
from storage.audit_log import COLUMNS
from tests.keyrings import NOW
from tests.streams import Stream, TestKey
from tests.trails import as_owner, store_rows

INSTALLATION = uuid.UUID(int=7)


def rows_of(stream, there):
    """The rows of a stream's events after so many of them."""
    made = zip(stream.events[there:], stream.bytes[there:], stream.hashes[there:], strict=True)
    return [
        {column: getattr(event, name) for name, column in COLUMNS.items()} | {"canonical": data, "hash": digest}
        for event, data, digest in made
    ]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Trail:
    """Two nodes' streams in a database, sealed now and then."""

    def __init__(self, storage):
        self.storage = storage
        self.key = TestKey()
        self.last = None
        self.sealed = 0
        self.clock = Clock()
        self.one, self.two = Stream(INSTALLATION), Stream(INSTALLATION, "b:1", start=NOW + timedelta(minutes=1))
        self.stored = {}

    async def seal(self):
        self.sealed += 1
        heads = []
        for stream in (self.one, self.two):
            there = self.stored.get(stream.uid, 0)
            if len(stream.bytes) > there:
                await store_rows(self.storage, rows_of(stream, there))
                self.stored[stream.uid] = len(stream.bytes)
            heads.append(stream.head)
        made = self.key.checkpoint(INSTALLATION, heads, self.last)
        await self.storage.add_checkpoint(made, 0 if self.last is None else self.last.serial, [])
        self.last = made

    async def grow(self, checkpoints=4):
        for number in range(checkpoints):
            self.one.extend(3)
            self.two.extend(number)
            await self.seal()

    def exports(self, storage=None, page=2_000, rows=2):
        return AuditExports(
            storage or self.storage, self.key, INSTALLATION, self.seal, lambda: NOW, self.clock, page=page, rows=rows
        )

    def check(self, data):
        return check_export(io.BytesIO(data), verifier(self.key.public))


@pytest.fixture
async def trail(storage):
    made = Trail(storage)
    await made.grow()
    return made


async def whole(exports, each=None):
    pieces, token = [], ""
    while True:
        data, token = await exports.page(token)
        pieces.append(data)
        if each is not None:
            await each(token)
        if not token:
            return pieces


@pytest.mark.parametrize("page", [1, 2_000, 10**7])
async def test_the_pages_are_a_file_that_verifies(trail, page):
    pieces = await whole(trail.exports(page=page))
    report = trail.check(b"".join(pieces))
    assert report.findings == ()
    assert (report.events, report.checkpoints, report.streams) == (len(trail.one.bytes) + len(trail.two.bytes), 5, 2)
    assert (report.last_serial, report.last_hash) == (5, trail.last.hash.hex())
    assert report.from_beginning
    assert (len(pieces) > 5) == (page < 10**7)
    if page == 2_000:
        assert max(map(len, pieces)) < 4_000


async def test_an_export_covers_what_was_durable_when_it_began_and_nothing_else(trail):
    trail.one.extend(5)
    expected = []

    async def grow(token):
        if not expected:
            expected.append((len(trail.one.bytes) + len(trail.two.bytes), trail.last.serial))
        if token and len(trail.one.bytes) < 40:
            await trail.grow(1)

    report = trail.check(b"".join(await whole(trail.exports(), grow)))
    assert report.findings == ()
    assert [(report.events, report.last_serial)] == expected
    assert trail.last.serial > report.last_serial


async def test_a_page_that_is_asked_for_again_is_the_same(trail):
    exports = trail.exports()
    data, token = await exports.page("")
    pieces = [data]
    while token:
        one, other = await asyncio.gather(exports.page(token), exports.page(token))
        assert one == other == await exports.page(token)
        pieces.append(one[0])
        token = one[1]
    assert trail.check(b"".join(pieces)).findings == ()


async def test_a_page_that_its_caller_leaves_has_not_been_made(trail):
    exports = trail.exports()
    data, token = await exports.page("")
    pieces, left = [data], 0
    while token:
        task = asyncio.create_task(exports.page(token))
        for _ in range(12):  # somewhere in the middle
            await asyncio.sleep(0)
        left += task.cancel()
        await asyncio.wait({task})
        data, token = await exports.page(token)
        pieces.append(data)
    assert left > 3
    assert trail.check(b"".join(pieces)).findings == ()


class Failing:
    """The real storage, which does not answer many a question for a checkpoint."""

    def __init__(self, storage):
        self._storage = storage
        self._random = random.Random(4)

    def __getattr__(self, name):
        return getattr(self._storage, name)

    async def checkpoints_after(self, serial, limit):
        if self._random.random() < 0.4:
            raise StorageUnavailable("the database did not answer in time")
        return await self._storage.checkpoints_after(serial, limit)


async def test_a_page_that_fails_in_the_middle_has_not_been_made(trail):
    exports = trail.exports(page=3_000, storage=Failing(trail.storage))
    data, token = await exports.page("")
    pieces, failures = [data], 0
    while token:
        try:
            data, token = await exports.page(token)
        except StorageUnavailable:
            failures += 1
            assert failures < 100
        else:
            pieces.append(data)
    assert failures > 2
    assert trail.check(b"".join(pieces)).findings == ()


async def test_an_event_that_is_gone_is_found_by_who_verifies(trail, storage):
    engine = storage._line.engine.dialect.name
    statements = {
        "sqlite": [
            "DROP TRIGGER audit_log_refuse_delete",
            "DELETE FROM audit_log WHERE sequence = 3 AND stream_id = '{}'",
        ],
        "postgresql": [
            "SET LOCAL session_replication_role = replica",
            "ALTER TABLE audit.audit_log_2024_02 DISABLE TRIGGER USER",
            "ALTER TABLE audit.audit_log_2024_03 DISABLE TRIGGER USER",
            "ALTER TABLE audit.audit_log DISABLE TRIGGER USER",
            "DELETE FROM audit.audit_log WHERE sequence = 3 AND stream_id = '{}'",
        ],
    }[engine]
    await as_owner(storage, *[text(one.format(trail.one.uid)) for one in statements])
    report = trail.check(b"".join(await whole(trail.exports())))
    assert Fault.MISSING in {finding.fault for finding in report.findings}


async def test_an_export_that_nobody_goes_on_with_is_forgotten(trail):
    exports = trail.exports()
    tokens = [(await exports.page(""))[1] for _ in range(MOST_EXPORTS)]
    with pytest.raises(LimitExceeded):
        await exports.page("")
    trail.clock.now = IDLE / 2
    _, token = await exports.page(tokens[0])
    trail.clock.now = IDLE + 1
    assert (await exports.page(token))[1]
    with pytest.raises(FailedPrecondition, match="begin anew"):
        await exports.page(tokens[1])
    await exports.page("")


@pytest.mark.parametrize("change", [lambda token: token.replace("/", ""), lambda _: "x/1", lambda _: "/"])
async def test_a_token_of_no_export_is_refused(trail, change):
    exports = trail.exports()
    _, token = await exports.page("")
    with pytest.raises(FailedPrecondition):
        await exports.page(change(token))


async def test_a_token_of_another_page_is_refused(trail):
    exports = trail.exports()
    _, token = await exports.page("")
    for number in ("2", "01", "-1", "", "x"):
        with pytest.raises(InvalidRequest, match="page_token"):
            await exports.page(f"{token.partition('/')[0]}/{number}")
