"""What every Storage promises of a database that lies: what was edited, hidden, copied or set back is refused.

Every table and column is attacked in tests/attacks/test_tampering.py; here are the lies that take thought.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from kms.core.canonical import EPOCH
from kms.core.errors import CorruptRecord
from kms.core.lifecycle import KeyState
from kms.core.ports import Counter
from kms.core.tokens import revoked
from tests.contract.storage import with_kek, with_key
from tests.keyrings import NOW, new_grant, new_key, new_policy, new_principal, new_tenant, new_version
from tests.sealing import Sealer
from tests.tokens import new_token

TREE = ("security_internal.tree_nodes", "security_internal.tenant_roots")


async def read_key(storage, key):
    async with storage.transaction(key.tenant) as work:
        return await work.keys.get(key.tenant, key.slug)


async def change_key(storage, key, **changes):
    async with storage.transaction(key.tenant, write=True) as work:
        return await work.keys.replace(replace(key, **changes))


class IntegrityContract:
    """Subclasses give `storage`, `opener`, and `hostile`, which knows the tables past the daemon.

    hostile.execute(statement, *values), hostile.rows(table, **where), hostile.put(table, rows).
    """

    async def test_a_record_that_somebody_edited_is_refused_and_the_others_are_not(self, storage, hostile):
        tenant, _ = await with_kek(storage)
        key, other = await with_key(storage, tenant), await with_key(storage, tenant)
        hostile.execute("UPDATE security_secret.encryption_keys SET status_reason = 'x' WHERE id = %s", key.uid)
        with pytest.raises(CorruptRecord, match="of encryption_keys cannot be trusted: its MAC is wrong"):
            await read_key(storage, key)
        assert await read_key(storage, other) == other
        await change_key(storage, other, display_name="still")
        # Who writes over it, from what was stored before, heals it.
        healed = await change_key(storage, key, display_name="healed")
        assert await read_key(storage, key) == healed

    async def test_a_time_that_is_the_default_is_told_from_none(self, storage, hostile):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        await change_key(storage, key, due_at=None)
        hostile.execute("UPDATE security_secret.encryption_keys SET due_at = %s", EPOCH)
        with pytest.raises(CorruptRecord, match="its MAC is wrong"):
            await read_key(storage, key)

    async def test_a_record_that_is_set_back_is_refused_also_with_its_old_leaf(self, storage, hostile):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        old = hostile.rows("security_secret.encryption_keys", id=key.uid)
        nodes = hostile.rows(TREE[0], tenant_id=tenant.uid)
        suspended = await change_key(storage, key, state=KeyState.SUSPENDED)
        newer = hostile.rows("security_secret.encryption_keys", id=key.uid)
        hostile.put("security_secret.encryption_keys", old)
        with pytest.raises(CorruptRecord, match="older than the tenant's tree") as caught:
            await read_key(storage, key)
        assert caught.value.rolled_back
        hostile.put(TREE[0], nodes)
        with pytest.raises(CorruptRecord, match="the tenant's tree is broken"):
            await read_key(storage, key)
        # A write of what the record was made of in the old state is refused, too.
        with pytest.raises(CorruptRecord):
            await change_key(storage, key, display_name="from the old one")
        hostile.put("security_secret.encryption_keys", newer)
        with pytest.raises(CorruptRecord):
            await read_key(storage, suspended)

    async def test_a_whole_tenant_that_is_set_back_is_refused_by_who_has_seen_it_newer(self, storage, opener, hostile):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        old = {table: hostile.rows(table, tenant_id=tenant.uid) for table in ("security_secret.encryption_keys", *TREE)}
        suspended = await change_key(storage, key, state=KeyState.SUSPENDED)
        other = await opener()
        assert await read_key(other, suspended) == suspended
        for table, rows in old.items():
            hostile.put(table, rows)
        for node in (storage, other):
            with pytest.raises(CorruptRecord, match="root is older than this node has seen") as caught:
                await read_key(node, key)
            assert caught.value.rolled_back
            with pytest.raises(CorruptRecord):
                await change_key(node, key, display_name="x")
        # A node that has seen nothing newer cannot know: for that there are checkpoints and their anchor.
        assert await read_key(await opener(), key) == key

    async def test_a_root_under_another_key_or_of_another_tenant_is_refused(self, storage, opener, hostile):
        tenant, _ = await with_kek(storage)
        other, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        stranger = await opener(sealer=Sealer(os.urandom(32)))
        with pytest.raises(CorruptRecord, match="MAC"):
            await read_key(stranger, key)
        [own], [theirs] = (hostile.rows(TREE[1], tenant_id=each.uid) for each in (tenant, other))
        hostile.put(TREE[1], [theirs | {"tenant_id": own["tenant_id"]}])
        with pytest.raises(CorruptRecord, match="the MAC of the tenant's root is wrong"):
            await read_key(await opener(), key)

    async def test_a_root_that_is_gone_is_no_new_tenant(self, storage, opener, hostile):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        hostile.execute("DELETE FROM security_internal.tenant_roots WHERE tenant_id = %s", tenant.uid)
        for node in (storage, await opener()):
            with pytest.raises(CorruptRecord, match="the tenant's root is missing"):
                await read_key(node, key)
            with pytest.raises(CorruptRecord, match="the tenant's root is missing"):
                await read_key(node, replace(key, slug="never-there"))
            with pytest.raises(CorruptRecord, match="the tenant's root is missing"):
                async with node.transaction(tenant.uid, write=True) as work:
                    await work.keys.add(new_key(tenant))
        async with storage.transaction() as work:
            with pytest.raises(CorruptRecord, match="the tenant's root is missing"):
                await work.tenants.get(tenant.slug)

    async def test_a_record_that_is_hidden_is_missed_by_every_look_at_its_group(self, storage, hostile):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        principal = new_principal(tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            for number in (2, 3):
                await work.key_versions.add(new_version(key, number))
                await work.policies.add(new_policy(tenant, "gold", number))
            await work.principals.add(principal)
            grants = sorted([await work.grants.add(new_grant(principal)) for _ in range(3)], key=lambda each: each.uid)
        version = hostile.rows("security_secret.key_versions", version=3)
        hostile.execute("DELETE FROM security_secret.key_versions WHERE version = 3")
        hostile.execute("DELETE FROM security_internal.policies WHERE version = 3")
        hostile.execute("DELETE FROM security_internal.grants WHERE id = %s", grants[1].uid)
        looks = (
            lambda work: work.key_versions.get(tenant.uid, key.uid, 3),
            lambda work: work.key_versions.list_by_version(tenant.uid, key.uid, 0, 10),
            lambda work: work.key_versions.list_by_version(tenant.uid, key.uid, 2, 1),
            lambda work: work.policies.get(tenant.uid, "gold"),
            lambda work: work.policies.list_by_slug(tenant.uid, "", 10),
            lambda work: work.policies.list_versions(tenant.uid, "gold", 0, 10),
            lambda work: work.grants.list_of_principal(tenant.uid, principal.slug, None, 10),
            lambda work: work.grants.list_of_principal(tenant.uid, principal.slug, grants[0].uid, 1),
        )
        for look in looks:
            async with storage.transaction(tenant.uid) as work:
                with pytest.raises(CorruptRecord, match="is missing from the database"):
                    await look(work)
        async with storage.transaction(tenant.uid) as work:
            # Pages that do not reach it are whole.
            assert len(await work.key_versions.list_by_version(tenant.uid, key.uid, 0, 2)) == 2
            assert len(await work.grants.list_of_principal(tenant.uid, principal.slug, grants[1].uid, 9)) == 1
            assert await work.key_versions.get(tenant.uid, key.uid, 4) is None
        with pytest.raises(CorruptRecord, match="is missing from the database"):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.key_versions.add(new_version(key, 3))
        hostile.put("security_secret.key_versions", version)
        async with storage.transaction(tenant.uid) as work:
            assert len(await work.key_versions.list_by_version(tenant.uid, key.uid, 0, 10)) == 3

    async def test_a_record_that_is_brought_back_after_its_removal_is_refused(self, storage, hostile):
        tenant, _ = await with_kek(storage)
        principal = new_principal(tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.principals.add(principal)
            grant = await work.grants.add(new_grant(principal))
        rows = hostile.rows("security_internal.grants", id=grant.uid)
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.grants.remove(grant)
        hostile.put("security_internal.grants", rows)
        async with storage.transaction(tenant.uid) as work:
            with pytest.raises(CorruptRecord, match="the tenant's tree does not know it"):
                await work.grants.list_of_principal(tenant.uid, principal.slug, None, 10)
        with pytest.raises(CorruptRecord, match="does not know it"):
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.grants.remove(grant)

    async def test_contents_that_change_places_are_refused(self, storage, hostile):
        tenant, _ = await with_kek(storage)
        one, two = await with_key(storage, tenant, "one"), await with_key(storage, tenant, "two")
        rows = {key.slug: hostile.rows("security_secret.encryption_keys", id=key.uid)[0] for key in (one, two)}
        kept = ("tenant_id", "id", "key_id")
        swapped = [
            rows["two"] | {name: rows["one"][name] for name in kept},
            rows["one"] | {name: rows["two"][name] for name in kept},
        ]
        swapped = [row | {"display_name": row["key_id"]} for row in swapped]
        hostile.put("security_secret.encryption_keys", swapped)
        for key in (one, two):
            with pytest.raises(CorruptRecord, match="its MAC is wrong"):
                await read_key(storage, key)

    async def test_a_revoked_token_that_is_set_back_shows_no_caller(self, storage, hostile):
        tenant, _ = await with_kek(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            token = await work.tokens.add(new_token(tenant))
        rows = hostile.rows("security_internal.api_tokens", id=token.uid)
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tokens.replace(revoked(token, NOW, "operators/root", "lost"))
        hostile.put("security_internal.api_tokens", rows)
        async with storage.transaction() as work:
            with pytest.raises(CorruptRecord, match="older than the tenant's tree"):
                await work.tokens.by_prefix(token.prefix)

    async def test_a_counter_that_is_set_back_or_gone_counts_no_further(self, storage, hostile):
        tenant, _ = await with_kek(storage)
        counter, other = Counter(tenant.uid, tenant.kek, 1), Counter(tenant.uid, tenant.kek, 2)
        assert await storage.reserve(counter, 5, 100) == 5
        old = hostile.rows("security_internal.counters", version=1)
        assert await storage.reserve(counter, 5, 100) == 10
        newer = hostile.rows("security_internal.counters", version=1)

        async def refused(words):
            for act in (storage.reserve(counter, 1, 100), storage.reserved([counter])):
                with pytest.raises(CorruptRecord, match=words):
                    await act
            assert await storage.reserved([other]) == [0]

        hostile.put("security_internal.counters", old)
        await refused("of counters cannot be trusted: it is older")
        hostile.execute("UPDATE security_internal.counters SET reserved = 10")
        await refused("MAC is wrong")
        hostile.execute("DELETE FROM security_internal.counters")
        await refused("missing from the database")
        hostile.put("security_internal.counters", newer)
        assert await storage.reserve(counter, 1, 100) == 11
        assert await storage.reserve(other, 7, 100) == 7

    async def test_only_what_lies_below_a_broken_node_is_refused(self, storage, hostile):
        tenant, _ = await with_kek(storage)
        keys = [await with_key(storage, tenant) for _ in range(24)]
        below = hostile.rows(TREE[0], tenant_id=tenant.uid)
        digit = min(row["prefix"] for row in below if len(row["prefix"]) == 1)
        hostile.execute("UPDATE security_internal.tree_nodes SET body = %s WHERE prefix = %s", b"\1" * 512, digit)
        outcomes = [(await asyncio.gather(read_key(storage, key), return_exceptions=True))[0] for key in keys]
        assert {type(outcome).__name__ for outcome in outcomes} <= {"Key", "CorruptRecord"}
        assert 12 <= sum(outcome == key for outcome, key in zip(outcomes, keys, strict=True)) <= 24

    async def test_what_is_not_committed_leaves_the_tree_as_it_is(self, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        before = await storage.roots()
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  the block is the point
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keys.replace(replace(key, display_name="x"))
                raise ZeroDivisionError
        assert await storage.roots() == before
        assert [root.tenant.bytes for root in before] == sorted(root.tenant.bytes for root in before)
        await change_key(storage, key, display_name="x")
        [changed] = [root for root in await storage.roots() if root not in before]
        assert (changed.tenant, changed.epoch) == (
            tenant.uid,
            1 + next(r.epoch for r in before if r.tenant == tenant.uid),
        )

    async def test_a_transaction_believes_what_it_has_written_itself(self, storage):
        tenant, _ = await with_kek(storage)
        principal = new_principal(tenant)
        async with storage.transaction(tenant.uid, write=True) as work:
            key = await work.keys.add(new_key(tenant))
            key = await work.keys.replace(replace(key, display_name="twice"))
            assert await work.keys.get(tenant.uid, key.slug) == key
            await work.principals.add(principal)
            kept, gone = [await work.grants.add(new_grant(principal)) for _ in range(2)]
            await work.grants.remove(gone)
            assert await work.grants.list_of_principal(tenant.uid, principal.slug, None, 9) == [kept]
        async with storage.transaction(tenant.uid) as work:
            assert await work.grants.list_of_principal(tenant.uid, principal.slug, None, 9) == [kept]
        assert await read_key(storage, key) == key

    async def test_changes_are_told_after_the_commit_and_bytes_as_their_hash(self, opener):
        told = []
        storage = await opener(on_changes=told.extend)
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        assert {change.table for change in told} == {"tenants", "keks", "encryption_keys", "key_versions"}
        [version] = [change for change in told if change.table == "key_versions"]
        assert version.before == {}
        assert version.identity == {"key_uid": key.uid, "version": 1}
        assert len(version.after["wrapped"]) == 32
        told.clear()
        async with storage.transaction(tenant.uid, write=True) as work:
            stored = await work.keys.get(tenant.uid, key.slug)
            await work.keys.replace(replace(stored, display_name="after"))
            assert told == []
        [change] = told
        assert (change.before, change.after) == (
            {"display_name": key.display_name, "revision": 1},
            {"display_name": "after", "revision": 2},
        )
        told.clear()
        with pytest.raises(ZeroDivisionError):  # noqa: PT012  the block is the point
            async with storage.transaction(tenant.uid, write=True) as work:
                await work.keys.add(new_key(tenant))
                raise ZeroDivisionError
        assert told == []

    async def test_records_without_macs_are_sealed_once(self, opener, hostile, storage):
        tenant, _ = await with_kek(storage)
        key = await with_key(storage, tenant)
        for table in ("security_secret.keks", "security_secret.encryption_keys", "security_secret.key_versions"):
            hostile.execute(f"UPDATE {table} SET mac = %s", b"")  # noqa: S608  no input
        hostile.execute("DELETE FROM security_internal.tenant_roots")
        unsealed = await opener()
        with pytest.raises(CorruptRecord):
            await read_key(unsealed, key)
        assert await unsealed.adopt() == 2  # and the installation
        assert await read_key(unsealed, key) == key
        assert await unsealed.adopt() == 0
        hostile.execute("UPDATE security_secret.encryption_keys SET mac = %s", b"")
        assert await unsealed.adopt() == 0
        with pytest.raises(CorruptRecord, match="MAC"):
            await read_key(unsealed, key)

    async def test_writers_and_readers_at_once_see_no_lie_and_lose_nothing(self, storage, opener):
        """Two nodes write keys of one tenant while others read them all the time."""
        tenant, _ = await with_kek(storage)
        keys = [await with_key(storage, tenant) for _ in range(2)]
        nodes, rounds = [storage, await opener() if storage.shared else storage], 12
        done = asyncio.Event()

        async def write(node, key):
            for number in range(rounds):
                async with node.transaction(tenant.uid, write=True) as work:
                    stored = await work.keys.get(tenant.uid, key.slug)
                    await work.keys.replace(replace(stored, display_name=str(number)))
                    await work.key_versions.add(new_version(key, number + 2))

        async def look(node):
            looks = 0
            while not done.is_set():
                async with node.transaction(tenant.uid) as work:
                    for key in keys:
                        found = await work.keys.get(tenant.uid, key.slug)
                        versions = await work.key_versions.list_by_version(tenant.uid, key.uid, 0, 100)
                        assert found.revision == len(versions)
                looks += 1
                await asyncio.sleep(0.01)  # SQLite's writers wait one second for their turn, on a busy machine, too
            return looks

        readers = [asyncio.create_task(look(node)) for node in dict.fromkeys(nodes)]
        try:
            await asyncio.gather(*(write(node, key) for node, key in zip(nodes, keys, strict=True)))
        finally:
            done.set()
        assert all(looks > 0 for looks in await asyncio.gather(*readers))
        for key in keys:
            assert (await read_key(storage, key)).revision == rounds + 1

    async def test_a_thousand_records_are_read_within_the_bound(self, storage):
        tenant, _ = await with_kek(storage)
        async with storage.transaction(tenant.uid, write=True) as work:
            for number in range(1000):
                await work.keys.add(new_key(tenant, f"key-{number:04}"))
        async with storage.transaction(tenant.uid) as work:
            assert len(await work.keys.list_by_slug(tenant.uid, "", 1000)) == 1000

    async def test_a_new_tenant_has_a_root_with_its_first_record(self, storage):
        tenant = new_tenant()
        async with storage.transaction(tenant.uid, write=True) as work:
            await work.tenants.add(tenant)
        assert tenant.uid in {root.tenant for root in await storage.roots()}
