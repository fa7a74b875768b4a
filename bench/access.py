"""bench/access: what authorization and limits cost a call, and what one tenant's flood does to another tenant's calls.

1. The CPU time of each gate that a call passes, measured in this process, beside the CPU time of the whole daemon for a
   single value and for a batch of a thousand values under load, in alternation.
2. The latency of one quiet caller, alone and beside another tenant that asks for as much as it can, in alternation.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import uvloop
from kms_client import Client
from kms_client.formats.suites import Purpose

from bench import gates, report
from bench.flood import READY
from bench.process import PATIENCE, cpu_clock, free_port, started
from bench.rounds import WrongResult
from bench.service import kmsd, program, serves
from bench.workload import Workload

MOST: Final = {1: 0.10, 1_000: 0.01}  # part of the daemon's CPU time for a call with so many values
MOST_WAIT: Final = 2.0  # times the p99 of a quiet caller alone
PAUSE: Final = 0.001  # seconds between the quiet caller's calls
ALONE: Final = "alone"
TENANTS: Final = ("quiet", "flood")


@dataclass(frozen=True, slots=True)
class Flood:
    """What the other tenant does: calls with so many values, so many in flight."""

    values: int
    in_flight: int

    def __str__(self) -> str:
        what = "single values" if self.values == 1 else f"batches of {self.values:,}"
        return f"beside {what}, {self.in_flight} in flight"


LOADS: Final = {1: Flood(1, 32), 1_000: Flood(1_000, 4)}  # under which the daemon's CPU time for a call is measured
FLOODS: Final = (Flood(10_000, 8), Flood(1_000, 32), Flood(1, 64))


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float  # of each sample
    passes: int  # of the gates, in each sample


FULL: Final = Effort(7, 2.0, 5_000)
QUICK: Final = Effort(2, 0.3, 200)


@dataclass(frozen=True, slots=True)
class Service:
    """A daemon with two tenants, each with one key and one principal."""

    profiles: Mapping[str, Path]
    cpu: Callable[[], float]

    @contextmanager
    def flooded(self, flood: Flood) -> Iterator[list[int]]:
        """Let the other tenant flood; the list holds the number of calls answered when the block is over."""
        command = [sys.executable, "-m", "bench.flood", self.profiles["flood"], _key("flood")]
        numbers = ["--values", str(flood.values), "--in-flight", str(flood.in_flight)]
        answered: list[int] = []
        with subprocess.Popen([*command, *numbers], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            try:
                if child.stdout is None or child.stdout.readline().strip() != READY:
                    raise WrongResult("the flood has had no answer")
                yield answered
                output, _ = child.communicate(timeout=PATIENCE)
                answered.append(int(output))
            finally:
                child.kill()


def _key(tenant: str) -> str:
    return f"tenants/{tenant}/keys/bench"


@contextmanager
def serving(directory: Path, room: int | None) -> Iterator[Service]:
    """Set up an installation and serve for the time of the block."""
    home = directory / "kms"
    kmsd("init", str(home), "--address", f"127.0.0.1:{free_port()}")
    if room is not None:
        with (home / "kmsd.toml").open("a") as config:
            config.write(f"\n[limits]\nroom_bytes = {room}\n")
    command: list[str | Path] = [program("kmsd"), "serve", "--config", home / "kmsd.toml"]
    with (
        Client.from_profile(home / "kms.toml") as operator,
        started(command, directory / "daemon.log", lambda: serves(operator)) as process,
    ):
        profiles = {}
        for tenant in TENANTS:
            operator.create_tenant(tenant)
            out = directory / tenant
            principal = f"tenants/{tenant}/principals/bench"
            kmsd("issue-cert", "--config", str(home / "kmsd.toml"), principal, "--out", str(out))
            profiles[tenant] = out / "kms.toml"
            with Client.from_profile(profiles[tenant]) as client:
                client.create_key(f"tenants/{tenant}", "bench", purpose=Purpose.ENCRYPT)
        yield Service(profiles, cpu_clock(process.pid))


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds."""

    p50: float
    p99: float


def call_quietly(client: Client, seconds: float) -> Latency:
    """Make one call after another, with pauses, and look at every answer.

    Raises:
        WrongResult: an answer is wrong.
    """
    work = Workload.of(1)
    taken, end = [], time.monotonic() + seconds
    while time.monotonic() < end or len(taken) < 2:
        before = time.perf_counter()
        made = client.encrypt(_key("quiet"), work.values[0], context=work.context)
        taken.append(time.perf_counter() - before)
        time.sleep(PAUSE)
    if client.decrypt(_key("quiet"), made.ciphertext, context=work.context).plaintext != work.values[0]:
        raise WrongResult("what the quiet caller encrypted does not decrypt to what it was")
    cuts = quantiles(taken, n=100, method="inclusive")
    return Latency(cuts[49] * 1000, cuts[98] * 1000)


def cpu_of_a_call(service: Service, flood: Flood, seconds: float) -> float:
    """Return the CPU seconds of the daemon for one call of a flood."""
    before = service.cpu()
    with service.flooded(flood) as answered:
        time.sleep(seconds)
    taken = service.cpu() - before
    if not answered[0]:
        raise WrongResult("the flood has had no answer")
    return taken / answered[0]


async def gate_costs(directory: Path, service: Service, effort: Effort) -> list[report.Aim]:
    """Measure the gates beside whole calls, and print."""
    aims = []
    async with gates.passing(directory) as passings:
        for values, passing in passings.items():
            rounds = [
                (
                    cpu_of_a_call(service, LOADS[values], effort.seconds),
                    await passing.costs(effort.passes),
                )
                for _ in range(effort.rounds)
            ]
            whole = median(call for call, _ in rounds)
            names = list(rounds[0][1])
            ratios = {name: median(costs[name] / call for call, costs in rounds) for name in names}
            quietest = {
                name: min(costs[name] for _, costs in rounds) / min(call for call, _ in rounds) for name in names
            }
            rows = [
                (name, f"{median(costs[name] for _, costs in rounds) * 1e6:,.2f}", f"{ratios[name]:.4f}")
                for name in names
            ]
            what = "Encrypt" if values == 1 else f"EncryptBatch of {values:,}"
            title = f"Gates beside {what} ({LOADS[values].in_flight} in flight): CPU us, part of the whole call"
            report.show(title, report.table(("", "us", "ratio"), [*rows, ("whole call", f"{whole * 1e6:,.1f}", "1")]))
            parts = (gates.ADMISSION, gates.AUTHORIZER)
            aims.append(
                report.Aim(
                    f"authorization and limits, percent of {what}",
                    100 * sum(ratios[part] for part in parts),
                    100 * sum(quietest[part] for part in parts),
                    most=100 * MOST[values],
                )
            )
    return aims


def flood_effects(service: Service, effort: Effort) -> list[report.Aim]:
    """Measure the quiet caller alone and beside floods, and print."""
    seen: dict[str, list[Latency]] = {ALONE: [], **{str(flood): [] for flood in FLOODS}}
    rates: dict[str, list[float]] = {name: [] for name in seen}
    with Client.from_profile(service.profiles["quiet"], deadline=60) as client:
        client.encrypt(_key("quiet"), b"", context={})  # the DEK is loaded from here on
        for _ in range(effort.rounds):
            seen[ALONE].append(call_quietly(client, effort.seconds))
            rates[ALONE].append(0.0)
            for flood in FLOODS:
                began = time.monotonic()
                with service.flooded(flood) as answered:
                    seen[str(flood)].append(call_quietly(client, effort.seconds))
                rates[str(flood)].append(answered[0] * flood.values / (time.monotonic() - began))
    rows, aims = [], []
    for name, latencies in seen.items():
        ratios = [(own.p50 / base.p50, own.p99 / base.p99) for own, base in zip(latencies, seen[ALONE], strict=True)]
        p50, p99 = (median(ratio[which] for ratio in ratios) for which in (0, 1))
        milliseconds = [f"{median(getattr(each, which) for each in latencies):.2f}" for which in ("p50", "p99")]
        rows.append((name, *milliseconds, f"{p50:.2f}", f"{p99:.2f}", f"{median(rates[name]):,.0f}"))
        if name != ALONE:
            quietest = min(each.p99 for each in latencies) / min(each.p99 for each in seen[ALONE])
            aims.append(report.Aim(f"p99 of a quiet tenant {name}, times alone", p99, quietest, most=MOST_WAIT))
    header = ("", "p50 ms", "p99 ms", "p50 ratio", "p99 ratio", "flood: values/s")
    report.show("One value a call by a quiet tenant, beside another tenant's flood", report.table(header, rows))
    return aims


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/access", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, not how fast it is")
    parser.add_argument("--room", type=int, help="the daemon's limits.room_bytes, to see what it does")
    parser.add_argument("--part", choices=("gates", "floods"), help="only this part")
    given = parser.parse_args(arguments)
    effort = QUICK if given.quick else FULL
    directory = Path(tempfile.mkdtemp(prefix="kms-bench-"))
    try:
        report.show("Environment", report.environment())
        with serving(directory, given.room) as service:
            aims = []
            if given.part != "floods":
                aims += uvloop.run(gate_costs(directory, service, effort))
            if given.part != "gates":
                aims += flood_effects(service, effort)
        report.show("Aims", map(str, aims))
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
