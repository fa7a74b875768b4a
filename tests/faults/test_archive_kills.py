"""kill -9 of the daemon between the steps of archiving: the next daemon goes on, and no month is anywhere lost."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

from kms.core.checkpoints import parse
from kms.core.retention import Month
from storage.schemas import SCHEMAS
from tests.archiving import months
from tests.daemon import Installation, wait_until
from tests.written_trail import WrittenTrail, year

WRITTEN = months("2024-01", "2024-03")

PASSES = frozenset({"archive.exported", "archive.verified", "archive.detached"})


@pytest.fixture
def old(installation: Installation) -> Iterator[WrittenTrail]:
    """An installation that was busy years ago."""
    installation.start().stop()
    path = installation.directory / "data/kms.db"
    with closing(sqlite3.connect(path)) as connection:
        [[body]] = connection.execute("SELECT body FROM checkpoints WHERE serial = 1")
    engine = create_engine(
        f"sqlite:///{path}", poolclass=NullPool, execution_options={"schema_translate_map": dict.fromkeys(SCHEMAS)}
    )
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout = 5000"))
    trail = WrittenTrail(engine, parse(body).installation)
    year(trail, Month(2024, 1), 3)
    yield trail
    engine.dispose()


@pytest.mark.parametrize("failpoint", sorted(f"{name}@2" for name in PASSES))
def test_the_next_daemon_goes_on(installation: Installation, old: WrittenTrail, failpoint: str) -> None:
    daemon = installation.start(failpoint=failpoint, ready=False)
    assert daemon.process.wait(60) == -signal.SIGKILL
    installation.start()
    with installation.operator() as operator:
        wait_until(lambda: len(states(operator)) == 3 and {*states(operator).values()} == {"detached"}, "all detached")
        found = list(operator.list_audit_archives())
    assert [archive.name for archive in found] == [f"auditArchives/{month}" for month in WRITTEN]
    assert sum(archive.events for archive in found) == 91
    assert not [month for month in WRITTEN if old.count(Month.parse(month))]
    files = sorted(path.name for path in (installation.directory / "data/audit-archives").glob("*.kmsarchive"))
    assert files == [archive.file_name for archive in found]
    assert all(archive.old == (archive.name == "") for archive in found)  # none is, in seven years


def states(operator):
    return {archive.name: archive.state for archive in operator.list_audit_archives()}
