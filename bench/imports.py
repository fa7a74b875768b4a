"""bench/imports: what `import kms_client` takes a fresh interpreter, beside `import grpc` alone, without which there is no client.

Each import is measured by the interpreter that does it, from the beginning of its first statement: neither the start of
Python nor that of a process is in it. The files of bytecode are there, as they are after the first start of a program.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from bench import report
from bench.report import Aim
from bench.rounds import Figures, Sample, Sampler, WrongResult, alternate

ROUNDS: Final = 15
MOST: Final = 300.0  # ms
ALONE, CLIENT, BOTH = "grpc", "kms_client", "kms_client, with kms_client.sqlalchemy"
IMPORTS: Final = {ALONE: "import grpc", CLIENT: "import kms_client", BOTH: "import kms_client, kms_client.sqlalchemy"}

PROGRAM: Final = """
import time
cpu, began = time.process_time(), time.perf_counter()
{}
taken = time.perf_counter() - began, time.process_time() - cpu
import json, sys
print(json.dumps([*taken, "kms_client" in sys.modules]))
"""


def sampler(name: str) -> Sampler:
    """Make a sampler that imports in an interpreter of its own."""

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def sample() -> Sample:
        command = [sys.executable, "-c", PROGRAM.format(IMPORTS[name])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise WrongResult(f"{IMPORTS[name]}: {done.stderr[-500:]}")
        seconds, cpu, client = json.loads(done.stdout)
        if client != (name != ALONE):
            raise WrongResult(f"{IMPORTS[name]} has loaded something else")
        return Sample(seconds, cpu, 0.0, 1)

    return sample


def lines(figures: dict[str, Figures]) -> list[str]:
    """Lay out one line for each import."""
    rows = (
        (
            name,
            f"{figure.microseconds / 1e3:.0f}",
            f"{figure.times(figures[ALONE]):.2f}",
            f"{figure.times_quietest(figures[ALONE]):.2f}",
            f"{figure.client_microseconds / 1e3:.0f}",
        )
        for name, figure in figures.items()
    )
    return report.table(("", "ms", "ratio", "quietest", "CPU ms"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/imports", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="shows that it works, not how fast it is")
    options = parser.parse_args(arguments)
    try:
        samplers = {name: sampler(name) for name in IMPORTS}
        for take in samplers.values():
            take()  # writes the bytecode, and fills the cache of files
        report.show("Environment", report.environment())
        figures = alternate(samplers, 1 if options.quick else options.rounds)
        report.show("Imports", lines(figures))
        taken = figures[CLIENT]
        quietest = min(sample.seconds for sample in taken.samples)
        report.show("Aims", [str(Aim(f"ms of {IMPORTS[CLIENT]}", taken.microseconds / 1e3, quietest * 1e3, most=MOST))])
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
