"""What every Storage promises of the enclaves of nodes."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given

from kms.core.enclave_ports import AttestationState, Verdict
from kms.core.enclaves import EnclaveRecord
from kms.core.errors import Conflict
from kms.core.names import INSTALLATION_UID
from tests.contract.storage import EVERY_FIELD
from tests.enclave_records import ENCLAVES, new_enclave
from tests.keyrings import NOW

DAY = timedelta(days=1)


async def put(storage, record: EnclaveRecord) -> EnclaveRecord:
    async with storage.transaction(INSTALLATION_UID, write=True) as work:
        return await work.enclaves.put(INSTALLATION_UID, record)


async def listed(storage, after=None, limit=100, living=None) -> list[EnclaveRecord]:
    async with storage.transaction(INSTALLATION_UID) as work:
        return await work.enclaves.list_after(INSTALLATION_UID, after, limit, living)


class EnclavesContract:
    """Subclasses give `storage`."""

    @EVERY_FIELD
    @given(first=ENCLAVES, then=ENCLAVES)
    async def test_an_enclave_is_read_again_exactly_and_so_is_its_change(self, storage, first, then):
        first = replace(first, node=f"{first.node}-{uuid.uuid4()}", uid=uuid.uuid4())
        stored = await put(storage, first)
        assert stored == replace(first, revision=1)
        async with storage.transaction(INSTALLATION_UID) as work:
            assert await work.enclaves.find(INSTALLATION_UID, first.node, first.platform_id) == stored
            assert stored in await work.enclaves.of_nodes(INSTALLATION_UID, [first.node_uid])
        then = replace(then, uid=first.uid, node=first.node, platform_id=first.platform_id, revision=1)
        assert await put(storage, then) == replace(then, revision=2)
        async with storage.transaction(INSTALLATION_UID) as work:
            found = await work.enclaves.find(INSTALLATION_UID, first.node, first.platform_id)
        assert found == replace(then, revision=2)

    async def test_a_node_has_one_enclave_on_a_platform_and_nobody_writes_over_another_s_word(self, storage):
        stored = await put(storage, new_enclave("here"))
        with pytest.raises(Conflict):
            await put(storage, new_enclave("here", platform_id=stored.platform_id))
        await put(storage, new_enclave("here", platform_id=bytes(16)))
        await put(storage, replace(stored, restarts=1))
        with pytest.raises(Conflict):
            await put(storage, replace(stored, restarts=2))
        assert sorted(one.restarts for one in await listed(storage)) == [0, 1]

    async def test_they_are_listed_page_by_page_all_or_those_that_run_on_living_nodes(self, storage):
        running = [await put(storage, new_enclave()) for _ in range(3)]
        stopped = await put(storage, new_enclave(active=False))
        every = sorted([*running, stopped], key=lambda one: one.uid)
        assert await listed(storage) == every
        assert await listed(storage, limit=2) == every[:2]
        assert await listed(storage, every[1].uid) == every[2:]
        living = [running[0].node_uid, stopped.node_uid]
        assert await listed(storage, living=living) == [running[0]]
        assert await listed(storage, living=[]) == []
        async with storage.transaction(INSTALLATION_UID) as work:
            told = await work.enclaves.of_nodes(INSTALLATION_UID, living)
        assert {one.uid for one in told} == {running[0].uid, stopped.uid}

    async def test_what_nodes_that_are_gone_have_told_is_removed_after_its_time_or_where_it_is_too_much(self, storage):
        gone = [await put(storage, new_enclave(changed_at=NOW - age * DAY)) for age in (0, 1, 2, 9)]
        lives = await put(storage, new_enclave(changed_at=NOW - 30 * DAY))

        async def remove(before, keep, limit=1_000):
            async with storage.transaction(INSTALLATION_UID, write=True) as work:
                return await work.enclaves.remove_ended(INSTALLATION_UID, [lives.node_uid], before, keep, limit)

        assert await remove(NOW - 10 * DAY, 4) == 0
        assert await remove(NOW - 8 * DAY, 4) == 1
        assert {one.uid for one in await listed(storage)} == {one.uid for one in (*gone[:3], lives)}
        assert await remove(NOW - 8 * DAY, 1, limit=1) == 1  # the oldest first
        assert {one.uid for one in await listed(storage)} == {one.uid for one in (*gone[:2], lives)}
        assert await remove(NOW - 8 * DAY, 1) == 1
        assert {one.uid for one in await listed(storage)} == {gone[0].uid, lives.uid}

    async def test_expired_is_known_by_the_time_and_never_stored(self, storage):
        expired = replace(new_enclave(), verdict=Verdict(AttestationState.EXPIRED))
        with pytest.raises(Exception, match=r"."):
            await put(storage, expired)
        assert await listed(storage) == []
