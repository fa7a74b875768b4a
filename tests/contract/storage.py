"""What every Storage promises, run over SQLite and over PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kms.core.errors import AlreadyExists, Conflict, CorruptRecord, InvalidRequest, StorageUnavailable
from kms.core.keyring import Kek, Key, Tenant
from kms.core.policy import Overrides
from kms.core.ports import Counter, HealthStatus
from storage.database import Database
from tests import keyrings
from tests.keyrings import activated, new_kek, new_key, new_tenant, new_version

Opener = Callable[[], Awaitable[Database]]

# Each example makes records of its own in the test's database, and each engine runs the same test.
BY_DESIGN = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors, HealthCheck.too_slow]
EVERY_FIELD = settings(max_examples=30, deadline=None, suppress_health_check=BY_DESIGN)
PATIENCE = 15.0  # seconds for what must happen soon


async def with_kek(storage: Database, tenant: Tenant | None = None) -> tuple[Tenant, Kek]:
    """Store a tenant and the first version of its KEK."""
    tenant = tenant or new_tenant()
    async with storage.transaction(tenant.uid, write=True) as work:
        return await work.tenants.add(tenant), await work.keks.add(activated(new_kek(tenant)))


async def with_tenants(storage: Database, *tenants: Tenant) -> None:
    """Store tenants without KEKs."""
    for tenant in tenants:
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)


async def with_key(storage: Database, tenant: Tenant, slug: str | None = None, **changes: Any) -> Key:
    key = replace(new_key(tenant, slug), **changes)
    async with storage.transaction(tenant.uid, write=True) as work:
        stored = await work.keys.add(key)
        await work.key_versions.add(new_version(key))
        return stored


class StorageContract:
    """Subclasses give `storage`, and `opener` which opens the same database once more."""

    @pytest.fixture
    def patient(self, monkeypatch):
        """Waits that a busy machine does not use up, where many want one thing and all are to get it."""
        monkeypatch.setattr("storage.database.PLACE_WAIT", PATIENCE)
        monkeypatch.setattr("storage.database.COUNT_WAIT", PATIENCE)
        monkeypatch.setattr("storage.sqlite.PLACE_WAIT", PATIENCE)
        for limit in ("STATEMENT_TIMEOUT", "LOCK_TIMEOUT"):  # milliseconds
            monkeypatch.setattr(f"storage.postgresql.{limit}", int(PATIENCE * 1000))

    @EVERY_FIELD
    @given(tenant=keyrings.tenants, data=st.data())
    async def test_what_is_written_is_read_again_exactly(self, storage, tenant, data):
        kek = data.draw(keyrings.keks(tenant))
        key = data.draw(keyrings.keys(tenant))
        version = data.draw(keyrings.key_versions(key, kek))
        key_slug = key.slug
        try:
            async with storage.transaction(tenant.uid, write=True) as work:
                stored = [
                    await work.tenants.add(tenant),
                    await work.keks.add(kek),
                    await work.keys.add(key),
                    await work.key_versions.add(version),
                ]
        except AlreadyExists:
            return  # an earlier example of the same slug
        async with storage.transaction(tenant.uid) as work:
            found = [
                await work.tenants.get(tenant.slug),
                await work.keks.get(tenant.uid, kek.version),
                await work.keys.get(tenant.uid, key_slug),
                await work.key_versions.get(tenant.uid, key.uid, version.version),
            ]
        assert found == stored
        assert [value.revision for value in found] == [1, 1, 1, 1]
        assert [replace(value, revision=0) for value in found] == [tenant, kek, key, version]
        for value in found:
            assert value.created_at.utcoffset() is not None
            assert value.created_at.utcoffset().total_seconds() == 0

    @EVERY_FIELD
    @given(before=keyrings.tenants, data=st.data())
    async def test_what_is_replaced_is_read_again_exactly(self, storage, before, data):
        kek = new_kek(before)
        key = data.draw(keyrings.keys(before))
        after = data.draw(keyrings.keys(before))
        try:
            async with storage.transaction(before.uid, write=True) as work:
                tenant = await work.tenants.add(before)
                kek = await work.keks.add(kek)
                key = await work.keys.add(key)
        except AlreadyExists:
            return
        after = replace(after, uid=key.uid, slug=key.slug, revision=key.revision)
        async with storage.transaction(before.uid, write=True) as work:
            stored = [
                await work.tenants.replace(replace(tenant, display_name="other", primary_kek=1)),
                await work.keks.replace(activated(kek)),
                await work.keys.replace(after),
            ]
        async with storage.transaction(before.uid) as work:
            found = [
                await work.tenants.get(before.slug),
                await work.keks.get(before.uid, 1),
                await work.keys.get(before.uid, key.slug),
            ]
        assert found == stored
        assert [value.revision for value in found] == [2, 2, 2]
        assert found[2] == replace(after, revision=2)

    @pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "\udfffx"])
    async def test_text_that_no_database_keeps_is_refused_and_nothing_is_stored(self, storage, text):
        tenant = new_tenant()
        with pytest.raises(InvalidRequest, match="display_name"):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.tenants.add(replace(tenant, display_name=text))
        async with storage.transaction() as work:
            assert await work.tenants.get(tenant.slug) is None

    async def test_a_number_beyond_64_bits_is_refused(self, storage):
        tenant, _ = await with_kek(storage)
        with pytest.raises(InvalidRequest, match="encryption_limit"):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keys.add(replace(new_key(tenant), overrides=Overrides(encryption_limit=2**63)))

    async def test_a_time_without_a_zone_is_refused(self, storage):
        tenant = new_tenant()
        with pytest.raises(InvalidRequest, match="created_at"):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.tenants.add(replace(tenant, created_at=keyrings.NOW.replace(tzinfo=None)))

    async def test_what_does_not_exist_is_none(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        async with storage.transaction(tenant.uid) as work:
            assert await work.tenants.get("nobody") is None
            assert await work.keks.get(tenant.uid, 2) is None
            assert await work.keys.get(tenant.uid, "nothing") is None
            assert await work.key_versions.get(tenant.uid, key.uid, 2) is None

    async def test_pages_are_ordered_by_code_point_without_gaps_or_repeats(self, storage):
        slugs = ["a-1", "a0", "a1", "a-b", "aa", "ab", "a--z", "b-0", "z9", "ba"]
        tenant, _ = await with_kek(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            for slug in slugs:
                await work.keys.add(new_key(tenant, slug))
        await with_tenants(storage, *(new_tenant(slug) for slug in slugs))
        for page in (1, 3, 100):
            for listed in ("keys", "tenants"):
                seen: list[str] = []
                async with storage.transaction(tenant.uid if listed == "keys" else None) as work:
                    while True:
                        after = seen[-1] if seen else ""
                        if listed == "keys":
                            found = [key.slug for key in await work.keys.list_by_slug(tenant.uid, after, page)]
                        else:
                            found = [entry.slug for entry in await work.tenants.list_ready(after, page)]
                        assert len(found) <= page
                        if not found:
                            break
                        seen += found
                assert [slug for slug in seen if slug in slugs] == sorted(slugs)

    async def test_a_tenant_that_is_not_ready_is_not_listed(self, storage):
        await with_tenants(storage, new_tenant("not-ready", primary_kek=0), new_tenant("ready"))
        async with storage.transaction() as work:
            assert [tenant.slug for tenant in await work.tenants.list_ready("", 100)] == ["ready"]

    async def test_versions_are_listed_in_order_from_after_the_last_page(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            for number in (10, 2, 9, keyrings.U32):
                await work.key_versions.add(new_version(key, number))
                await work.keks.add(new_kek(tenant, number))
        async with storage.transaction(tenant.uid) as work:
            for listing in (
                [entry.version for entry in await work.key_versions.list_by_version(tenant.uid, key.uid, 1, 3)],
                [entry.version for entry in await work.keks.list_by_version(tenant.uid, 1, 3)],
            ):
                assert listing == [2, 9, 10]
            [last] = await work.keks.list_by_version(tenant.uid, 10, 3)
        assert last.version == keyrings.U32

    async def test_names_are_unique_and_the_transaction_goes_on_after_the_refusal(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        other = new_tenant()
        async with storage.transaction(other.uid, write=True) as work:
            with pytest.raises(AlreadyExists, match=tenant.slug):
                await work.tenants.add(replace(other, slug=tenant.slug))
            other = await work.tenants.add(other)
        async with storage.transaction(tenant.uid, write=True) as work:
            with pytest.raises(AlreadyExists, match=key.slug):
                await work.keys.add(new_key(tenant, key.slug))
            with pytest.raises(Conflict):
                await work.keks.add(new_kek(tenant))
            with pytest.raises(Conflict):
                await work.key_versions.add(new_version(key))
        async with storage.transaction(other.uid, write=True) as work:
            await work.keys.add(new_key(other, key.slug))  # another tenant may use the same slug
        async with storage.transaction() as work:
            assert await work.tenants.get(other.slug) == other
            assert await work.tenants.get(tenant.slug) == tenant

    async def test_a_stale_revision_is_a_conflict_and_changes_nothing(self, storage):
        tenant, kek = await with_kek(storage)
        key = await with_key(storage, tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            newer = await work.keys.replace(replace(key, display_name="first"))
        assert newer.revision == key.revision + 1
        for stale in (key, replace(key, revision=7)):
            with pytest.raises(Conflict, match=key.slug):
                async with storage.transaction(tenant.uid, write=True) as work:
                    await work.keys.replace(replace(stale, display_name="second"))
        with pytest.raises(Conflict):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keks.replace(replace(kek, revision=2))
        with pytest.raises(Conflict):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.tenants.replace(replace(tenant, revision=2))
        async with storage.transaction(tenant.uid) as work:
            assert await work.keys.get(tenant.uid, key.slug) == newer

    async def test_of_two_that_change_the_same_revision_one_wins(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)

        async def change(name: str) -> str:
            try:
                async with storage.transaction(tenant.uid, write=True) as work:
                    await work.keys.replace(replace(key, display_name=name))
            except Conflict:
                return "conflict"
            return name

        outcomes = await asyncio.gather(*(change(str(number)) for number in range(4)))
        assert outcomes.count("conflict") == 3
        async with storage.transaction(tenant.uid) as work:
            stored = await work.keys.get(tenant.uid, key.slug)
        assert stored is not None
        assert stored.display_name in outcomes
        assert stored.revision == key.revision + 1

    async def test_an_error_in_the_block_leaves_nothing(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  the block is the point
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keys.replace(replace(key, display_name="changed"))
                await work.keys.add(new_key(tenant, "another"))
                raise ZeroDivisionError
        async with storage.transaction(tenant.uid) as work:
            assert await work.keys.get(tenant.uid, key.slug) == key
            assert await work.keys.get(tenant.uid, "another") is None

    async def test_a_failed_statement_that_the_caller_overlooks_does_not_commit_the_rest(self, storage):
        tenant, _ = await with_kek(storage)
        with pytest.raises(Conflict):  # noqa: PT012
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keys.add(new_key(tenant, "before"))
                with suppress(Conflict):
                    await work.key_versions.add(new_version(new_key(tenant)))  # of a key that is not stored
        async with storage.transaction(tenant.uid) as work:
            assert await work.keys.get(tenant.uid, "before") is None

    async def test_a_record_that_contradicts_itself_is_refused(self, storage):
        tenant, _ = await with_kek(storage)
        with pytest.raises(CorruptRecord, match="contradicts"):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keks.add(replace(activated(new_kek(tenant, 2)), canary=b""))

    async def test_a_snapshot_does_not_see_what_is_committed_after_its_first_read(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        async with storage.transaction(tenant.uid) as snapshot:
            assert await snapshot.keys.get(tenant.uid, key.slug) == key
            async with storage.transaction(tenant.uid, write=True) as work:
                newer = await work.keys.replace(replace(key, display_name="newer"))
                await work.keys.add(new_key(tenant, "added"))
            assert await snapshot.keys.get(tenant.uid, key.slug) == key
            assert await snapshot.keys.get(tenant.uid, "added") is None
        async with storage.transaction(tenant.uid) as work:
            assert await work.keys.get(tenant.uid, key.slug) == newer

    async def test_what_is_not_committed_is_not_seen(self, storage):
        tenant = new_tenant()
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)
            async with storage.transaction() as other:
                assert await other.tenants.get(tenant.slug) is None

    async def test_a_read_transaction_cannot_write(self, storage):
        tenant = new_tenant()
        with pytest.raises(RuntimeError, match="begun for reading"):
            async with storage.transaction(tenant.uid) as work:
                await work.tenants.add(tenant)
        async with storage.transaction() as work:
            assert await work.tenants.get(tenant.slug) is None

    async def test_another_tenants_uid_sees_nothing(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        async with storage.transaction(other.uid) as work:
            assert await work.keys.get(other.uid, key.slug) is None
            assert await work.keys.list_by_slug(other.uid, "", 100) == []
            assert await work.key_versions.get(other.uid, key.uid, 1) is None
            assert await work.key_versions.list_by_version(other.uid, key.uid, 0, 100) == []
            assert await work.key_versions.count_by_kek(other.uid) == {}
            assert [kek.tenant for kek in await work.keks.list_by_version(other.uid, 0, 100)] == [other.uid]

    async def test_a_transaction_of_one_tenant_finds_no_other_by_its_slug(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        async with storage.transaction(other.uid) as work:
            assert await work.tenants.get(tenant.slug) is None
            assert await work.tenants.get(other.slug) == other
            assert await work.tenants.list_ready("", 100) == [other]

    async def test_a_transaction_of_one_tenant_cannot_write_anothers_record(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        with pytest.raises(RuntimeError, match="another's record"):
            async with storage.transaction(other.uid, write=True) as work:
                await work.keys.add(new_key(tenant, "foreign"))
        async with storage.transaction(tenant.uid) as work:
            assert await work.keys.get(tenant.uid, "foreign") is None

    async def test_pending_lists_every_intent_without_an_outcome(self, storage):
        tenant, _ = await with_kek(storage)
        unready = new_tenant(primary_kek=0)
        async with storage.transaction(unready.uid, write=True) as work:
            unready = await work.tenants.add(unready)
            first = await work.keks.add(new_kek(unready))
        async with storage.transaction(tenant.uid, write=True) as work:
            second = await work.keks.add(new_kek(tenant, 2))
        async with storage.transaction() as work:
            pending = await work.keks.pending()
        assert sorted(pending, key=str) == sorted([(unready, first), (tenant, second)], key=str)
        for kek in (first, second):
            async with storage.transaction(kek.tenant, write=True) as work:
                await work.keks.replace(activated(kek))
        async with storage.transaction() as work:
            assert await work.keks.pending() == []

    async def test_key_versions_are_counted_by_the_kek_version_that_wraps_them(self, storage):
        tenant, _ = await with_kek(storage)
        one, two = await with_key(storage, tenant), await with_key(storage, tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            for number in (2, 3):
                await work.keks.add(activated(new_kek(tenant, number)))
            await work.key_versions.add(new_version(one, 2, kek_version=2))
        async with storage.transaction(tenant.uid) as work:
            assert await work.key_versions.count_by_kek(tenant.uid) == {1: 2, 2: 1}
        assert two.uid != one.uid

    async def test_a_counter_stops_at_its_limit_and_not_before(self, storage):
        tenant, _ = await with_kek(storage)
        counter, other = Counter(tenant.uid, tenant.kek, 1), Counter(tenant.uid, tenant.kek, 2)
        assert not await storage.reserve(counter, 101, 100)
        assert await storage.reserved([counter]) == [0]
        assert await storage.reserve(counter, 60, 100)
        assert not await storage.reserve(counter, 41, 100)
        assert await storage.reserve(counter, 40, 100)
        assert not await storage.reserve(counter, 1, 100)
        assert await storage.reserve(counter, 2**45, None)
        assert await storage.reserve(other, 5, 5)
        unused = Counter(tenant.uid, tenant.kek, 3)
        assert await storage.reserved([other, unused, counter, other]) == [5, 0, 100 + 2**45, 5]
        assert await storage.reserved([]) == []

    async def test_many_counters_are_read_at_once(self, storage):
        tenant, _ = await with_kek(storage)
        await storage.reserve(Counter(tenant.uid, tenant.kek, 4999), 7, None)
        wanted = [Counter(tenant.uid, tenant.kek, number + 1) for number in range(5000)]
        assert await storage.reserved(wanted) == [7 if counter.version == 4999 else 0 for counter in wanted]

    @pytest.mark.usefixtures("patient")
    async def test_reservers_together_never_pass_the_limit(self, storage):
        tenant, _ = await with_kek(storage)
        counter = Counter(tenant.uid, tenant.kek, 1)

        async def reserve_all() -> int:
            blocks = 0
            while await storage.reserve(counter, 7, 100):
                blocks += 1
            return blocks

        assert sum(await asyncio.gather(*(reserve_all() for _ in range(4)))) == 14
        assert await storage.reserved([counter]) == [98]

    async def test_counters_and_records_survive_the_process(self, storage, opener):
        tenant, _ = await with_kek(storage)
        counter = Counter(tenant.uid, tenant.kek, 1)
        await storage.reserve(counter, 9, None)
        await storage.close()
        again = await opener()
        assert await again.reserved([counter]) == [9]
        async with again.transaction() as work:
            assert await work.tenants.get(tenant.slug) == tenant

    async def test_a_named_lock_excludes_and_other_names_do_not_wait(self, storage):
        order: list[str] = []
        held, leave = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            async with storage.exclusive("kek"):
                held.set()
                await leave.wait()
                order.append("first")

        async def second() -> None:
            async with storage.exclusive("kek"):
                order.append("second")

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(first())
            await held.wait()
            group.create_task(second())
            async with storage.exclusive("other"):
                order.append("other")
            leave.set()
        assert order == ["other", "first", "second"]

    async def test_a_named_lock_is_free_again_after_an_error_and_after_a_cancellation(self, storage):
        with pytest.raises(ZeroDivisionError):
            async with storage.exclusive("kek"):
                raise ZeroDivisionError
        held = asyncio.Event()

        async def hold() -> None:
            async with storage.exclusive("kek"):
                held.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(hold())
        await held.wait()
        task.cancel()
        async with asyncio.timeout(PATIENCE), storage.exclusive("kek"):
            assert not storage._closed
        assert task.cancelled()

    async def test_a_cancelled_caller_leaves_nothing_behind(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        counter = Counter(tenant.uid, tenant.kek, 1)

        async def work_on(number: int) -> None:
            await storage.reserve(counter, 1, None)
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keys.add(new_key(tenant))
                await work.keys.replace(replace(key, display_name=str(number)))
                raise Conflict("rolled back")

        for number in range(60):  # at ever later points of the work
            task = asyncio.create_task(work_on(number))
            for _ in range(number):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises((asyncio.CancelledError, Conflict)):
                await task
        async with asyncio.timeout(PATIENCE):
            while storage._line.tasks.running:
                await asyncio.wait(storage._line.tasks.running)
            # Every place is free again: as many transactions as there are places run at once.
            assert storage._slots._value == storage._transactions
            assert storage._line.engine.pool.checkedout() == 0
            async with storage.transaction(tenant.uid, write=True) as work:
                assert await work.keys.get(tenant.uid, key.slug) == key
                assert len(await work.keys.list_by_slug(tenant.uid, "", 100)) == 1

    @pytest.mark.usefixtures("patient")
    async def test_more_callers_than_places_are_served_in_turn(self, storage):
        tenant, _ = await with_kek(storage)

        async def read() -> Tenant | None:
            async with storage.transaction(tenant.uid) as work:
                return await work.tenants.get(tenant.slug)

        assert await asyncio.gather(*(read() for _ in range(30))) == [tenant] * 30

    async def test_health_says_how_fast_it_answers_and_that_it_is_closed(self, storage):
        await storage.check()
        health = await storage.health()
        assert health.status is HealthStatus.HEALTHY
        assert 0 < health.response_time < PATIENCE
        await storage.close()
        await storage.close()
        health = await storage.health()
        assert (health.status, health.reason) == (HealthStatus.UNHEALTHY, "the storage is closed")
        with pytest.raises(StorageUnavailable, match="closed"):
            await storage.check()
