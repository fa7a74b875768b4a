"""Whoever can write to the database: every table, every column, on both engines, at the level of rows.

The attacks come from the table definitions. Each has to be noticed, but for those that docs/threat-model.md lists.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from storage.errors import CannotOpen
from storage.schemas import metadata
from tests.tampering.attacks import Attack, Attacks, Kind, Rows
from tests.tampering.detectors import TRAIL, TREE, Detector, Starting, detectors_of, found_by, reader_for
from tests.tampering.filled import Filled
from tests.tampering.permitted import PERMITTED, Outcome, permit_of
from tests.tampering.reading import Answers, Reader, uid_of
from tests.tampering.surface import Row, Surface

TABLES = sorted(table.name for table in metadata.tables.values())
ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]

MOST_OF_THEM = 1_400  # attacks that there are at least on each engine
EXAMPLES = 15  # sequences of attacks
PUT_BACK = ("encryption_keys", "grants", "policies")
FEW = {  # tables with fewer than two rows, and why
    "claims": "claims are given back when their work is done",
    "nodes": "no daemon runs",
    "installation": "it has one row",
    "outbox_head": "it has one row",
    "checkpoint_head": "it has one row",
}

pytestmark = [pytest.mark.softhsm, pytest.mark.timeout(900)]  # others may be at work on the machine


@pytest.fixture(params=ENGINES)
def attacked(request: pytest.FixtureRequest) -> Filled:
    """A database with a history."""
    made: Filled = request.getfixturevalue(f"filled_{request.param}")
    return made


@dataclass
class Run:
    """What became of attacks."""

    filled: Filled
    detectors: tuple[Detector, ...]
    reader: Reader
    answers: Answers  # of the table, before anything was attacked
    noticed: Counter[str] = field(default_factory=Counter)
    cases: list[Attack] = field(default_factory=list)
    unnoticed: list[Attack] = field(default_factory=list)
    without_effect: list[Attack] = field(default_factory=list)
    harmful: list[Attack] = field(default_factory=list)  # though they are said to change nothing of what is read

    async def attack(self, attack: Attack) -> None:
        """Make an attack, look who notices it, and put back what was there."""
        surface = self.filled.surface
        self.cases.append(attack)
        try:
            with surface.changing():
                attack.do(surface)
            name, _ = await found_by(self.detectors, attack.table)
            answers = None if name else await self.reader.read(concerned(attack.table))
        finally:
            restored = surface.restore(self.filled.content.pristine, [attack.table])
        if not restored:
            self.without_effect.append(attack)
        if name:
            self.noticed[name] += 1
        else:
            self.unnoticed.append(attack)
            permit = permit_of(attack)
            if permit is not None and permit.outcome is Outcome.HARMLESS and answers != self.answers:
                self.harmful.append(attack)


def concerned(*tables: str) -> set[str] | None:
    """Which tables are read differently where one of these lies; None for all of them."""
    return None if TREE.intersection(tables) else set(tables)


@asynccontextmanager
async def running(filled: Filled, *tables: str) -> AsyncIterator[Run]:
    """Open the database as a daemon does; nothing is wrong with these tables before and after."""
    async with filled.opened() as storage:
        reader = reader_for(storage, filled.content)
        run = Run(filled, await detectors_of(storage, filled.content), reader, await reader.read(concerned(*tables)))
        for table in tables:
            assert await found_by(run.detectors, table) == ("", "")
        yield run
        for table in tables:
            assert await found_by(run.detectors, table) == ("", "")


def test_the_attacks_are_about_every_column_of_every_table(attacked: Filled):
    """From the declarations: what is there is edited, swapped, removed, copied, and put back."""
    content, cases = attacked.content, 0
    for name, table in attacked.surface.tables.items():
        attacks = list(Attacks(table, attacked.engine, content.pristine, content.earlier))
        cases += len(attacks)
        assert {Kind.INSERT, Kind.STRAY} & {attack.kind for attack in attacks}, name
        if not content.pristine[name]:
            continue
        edited = Counter(attack.column for attack in attacks if attack.kind is Kind.EDIT)
        assert edited.keys() == set(table.columns.keys())
        assert not [column.name for column in table.columns if column.nullable and edited[column.name] < 2], name
        varying = {column for column in set(table.columns.keys()) if _varies(column, content.pristine[name].values())}
        swapped = {attack.column for attack in attacks if attack.kind is Kind.SWAP}
        assert swapped >= varying - {column.name for column in table.primary_key.columns}
        assert sum(attack.kind is Kind.DELETE for attack in attacks) >= 4
        changed = content.earlier[name] != content.pristine[name]
        assert changed == any(attack.kind is Kind.ROLLBACK for attack in attacks)
    assert cases > MOST_OF_THEM


def _varies(column: str, rows: Iterable[Row]) -> bool:
    return len({repr(row[column]) for row in rows}) > 1


def test_every_table_holds_something_to_attack(attacked: Filled):
    rows = {name: len(found) for name, found in attacked.content.pristine.items()}
    assert {name for name, count in rows.items() if count < 2} == set(FEW)


async def test_nothing_is_wrong_before_anything_is_attacked(attacked: Filled):
    async with attacked.opened() as storage:
        detectors = await detectors_of(storage, attacked.content)
        for everything in ("tree_nodes", "audit_log"):  # for which the detectors look at all that there is
            assert await found_by(detectors, everything) == ("", "")


def test_most_tables_have_changed_since_the_earlier_state(attacked: Filled):
    content = attacked.content
    changed = {name for name, rows in content.pristine.items() if rows and rows != content.earlier[name]}
    assert {"tenants", "keks", "encryption_keys", "key_versions", "policies", "grants", "api_tokens"} < changed
    assert len(changed) >= 20


@pytest.mark.parametrize("table", TABLES)
async def test_every_change_of_a_table_is_noticed(attacked: Filled, table: str, record_property):
    """But for those that are permitted, each of which does go unnoticed: the list claims no more than is so."""
    content = attacked.content
    async with running(attacked, table) as run:
        for attack in Attacks(attacked.surface.tables[table], attacked.engine, content.pristine, content.earlier):
            await run.attack(attack)
    assert not run.without_effect
    assert not run.harmful
    lies = [str(attack) for attack in run.unnoticed if permit_of(attack) is None]
    assert not lies, f"{len(lies)} of {len(run.cases)} attacks were not noticed:\n" + "\n".join(lies)
    for permit in PERMITTED:
        if permit.table == table and content.pristine[table]:
            assert any(permit.covers(attack) for attack in run.unnoticed), f"{permit} is always noticed"
    record_property("cases", len(run.cases))
    record_property("noticed", dict(run.noticed))


@given(picked=strategies.lists(strategies.integers(0, 2**32 - 1), min_size=2, max_size=6))
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_attacks_one_upon_the_other_do_not_hide_each_other(
    attacked: Filled, noticeable: list[Attack], picked: list[int]
):
    """Random sequences of those that are noticed alone, unless they come to nothing."""
    content, surface = attacked.content, attacked.surface
    # By number: what there is to choose from differs from run to run.
    chosen = [noticeable[number % len(noticeable)] for number in picked]
    try:
        for attack in chosen:
            _try(surface, attack)
        changed = {name for name, rows in surface.snapshot().items() if rows != content.pristine[name]}
        if changed:
            assert asyncio.run(_look(attacked, changed)), f"{list(map(str, chosen))} were not noticed"
    finally:
        surface.restore(content.pristine)


def _try(surface: Surface, attack: Attack) -> None:
    """Make an attack; what it is about may have gone with another one."""
    with suppress(AssertionError, sqlite3.IntegrityError, psycopg.IntegrityError), surface.changing():
        attack.do(surface)


@pytest.fixture
def noticeable(attacked: Filled) -> list[Attack]:
    """All attacks that are noticed alone."""
    content = attacked.content
    return [
        attack
        for table in attacked.surface.tables.values()
        for attack in Attacks(table, attacked.engine, content.pristine, content.earlier)
        if permit_of(attack) is None
    ]


async def _look(attacked: Filled, tables: set[str]) -> str:
    try:
        async with attacked.opened() as storage:
            detectors = await detectors_of(storage, attacked.content)
            return next(filter(None, [(await found_by(detectors, table))[0] for table in sorted(tables)]), "")
    except CannotOpen as error:  # what breaks a rule of the schema is noticed at the start
        return str(error)


async def test_who_has_seen_a_tenant_later_notices_that_all_of_it_is_put_back(attacked: Filled):
    """With its tree and its root, all of which is genuine."""
    content, surface = attacked.content, attacked.surface
    async with running(attacked, *PUT_BACK) as run:
        tenant = next(iter(content.earlier["encryption_keys"].values()))["tenant_id"]
        tables = [name for name, table in surface.tables.items() if "tenant_id" in table.columns]
        before = {name: _with_tenant_of(content.earlier[name], content.pristine[name], tenant) for name in tables}
        try:
            assert surface.restore(before, tables) > 50
            for table in PUT_BACK:
                _, found = await found_by(run.detectors, table)
                assert "older than this node has seen" in found
        finally:
            surface.restore(content.pristine)


def _with_tenant_of(earlier: Rows, now: Rows, tenant: object) -> Rows:
    other = {which: row for which, row in now.items() if row["tenant_id"] != tenant}
    return other | {which: row for which, row in earlier.items() if row["tenant_id"] == tenant}


async def test_a_tenant_put_back_as_a_whole_is_noticed_at_a_start(attacked: Filled):
    content, surface = attacked.content, attacked.surface
    tenant = next(iter(content.earlier["encryption_keys"].values()))["tenant_id"]
    tables = [name for name, table in surface.tables.items() if "tenant_id" in table.columns and name not in TRAIL]
    before = {name: _with_tenant_of(content.earlier[name], content.pristine[name], tenant) for name in tables}
    try:
        surface.restore(before, tables)
        async with attacked.opened() as storage:
            found = await Starting(storage, content).compare()
            assert "its records are of epoch" in found
            assert "was anchored" in found
    finally:
        surface.restore(content.pristine)


async def test_the_whole_database_put_back_is_noticed_at_a_start_and_while_it_is_in_use(attacked: Filled):
    content, surface = attacked.content, attacked.surface
    async with running(attacked, *PUT_BACK) as run:
        try:
            surface.restore(content.earlier)
            for table in PUT_BACK:
                _, found = await found_by(run.detectors, table)
                assert "older than this node has seen" in found
            async with attacked.opened() as storage:
                assert "an older state of it has been restored" in await Starting(storage, content).compare()
        finally:
            surface.restore(content.pristine)


async def test_what_no_checkpoint_covers_yet_can_be_put_back_before_a_start_and_nothing_else(attacked: Filled):
    """The window: a node that goes on notices it, a new one cannot."""
    content, surface = attacked.content, attacked.surface
    [tenant, *_] = [uid_of(row["tenant_id"]) for row in content.pristine["encryption_keys"].values()]
    try:
        async with attacked.opened() as storage:
            async with storage.transaction(tenant, write=True) as work:
                record = await work.principals.get(tenant, "anna")
                await work.principals.replace(replace(record, display_name="Anna Changed"))
            surface.restore(content.pristine)
            detectors = await detectors_of(storage, content)
            assert "older than this node has seen" in (await found_by(detectors, "principals"))[1]
        async with attacked.opened() as storage:
            detectors = await detectors_of(storage, content)
            for table in ("principals", "tenant_roots", "audit_log"):
                assert await found_by(detectors, table) == ("", "")
    finally:
        surface.restore(content.pristine)
