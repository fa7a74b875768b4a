"""Promise 6 over histories of nodes: what is used is never more than what is counted, nor that than the limit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kms.core.errors import VersionExhausted
from kms.core.names import KeyUid, TenantUid
from kms.core.ports import Counter
from kms.services.counting import UsageCounter
from storage.migrate import upgrade
from storage.sqlite import SqliteDatabase
from tests.node import Clock, stored_tenant
from tests.sealing import open_sqlite

NODES = 3


@dataclass(frozen=True)
class Take:
    node: int
    count: int


@dataclass(frozen=True)
class Crash:
    """The node ends, with its block, and begins anew."""

    node: int


@dataclass(frozen=True)
class Pass:
    seconds: float


_nodes = st.integers(0, NODES - 1)
HISTORIES = st.lists(
    st.one_of(
        st.builds(Take, _nodes, st.one_of(st.just(1), st.integers(1, 300))),
        # All at once: which of them reserves first is the event loop's choice.
        st.lists(st.builds(Take, _nodes, st.integers(1, 60)), min_size=2, max_size=6),
        st.builds(Crash, _nodes),
        st.builds(Pass, st.sampled_from([0.5, 30.0])),
    ),
    max_size=25,
)


@dataclass
class Shared:
    """One database for all examples, each of which counts something else in it."""

    runner: asyncio.Runner
    database: SqliteDatabase
    tenant: TenantUid


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    path: Path = tmp_path_factory.mktemp("usage") / "kms.db"
    upgrade(path)
    with asyncio.Runner() as runner:
        database = runner.run(open_sqlite(path))
        yield Shared(runner, database, runner.run(stored_tenant(database)).uid)
        runner.run(database.close())


@settings(max_examples=60)
@given(history=HISTORIES, limit=st.integers(1, 1500))
def test_no_history_of_nodes_and_crashes_uses_more_than_is_counted_or_passes_the_limit(
    shared: Shared, history: list[Take | Crash | Pass | list[Take]], limit: int
) -> None:
    shared.runner.run(live(shared, history, limit))


async def live(shared: Shared, history: list[Take | Crash | Pass | list[Take]], limit: int) -> None:
    counter = Counter(shared.tenant, KeyUid(uuid4()), 1)
    clock = Clock()
    asked: list[Counter] = []
    used = 0

    def start() -> UsageCounter:
        return UsageCounter(shared.database, counter, limit, clock, max(limit // 2, 1), asked.append)

    nodes = [start() for _ in range(NODES)]

    async def take(act: Take) -> int:
        try:
            await nodes[act.node].take(act.count)
        except VersionExhausted:
            return 0
        return act.count

    for act in history:
        match act:
            case Take():
                used += await take(act)
            case Crash():
                nodes[act.node] = start()
            case Pass():
                clock.now += act.seconds
            case _:
                used += sum(await asyncio.gather(*map(take, act)))
        [counted] = await shared.database.reserved([counter])
        assert used <= counted <= limit
        assert asked or counted < max(limit // 2, 1)
    # The rest of a block is lost in a crash only.
    for node in nodes:
        while node.take_reserved(1):
            used += 1
    [counted] = await shared.database.reserved([counter])
    assert used == counted or any(isinstance(act, Crash) for act in history)
