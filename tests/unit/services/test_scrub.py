"""The look at all records finds every lie, about records that nobody reads, too, and tells it once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from kms.core.canonical import EPOCH
from kms.core.errors import CorruptRecord, StorageUnavailable
from kms.core.events import Severity
from kms.core.integrity import Lie, lie
from kms.core.names import INSTALLATION_UID, KeyName, Principal, TenantName
from kms.core.ports import HealthStatus
from kms.services import scrub as scrubs
from kms.services.scrub import Scrub
from tests.node import OPERATOR, Hostile, Node

ACME = Principal("acme", "app")


class Told:
    """Who is told of events."""

    def __init__(self):
        self.events = []

    def __call__(self, noticed):
        assert noticed.event.severity is Severity.CRITICAL
        assert noticed.event.tenant == INSTALLATION_UID
        self.events.append(noticed.event)

    def said(self):
        """What was told, and forget it."""
        said = [(event.type.value, event.count, event.indicators[1:]) for event in self.events]
        self.events.clear()
        return sorted(said)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def scrub(node: Node, told, wall_now):
    async def at_once(_seconds):
        await asyncio.sleep(0)

    return Scrub(node.storage, told, timedelta(hours=24), wall_now, sleep=at_once)


@pytest.fixture
def wall_now():
    class Wall:
        now = EPOCH

        def __call__(self):
            return self.now

    return Wall()


@pytest.fixture
async def filled(node):
    """Two tenants with keys, versions and counters."""
    for slug in ("acme", "globex"):
        caller = await node.tenant(slug)
        for key in ("one", "two"):
            name = await node.key(caller, key)
            await node.keys.rotate(caller, name, "")
            await node.fields.encrypt(caller, name, b"x", ())
    return node


async def test_what_is_as_it_was_written_is_found_so(filled, scrub, told):
    await scrub.look()
    # For each tenant itself, its KEK and that one's counter, and for each key itself, two versions and a counter.
    assert scrub.records == 2 * (3 + 2 * 4) + 1
    assert (scrub.lies, scrub.passes, told.said()) == (0, 1, [])
    assert (await scrub.health()).status is HealthStatus.HEALTHY


async def test_what_was_looked_at_of_a_tenant_is_known_after_a_whole_pass(filled, scrub, hostile: Hostile):
    acme = (await filled.ring(ACME, KeyName("acme", "one"))).key
    assert scrub.record_check(acme.tenant) is None
    await scrub.look()
    check = scrub.record_check(acme.tenant)
    assert (check.records, check.corrupt, check.at) == (3 + 2 * 4, 0, EPOCH)
    hostile.change(
        "UPDATE key_versions SET status_reason = 'x' WHERE version = 2 AND key_uid = :uid", uid=str(acme.uid)
    )
    await scrub.look()
    assert scrub.record_check(acme.tenant).corrupt == 1
    assert scrub.record_check(INSTALLATION_UID).corrupt == 0


@pytest.mark.parametrize("page", [1, 1000])
async def test_every_kind_of_lie_is_found_from_either_side(filled, scrub, told, hostile: Hostile, monkeypatch, page):
    monkeypatch.setattr("storage.scrubbing.AT_ONCE", page)
    monkeypatch.setattr("storage.scrubbing.LEAVES_AT_ONCE", page)
    acme = (await filled.ring(ACME, KeyName("acme", "one"))).key
    old = hostile.rows("encryption_keys", id=str(acme.uid))
    await filled.lifecycle.suspend(ACME, KeyName("acme", "one"), "", "x", wait=False)
    hostile.put("encryption_keys", old)  # older
    hostile.change(
        "UPDATE key_versions SET status_reason = 'x' WHERE version = 2 AND key_uid = :uid", uid=str(acme.uid)
    )
    hostile.change("DELETE FROM counters WHERE subject_uid = :uid", uid=str(acme.uid))
    hostile.change(
        "INSERT INTO quorum_rules SELECT tenant_id, 'x', 1, 0, 'x', 1, x'00' FROM tenants WHERE slug = 'globex'"
    )
    await scrub.look()
    assert told.said() == [
        ("rolled_back_record", 1, (f"encryption_keys: {Lie.OLDER}",)),
        ("tampered_record", 1, (f"quorum_rules: {Lie.MAC}",)),
        ("tampered_record", 2, (f"counters: {Lie.MISSING}", f"key_versions: {Lie.MAC}")),
    ]
    assert scrub.lies == 4
    health = await scrub.health()
    assert health.status is HealthStatus.DEGRADED
    assert health.reason.startswith("4 stored records are not what was written last")
    assert "acme" not in health.reason
    assert str(acme.uid) not in health.reason


async def test_a_leaf_that_went_with_its_records_is_missed(filled, scrub, told, hostile):
    hostile.change("DELETE FROM tree_nodes WHERE length(prefix) = 4")
    hostile.change("DELETE FROM counters")
    await scrub.look()
    assert {kind for kind, *_ in told.said()} == {"tampered_record"}
    assert scrub.lies >= 2 * 8
    hostile.change("DELETE FROM tenant_roots")
    await scrub.look()
    # This process has seen the roots.
    assert told.said() == [("tampered_record", 1, ("the tree: the tenant's root is missing",))] * 3
    assert (scrub.passes, scrub.lies) == (2, 3)


async def test_one_record_that_cannot_be_read_hides_no_other_table(filled, scrub, told, hostile):
    hostile.change("UPDATE encryption_keys SET created_at = 9223372036854775807")
    hostile.change("UPDATE keks SET created_by = 'x'")
    await scrub.look()
    said = told.said()
    assert {word.partition(":")[0] for *_, words in said for word in words} == {"encryption_keys", "keks"}


async def test_an_outage_interrupts_a_pass_and_does_not_end_it(filled, told, wall_now):
    class Failing:
        def __init__(self, storage):
            self.storage, self.calls = storage, 0

        async def scrub_tenants(self, *arguments):
            return await self.storage.scrub_tenants(*arguments)

        async def scrub(self, *arguments):
            self.calls += 1
            if self.calls % 3 == 0:
                raise StorageUnavailable("gone")
            return await self.storage.scrub(*arguments)

    rests = []

    async def sleep(seconds):
        rests.append(seconds)

    scrub = Scrub(Failing(filled.storage), told, timedelta(hours=24), wall_now, sleep=sleep)
    await scrub.look()
    assert (scrub.passes, scrub.lies, scrub.records) == (1, 0, 23)
    assert rests.count(scrubs.REST) > 5


async def test_what_background_work_meets_is_told_once_in_a_while_and_what_calls_meet_elsewhere(
    filled, told, wall_now, hostile
):
    calling = False
    scrub = Scrub(filled.storage, told, timedelta(hours=24), wall_now, calling=lambda: calling)
    filled.storage.watch_lies(scrub.met)
    hostile.change("UPDATE keks SET created_by = 'x'")
    tenant = await filled.tenants.get(OPERATOR, TenantName("acme"))

    async def meet():
        with pytest.raises(CorruptRecord):
            async with filled.storage.transaction(tenant.uid) as work:
                await work.keks.get(tenant.uid, 1)

    for _ in range(3):
        await meet()
    [event] = told.events
    assert event.indicators == (f"tenant uid {tenant.uid}", str(lie(Lie.MAC, "keks")))
    wall_now.now += scrubs.QUIET
    calling = True
    await meet()
    assert len(told.events) == 1
    calling = False
    await meet()
    assert len(told.events) == 2
    assert (await scrub.health()).reason.startswith("5 stored records")
