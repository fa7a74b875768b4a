"""Services over either database, and a wall clock that shows what the test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from storage.database import Database
from tests.keyrings import NOW
from tests.sealing import open_postgresql, open_sqlite


class Wall:
    """Shows the time that a test sets."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, period: timedelta) -> None:
        self.now += period


@pytest.fixture
def wall() -> Wall:
    """A wall clock of the test's own."""
    return Wall()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
async def storage(request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """An empty database of the test's own, once of each kind."""
    opened: Database
    if request.param == "sqlite":
        opened = await open_sqlite(request.getfixturevalue("hostile").path)
    else:
        opened = await open_postgresql(request.getfixturevalue("postgresql_url"), 8)
    yield opened
    await opened.close()
