"""Archives that are old: shown, and removed only where nothing speaks against it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kms.core.audit import Retention as Kept
from kms.core.errors import FailedPrecondition, NotFound, NotSupported
from kms.core.names import INSTALLATION_UID, Principal
from kms.core.retention import Month
from kms.services.retention import KEEPER, Retention
from tests.keyrings import new_hold
from tests.node import with_tenants

ROOT = Principal(None, "root")
JUNE = Month(2024, 6)
YEARS = timedelta(days=2_557)


@pytest.fixture
async def retention(archiving, trail, storage):
    async def make(approvals=0, **fields):
        [acme] = await with_tenants(storage, "acme")
        stream = trail.stream()
        stream.add(JUNE.first, acme.uid, **fields)
        stream.add(JUNE.first + timedelta(days=1))
        trail.write()
        node = archiving()
        await node.run()
        return Retention(node.operations, node.runner, YEARS, approvals), node, acme

    return make


async def test_a_file_is_removed_when_it_is_old_and_what_was_signed_of_it_stays(retention, wall):
    one, node, _ = await retention()
    wall.now = JUNE.end + YEARS - timedelta(microseconds=1)
    with pytest.raises(FailedPrecondition, match="has to be kept for longer"):
        await one.remove(ROOT, JUNE)
    assert [shown.old for shown in await one.all()] == [False]
    wall.advance(timedelta(microseconds=1))
    assert [shown.old for shown in await one.all()] == [True]
    gone = await one.remove(ROOT, JUNE)
    assert (gone.archive.state, gone.archive.deleted_by) == ("deleted", "operators/root")
    assert not node.file("2024-06").exists()
    [kept] = await one.all()
    assert (kept.body.events, kept.old) == (2, False)
    assert (await one.remove(ROOT, JUNE)).archive.state == "deleted"


@pytest.mark.parametrize("whose", ["tenant", "installation"])
async def test_a_legal_hold_keeps_a_file(retention, storage, wall, whose):
    one, node, acme = await retention()
    wall.now = JUNE.end + YEARS
    owner = acme.uid if whose == "tenant" else INSTALLATION_UID
    async with storage.transaction(owner, write=True) as work:
        await work.legal_holds.add(new_hold(owner, from_at=JUNE.first, until_at=JUNE.first + timedelta(days=1)))
    with pytest.raises(FailedPrecondition, match="under the legal hold"):
        await one.remove(ROOT, JUNE)
    assert node.file("2024-06").exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"retention": "permanent"}, "kept for ever"),
        ({"retention": "extended"}, "kept for ever"),
        ({"kept_until": JUNE.end + YEARS * 2}, "kept for longer"),
    ],
)
async def test_an_event_that_is_kept_for_longer_keeps_its_file(retention, wall, fields, words):
    fields = {name: Kept(value) if name == "retention" else value for name, value in fields.items()}
    one, _, _ = await retention(**fields)
    wall.now = JUNE.end + YEARS
    with pytest.raises(FailedPrecondition, match=words):
        await one.remove(ROOT, JUNE)


async def test_what_is_not_archived_or_still_there_or_needs_approval_is_not_removed(retention, wall, archiving):
    one, node, _ = await retention()
    with pytest.raises(NotFound):
        await one.remove(ROOT, Month(2024, 5))
    wall.now = JUNE.end + YEARS
    with pytest.raises(NotSupported):
        await Retention(node.operations, node.runner, YEARS, 2).remove(ROOT, JUNE)
    assert node.file("2024-06").exists()


async def test_the_daily_look_begins_only_where_something_is_due(retention, trail, wall):
    one, _, _ = await retention()
    stream = trail.stream()
    stream.add(Month(2024, 12).first)
    trail.write()
    assert await one.look() is None or (await one.look()).requested_by == KEEPER
    wall.now = Month(2025, 6).first
    begun = await one.look()
    assert (begun.requested_by, begun.target) == (KEEPER, "installation/audit")
    assert (await one.look()).uid == begun.uid
