"""Re-wrapping: every DEK comes under the new KEK version, whatever happens meanwhile, and none is ever lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest
import structlog

from kms.core.errors import CorruptRecord, HsmUnavailable
from kms.core.keyring import KeyVersion, Tenant
from kms.core.names import KeyName, KeyUid, OperationName, Principal, TenantName
from kms.core.operations import Operation, OperationKind, OperationState
from kms.core.ports import Counter, Storage
from kms.core.suites import WRAP_STOP, Purpose
from kms.core.wrapping import WrappedDek
from kms.services.rewrap import LARGEST_BATCH, REMEMBERED, SMALLEST_BATCH, Cursor, Rewrap
from tests.node import OPERATOR, Clock, Node

pytestmark = pytest.mark.softhsm

ACME = TenantName("acme")


@dataclass
class Meddling:
    """The real vault; *meanwhile* happens after each batch in the token, before its result is stored."""

    vault: Any
    meanwhile: Callable[[], Awaitable[object]] | None = None
    sizes: list[int] = field(default_factory=list)

    async def rewrap(self, old, new, items):
        results = await self.vault.rewrap(old, new, items)
        self.sizes.append(len(items))
        if self.meanwhile is not None:
            await self.meanwhile()
        return results

    def __getattr__(self, name: str) -> Any:
        return getattr(self.vault, name)


@dataclass
class Story:
    """A tenant with keys of several purposes, and what was encrypted under them."""

    node: Node
    meddling: Meddling
    caller: Principal
    sealed: list[tuple[KeyName, bytes, bytes]] = field(default_factory=list)

    async def grow(self, keys: int, prefix: str = "k") -> None:
        for index in range(keys):
            purpose = Purpose.DETERMINISTIC if index % 3 == 2 else Purpose.ENCRYPT
            name = await self.node.key(self.caller, f"{prefix}{index}", purpose)
            await self.seal(name)

    async def seal(self, name: KeyName) -> None:
        value = os.urandom(8)
        made = await self.node.fields.encrypt(self.caller, name, value, ())
        self.sealed.append((name, value, made.ciphertext))

    async def rotate_all(self) -> None:
        for name in {name for name, _, _ in self.sealed}:
            await self.node.keys.rotate(self.caller, name, "")
            await self.seal(name)

    async def check(self) -> None:
        """Everything decrypts on a node that remembers nothing."""
        cold = Node(self.node.storage, self.node.vault)
        for name, value, ciphertext in self.sealed:
            assert (await cold.fields.decrypt(self.caller, name, ciphertext, ())).plaintext == value

    async def tenant(self) -> Tenant:
        return await self.node.tenants.get(OPERATOR, ACME)

    async def wrapped(self) -> dict[int, int]:
        tenant = await self.tenant()
        async with self.node.storage.transaction(tenant.uid) as work:
            return await work.key_versions.count_by_kek(tenant.uid)

    async def begin(self) -> Operation:
        tenant = await self.tenant()
        wrapped = await self.wrapped()
        total = sum(count for version, count in wrapped.items() if version != tenant.primary_kek)
        return await self.node.operations.start(tenant, OperationKind.REWRAP, "tenants/acme/keks", "scheduler", total)

    async def run(self) -> Operation:
        """Begin, carry on, and return the operation as it ended."""
        operation = await self.begin()
        async with asyncio.timeout(60):
            while await self.node.operations.step():
                pass
        return await self.read(operation)

    async def read(self, operation: Operation) -> Operation:
        return (await self.node.operations.get(OPERATOR, OperationName("acme", operation.uid)))[1]

    async def version(self, name: KeyName, number: int = 1) -> KeyVersion:
        ring = await self.node.ring(self.caller, name)
        async with self.node.storage.transaction(ring.tenant.uid) as work:
            found = await work.key_versions.get(ring.tenant.uid, ring.key.uid, number)
        assert found is not None
        return found

    async def put(self, version: KeyVersion) -> None:
        async with self.node.storage.transaction(version.tenant, write=True) as work:
            await work.key_versions.replace(version)


@pytest.fixture
async def story(storage: Storage, open_vault) -> Story:
    meddling = Meddling(open_vault)
    node = Node(storage, meddling)
    return Story(node, meddling, await node.tenant("acme"))


def small(story: Story, size: int, clock: Callable[[], float] | None = None) -> Rewrap:
    """The node's runner, with batches that begin with this size."""
    runner = Rewrap(story.node.storage, story.meddling, story.node.wrapping, clock or Clock())
    runner._size = size
    story.node.operations._runners = {OperationKind.REWRAP: runner}
    return runner


async def test_all_deks_come_under_the_new_kek_and_everything_decrypts_at_every_step(story):
    await story.grow(5)
    await story.rotate_all()
    await story.node.keks.rotate(OPERATOR, ACME, 1)
    await story.grow(2, "new")
    assert await story.wrapped() == {1: 10, 2: 2}
    runner = small(story, 3)
    operation = await story.begin()
    assert operation.total == 10
    progress = [0]
    while await story.node.operations.step():
        runner._size = 3
        await story.check()
        progress.append((await story.read(operation)).done)
    assert progress == [0, 3, 6, 9, 10, 10]
    assert (await story.read(operation)).state is OperationState.SUCCEEDED
    assert await story.wrapped() == {2: 12}
    assert story.meddling.sizes == [3, 3, 3, 1]
    for name, _, _ in story.sealed:
        version = await story.version(name)
        assert (WrappedDek.parse(version.wrapped).kek_version, version.kek_version) == (2, 2)


async def test_wraps_are_counted_under_the_new_kek_before_they_are_made(story):
    await story.grow(4)
    tenant = await story.tenant()
    await story.node.keks.rotate(OPERATOR, ACME, 1)
    counter = Counter(tenant.uid, tenant.kek, 2)
    assert await story.node.storage.reserved([counter]) == [0]
    await story.run()
    assert (await story.node.storage.reserved([counter]))[0] >= 4


async def test_at_the_limit_of_wraps_it_fails_and_after_another_rotation_it_succeeds(story):
    await story.grow(3)
    tenant = await story.tenant()
    await story.node.keks.rotate(OPERATOR, ACME, 1)
    await story.node.storage.reserve(Counter(tenant.uid, tenant.kek, 2), WRAP_STOP - 2, WRAP_STOP)
    with structlog.testing.capture_logs():
        failed = await story.run()
    assert (failed.state, failed.done) == (OperationState.FAILED, 0)
    assert failed.error == "tenants/acme/keks/2 has reached its limit of wraps; rotate it"
    await story.node.keks.rotate(OPERATOR, ACME, 2)
    await story.node.operations.resume(OPERATOR, OperationName("acme", failed.uid))
    assert (await story.run()).state is OperationState.SUCCEEDED
    assert await story.wrapped() == {3: 3}
    await story.check()


async def test_a_version_that_changes_meanwhile_is_left_to_the_next_pass(story):
    await story.grow(3)
    name = story.sealed[0][0]
    await story.node.keks.rotate(OPERATOR, ACME, 1)

    async def change() -> None:
        story.meddling.meanwhile = None
        await story.put(await story.version(name))

    story.meddling.meanwhile = change
    ended = await story.run()
    assert (ended.state, ended.done, ended.total) == (OperationState.SUCCEEDED, 3, 3)
    assert story.meddling.sizes == [3, 1]
    assert await story.wrapped() == {2: 3}
    await story.check()


async def test_what_is_wrapped_by_the_old_kek_during_a_pass_is_met_by_the_next(story):
    await story.grow(3)
    late = Node(story.node.storage, story.node.vault)
    old = await story.tenant()
    await story.node.keks.rotate(OPERATOR, ACME, 1)

    async def wrap_late() -> None:
        """As a node does that read the tenant before the rotation."""
        story.meddling.meanwhile = None
        for name, _, _ in story.sealed[:3]:
            await late.rotator.rotate(old, (await late.ring(story.caller, name)).key, "late")

    story.meddling.meanwhile = wrap_late
    ended = await story.run()
    assert (ended.state, ended.done, ended.total) == (OperationState.SUCCEEDED, 6, 3)
    assert await story.wrapped() == {2: 6}
    await story.check()


async def test_a_kek_that_is_rotated_meanwhile_is_emptied_too(story):
    await story.grow(4)
    await story.node.keks.rotate(OPERATOR, ACME, 1)

    async def rotate() -> None:
        story.meddling.meanwhile = None
        await story.node.keks.rotate(OPERATOR, ACME, 2)

    story.meddling.meanwhile = rotate
    small(story, 2)
    ended = await story.run()
    assert ended.state is OperationState.SUCCEEDED
    assert await story.wrapped() == {3: 4}
    assert ended.done == 6  # two of them twice
    await story.check()


async def test_what_does_not_unwrap_is_told_left_and_fails_the_operation_alone(story):
    await story.grow(6)
    broken = [story.sealed[index] for index in (1, 4)]
    blobs = {}
    await story.node.keks.rotate(OPERATOR, ACME, 1)
    for name, _, _ in broken:
        version = await story.version(name)
        blobs[name] = version.wrapped
        flipped = bytes([*version.wrapped[:-1], version.wrapped[-1] ^ 1])
        await story.put(replace(version, wrapped=flipped))
    small(story, 2)
    with structlog.testing.capture_logs() as log:
        failed = await story.run()
    assert (failed.state, failed.done) == (OperationState.FAILED, 4)
    assert "2 DEKs of tenants/acme do not unwrap" in failed.error
    assert {line["name"] for line in log if line["event"] == "key_version.corrupt"} == {
        name.version(1) for name, _, _ in broken
    }
    assert await story.wrapped() == {1: 2, 2: 4}

    # Mended, one by one.
    for left, (name, _, _) in zip((1, 0), broken, strict=True):
        await story.put(replace(await story.version(name), wrapped=blobs[name]))
        await story.node.operations.resume(OPERATOR, OperationName("acme", failed.uid))
        with structlog.testing.capture_logs():
            ended = await story.run()
        assert ended.uid == failed.uid
        assert (ended.state is OperationState.FAILED) == bool(left)
        assert (await story.wrapped()).get(1, 0) == left
    await story.check()


@pytest.mark.parametrize(
    "forge",
    [
        lambda version, other: replace(version, wrapped=other.wrapped),
        lambda version, _: replace(version, wrapped=b"no blob"),
        lambda version, _: replace(version, wrapped=replace(WrappedDek.parse(version.wrapped), kek_version=2).encode()),
    ],
    ids=["another key's", "no blob", "another KEK version"],
)
async def test_a_forged_wrap_is_not_carried_over(story, forge):
    await story.grow(2)
    first, second = [await story.version(name) for name, _, _ in story.sealed]
    await story.node.keks.rotate(OPERATOR, ACME, 1)
    forged = forge(first, second)
    await story.put(forged)
    with structlog.testing.capture_logs():
        failed = await story.run()
    assert failed.state is OperationState.FAILED
    assert (await story.version(story.sealed[0][0])).wrapped == forged.wrapped
    assert await story.wrapped() == {1: 1, 2: 1}


async def test_a_token_that_is_away_delays_it_and_changes_nothing(story, open_vault):
    await story.grow(3)
    await story.node.keks.rotate(OPERATOR, ACME, 1)
    await open_vault.stop()
    with structlog.testing.capture_logs() as log:
        operation = await story.run()
    assert [line["event"] for line in log if line["log_level"] == "warning"] == ["operation.left"]
    assert (operation.state, operation.done) == (OperationState.RUNNING, 0)
    assert await story.wrapped() == {1: 3}
    await open_vault.start()
    story.node.clock.now += 60
    if story.node.storage.shared:  # the lease of the node that has left it
        async with story.node.storage.transaction(operation.tenant, write=True) as work:
            await work.operations.replace(replace(operation, leased_until=operation.created_at))
    assert (await story.run()).state is OperationState.SUCCEEDED
    await story.check()


async def test_a_token_lost_in_the_middle_loses_nothing(story, open_vault):
    await story.grow(4)
    await story.node.keks.rotate(OPERATOR, ACME, 1)
    small(story, 2)

    async def lose() -> None:
        raise HsmUnavailable("gone before its answer came")

    story.meddling.meanwhile = lose
    with structlog.testing.capture_logs():
        operation = await story.run()
    assert operation.state is OperationState.RUNNING
    assert await story.wrapped() == {1: 4}
    await story.check()


async def test_two_nodes_that_do_the_same_batch_at_once_wrap_each_dek_once(story):
    """A lease may end while its node still works: what both do is decided by the versions' revisions."""
    await story.grow(6)
    await story.node.keks.rotate(OPERATOR, ACME, 1)
    operation = await story.begin()
    story.meddling.meanwhile = asyncio.Barrier(3).wait  # each has the same batch before any stores it
    runners = [Rewrap(story.node.storage, story.meddling, story.node.wrapping) for _ in range(3)]
    batches = await asyncio.gather(*(runner.batch(operation) for runner in runners))
    assert sum(batch.done for batch in batches) == 6
    assert len({batch.cursor for batch in batches}) == 1
    assert await story.wrapped() == {2: 6}
    await story.check()


async def test_a_cancelled_rewrap_leaves_both_keks_in_use_and_goes_on_when_resumed(story):
    await story.grow(6)
    await story.node.keks.rotate(OPERATOR, ACME, 1)
    small(story, 2)

    async def cancel() -> None:
        story.meddling.meanwhile = None
        await story.node.operations.cancel(story.caller, OperationName("acme", operation.uid))

    story.meddling.meanwhile = cancel
    operation = await story.begin()
    with structlog.testing.capture_logs():
        while await story.node.operations.step():
            pass
    stopped = await story.read(operation)
    assert (stopped.state, stopped.done) == (OperationState.CANCELLED, 0)
    assert await story.wrapped() == {1: 4, 2: 2}
    await story.check()
    await story.node.operations.resume(story.caller, OperationName("acme", operation.uid))
    resumed = await story.run()
    assert (resumed.uid, resumed.state) == (operation.uid, OperationState.SUCCEEDED)
    assert await story.wrapped() == {2: 6}
    await story.check()


async def test_a_batch_becomes_smaller_while_the_token_is_slow_and_larger_again(story):
    """Invariant: an interactive call does not wait long for the token because of a batch."""
    await story.grow(1)
    clock = Clock()
    runner = small(story, LARGEST_BATCH, clock)

    def sizes(*milliseconds: float) -> list[int]:
        """After batches of 100 DEKs that kept the token for so long."""
        found = []
        for time in milliseconds:
            runner._fit(time / 1000, 100)
            found.append(runner._size)
        return found

    assert sizes(20, 40, 10) == [100, 100, 200]  # the quickest tells what the token can do
    assert sizes(*[50] * REMEMBERED)[-1] == 40  # until it is forgotten
    assert sizes(*[500] * REMEMBERED)[-1] == SMALLEST_BATCH
    assert sizes(1) == [LARGEST_BATCH]

    async def slow() -> None:
        clock.now += 1.0

    runner._size = LARGEST_BATCH
    story.meddling.meanwhile = slow
    await story.node.keks.rotate(OPERATOR, ACME, 1)
    runner._costs.clear()
    await story.run()
    assert runner._size == SMALLEST_BATCH


@pytest.mark.parametrize("text", ["x", "1:2:3", "1:no-uuid:1:0", "::::"])
def test_a_cursor_of_another_kind_is_corrupt(text):
    with pytest.raises(CorruptRecord, match="cursor that makes no sense"):
        Cursor.parse(text)


def test_a_cursor_comes_back_as_it_was():
    for cursor in (Cursor(), Cursor(3, (KeyUid(uuid4()), 7), 2), Cursor(1, None, 5)):
        assert Cursor.parse(cursor.encode()) == cursor
    assert Cursor.parse("") == Cursor()


async def test_with_nothing_to_do_it_succeeds(story):
    await story.grow(1)
    ended = await story.run()
    assert (ended.state, ended.done, ended.total) == (OperationState.SUCCEEDED, 0, 0)
    assert story.meddling.sizes == []
