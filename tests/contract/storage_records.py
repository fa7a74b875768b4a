"""What every Storage promises of the records that the lifecycle adds."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.census import MOST_PLACES
from kms.core.errors import AlreadyExists, Conflict, CorruptRecord, InvalidRequest
from kms.core.keyring import ERASED
from kms.core.lifecycle import KeyState
from kms.core.operations import OperationEvent, OperationKind, OperationState
from kms.core.policy import NEVER, Overrides
from tests import keyrings
from tests.contract.storage import EVERY_FIELD, with_kek, with_key
from tests.keyrings import (
    NOW,
    activated,
    new_count,
    new_kek,
    new_key,
    new_operation,
    new_place,
    new_policy,
    new_receipt,
    new_tenant,
    new_version,
)

SECOND = timedelta(seconds=1)


async def with_place(storage, key, slug=None):
    async with storage.transaction(key.tenant, write=True) as work:
        return await work.places.add(new_place(key, slug))


def numbers(versions):
    return [version.version for version in versions]


class RecordsContract:
    """Subclasses give `storage`."""

    @EVERY_FIELD
    @given(data=st.data())
    async def test_what_the_lifecycle_adds_is_read_again_exactly(self, storage, data):
        tenant = new_tenant()
        key = new_key(tenant)
        policy = data.draw(keyrings.policies(tenant))
        place = data.draw(keyrings.places(key))
        count = data.draw(keyrings.counts(place))
        operation = data.draw(keyrings.operations(tenant))
        receipt = data.draw(keyrings.receipts(tenant))
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)
            await work.keys.add(key)
            stored = [
                await work.policies.add(policy),
                await work.places.add(place),
                await work.operations.add(operation),
                await work.receipts.add(receipt),
            ]
            await work.places.put_counts([count])
        async with storage.transaction(tenant.uid) as work:
            [found_place] = await work.places.list_of_key(tenant.uid, key.uid)
            [found_count] = await work.places.counts(tenant.uid, key.uid)
            [found_receipt] = await work.receipts.list_of_subject(tenant.uid, receipt.subject, "", 10)
            found = [
                await work.policies.get(tenant.uid, policy.slug),
                found_place,
                await work.operations.get(tenant.uid, operation.uid),
                found_receipt,
            ]
        assert found == stored
        assert [replace(value, revision=0) for value in found] == [policy, place, operation, receipt]
        assert found_count == replace(count, revision=1)

    @EVERY_FIELD
    @given(data=st.data())
    async def test_what_the_lifecycle_changes_is_read_again_exactly(self, storage, data):
        tenant = new_tenant()
        kek = activated(new_kek(tenant))
        key = new_key(tenant)
        version, place, operation = new_version(key), new_place(key), new_operation(tenant)
        count = new_count(place)
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)
            await work.keks.add(kek)
            await work.keys.add(key)
            version = await work.key_versions.add(version)
            place = await work.places.add(place)
            operation = await work.operations.add(operation)
            await work.places.put_counts([count])
        version = replace(data.draw(keyrings.key_versions(key, kek)), version=1, revision=version.revision)
        place = replace(data.draw(keyrings.places(key)), slug=place.slug, revision=place.revision)
        operation = replace(data.draw(keyrings.operations(tenant)), uid=operation.uid, revision=operation.revision)
        count = replace(data.draw(keyrings.counts(place)), version=1, revision=1)
        async with storage.transaction(tenant.uid, write=True) as work:
            stored = [
                await work.key_versions.replace(version),
                await work.places.replace(place),
                await work.operations.replace(operation),
            ]
            await work.places.put_counts([count])
        async with storage.transaction(tenant.uid) as work:
            [found_place] = await work.places.list_of_key(tenant.uid, key.uid)
            [found_count] = await work.places.counts(tenant.uid, key.uid)
            found = [
                await work.key_versions.get(tenant.uid, key.uid, 1),
                found_place,
                await work.operations.get(tenant.uid, operation.uid),
            ]
        assert found == stored == [replace(value, revision=2) for value in (version, place, operation)]
        assert found_count == replace(count, revision=2)

    @pytest.mark.parametrize(
        "own",
        [
            Overrides(rotation=timedelta(minutes=90)),
            Overrides(grace=timedelta(milliseconds=1500)),
            Overrides(quarantine=timedelta(days=8, microseconds=1)),
        ],
    )
    async def test_a_period_that_would_be_cut_is_refused(self, storage, own):
        tenant, _ = await with_kek(storage)
        with pytest.raises(InvalidRequest, match="must be a whole number of"):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keys.add(replace(new_key(tenant), overrides=own))

    async def test_a_key_of_its_own_cannot_be_kept_from_rotating(self, storage):
        tenant, _ = await with_kek(storage)
        with pytest.raises(CorruptRecord, match="contradicts"):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keys.add(replace(new_key(tenant), overrides=Overrides(rotation=NEVER)))

    async def test_tenants_and_keys_are_found_by_their_uids(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        async with storage.transaction(tenant.uid) as work:
            assert await work.tenants.by_uid(tenant.uid) == tenant
            assert await work.keys.by_uid(tenant.uid, key.uid) == key
        async with storage.transaction(key.uid) as work:
            assert await work.tenants.by_uid(key.uid) is None
        async with storage.transaction(other.uid) as work:
            assert await work.keys.by_uid(other.uid, key.uid) is None

    async def test_one_version_of_a_key_is_active(self, storage):
        tenant, _ = await with_kek(storage)
        key, other = await with_key(storage, tenant), await with_key(storage, tenant)
        second = replace(new_version(key, 2), state=KeyState.ACTIVE)
        async with storage.transaction(tenant.uid, write=True) as work:
            with pytest.raises(Conflict, match="version 2"):
                await work.key_versions.add(second)
            archived = await work.key_versions.add(new_version(key, 2))
            await work.key_versions.add(new_version(other, 2))
        with pytest.raises(Conflict):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.key_versions.replace(replace(archived, state=KeyState.ACTIVE))
        async with storage.transaction(tenant.uid) as work:
            assert await work.key_versions.get(tenant.uid, key.uid, 2) == archived

    async def test_one_version_is_made_for_a_scheduled_time(self, storage):
        tenant, _ = await with_kek(storage)
        key, other = await with_key(storage, tenant), await with_key(storage, tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.key_versions.add(replace(new_version(key, 2), due_at=NOW))
            with pytest.raises(Conflict, match="version 3"):
                await work.key_versions.add(replace(new_version(key, 3), due_at=NOW))
            await work.key_versions.add(replace(new_version(key, 3), due_at=NOW + SECOND))
            await work.key_versions.add(replace(new_version(other, 2), due_at=NOW))
            for number in (4, 5):  # by hand: for no scheduled time
                await work.key_versions.add(new_version(key, number))
        async with storage.transaction(tenant.uid) as work:
            assert numbers(await work.key_versions.list_by_version(tenant.uid, key.uid, 0, 10)) == [1, 2, 3, 4, 5]

    async def test_versions_are_listed_by_what_they_wait_for_and_by_state(self, storage):
        tenant, _ = await with_kek(storage)
        key, other = await with_key(storage, tenant), await with_key(storage, tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            for number in (9, 3, 7, 5):
                await work.key_versions.add(
                    replace(new_version(key, number), state=KeyState.ROTATING, until=NOW + number * SECOND)
                )
            for number in (2, 8):
                await work.key_versions.add(new_version(key, number))
            await work.key_versions.add(replace(new_version(other, 4), state=KeyState.ROTATING, until=NOW))
        async with storage.transaction(tenant.uid) as work:
            assert numbers(await work.key_versions.list_timed(tenant.uid, key.uid)) == [3, 5, 7, 9]
            for states, after, limit, wanted in (
                ([KeyState.ROTATING], 0, 10, [3, 5, 7, 9]),
                ([KeyState.ROTATING], 3, 2, [5, 7]),
                ([KeyState.ACTIVE, KeyState.ARCHIVED], 0, 10, [1, 2, 8]),
                ([KeyState.REVOKED], 0, 10, []),
                ([], 0, 10, []),
            ):
                found = await work.key_versions.list_in_states(tenant.uid, key.uid, states, after, limit)
                assert numbers(found) == wanted

    async def test_what_one_kek_version_wraps_is_listed_in_pages_without_what_is_destroyed(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        await with_key(storage, other)
        keys = [await with_key(storage, tenant) for _ in range(5)]
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.keks.add(activated(new_kek(tenant, 2)))
            for key in keys:
                for number in range(2, 12):
                    version = new_version(key, number, kek_version=2 if number % 5 == 0 else 1)
                    if number % 4 == 0:
                        version = replace(version, state=KeyState.DESTROYED, wrapped=ERASED)
                    await work.key_versions.add(version)
        wanted = {1: {1, 2, 3, 6, 7, 9, 11}, 2: {5, 10}, 3: set()}
        async with storage.transaction(tenant.uid) as work:
            counted = await work.key_versions.count_by_kek(tenant.uid)
            for kek_version, of_key in wanted.items():
                for limit in (1, 3, 100):
                    seen, after = [], None
                    while page := await work.key_versions.list_wrapped_by(tenant.uid, kek_version, after, limit):
                        assert len(page) <= limit
                        seen += [(version.key, version.version) for version in page]
                        after = seen[-1]
                    assert seen == sorted((key.uid, number) for key in keys for number in of_key)
                    assert counted.get(kek_version, 0) == len(seen)
        assert set(counted) == {1, 2}

    async def test_a_policy_is_its_newest_version_and_the_older_ones_stay(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        async with storage.transaction(other.uid, write=True) as work:
            await work.policies.add(new_policy(other, "b"))
        async with storage.transaction(tenant.uid, write=True) as work:
            for slug, versions in (("b", (1, 2, 10, 9)), ("a", (1,)), ("a-b", (2, 1)), ("a0", (1,))):
                for version in versions:
                    await work.policies.add(new_policy(tenant, slug, version))
            with pytest.raises(Conflict, match="version 9 of policy b"):
                await work.policies.add(new_policy(tenant, "b", 9))
        async with storage.transaction(tenant.uid) as work:
            newest = await work.policies.get(tenant.uid, "b")
            assert newest is not None
            assert newest.version == 10
            assert await work.policies.get(tenant.uid, "c") is None
            listed = await work.policies.list_by_slug(tenant.uid, "", 10)
            assert [(p.slug, p.version) for p in listed] == [("a", 1), ("a-b", 2), ("a0", 1), ("b", 10)]
            assert [p.slug for p in await work.policies.list_by_slug(tenant.uid, "a", 2)] == ["a-b", "a0"]
            assert numbers(await work.policies.list_versions(tenant.uid, "b", 0, 10)) == [1, 2, 9, 10]
            assert numbers(await work.policies.list_versions(tenant.uid, "b", 1, 2)) == [2, 9]

    async def test_places_are_unique_for_their_key_and_listed_in_order(self, storage):
        tenant, _ = await with_kek(storage)
        key, other = await with_key(storage, tenant), await with_key(storage, tenant)
        for slug in ("b", "a-1", "a0"):
            await with_place(storage, key, slug)
        await with_place(storage, other, "b")
        async with storage.transaction(tenant.uid, write=True) as work:
            with pytest.raises(AlreadyExists, match="place b"):
                await work.places.add(new_place(key, "b"))
        async with storage.transaction(tenant.uid) as work:
            assert [place.slug for place in await work.places.list_of_key(tenant.uid, key.uid)] == ["a-1", "a0", "b"]

    async def test_no_more_places_are_listed_than_a_key_may_have(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            for number in range(MOST_PLACES + 1):
                await work.places.add(new_place(key, f"place-{number:03}"))
        async with storage.transaction(tenant.uid) as work:
            assert len(await work.places.list_of_key(tenant.uid, key.uid)) == MOST_PLACES

    async def test_counts_are_listed_by_version_and_place(self, storage):
        tenant, _ = await with_kek(storage)
        key, other = await with_key(storage, tenant), await with_key(storage, tenant)
        places = [await with_place(storage, key, slug) for slug in ("b", "a")]
        elsewhere = await with_place(storage, other, "b")
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.places.put_counts([new_count(place, number, 1) for place in places for number in (2, 1, 3)])
            await work.places.put_counts([new_count(elsewhere, 1, 9)])
            await work.places.put_counts([])

        async def listed(*arguments, **options):
            async with storage.transaction(tenant.uid) as work:
                return [
                    (c.version, c.place) for c in await work.places.counts(tenant.uid, key.uid, *arguments, **options)
                ]

        assert await listed() == [(1, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "a"), (3, "b")]
        assert await listed([3, 1]) == [(1, "a"), (1, "b"), (3, "a"), (3, "b")]
        assert await listed(place="b") == [(1, "b"), (2, "b"), (3, "b")]
        assert await listed([2], place="a") == [(2, "a")]
        assert await listed([]) == []
        assert len(await listed(range(1, 1001))) == 6
        with pytest.raises(ValueError, match="at most 1000 versions"):
            await listed(range(1, 1002))

    async def test_a_removed_place_takes_its_counts_along(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        place, kept = await with_place(storage, key), await with_place(storage, key)
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.places.put_counts([new_count(place, 1, 1), new_count(kept, 1, 2)])
        for stale in (replace(place, revision=2), replace(place, slug="absent")):
            with pytest.raises(Conflict, match="changed in between"):  # noqa: PT012  overlooking it is the point
                async with storage.transaction(tenant.uid, write=True) as work:
                    with suppress(Conflict):
                        await work.places.remove(stale)
        async with storage.transaction(tenant.uid) as work:
            assert len(await work.places.counts(tenant.uid, key.uid)) == 2
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.places.remove(place)
        async with storage.transaction(tenant.uid) as work:
            assert await work.places.list_of_key(tenant.uid, key.uid) == [kept]
            assert [count.place for count in await work.places.counts(tenant.uid, key.uid)] == [kept.slug]

    async def test_many_counts_are_stored_at_once_or_none_of_them(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        place = await with_place(storage, key)
        first = [new_count(place, number, number) for number in range(1, 2001)]
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.places.put_counts(first)
        async with storage.transaction(tenant.uid) as work:
            stored = await work.places.counts(tenant.uid, key.uid)
        assert stored == [replace(count, revision=1) for count in first]
        changed = [replace(count, count=count.count + 1) for count in stored]
        added = [new_count(place, number) for number in range(2001, 3002)]
        for mixed in (
            [*changed[:1500], replace(changed[1500], revision=7)],
            [*added, new_count(place, 1)],
            [*changed, replace(added[0], revision=1)],
        ):
            with pytest.raises(Conflict, match="counts of the place"):  # noqa: PT012  overlooking it is the point
                async with storage.transaction(tenant.uid, write=True) as work:
                    with suppress(Conflict):
                        await work.places.put_counts(mixed)
        async with storage.transaction(tenant.uid) as work:
            assert await work.places.counts(tenant.uid, key.uid) == stored
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.places.put_counts([*added, *changed])
        async with storage.transaction(tenant.uid) as work:
            found = await work.places.counts(tenant.uid, key.uid)
        assert found == [replace(count, revision=count.revision + 1) for count in (*changed, *added)]

    async def test_a_target_has_one_running_operation_of_a_kind(self, storage):
        tenant, _ = await with_kek(storage)
        running = new_operation(tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            running = await work.operations.add(running)
            with pytest.raises(Conflict, match="a running operation rewrap already"):
                await work.operations.add(new_operation(tenant))
            await work.operations.add(new_operation(tenant, OperationKind.REPLAN))
            await work.operations.add(replace(new_operation(tenant), target="another"))
            cancelled = await work.operations.replace(running.after(OperationEvent.CANCEL, NOW))
            await work.operations.add(new_operation(tenant))
        with pytest.raises(Conflict):  # resumed while its successor runs
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.operations.replace(cancelled.after(OperationEvent.RESUME, NOW))
        async with storage.transaction(tenant.uid) as work:
            assert await work.operations.get(tenant.uid, running.uid) == cancelled

    async def test_of_many_that_begin_the_same_operation_one_does(self, storage):
        tenant, _ = await with_kek(storage)

        async def begin():
            try:
                async with storage.transaction(tenant.uid, write=True) as work:
                    await work.operations.add(new_operation(tenant))
            except Conflict:
                return False
            return True

        assert sum(await asyncio.gather(*(begin() for _ in range(4)))) == 1

    async def test_operations_are_listed_from_the_newest_on(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        made = [
            replace(new_operation(tenant), target=str(number), created_at=NOW + (number // 3) * SECOND)
            for number in range(10)
        ]
        async with storage.transaction(other.uid, write=True) as work:
            await work.operations.add(new_operation(other))
        async with storage.transaction(tenant.uid, write=True) as work:
            for operation in made:
                await work.operations.add(operation)
        wanted = sorted(made, key=lambda each: (each.created_at, each.uid), reverse=True)
        for limit in (1, 4, 100):
            seen = []
            async with storage.transaction(tenant.uid) as work:
                before = None
                while page := await work.operations.list_newest(tenant.uid, before, limit):
                    assert len(page) <= limit
                    seen += page
                    before = (seen[-1].created_at, seen[-1].uid)
            assert [each.uid for each in seen] == [each.uid for each in wanted]

    async def test_an_operation_is_found_by_kind_target_and_state(self, storage):
        tenant, _ = await with_kek(storage)
        target = str(tenant.name)
        ended = [
            replace(new_operation(tenant), created_at=NOW + number * SECOND).after(OperationEvent.FAIL, NOW, "why")
            for number in (1, 3, 2)
        ]
        async with storage.transaction(tenant.uid, write=True) as work:
            running = await work.operations.add(new_operation(tenant))
            for operation in ended:
                await work.operations.add(operation)
            found = await work.operations.find(tenant.uid, "rewrap", target, OperationState.RUNNING)
            assert found == running
            newest = await work.operations.find(tenant.uid, "rewrap", target, OperationState.FAILED)
            assert newest == replace(ended[1], revision=1)
            assert await work.operations.find(tenant.uid, "replan", target, OperationState.RUNNING) is None
            assert await work.operations.find(tenant.uid, "rewrap", "other", OperationState.RUNNING) is None
            assert await work.operations.find(tenant.uid, "rewrap", target, OperationState.SUCCEEDED) is None

    async def test_what_runs_in_nobodys_hands_is_free(self, storage):
        tenant, _ = await with_kek(storage)
        made = []
        for number, leased_until in enumerate([None, NOW - SECOND, NOW, NOW + SECOND]):
            began = NOW - number * SECOND
            made.append(replace(new_operation(tenant), target=str(number), created_at=began, leased_until=leased_until))
        ended = replace(new_operation(tenant), target="ended").after(OperationEvent.SUCCEED, NOW)
        for operation in (*made, ended):
            async with storage.transaction(operation.tenant, write=True) as work:
                await work.operations.add(operation)
        async with storage.transaction() as work:
            assert [each.target for each in await work.operations.list_free(NOW, 10)] == ["2", "1", "0"]
            assert [each.target for each in await work.operations.list_free(NOW, 1)] == ["2"]

    async def test_old_operations_are_removed_some_at_a_time(self, storage):
        tenant, _ = await with_kek(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            running = await work.operations.add(new_operation(tenant))
            for number in range(5):
                ended = new_operation(tenant).after(OperationEvent.SUCCEED, NOW + number * SECOND)
                await work.operations.add(ended)
        async with storage.transaction(write=True) as work:
            assert await work.operations.remove_ended(NOW, 10) == 0
            assert await work.operations.remove_ended(NOW + 4 * SECOND, 3) == 3
            assert await work.operations.remove_ended(NOW + 4 * SECOND, 3) == 1
            assert await work.operations.remove_ended(NOW + 4 * SECOND, 3) == 0
        async with storage.transaction(tenant.uid) as work:
            left = await work.operations.list_newest(tenant.uid, None, 10)
        assert {each.ended_at for each in left} == {None, NOW + 4 * SECOND}
        assert running in left

    async def test_receipts_are_listed_for_a_subject_and_all_that_lies_below_it(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        subjects = ["a", "a/", "a/b", "a/b/c", "a/b!", "a/b0", "a0", "a-b", "a/é", "a/𝄞", "b"]
        async with storage.transaction(other.uid, write=True) as work:
            await work.receipts.add(new_receipt(other, "a/b"))
        async with storage.transaction(tenant.uid, write=True) as work:
            for subject in subjects:
                await work.receipts.add(new_receipt(tenant, subject))
            with pytest.raises(Conflict, match="a/b has a receipt already"):
                await work.receipts.add(new_receipt(tenant, "a/b"))
        async with storage.transaction(tenant.uid) as work:
            for prefix in ("a", "a/b", "b", "c"):
                wanted = sorted(each for each in subjects if each == prefix or each.startswith(f"{prefix}/"))
                wanted = [each for each in wanted if each != f"{prefix}/"]  # no name ends so
                for limit in (1, 100):
                    seen = []
                    while page := await work.receipts.list_of_subject(
                        tenant.uid, prefix, seen[-1] if seen else "", limit
                    ):
                        seen += [receipt.subject for receipt in page]
                    assert seen == wanted

    async def test_a_stale_revision_changes_no_record_of_the_lifecycle(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        place = await with_place(storage, key)
        async with storage.transaction(tenant.uid, write=True) as work:
            operation = await work.operations.add(new_operation(tenant))
            version = await work.key_versions.get(tenant.uid, key.uid, 1)
            assert version is not None
            for call in (
                work.places.replace(replace(place, revision=2)),
                work.operations.replace(replace(operation, revision=2)),
                work.key_versions.replace(replace(version, revision=2)),
            ):
                with pytest.raises(Conflict, match="in between"):
                    await call
        async with storage.transaction(tenant.uid) as work:
            assert await work.key_versions.get(tenant.uid, key.uid, 1) == version
            assert await work.operations.get(tenant.uid, operation.uid) == operation
            assert await work.places.list_of_key(tenant.uid, key.uid) == [place]

    async def test_another_tenant_sees_and_writes_nothing_of_the_lifecycles_records(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        place = await with_place(storage, key)
        async with storage.transaction(tenant.uid, write=True) as work:
            operation = await work.operations.add(new_operation(tenant))
            policy = await work.policies.add(new_policy(tenant, "p"))
            await work.receipts.add(new_receipt(tenant, "r"))
            await work.places.put_counts([new_count(place)])
        async with storage.transaction(other.uid) as work:
            assert await work.operations.get(other.uid, operation.uid) is None
            assert await work.operations.list_newest(other.uid, None, 10) == []
            assert await work.policies.get(other.uid, "p") is None
            assert await work.policies.list_by_slug(other.uid, "", 10) == []
            assert await work.policies.list_versions(other.uid, "p", 0, 10) == []
            assert await work.receipts.list_of_subject(other.uid, "r", "", 10) == []
            assert await work.places.list_of_key(other.uid, key.uid) == []
            assert await work.places.counts(other.uid, key.uid) == []
            assert await work.key_versions.list_timed(other.uid, key.uid) == []
            assert await work.key_versions.list_wrapped_by(other.uid, 1, None, 10) == []
        for write in (
            lambda work: work.operations.replace(operation),
            lambda work: work.policies.add(replace(policy, version=2)),
            lambda work: work.receipts.add(new_receipt(tenant)),
            lambda work: work.places.add(new_place(key)),
            lambda work: work.places.remove(place),
            lambda work: work.places.put_counts([new_count(place, 2)]),
        ):
            with pytest.raises(RuntimeError, match="another's record"):
                async with storage.transaction(other.uid, write=True) as work:
                    await write(work)
