"""bench/coalescing: many tasks or threads that each want single values, as single calls and coalesced.

Each task of the asynchronous client, or thread of the other, asks for one value after another (a closed loop), with mutual TLS. Client and daemon share the machine. Tasks that
one answer wakes ask together again, which flatters coalescing; with tasks that come and go, what gathers while two batches
are in flight is what is won.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from kms_client import AsyncClient, Client, Encrypted
from kms_client.coalescing import Coalescing
from kms_client.thread_coalescing import ThreadCoalescing

from bench import report
from bench.report import Aim
from bench.rounds import Figures, Sample, Sampler, WrongResult, alternate
from bench.service import KEY, Service, running
from bench.workload import SHARED, VARYING, Workload, check_encrypted

TASKS: Final = (1, 64, 1_000)
ROUNDS: Final = 7
SECONDS: Final = 1.5  # of a sample
THREADS: Final = 64
LEAST_THREADS: Final = 3.0
LEAST: Final = {1: 0.9, 64: 4.0, 1_000: 10.0}  # times the values of single calls: what a prototype gave

UNARY, COALESCED = "single calls", "coalesced"

Encrypt = Callable[[bytes, str], Awaitable[Encrypted]]
EncryptInThread = Callable[[bytes, str], Encrypted]


async def closed_loop(encrypt: Encrypt, work: Workload, seconds: float) -> tuple[int, list[bytes]]:
    """Let one task for each value of *work* encrypt it again and again; returns how many, and the last ciphertexts."""
    last: list[bytes] = [b""] * len(work.values)
    end = time.perf_counter() + seconds

    async def task(index: int) -> int:
        done = 0
        while not done or time.perf_counter() < end:
            last[index] = (await encrypt(work.values[index], work.rows[index])).ciphertext
            done += 1
        return done

    return sum(await asyncio.gather(*map(task, range(len(work.values))))), last


def sampler(service: Service, runner: asyncio.Runner, encrypt: Encrypt, work: Workload, seconds: float) -> Sampler:
    """Make a sampler of the closed loop; what it has made is checked after the clock has stopped."""

    def sample() -> Sample:
        server, client, began = service.cpu(), time.process_time(), time.perf_counter()
        count, last = runner.run(closed_loop(encrypt, work, seconds))
        taken = Sample(time.perf_counter() - began, time.process_time() - client, service.cpu() - server, count)
        check_encrypted(service.tls, KEY, work, last)
        return taken

    return sample


def measured(service: Service, tasks: int, rounds: int, seconds: float) -> dict[str, Figures]:
    """Measure so many tasks in alternation.

    Raises:
        WrongResult: a ciphertext is not that of its task's value and row.
    """
    work = Workload.of(tasks)

    with asyncio.Runner() as runner:
        client = AsyncClient.from_profile(service.directory / "client" / "kms.toml", deadline=60)
        coalescing = Coalescing(client, varying=VARYING)

        def one_by_one(value: bytes, row: str) -> Awaitable[Encrypted]:
            return client.encrypt(KEY, value, context={**SHARED, VARYING: row})

        def together(value: bytes, row: str) -> Awaitable[Encrypted]:
            return coalescing.encrypt(KEY, value, context={**SHARED, VARYING: row})

        samplers = {
            UNARY: sampler(service, runner, one_by_one, work, seconds),
            COALESCED: sampler(service, runner, together, work, seconds),
        }
        for take in samplers.values():
            take()  # opens the connection, and fills the caches of both sides
        figures = alternate(samplers, rounds)
        runner.run(coalescing.close())
        runner.run(client.close())
    return figures


def threads_loop(encrypt: EncryptInThread, work: Workload, seconds: float) -> tuple[int, list[bytes]]:
    """As closed_loop, with a thread for each value."""
    last: list[bytes] = [b""] * len(work.values)
    counts = [0] * len(work.values)
    end = time.perf_counter() + seconds

    def thread(index: int) -> None:
        while not counts[index] or time.perf_counter() < end:
            last[index] = encrypt(work.values[index], work.rows[index]).ciphertext
            counts[index] += 1

    running = [threading.Thread(target=thread, args=(index,)) for index in range(len(work.values))]
    for one in running:
        one.start()
    for one in running:
        one.join()
    return sum(counts), last


def threads_sampler(service: Service, encrypt: EncryptInThread, work: Workload, seconds: float) -> Sampler:
    """As sampler, with a thread for each value."""

    def sample() -> Sample:
        server, client, began = service.cpu(), time.process_time(), time.perf_counter()
        count, last = threads_loop(encrypt, work, seconds)
        taken = Sample(time.perf_counter() - began, time.process_time() - client, service.cpu() - server, count)
        check_encrypted(service.tls, KEY, work, last)
        return taken

    return sample


def measured_threads(service: Service, threads: int, rounds: int, seconds: float) -> dict[str, Figures]:
    """Measure so many threads in alternation.

    Raises:
        WrongResult: a ciphertext is not that of its thread's value and row.
    """
    work = Workload.of(threads)
    profile = service.directory / "client" / "kms.toml"
    with Client.from_profile(profile, deadline=60) as client, ThreadCoalescing(client, varying=VARYING) as coalescing:

        def one_by_one(value: bytes, row: str) -> Encrypted:
            return client.encrypt(KEY, value, context={**SHARED, VARYING: row})

        def together(value: bytes, row: str) -> Encrypted:
            return coalescing.encrypt(KEY, value, context={**SHARED, VARYING: row})

        samplers = {
            UNARY: threads_sampler(service, one_by_one, work, seconds),
            COALESCED: threads_sampler(service, together, work, seconds),
        }
        for take in samplers.values():
            take()  # opens the connection, and fills the caches of both sides
        return alternate(samplers, rounds)


def aim(callers: str, figures: dict[str, Figures], least: float) -> Aim:
    """Return how many times the values of single calls are to be had."""
    base, own = figures[UNARY], figures[COALESCED]
    return Aim(f"{callers}, values of {COALESCED} by {UNARY}", base.times(own), base.times_quietest(own), least=least)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/coalescing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="shows that it works, not how fast it is")
    options = parser.parse_args(arguments)
    rounds, seconds = (1, 0.1) if options.quick else (options.rounds, SECONDS)
    try:
        report.show("Environment", report.environment())
        with running() as service:
            aims = []
            for tasks in TASKS:
                figures = measured(service, tasks, rounds, seconds)
                report.show(f"{tasks:,} tasks", report.lines(figures, "value", UNARY))
                aims.append(str(aim(f"{tasks} tasks", figures, LEAST[tasks])))
            figures = measured_threads(service, THREADS, rounds, seconds)
            report.show(f"{THREADS} threads", report.lines(figures, "value", UNARY))
            aims.append(str(aim(f"{THREADS} threads", figures, LEAST_THREADS)))
        report.show("Aims", aims)
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
