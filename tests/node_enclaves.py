"""The enclave of an installation, kept running as the daemon does, and where its secrets are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from kms.node_enclave import NodeEnclave, opened_enclave
from kms.settings import load
from tests.daemon import Daemon
from tests.softhsm_token import eventually
from tests.trail import MemoryWriter, make_trail

PATIENCE = 60.0


@asynccontextmanager
async def running(
    place: Path, writer: MemoryWriter | None = None, *, simulated_allowed: bool = True
) -> AsyncIterator[NodeEnclave]:
    """The enclave of an installation, tried again without a pause."""
    settings = load(place / "kmsd.toml").enclave
    async with opened_enclave(settings, simulated_allowed=simulated_allowed) as enclave:
        assert enclave is not None
        enclave._retry = 0.2
        task = asyncio.create_task(enclave.run(make_trail(writer or MemoryWriter())))
        try:
            yield enclave
        finally:
            task.cancel()
            await asyncio.wait([task])


async def until(condition: Callable[[], object]) -> None:
    await eventually(lambda: bool(condition()), PATIENCE)


def inner(enclave: NodeEnclave) -> int:
    """The process that has the secrets."""
    greeted: dict[str, int] = enclave._host._host.greeted  # type: ignore[assignment]
    return greeted["pid"]


def enclave_pid(daemon: Daemon) -> int:
    """The process that has the secrets: the child of the one that the supervisor knows."""
    started = daemon.events("enclave.host")[-1]["pid"]
    return int(Path(f"/proc/{started}/task/{started}/children").read_text())
