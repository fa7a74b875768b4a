"""What every Storage promises of what nodes share: uses, due work, epochs, and knowing of each other."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kms.core.census import Uses
from kms.core.errors import Conflict, CorruptRecord
from kms.core.keyring import Key
from kms.core.ports import Counter, Node, TenantEpoch
from kms.core.rotation import CLOCK_SLACK
from tests import keyrings
from tests.contract.storage import EVERY_FIELD, PATIENCE, with_kek, with_key
from tests.keyrings import NOW, new_key, new_tenant

SECOND = timedelta(seconds=1)
HELD = NOW + timedelta(minutes=1)
NODE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
U = uuid.uuid4


async def with_due_keys(storage, tenant, *due_at: datetime | None) -> list[Key]:
    """Store keys in an order that is not the one in which they are due."""
    keys = [replace(new_key(tenant), due_at=at) for at in due_at]
    async with storage.transaction(tenant.uid, write=True) as work:
        for key in sorted(keys, key=lambda key: key.uid):
            await work.keys.add(key)
    return [replace(key, revision=1) for key in keys]


def uids(claimed):
    return [key.uid for _, key in claimed]


def merged(seen):
    """What all of *seen* together say, worked out in another way than the database's."""

    def latest(times):
        return max((time for time in times if time is not None), default=None)

    return Uses(
        latest(uses.last_used_at for uses in seen),
        latest(uses.last_decrypted_at for uses in seen),
        sum(uses.refused for uses in seen),
        latest(uses.last_refused_at for uses in seen),
    )


class SharingContract:
    """Subclasses give `storage`, and `opener` which opens the same database once more."""

    async def test_reserving_tells_the_sum(self, storage):
        tenant, _ = await with_kek(storage)
        counter = Counter(tenant.uid, tenant.kek, 1)
        assert await storage.reserve(counter, 60, 100) == 60
        assert await storage.reserve(counter, 40, 100) == 100
        assert await storage.reserve(counter, 1, 100) is None
        assert await storage.reserve(counter, 5, None) == 105
        assert await storage.reserve(counter, 5, 50) is None
        assert await storage.reserve(Counter(tenant.uid, tenant.kek, 2), 7, None) == 7

    @pytest.mark.usefixtures("patient")
    async def test_the_sums_of_all_reservers_are_different(self, storage, opener):
        tenant, _ = await with_kek(storage)
        counter = Counter(tenant.uid, tenant.kek, 1)
        stores = [storage, await opener()]
        sums = await asyncio.gather(*(stores[n % 2].reserve(counter, 3, 3 * 15) for n in range(20)))
        assert sorted(total for total in sums if total is not None) == list(range(3, 3 * 16, 3))

    @EVERY_FIELD
    @given(
        seen=st.lists(
            st.tuples(
                st.sampled_from([1, 2, 3]),
                st.builds(
                    Uses,
                    last_used_at=st.none() | keyrings.times,
                    last_decrypted_at=st.none() | keyrings.times,
                    refused=st.integers(0, 2**40),
                    last_refused_at=st.none() | keyrings.times,
                ),
            ),
            max_size=8,
        ),
        data=st.data(),
    )
    async def test_uses_are_merged_in_any_order_and_refusals_counted_exactly(self, storage, opener, seen, data):
        tenant, _ = await with_kek(storage)
        counters = [Counter(tenant.uid, tenant.kek, version) for version in (1, 2, 3, 4)]
        for version, uses in data.draw(st.permutations(seen)):
            await storage.add_uses({counters[version - 1]: uses})
        found = await storage.uses(counters)
        assert found == [merged([uses for version, uses in seen if version == c.version]) for c in counters]

    @pytest.mark.usefixtures("patient")
    async def test_two_nodes_add_uses_of_the_same_versions_at_once(self, storage, opener):
        tenant, _ = await with_kek(storage)
        counters = [Counter(tenant.uid, U(), number + 1) for number in range(50)]
        stores = [storage, await opener()]

        async def add(number):
            order = counters if number % 2 else counters[::-1]
            when = NOW + number * SECOND
            await stores[number % 2].add_uses({counter: Uses(when, None, 1, when) for counter in order})

        await asyncio.gather(*(add(number) for number in range(10)))
        last = NOW + 9 * SECOND
        assert await storage.uses(counters) == [Uses(last, None, 10, last)] * 50

    async def test_uses_are_added_and_read_a_thousand_at_once(self, storage):
        tenant, _ = await with_kek(storage)
        counters = [Counter(tenant.uid, tenant.kek, number + 1) for number in range(1001)]
        await storage.add_uses({counter: Uses(NOW) for counter in counters[:1000]})
        await storage.add_uses({})
        assert await storage.uses(counters[1:]) == [Uses(NOW)] * 999 + [Uses()]
        assert await storage.uses([]) == []
        with pytest.raises(ValueError, match="at most 1000"):
            await storage.uses(counters)
        with pytest.raises(ValueError, match="at most 1000"):
            await storage.add_uses(dict.fromkeys(counters, Uses()))

    async def test_what_is_due_is_claimed_in_its_order(self, storage):
        tenant, _ = await with_kek(storage)
        keys = await with_due_keys(storage, tenant, *(NOW - number * SECOND for number in (5, 4, 3, 2, 0)))
        await with_due_keys(storage, tenant, None, NOW + timedelta(microseconds=1), NOW + timedelta(days=1))
        first = await storage.claim_keys(NODE, NOW, HELD, 2)
        assert first == [(tenant, key) for key in keys[:2]]
        assert uids(await storage.claim_keys(OTHER, NOW, HELD, 10)) == [key.uid for key in keys[2:]]
        assert await storage.claim_keys(NODE, NOW, HELD, 10) == []

    async def test_a_claim_ends_with_its_time_and_when_it_is_given_back(self, storage):
        tenant, _ = await with_kek(storage)
        one, two = await with_due_keys(storage, tenant, NOW - SECOND, NOW)
        assert uids(await storage.claim_keys(NODE, NOW, HELD, 10)) == [one.uid, two.uid]
        await storage.release(OTHER, [one.uid, two.uid])  # not its own
        assert await storage.claim_keys(OTHER, HELD - timedelta(microseconds=1), HELD, 10) == []
        await storage.release(NODE, [two.uid, U()])
        assert uids(await storage.claim_keys(OTHER, NOW, HELD + SECOND, 10)) == [two.uid]
        await storage.release(NODE, [two.uid])  # no longer its own
        assert uids(await storage.claim_keys(NODE, HELD, HELD + SECOND, 10)) == [one.uid]
        assert uids(await storage.claim_keys(NODE, HELD + SECOND, HELD + 2 * SECOND, 10)) == [one.uid, two.uid]
        await storage.release(NODE, [])

    async def test_a_key_that_is_planned_anew_is_claimed_no_more(self, storage):
        tenant, _ = await with_kek(storage)
        await with_due_keys(storage, tenant, NOW, NOW)
        for (_, key), due_at in zip(await storage.claim_keys(NODE, NOW, HELD, 10), (None, HELD + SECOND), strict=True):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keys.replace(replace(key, due_at=due_at))
        assert await storage.claim_keys(NODE, HELD, HELD + SECOND, 10) == []

    async def test_a_schedule_beyond_the_slack_of_clocks_is_claimed_after_all_that_is_due(self, storage):
        tenant, _ = await with_kek(storage)
        [due] = await with_due_keys(storage, tenant, NOW)
        within = replace(new_key(tenant), scheduled_from=NOW + CLOCK_SLACK)
        beyond = replace(within, uid=U(), slug="beyond", scheduled_from=NOW + CLOCK_SLACK + SECOND)
        both = replace(beyond, uid=U(), slug="both", due_at=NOW - SECOND)
        async with storage.transaction(tenant.uid, write=True) as work:
            for key in (within, beyond, both):
                await work.keys.add(key)
        assert uids(await storage.claim_keys(NODE, NOW, HELD, 2)) == [both.uid, due.uid]
        await storage.release(NODE, [both.uid, due.uid])
        assert uids(await storage.claim_keys(NODE, NOW, HELD, 10)) == [both.uid, due.uid, beyond.uid]
        assert await storage.claim_keys(NODE, NOW, HELD, 10) == []

    async def test_nodes_that_claim_at_once_share_without_overlap(self, storage, opener):
        tenant, _ = await with_kek(storage)
        keys = await with_due_keys(storage, tenant, *[NOW] * 60)
        stores = [storage, await opener()]

        async def claim(number):
            found = []
            while claimed := await stores[number % 2].claim_keys(uuid.UUID(int=number), NOW, HELD, 7):
                found += uids(claimed)
            return found

        shares = await asyncio.gather(*(claim(number) for number in range(4)))
        assert sorted(uid for share in shares for uid in share) == sorted(key.uid for key in keys)

    async def test_a_ready_tenant_is_claimed_when_its_keks_are_due(self, storage):
        now = NOW
        tenants = []
        for due_at, primary in ((now, 1), (now - SECOND, 1), (now - SECOND, 0), (None, 1), (now + SECOND, 1)):
            tenant = replace(new_tenant(primary_kek=primary), due_at=due_at)
            async with storage.transaction(tenant.uid, write=True) as work:
                tenants.append(await work.tenants.add(tenant))
        first, second, *_ = tenants
        assert await storage.claim_tenants(NODE, now, HELD, 1) == [second]
        assert await storage.claim_tenants(NODE, now, HELD, 10) == [first]
        assert await storage.claim_tenants(OTHER, now, HELD, 10) == []
        await storage.release(NODE, [first.uid])
        assert await storage.claim_tenants(OTHER, now, HELD, 10) == [first]
        assert await storage.claim_tenants(OTHER, HELD, HELD + SECOND, 10) == [second, first, tenants[4]]

    async def test_claims_are_at_most_a_thousand_at_once(self, storage):
        for claim in (storage.claim_keys, storage.claim_tenants):
            with pytest.raises(ValueError, match="at most 1000"):
                await claim(NODE, NOW, HELD, 1001)
            assert await claim(NODE, NOW, HELD, 1000) == []
        with pytest.raises(ValueError, match="at most 1000"):
            await storage.release(NODE, [U() for _ in range(1001)])

    async def test_a_damaged_record_does_not_stop_the_work_on_others_and_is_told_in_the_end(self, storage):
        tenant, _ = await with_kek(storage)
        damaged, one, two = await with_due_keys(storage, tenant, NOW - SECOND, NOW, NOW)
        table = (
            "encryption_keys" if storage._line.engine.dialect.name == "sqlite" else "security_secret.encryption_keys"
        )
        async with storage._session(tenant.uid, write=True) as session:
            await session.raw(f"UPDATE {table} SET status = 'strange' WHERE id = '{damaged.uid}'")  # noqa: S608
        assert sorted(uids(await storage.claim_keys(NODE, NOW, HELD, 10))) == sorted([one.uid, two.uid])
        assert await storage.claim_keys(NODE, NOW, HELD, 10) == []
        await storage.release(NODE, [damaged.uid])
        for _ in range(2):  # its claim is undone each time
            with pytest.raises(CorruptRecord):
                await storage.claim_keys(NODE, NOW, HELD, 10)

    async def test_a_change_raises_its_tenants_epoch_and_a_revocation_that_of_all(self, storage):
        assert await storage.epochs() == (0, {})
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.epochs.changed(tenant.uid)
        assert await storage.epochs() == (0, {tenant.uid: TenantEpoch(1, 0)})
        async with storage.transaction(other.uid, write=True) as work:
            assert await work.epochs.revoked(other.uid) == 1
        async with storage.transaction(tenant.uid, write=True) as work:
            assert await work.epochs.revoked(tenant.uid) == 2
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.epochs.changed(tenant.uid)
        assert await storage.epochs() == (2, {tenant.uid: TenantEpoch(3, 2), other.uid: TenantEpoch(1, 1)})

    async def test_an_epoch_is_raised_with_its_change_or_not_at_all(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        with pytest.raises(Conflict):  # noqa: PT012  the block is the point
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.epochs.revoked(tenant.uid)
                assert await storage.epochs() == (0, {})  # not yet committed: nobody sees it
                await work.keys.replace(replace(key, revision=9))
        assert await storage.epochs() == (0, {})

    async def test_a_transaction_of_one_tenant_raises_no_others_epoch(self, storage):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        for call in ("changed", "revoked"):
            with pytest.raises(RuntimeError, match="another's"):
                async with storage.transaction(other.uid, write=True) as work:
                    await getattr(work.epochs, call)(tenant.uid)
        assert await storage.epochs() == (0, {})

    @pytest.mark.usefixtures("patient")
    async def test_revocations_at_once_get_epochs_of_their_own(self, storage, opener):
        stores = [storage, await opener()]
        owners = [(await with_kek(storage))[0] for _ in range(4)]

        async def revoke(number):
            tenant = owners[number % 4]
            async with stores[number % 2].transaction(tenant.uid, write=True) as work:
                return tenant.uid, await work.epochs.revoked(tenant.uid)

        made = await asyncio.gather(*(revoke(number) for number in range(12)))
        assert sorted(epoch for _, epoch in made) == list(range(1, 13))
        newest, epochs = await storage.epochs()
        assert newest == 12
        for tenant in owners:
            of_tenant = [epoch for uid, epoch in made if uid == tenant.uid]
            assert epochs[tenant.uid] == TenantEpoch(3, max(of_tenant))

    async def test_whoever_sees_an_epoch_sees_its_change(self, storage, opener):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        reader = await opener()
        over = asyncio.Event()

        async def write():
            changed = key
            try:
                for number in range(1, 31):
                    async with storage.transaction(tenant.uid, write=True) as work:
                        changed = await work.keys.replace(replace(changed, display_name=str(number)))
                        assert await work.epochs.revoked(tenant.uid) == number
            finally:
                over.set()

        async def read():
            seen = set()
            while not over.is_set():
                newest, epochs = await reader.epochs()
                assert newest == (epochs[tenant.uid].revoked if epochs else 0)
                async with reader.transaction(tenant.uid) as work:
                    found = await work.keys.get(tenant.uid, key.slug)
                assert found is not None
                assert int(found.display_name or 0) >= newest
                seen.add(newest)
            return seen

        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            group.create_task(write())
            reading = group.create_task(read())
        assert len(reading.result()) > 1

    async def test_nodes_join_acknowledge_and_leave(self, storage):
        assert await storage.nodes() == []
        assert await storage.last_seen() is None
        one, two = Node(NODE, "b", NOW, NOW, 0), Node(OTHER, "a", NOW - SECOND, NOW - SECOND, 3)
        await storage.join(one)
        await storage.join(two)
        assert await storage.nodes() == [two, one]
        assert await storage.acknowledge(NODE, 7, NOW + SECOND)
        one = replace(one, acknowledged=7, seen_at=NOW + SECOND)
        assert await storage.nodes() == [two, one]
        assert await storage.last_seen() == NOW + SECOND
        await storage.leave(NODE)
        assert await storage.nodes() == [two]
        assert await storage.last_seen() == NOW + SECOND
        assert not await storage.acknowledge(NODE, 8, NOW + 2 * SECOND)
        await storage.leave(NODE)
        await storage.leave(OTHER)  # which was seen before the one that left first
        assert await storage.nodes() == []
        assert await storage.last_seen() == NOW + SECOND

    async def test_a_node_that_joins_again_replaces_its_entry(self, storage):
        await storage.join(Node(NODE, "a", NOW, NOW, 5))
        again = Node(NODE, "a", NOW + SECOND, NOW + SECOND, 0)
        await storage.join(again)
        assert await storage.nodes() == [again]

    async def test_epochs_go_on_where_a_node_has_left_before(self, storage):
        tenant, _ = await with_kek(storage)
        await storage.join(Node(NODE, "a", NOW, NOW, 0))
        await storage.leave(NODE)
        for epoch in (1, 2):
            async with storage.transaction(tenant.uid, write=True) as work:
                assert await work.epochs.revoked(tenant.uid) == epoch
        assert await storage.last_seen() == NOW

    async def test_waiting_for_changes_ends_in_time(self, storage):
        async with storage.changes() as signal:
            await signal.wait(1.0)  # on PostgreSQL the first one ends when it listens
            started = time.monotonic()
            await signal.wait(0.2)
            assert 0.15 < time.monotonic() - started < PATIENCE
            waiting = asyncio.create_task(signal.wait(PATIENCE))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
