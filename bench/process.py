"""Processes that a benchmark starts, and how much CPU time they use."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 30.0  # seconds for a server to start or to end
_TICKS = os.sysconf("SC_CLK_TCK")


def parse_stat(text: str) -> float:
    """Read user and system time in seconds from /proc/<pid>/stat (proc(5), fields 14 and 15)."""
    fields = text.rpartition(")")[2].split()  # the name before may hold blanks and parentheses
    return (int(fields[11]) + int(fields[12])) / _TICKS


def cpu_clock(pid: int) -> Callable[[], float]:
    """Return the CPU clock of a process, all its threads included, in seconds."""
    path = Path(f"/proc/{pid}/stat")
    return lambda: parse_stat(path.read_text())


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: Sequence[str | Path], log: Path, serving: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for the time of the block, from when *serving* says so.

    Raises:
        RuntimeError: it ended, or did not serve in time; with what it logged.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        end = time.monotonic() + PATIENCE
        while not serving():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{Path(command[0]).name} does not serve:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
