"""Long work: begun once, carried on by one node at a time, over crashes, cancellations and parts that are away."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
import structlog

from kms.core.errors import FailedPrecondition, HsmUnavailable, NotFound
from kms.core.keyring import Tenant
from kms.core.names import OperationName, Principal
from kms.core.operations import KEPT, LEASE, Operation, OperationKind, OperationState
from kms.core.ports import Storage
from kms.services import operations as module
from kms.services.operations import FIRST_REST, LOOK_INTERVAL, Batch, Operations
from tests.keyrings import new_tenant
from tests.node import OPERATOR, Clock

KIND = OperationKind.REWRAP
UNITS = 10  # in a batch


class Counting:
    """Counts to the operation's total, and remembers who was inside when; *meanwhile* happens in the middle of each batch."""

    def __init__(self, meanwhile: Callable[[Operation], Awaitable[None]] | None = None) -> None:
        self.meanwhile = meanwhile
        self.inside: Tally[str] = Tally()
        self.most_inside = 0
        self.cursors: list[tuple[str, str]] = []

    async def batch(self, operation: Operation) -> Batch:
        self.inside[operation.target] += 1
        self.most_inside = max(self.most_inside, self.inside[operation.target])
        try:
            self.cursors.append((operation.target, operation.cursor))
            if self.meanwhile is not None:
                await self.meanwhile(operation)
            else:
                await asyncio.sleep(0)
            at = int(operation.cursor or "0") + UNITS
            return Batch(str(at), UNITS, finished=at >= operation.total)
        finally:
            self.inside[operation.target] -= 1


class Failing:
    """Raises, or answers with, what the test sets; otherwise finishes."""

    def __init__(self, outcome: Exception | Batch) -> None:
        self.outcome = outcome
        self.batches = 0

    async def batch(self, operation: Operation) -> Batch:
        self.batches += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
async def tenant(storage: Storage) -> Tenant:
    tenant = new_tenant("acme")
    async with storage.transaction(tenant.uid, write=True) as work:
        return await work.tenants.add(tenant)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def made(storage, wall, clock):
    """Makes nodes: `made(runner)`."""
    return lambda runner: Operations(storage, {KIND: runner}, uuid4(), wall, clock=clock)


def named(tenant: Tenant, operation: Operation) -> OperationName:
    return OperationName(tenant.slug, operation.uid)


async def read(storage: Storage, operation: Operation) -> Operation:
    async with storage.transaction(operation.tenant) as work:
        found = await work.operations.get(operation.tenant, operation.uid)
    assert found is not None
    return found


async def begin(node: Operations, tenant: Tenant, total: int = 30, target: str = "tenants/acme/keks") -> Operation:
    return await node.start(tenant, KIND, target, "scheduler", total)


async def is_ended(storage: Storage, operation: Operation) -> bool:
    return (await read(storage, operation)).state is not OperationState.RUNNING


async def has_begun(storage: Storage, operation: Operation) -> bool:
    return (await read(storage, operation)).done > 0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again; for what another task does without telling."""
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def finish(node: Operations) -> None:
    async with asyncio.timeout(20):
        while await node.step():
            pass


async def test_an_operation_is_begun_once_while_it_runs(made, tenant, storage):
    node = made(Counting())
    first = await begin(node, tenant)
    assert await begin(node, tenant) == first
    other = await begin(node, tenant, target="tenants/acme/keys/k1")
    assert other.uid != first.uid
    await finish(node)
    again = await begin(node, tenant)
    assert (again.uid != first.uid, again.state) == (True, OperationState.RUNNING)


async def test_nodes_that_begin_an_operation_at_once_begin_one(made, tenant):
    begun = await asyncio.gather(*(begin(made(Counting()), tenant) for _ in range(5)))
    assert len({operation.uid for operation in begun}) == 1


async def test_every_batch_ends_with_durable_progress_which_only_grows(made, tenant, storage):
    runner = Counting()
    node = made(runner)
    operation = await begin(node, tenant)
    seen = []
    while await node.step():
        now = await read(storage, operation)
        seen.append((now.state, now.cursor, now.done))
    assert seen == [
        (OperationState.RUNNING, "10", 10),
        (OperationState.RUNNING, "20", 20),
        (OperationState.SUCCEEDED, "30", 30),
    ]
    assert [cursor for _, cursor in runner.cursors] == ["", "10", "20"]
    ended = await read(storage, operation)
    assert (ended.node, ended.leased_until, ended.error) == (None, None, "")
    assert ended.ended_at is not None


async def test_another_node_goes_on_from_the_last_progress_when_the_lease_is_over_and_not_before(
    made, tenant, storage, wall
):
    one, two = made(Counting()), made(Counting())
    operation = await begin(one, tenant)
    await one.step()
    if storage.shared:  # otherwise there is nobody else who could hold it
        wall.advance(LEASE - timedelta(seconds=1))
        assert not await two.step()
        wall.advance(timedelta(seconds=1))
    assert await two.step()
    assert (await read(storage, operation)).done == 20
    with structlog.testing.capture_logs() as log:
        await one.step()
    assert [line["event"] for line in log] == ["operation.lost"]
    assert (await read(storage, operation)).done == 20
    if storage.shared:
        assert not await one.step()
    await finish(two)
    assert (await read(storage, operation)).done == 30


async def test_a_node_that_renews_its_lease_in_time_keeps_the_operation(made, tenant, storage, wall):
    one, two = made(Counting()), made(Counting())
    await begin(one, tenant, total=50)
    for _ in range(5):
        await one.step()
        wall.advance(LEASE - timedelta(seconds=1))
        if storage.shared:
            assert not await two.step()
    assert not await one.step()


async def test_two_running_nodes_never_carry_on_one_operation_at_once_and_do_each_unit_once(made, tenant, storage):
    if not storage.shared:
        pytest.skip("an unshared database has one node")
    runner = Counting()
    nodes = [made(runner) for _ in range(2)]
    begun = [await begin(nodes[0], tenant, 50, f"tenants/acme/keys/k{index}") for index in range(8)]
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(node.run()) for node in nodes]
        for operation in begun:
            await until(lambda operation=operation: is_ended(storage, operation))
        for task in running:
            task.cancel()
    assert runner.most_inside == 1
    assert Tally(runner.cursors) == Tally(
        {(operation.target, cursor): 1 for operation in begun for cursor in ("", "10", "20", "30", "40")}
    )
    assert [(await read(storage, operation)).done for operation in begun] == [50] * 8


async def test_a_cancelled_operation_stops_at_its_next_progress_and_goes_on_when_resumed(made, tenant, storage):
    callers = made(Counting())

    async def cancel(operation: Operation) -> None:
        if operation.cursor == "10":
            await callers.cancel(OPERATOR, named(tenant, operation))

    runner = Counting(cancel)
    node = made(runner)
    operation = await begin(node, tenant)
    with structlog.testing.capture_logs():
        await finish(node)
    stopped = await read(storage, operation)
    assert (stopped.state, stopped.done, stopped.cursor) == (OperationState.CANCELLED, 10, "10")
    assert stopped.ended_at is not None
    runner.meanwhile = None
    _, resumed = await callers.resume(OPERATOR, named(tenant, operation))
    assert (resumed.state, resumed.ended_at) == (OperationState.RUNNING, None)
    await finish(node)
    assert [cursor for _, cursor in runner.cursors] == ["", "10", "10", "20"]
    assert (await read(storage, operation)).done == 30


async def test_a_cancellation_wins_over_progress_made_at_the_same_moment(made, tenant, storage):
    node = made(Counting())
    operation = await begin(node, tenant, total=10_000)
    task = asyncio.create_task(finish(node))
    other = made(Counting())
    with structlog.testing.capture_logs():
        await until(lambda: has_begun(storage, operation))
        _, stopped = await other.cancel(OPERATOR, named(tenant, operation))
        await task
    assert stopped.state is OperationState.CANCELLED
    assert await read(storage, operation) == stopped


async def test_steps_that_the_state_does_not_allow_are_refused(made, tenant, storage):
    node = made(Counting())
    operation = await begin(node, tenant)
    with pytest.raises(FailedPrecondition, match="is running: it cannot resume"):
        await node.resume(OPERATOR, named(tenant, operation))
    await node.cancel(OPERATOR, named(tenant, operation))
    with pytest.raises(FailedPrecondition, match="is cancelled: it cannot cancel"):
        await node.cancel(OPERATOR, named(tenant, operation))
    second = await begin(node, tenant)
    with pytest.raises(FailedPrecondition, match=f"{second.uid} does the same and is running"):
        await node.resume(OPERATOR, named(tenant, operation))
    await finish(node)
    with pytest.raises(FailedPrecondition, match="is succeeded: it cannot resume"):
        await node.resume(OPERATOR, named(tenant, second))
    assert (await node.resume(OPERATOR, named(tenant, operation)))[1].state is OperationState.RUNNING


@pytest.mark.parametrize(
    ("outcome", "error", "cursor"),
    [
        (FailedPrecondition("no more"), "no more", ""),
        (Batch("7", 3, finished=True, error="3 are left"), "3 are left", "7"),
        (ValueError("hunter2"), "internal error (ValueError)", ""),
    ],
)
async def test_an_operation_that_cannot_go_on_fails_with_its_reason_and_may_be_resumed(
    made, tenant, storage, outcome, error, cursor
):
    runner = Failing(outcome)
    node = made(runner)
    operation = await begin(node, tenant)
    with structlog.testing.capture_logs() as log:
        await finish(node)
    failed = await read(storage, operation)
    assert (failed.state, failed.error, failed.cursor) == (OperationState.FAILED, error, cursor)
    assert [line["log_level"] for line in log if line["event"] == "operation.ended"] == ["error"]
    assert "hunter2" not in repr(failed)
    runner.outcome = Batch("", 0, finished=True)
    await node.resume(OPERATOR, named(tenant, operation))
    await finish(node)
    assert (await read(storage, operation)).state is OperationState.SUCCEEDED


async def test_an_operation_whose_part_is_away_rests_longer_each_time_and_is_not_lost(
    made, tenant, storage, wall, clock
):
    runner = Failing(HsmUnavailable("the token has gone"))
    node = made(runner)
    operation = await begin(node, tenant)
    with structlog.testing.capture_logs() as log:
        for rest in (FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST):
            before = runner.batches
            await finish(node)
            assert runner.batches == before + 1
            clock.now += rest - 0.1
            wall.advance(LEASE)
            await finish(node)
            assert runner.batches == before + 1
            clock.now += 0.2
    assert [line["seconds"] for line in log if line["event"] == "operation.left"] == [5, 10, 20]
    assert (await read(storage, operation)).state is OperationState.RUNNING
    runner.outcome = Batch("", 0, finished=True)
    await finish(node)
    assert (await read(storage, operation)).state is OperationState.SUCCEEDED


async def test_an_operation_that_one_node_has_left_is_taken_by_another_after_its_lease(made, tenant, storage, wall):
    away, well = made(Failing(HsmUnavailable("away"))), made(Counting())
    operation = await begin(away, tenant, total=10)
    with structlog.testing.capture_logs():
        await finish(away)
    wall.advance(LEASE)
    await finish(well)
    assert (await read(storage, operation)).state is OperationState.SUCCEEDED


async def test_a_batch_that_takes_too_long_is_abandoned(made, tenant, storage, monkeypatch):
    monkeypatch.setattr(module, "BATCH_BOUND", timedelta(milliseconds=20))

    async def forever(_: Operation) -> None:
        await asyncio.Event().wait()

    runner = Counting(forever)
    node = made(runner)
    operation = await begin(node, tenant)
    with structlog.testing.capture_logs() as log:
        await finish(node)
    [left] = [line for line in log if line["event"] == "operation.left"]
    assert "longer than 0.02 s" in left["reason"]
    assert runner.inside == Tally({operation.target: 0})
    assert (await read(storage, operation)).state is OperationState.RUNNING


async def test_a_batch_may_not_outlive_its_lease():
    assert module.BATCH_BOUND + timedelta(seconds=1) <= LEASE / 2
    assert timedelta(seconds=module.LONGEST_PAUSE) < LEASE


async def test_a_node_carries_on_two_operations_in_turns_and_takes_a_third_when_one_has_ended(made, tenant):
    runner = Counting()
    node = made(runner)
    for target, total in (("a", 20), ("b", 30), ("c", 10)):
        await begin(node, tenant, total, target)
    await finish(node)
    assert [target for target, _ in runner.cursors] == ["a", "b", "a", "b", "c", "b"]


async def test_what_no_runner_of_this_release_knows_is_left_alone(made, tenant, storage):
    node = made(Counting())
    unknown = await node.start(tenant, OperationKind.REPLAN, "tenants/acme", "scheduler", 1)
    known = await begin(node, tenant)
    await finish(node)
    assert await read(storage, unknown) == unknown
    assert (await read(storage, known)).state is OperationState.SUCCEEDED


async def test_a_daemon_that_owns_its_database_goes_on_at_once_after_a_crash(made, tenant, storage, wall):
    operation = await begin(made(Counting()), tenant)
    crashed = made(Counting())
    await crashed.step()
    wall.advance(-timedelta(days=400))  # even where the clock has gone back
    restarted = made(Counting())
    assert await restarted.step() is not storage.shared
    assert (await read(storage, operation)).done == (10 if storage.shared else 20)


async def test_operations_are_removed_90_days_after_their_end(made, tenant, storage, wall, clock):
    node = made(Counting())
    ended, running = await begin(node, tenant), await begin(node, tenant, target="other")
    await node.cancel(OPERATOR, named(tenant, ended))
    await finish(node)
    listed = (await node.list_newest(OPERATOR, tenant.name, None, 10))[1]
    assert len(listed) == 2
    for period, left in ((KEPT, 2), (timedelta(seconds=1), 0)):
        wall.advance(period)
        clock.now += module.REMOVE_INTERVAL
        await finish(node)
        assert len((await node.list_newest(OPERATOR, tenant.name, None, 10))[1]) == left
    assert running.uid in {operation.uid for operation in listed}


async def test_a_running_operation_is_never_removed(made, tenant, storage, wall, clock):
    node = made(Failing(HsmUnavailable("away")))
    operation = await begin(node, tenant)
    with structlog.testing.capture_logs():
        await finish(node)
    wall.advance(KEPT * 2)
    clock.now += module.REMOVE_INTERVAL
    with structlog.testing.capture_logs():
        await finish(node)
    assert (await read(storage, operation)).state is OperationState.RUNNING


async def test_operations_of_other_tenants_are_invisible_and_operators_see_all(made, tenant, storage):
    globex = new_tenant("globex")
    async with storage.transaction(globex.uid, write=True) as work:
        await work.tenants.add(globex)
    node = made(Counting())
    operation = await begin(node, tenant)
    own, other = Principal("acme", "app"), Principal("globex", "app")
    name = named(tenant, operation)
    for act in (
        lambda: node.get(other, name),
        lambda: node.wait(other, name, 20, ""),
        lambda: node.cancel(other, name),
        lambda: node.resume(other, name),
        lambda: node.get(other, OperationName("globex", operation.uid)),
        lambda: node.get(own, OperationName("acme", uuid4())),
        lambda: node.get(own, OperationName("nobody", operation.uid)),
    ):
        with pytest.raises(NotFound, match=r"^tenants/[a-z]+/operations/[0-9a-f-]{36} does not exist$"):
            await act()
    with pytest.raises(NotFound):
        await node.list_newest(other, tenant.name, None, 10)
    assert await read(storage, operation) == operation
    for caller in (own, OPERATOR):
        assert (await node.get(caller, name))[1] == operation
        assert (await node.list_newest(caller, tenant.name, None, 10))[1] == [operation]


async def test_operations_are_listed_newest_first_page_by_page(made, tenant, wall):
    node = made(Counting())
    begun = []
    for index in range(5):
        begun.append(await begin(node, tenant, target=f"t{index}"))
        if index % 2:  # some in the same microsecond
            wall.advance(timedelta(seconds=1))
    found, before = [], None
    while page := (await node.list_newest(OPERATOR, tenant.name, before, 2))[1]:
        found += page
        before = (page[-1].created_at, page[-1].uid)
    assert len(found) == 5
    assert {operation.uid for operation in found} == {operation.uid for operation in begun}
    assert [operation.created_at for operation in found] == sorted(
        (operation.created_at for operation in begun), reverse=True
    )


class TestWaiting:
    @pytest.fixture
    def made(self, storage, wall):
        """With the real clock."""
        return lambda runner: Operations(storage, {KIND: runner}, uuid4(), wall)

    async def test_it_ends_with_the_operation(self, made, tenant):
        node = made(Counting())
        operation = await begin(node, tenant)
        waiting = asyncio.create_task(node.wait(OPERATOR, named(tenant, operation), 20, ""))
        await finish(node)
        async with asyncio.timeout(5):
            assert (await waiting)[1].state is OperationState.SUCCEEDED
        assert (await node.wait(OPERATOR, named(tenant, operation), 20, ""))[1].state is OperationState.SUCCEEDED

    async def test_it_ends_with_a_change_since_the_etag(self, made, tenant):
        node = made(Counting())
        operation = await begin(node, tenant)
        waiting = asyncio.create_task(node.wait(OPERATOR, named(tenant, operation), 20, operation.etag))
        await asyncio.sleep(0)
        await node.step()
        async with asyncio.timeout(5):
            _, seen = await waiting
        assert seen.etag != operation.etag
        assert (await node.wait(OPERATOR, named(tenant, operation), 20, operation.etag))[1].done == UNITS

    async def test_it_hears_of_the_end_on_another_node(self, made, tenant):
        here, there = made(Counting()), made(Counting())
        operation = await begin(there, tenant)
        waiting = asyncio.create_task(here.wait(OPERATOR, named(tenant, operation), 20, ""))
        await asyncio.sleep(0.01)
        await finish(there)
        async with asyncio.timeout(5):
            assert (await waiting)[1].state is OperationState.SUCCEEDED

    async def test_it_is_bounded_by_the_timeout_and_by_the_node(self, made, tenant, storage, wall):
        node = made(Counting())
        operation = await begin(node, tenant)
        async with asyncio.timeout(5):
            assert (await node.wait(OPERATOR, named(tenant, operation), 0, ""))[1] == operation
            assert (await node.wait(OPERATOR, named(tenant, operation), 0.05, ""))[1] == operation
            short = Operations(storage, {}, uuid4(), wall, longest_wait=timedelta(seconds=0.05))
            assert (await short.wait(OPERATOR, named(tenant, operation), 20, ""))[1] == operation

    async def test_those_who_wait_read_the_database_four_times_a_second_at_most(self, storage, tenant, wall):
        class Reads:
            def __init__(self) -> None:
                self.count = 0

            def __getattr__(self, name):
                if name == "transaction":
                    self.count += 1
                return getattr(storage, name)

        reads = Reads()
        node = Operations(reads, {}, uuid4(), wall)
        operation = await begin(node, tenant)
        reads.count = 0
        await node.wait(OPERATOR, named(tenant, operation), 0.6, "")
        assert 3 <= reads.count <= 2 + 3

    async def test_whoever_goes_away_leaves_nothing_behind(self, made, tenant):
        node = made(Counting())
        operation = await begin(node, tenant)
        waiting = [asyncio.create_task(node.wait(OPERATOR, named(tenant, operation), 20, "")) for _ in range(3)]

        async def all_wait() -> bool:
            return len(node._waiting.get(operation.uid, ())) == 3

        await until(all_wait)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert node._waiting == {}


async def test_a_running_node_works_at_most_half_of_the_time_and_is_woken(storage, tenant, wall, monkeypatch):
    slept = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(0)

    clock = Clock()

    async def slow(_: Operation) -> None:
        clock.now += 0.5 if len(slept) < 2 else 60.0

    node = Operations(storage, {KIND: Counting(slow)}, uuid4(), wall, clock=clock)
    running = asyncio.create_task(node.run())
    await real(0.05)  # it has found nothing, and waits
    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    started = asyncio.get_running_loop().time()
    operation = await begin(node, tenant)
    while not await is_ended(storage, operation):
        await real(0.01)
    assert asyncio.get_running_loop().time() - started < LOOK_INTERVAL
    running.cancel()
    await asyncio.wait({running})
    assert [seconds for seconds in slept if seconds][:3] == [0.5, 0.5, module.LONGEST_PAUSE]


async def test_a_database_that_is_away_delays_a_running_node_only(storage, tenant, wall):
    node = Operations(storage, {KIND: Counting()}, uuid4(), wall)
    operation = await begin(node, tenant)
    down = True

    class Sometimes:
        def __getattr__(self, name):
            if down and name == "transaction":
                raise HsmUnavailable("away")  # as any part
            return getattr(storage, name)

    node._storage = Sometimes()
    with structlog.testing.capture_logs() as log:

        async def delayed() -> bool:
            return any(line["event"] == "operations.delayed" for line in log)

        running = asyncio.create_task(node.run())
        await until(delayed)
        down = False
        node.wake()
        await until(lambda: is_ended(storage, operation))
        running.cancel()
        await asyncio.wait({running})


async def test_a_changed_operation_is_not_overwritten(made, tenant, storage):
    """Invariant: what a node has not read, it does not replace."""
    node = made(Counting())
    operation = await begin(node, tenant)
    await node.step()
    held = await read(storage, operation)
    async with storage.transaction(tenant.uid, write=True) as work:
        await work.operations.replace(replace(held, done=1_000))
    with structlog.testing.capture_logs():
        await node.step()
    assert (await read(storage, operation)).done == 1_000
