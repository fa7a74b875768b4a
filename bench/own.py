"""bench/run: one daemon beside the bare cipher and a bare gRPC server.

Everything is measured on this machine in this run: the daemon, its client, the echo server and the load generator
share its cores. Ratios are what a noisy machine leaves standing; the exit code tells of wrong results, never of speed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench import calls, h2load, load, report
from bench.rounds import Figures, WrongResult
from bench.service import KEY, Service, running
from bench.workload import BARE, SHARED

SIZES: Final = (100, 1_000, 10_000)  # values in a batch
MOST: Final = {1_000: 5.0, 10_000: 3.5}  # times the bare loop's time per value
LEAST: Final = 0.7  # of the echo's calls per second


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: samples of each variant, and seconds for each."""

    rounds: int
    seconds: float


FULL: Final = Effort(25, 0.1)
QUICK: Final = Effort(2, 0.03)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, not how fast it is")
    effort = QUICK if parser.parse_args(arguments).quick else FULL
    try:
        h2load.find()
        report.show("Environment", report.environment())
        with running() as service:
            measure(service, effort)
    except h2load.Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


def measure(service: Service, effort: Effort) -> None:
    """Measure and print.

    Raises:
        WrongResult: something that was measured did not do its work.
    """
    aims: list[report.Aim] = []
    overhead: list[str] = []
    service.tls.encrypt(KEY, b"", context=SHARED)  # the DEK is loaded from here on, for five minutes
    before = service.token_operations()
    for size in SIZES:
        figures = calls.batches(service, size, effort.rounds, effort.seconds)
        report.show(f"Batches of {size:,} values, one batch in flight", report.lines(figures, "value", BARE))
        overhead.append(overhead_of(figures, "EncryptBatch", size))
        aims += batch_aims(figures, size)
    figures = calls.single(service, effort.rounds, effort.seconds)
    report.show("One value a call, one call in flight", report.lines(figures, "call", BARE))
    overhead.append(overhead_of(figures, "Encrypt", 1))
    # A run of h2load also connects, so it is given more time.
    figures = load.unary(service, effort.rounds, effort.seconds * 4)
    report.show(
        f"One value a call, {load.IN_FLIGHT} calls in flight (h2load, Unix socket)", report.lines(figures, "call", BARE)
    )
    aims += load_aims(figures)
    report.show("SDK overhead: its calls beside the generated stub's, mutual TLS", overhead)
    used = service.token_operations() - before
    report.show("Token operations during all of this", [str(used)])
    if used:
        raise WrongResult(f"{used} token operations on the path that should need none")
    report.show("Aims", map(str, aims))


def batch_aims(figures: Mapping[str, Figures], size: int) -> list[report.Aim]:
    """Return the aims for batches of this size, of which not every size has one."""
    if size not in MOST:
        return []
    bare = figures[BARE]
    return [
        report.Aim(
            f"EncryptBatch of {size:,}, {listener}, times the bare loop",
            figures[f"EncryptBatch, {listener}"].times(bare),
            figures[f"EncryptBatch, {listener}"].times_quietest(bare),
            most=MOST[size],
        )
        for listener in (calls.TLS, calls.UNIX)
    ]


def load_aims(figures: Mapping[str, Figures]) -> list[report.Aim]:
    """Return the aims for single values under load."""
    echo = figures[load.ECHO]
    return [
        report.Aim(
            f"{method} under load, part of the bare echo's calls/s",
            echo.times(figures[method]),
            echo.times_quietest(figures[method]),
            least=LEAST,
        )
        for method in load.METHODS
    ]


def overhead_of(figures: Mapping[str, Figures], method: str, size: int) -> str:
    """Compare the SDK with the generated stub."""
    sdk, stub = figures[f"{method}, {calls.TLS}"], figures[f"{method}, {calls.TLS}, bare stub"]
    more = (sdk.client_microseconds - stub.client_microseconds) * size
    what = f"{method} of {size:,}" if size > 1 else method
    return f"{what}: x{sdk.times(stub):.2f} (quietest x{sdk.times_quietest(stub):.2f}), {more:+,.0f} us of CPU a call"


if __name__ == "__main__":
    sys.exit(main())
