"""A process that is killed while it writes audit events: whole groups are left, and all that was confirmed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import uuid

import pytest

from storage.migrate import upgrade
from tests.audit import AuditLog, told

PASSES = frozenset({"audit.group_written", "audit.group_committed"})


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def log(request, tmp_path) -> AuditLog:
    if request.param == "sqlite":
        upgrade(tmp_path / "kms.db")
        return AuditLog(tmp_path / "kms.db")
    return AuditLog(request.getfixturevalue("postgresql_url"))


KILLED = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from uuid import UUID
    from tests.audit import AuditLog, new_event

    target, installation, point, passage = sys.argv[1:]
    passages = 0

    def reach(name):
        global passages
        passages += name == point
        if passages == int(passage):
            os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        log = AuditLog(Path(target) if target.startswith("/") else target, UUID(installation))
        async with log.opened(reach=reach) as writer:
            print(writer.head.stream, flush=True)
            for number in range(1000):
                waiting = [writer.append(new_event(number)) for _ in range(3)]
                for each in waiting:
                    print((await each).sequence, flush=True)

    asyncio.run(main())
"""


@pytest.mark.parametrize(("point", "stored"), [("audit.group_written", 0), ("audit.group_committed", 3)])
async def test_a_killed_writer_leaves_whole_groups_and_all_that_it_confirmed(log, point, stored):
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(log.target), str(log.installation), point, "5"]
    run = await asyncio.to_thread(subprocess.run, command, stdout=subprocess.PIPE, check=False, text=True)
    assert run.returncode == -signal.SIGKILL
    stream, *confirmed = run.stdout.split()
    assert confirmed == [str(number) for number in range(2, 11)]  # the first event alone, then three groups of three
    settled = len(confirmed) + 1 + stored
    async with asyncio.timeout(10):
        while len(log.rows()) != settled:  # noqa: ASYNC110  the server notices by itself
            await asyncio.sleep(0.01)
    assert len(log.verified(uuid.UUID(stream))) == settled
    async with log.opened() as writer:
        first = told(log.verified(writer.head.stream)[0])
        assert (first["previous_stream"], first["previous_sequence"]) == (stream, settled)
