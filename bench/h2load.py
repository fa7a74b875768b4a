"""A load generator that is not Python: Debian's h2load, and what it says read back."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.rounds import Sample, Sampler, WrongResult

_FINISHED = re.compile(r"^finished in [0-9.]+(?:s|ms|us), ([0-9.]+) req/s", re.MULTILINE)
_REQUESTS = re.compile(r"^requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", re.MULTILINE)
_TRAFFIC = re.compile(r"^traffic: .*\((\d+)\) data$", re.MULTILINE)

DEADLINE = 120.0  # seconds for one run
FIRST = 400  # requests, to find out how many make a sample


class Missing(Exception):
    """A program that the benchmark needs is not installed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of h2load did."""

    requests: int
    succeeded: int  # answered with an HTTP status of 2xx, as every gRPC error is too
    data: int  # bytes of all bodies
    rate: float  # requests per second


@dataclass(frozen=True, slots=True)
class Target:
    """One request, sent over and over; *body_length* is the length of each right answer's body in bytes."""

    arguments: Sequence[str]
    body_length: int


def find() -> str:
    """Return the path of h2load.

    Raises:
        Missing: it is not installed.
    """
    found = shutil.which("h2load")
    if found is None:
        raise Missing("h2load is not installed: apt-get install nghttp2-client")
    return found


def parse(output: str) -> Load:
    """Read what h2load prints.

    Raises:
        WrongResult: it printed something else.
    """
    finished, requests, traffic = _FINISHED.search(output), _REQUESTS.search(output), _TRAFFIC.search(output)
    if finished is None or requests is None or traffic is None:
        raise WrongResult(f"h2load did not report a finished run:\n{output}")
    return Load(int(requests[1]), int(requests[2]), int(traffic[1]), float(finished[1]))


def check(load: Load, body_length: int) -> None:
    """Check that every request was answered with a body of the right length.

    A gRPC error has HTTP status 200 too, but no body.

    Raises:
        WrongResult: some were not.
    """
    if load.succeeded != load.requests:
        raise WrongResult(f"{load.requests - load.succeeded} of {load.requests} requests failed")
    if load.data != load.requests * body_length:
        raise WrongResult(f"{load.requests} answers have {load.data} bytes, not {body_length} each")


def run(target: Target, requests: int) -> Load:
    """Send *requests* requests and check the answers.

    Raises:
        WrongResult: some were not answered, or not with the right length.
    """
    done = subprocess.run(
        [find(), "-t", "1", "-n", str(requests), *target.arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    if done.returncode != 0:
        raise WrongResult(f"h2load ended with {done.returncode}: {done.stderr}{done.stdout}")
    load = parse(done.stdout)
    check(load, target.body_length)
    return load


def sampler(target: Target, seconds: float, server: Callable[[], float]) -> Sampler:
    """Make a sampler whose runs take about *seconds*; the first one, here, only warms up and counts."""
    requests = max(FIRST, round(run(target, FIRST).rate * seconds))

    def sample() -> Sample:
        server_before, client_before = server(), _children()
        load = run(target, requests)
        return Sample(requests / load.rate, _children() - client_before, server() - server_before, requests)

    return sample


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
