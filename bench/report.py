"""What a benchmark prints: the environment, tables, and whether aims were met."""

from __future__ import annotations

import math
import os
import platform
import shutil
import ssl
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from cryptography.hazmat.backends.openssl import backend

from bench.cores import beside
from bench.rounds import Figures

_LIBRARIES: Final = ("grpcio", "protobuf", "cryptography", "uvloop")


@dataclass(frozen=True, slots=True)
class Aim:
    """A ratio that was measured, by the median and by the quietest samples, and the *most* or *least* it should be."""

    what: str
    measured: float
    quietest: float
    most: float = math.inf
    least: float = 0.0

    @property
    def met(self) -> bool:
        """Whether the median is where it should be."""
        return self.least <= self.measured <= self.most

    def __str__(self) -> str:
        aim = f"at least {self.least:g}" if self.least else f"at most {self.most:g}"
        numbers = f"{self.measured:.2f} (quietest {self.quietest:.2f}), aim {aim}"
        return f"{'met   ' if self.met else 'missed'}  {self.what}: {numbers}"


def environment() -> list[str]:
    """Describe the machine and the versions, as far as they matter to speed."""
    h2load = shutil.which("h2load")
    return [
        f"CPU: {_cpu_model()}, {len(os.sched_getaffinity(0))} cores; load average {os.getloadavg()[0]:.1f} at the start",
        f"a processor beside a busy one: {beside():.2f} of its speed alone (1: each is one of its own, 0.5: they share one)",
        f"system: {platform.system()} {platform.release()}, {platform.machine()}",
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        f"{backend.openssl_version_text()} for the cipher, {ssl.OPENSSL_VERSION} in Python's ssl",
        f"load generator: {_output(h2load, '--version') if h2load else 'none'}",
        f"commit: {_output('git', 'describe', '--always', '--dirty', '--abbrev=12') or 'unknown'}",
    ]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out a table, the first column to the left and the others to the right."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]


def lines(figures: Mapping[str, Figures], item: str, base: str) -> list[str]:
    """Lay out one line for each variant, with the time of each as a multiple of the variant *base*."""
    header = ("", f"{item}s/s", f"us/{item}", "ratio", "quietest", "CPU us: client", "server")
    rows = (
        (
            name,
            f"{figure.rate:,.0f}",
            f"{figure.microseconds:,.2f}",
            f"{figure.times(figures[base]):.2f}",
            f"{figure.times_quietest(figures[base]):.2f}",
            f"{figure.client_microseconds:.2f}",
            f"{figure.server_microseconds:.2f}",
        )
        for name, figure in figures.items()
    )
    return [*table(header, rows), f"(ratio: time of the {base}; quietest: by the fastest sample of each)"]


def show(title: str, lines: Iterable[str]) -> None:
    """Print one part of the report as soon as it is known."""
    print(f"\n{title}", *lines, sep="\n  ", flush=True)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown"


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    return done.stdout.strip() if done.returncode == 0 else ""
