"""Whoever can write to the database: every table, every column, on both engines, at the level of rows.

The attacks come from the table definitions. Each has to be noticed, but for those that docs/threat-model.md lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from storage.schemas import metadata
from tests.tampering.attacks import Attack, Attacks
from tests.tampering.detectors import Detector, Loading, found_by
from tests.tampering.filled import Filled
from tests.tampering.permitted import PERMITTED, permit_of
from tests.tampering.reading import reader_of

TABLES = sorted(table.name for table in metadata.tables.values())
ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]

pytestmark = [pytest.mark.softhsm, pytest.mark.timeout(300)]


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
    noticed: Counter[str] = field(default_factory=Counter)
    cases: list[Attack] = field(default_factory=list)
    unnoticed: list[Attack] = field(default_factory=list)
    without_effect: list[Attack] = field(default_factory=list)

    async def attack(self, attack: Attack) -> None:
        """Make an attack, look who notices it, and put back what was there."""
        surface = self.filled.surface
        self.cases.append(attack)
        try:
            with surface.changing():
                attack.do(surface)
            name, _ = await found_by(self.detectors, attack.table)
        finally:
            restored = surface.restore(self.filled.content.pristine, [attack.table])
        if not restored:
            self.without_effect.append(attack)
        if name:
            self.noticed[name] += 1
        else:
            self.unnoticed.append(attack)


@asynccontextmanager
async def running(filled: Filled) -> AsyncIterator[Run]:
    """Open the database as a daemon does; nothing is wrong before and after."""
    async with filled.opened() as storage:
        reader = await reader_of(storage)
        run = Run(filled, (Loading(reader),))
        for table in filled.surface.tables:
            assert await found_by(run.detectors, table) == ("", "")
        yield run
        for table in filled.surface.tables:
            assert await found_by(run.detectors, table) == ("", "")


@pytest.mark.parametrize("table", TABLES)
async def test_every_change_of_a_table_is_noticed(attacked: Filled, table: str, record_property):
    """But for those that are permitted, each of which does go unnoticed: the list claims no more than is so."""
    content = attacked.content
    async with running(attacked) as run:
        for attack in Attacks(attacked.surface.tables[table], attacked.engine, content.pristine, content.earlier):
            await run.attack(attack)
    assert not run.without_effect
    lies = [str(attack) for attack in run.unnoticed if permit_of(attack) is None]
    assert not lies, f"{len(lies)} of {len(run.cases)} attacks were not noticed:\n" + "\n".join(lies)
    for permit in PERMITTED:
        if permit.table == table and content.pristine[table]:
            assert any(permit.covers(attack) for attack in run.unnoticed), f"{permit} is always noticed"
    record_property("cases", len(run.cases))
    record_property("noticed", dict(run.noticed))
