"""bench/audit: what it costs that every call is durable in the audit trail before it is answered.

Two daemons on one kind of database, one as it is, and one whose calls pass a trail that writes nothing (bench/unaudited.py):
batches of a thousand values, single values with 64 callers at once, and one lone caller, in alternation. Beside them, one
bare commit of the database alone: no answer that is durable can be faster.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg

from bench import h2load, load, report
from bench.calls import encrypt_batch_request
from bench.databases import POSTGRESQL, commits, durable_server
from bench.rounds import Figures, Sample, Sampler, WrongResult, alternate, repeated
from bench.service import KEY, Service, running, serve
from bench.workload import SHARED, Workload, check_encrypted
from storage.migrate import upgrade

BATCH: Final = 1_000  # values
BATCHES: Final = 4  # in flight
LEAST_BATCH: Final = 0.8  # of the values a second without the trail
LEAST_UNARY: Final = 0.7  # of the calls a second without it
MOST_LONE: Final = 2.0  # bare commits for what a lone caller waits longer
CHECKPOINT: Final = 10.0  # seconds between two checkpoints, by default
CHECKPOINT_OPERATIONS: Final = (
    4  # at most, of the token: a signature, an anchor written, and what it takes the place of
)

AUDITED, SILENT, COMMIT = "with the trail", "without it", "one bare commit"
BATCHED, UNARY, LONE = f"EncryptBatch of {BATCH:,}, {BATCHES} in flight", "Encrypt, 64 in flight", "Encrypt, one caller"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float  # of each sample


FULL: Final = Effort(40, 0.2)  # short ones: a machine that is not alone changes its speed every few seconds
QUICK: Final = Effort(2, 0.1)


def unaudited(config: Path) -> list[str | Path]:
    """Return the command that serves without a trail."""
    return [sys.executable, "-m", "bench.unaudited", config]


@contextmanager
def daemons(postgresql: bool) -> Iterator[tuple[dict[str, Service], Callable[[], Sample]]]:
    """Serve with the trail and without it, on databases of their own; and what samples one bare commit beside them."""
    with ExitStack() as stack:
        urls = dict.fromkeys((AUDITED, SILENT), "")
        bare = ""
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kms-bench-")))
        if postgresql:
            server = stack.enter_context(durable_server())
            urls = {AUDITED: server.url("audited"), SILENT: server.url("silent")}
            bare = server.url("postgres")
            for url in urls.values():
                make_database(bare, url)
        commands = {AUDITED: serve, SILENT: unaudited}
        services = {name: stack.enter_context(running(commands[name], urls[name])) for name in urls}
        yield services, stack.enter_context(commits(directory, bare))


def make_database(admin: str, url: str) -> None:
    """Create and migrate a database."""
    name = urlsplit(url).path.removeprefix("/")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'".encode())
    upgrade(url)


def samplers(name: str, service: Service, seconds: float) -> dict[str, Sampler]:
    """Prepare the three kinds of work on one daemon."""
    one, many = Workload.of(1), Workload.of(BATCH)
    service.unix.encrypt(KEY, one.values[0], context=one.context)  # the DEK is loaded from here on
    batch = load.target(
        service.directory / "batch.bin", service.socket, "EncryptBatch", encrypt_batch_request(many), BATCHES
    )
    unary = load.target(service.directory / "unary.bin", service.socket, "Encrypt", load.encrypt_request(one))

    def lone() -> bytes:
        return service.unix.encrypt(KEY, one.values[0], context=one.context).ciphertext

    def look() -> None:
        made = service.tls.encrypt_batch(KEY, many.values, context=SHARED, varying=many.varying).complete()
        check_encrypted(service.tls, KEY, many, made)

    def values(sampler: Sampler) -> Sampler:
        def sample() -> Sample:
            taken = sampler()
            look()
            return Sample(taken.seconds, taken.client, taken.server, taken.items * BATCH)

        return sample

    return {
        f"{BATCHED}: {name}": values(h2load.sampler(batch, seconds, service.cpu)),
        f"{UNARY}: {name}": load.confirmed(service, "Encrypt", h2load.sampler(unary, seconds, service.cpu), one),
        f"{LONE}: {name}": repeated(lone, 1, seconds, server=service.cpu),
    }


def measure(database: str, effort: Effort) -> list[report.Aim]:
    """Measure on one kind of database, and print; returns the aims.

    Raises:
        WrongResult: something that was measured did not do its work.
    """
    with daemons(database == "PostgreSQL") as (services, commit):
        every: dict[str, Sampler] = {COMMIT: commit}
        for name, service in services.items():
            every |= samplers(name, service, effort.seconds)
        before, began = services[AUDITED].token_operations(), time.monotonic()
        figures = alternate(every, effort.rounds)
        checkpoints = effort.rounds + (time.monotonic() - began) / CHECKPOINT + 1
        if services[AUDITED].token_operations() - before > checkpoints * CHECKPOINT_OPERATIONS:
            raise WrongResult("the token is asked for more than checkpoints")
    for what, item in ((BATCHED, "value"), (UNARY, "call"), (LONE, "call")):
        chosen = {name: figures[f"{what}: {name}"] for name in (SILENT, AUDITED)}
        report.show(f"{database}: {what}", report.lines(chosen, item, SILENT))
    return [*_throughput(database, figures), _latency(database, figures)]


def _throughput(database: str, figures: dict[str, Figures]) -> list[report.Aim]:
    aims = []
    for what, least in ((BATCHED, LEAST_BATCH), (UNARY, LEAST_UNARY)):
        without, audited = figures[f"{what}: {SILENT}"], figures[f"{what}: {AUDITED}"]
        ratios = without.times(audited), without.times_quietest(audited)
        aims.append(report.Aim(f"{database}: {what}, part of the rate without the trail", *ratios, least=least))
    return aims


def _latency(database: str, figures: dict[str, Figures]) -> report.Aim:
    """What a lone caller waits longer, in bare commits of the same round."""
    rounds = zip(*(figures[name].samples for name in (f"{LONE}: {AUDITED}", f"{LONE}: {SILENT}", COMMIT)), strict=True)
    each = [[sample.seconds / sample.items for sample in samples] for samples in rounds]
    longer = sorted((audited - silent) / commit for audited, silent, commit in each)
    audited, silent, commit = (min(column) for column in zip(*each, strict=True))
    lone = [f"a call {name}: {figures[f'{LONE}: {name}'].microseconds:,.0f} us" for name in (SILENT, AUDITED)]
    report.show(f"{database}: a lone caller", [f"{COMMIT}: {figures[COMMIT].microseconds:,.0f} us", *lone])
    quietest = (audited - silent) / commit
    what = f"{database}: what a lone caller waits longer, in bare commits"
    return report.Aim(what, longer[len(longer) // 2], quietest, most=MOST_LONE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/audit", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it works, not how fast it is")
    parser.add_argument("--database", choices=("both", "sqlite", "postgresql"), default="both")
    options = parser.parse_args(arguments)
    effort = QUICK if options.quick else FULL
    if options.database != "sqlite" and not POSTGRESQL.is_dir():
        print("PostgreSQL's server is not installed (Debian: apt-get install postgresql)", file=sys.stderr)
        return 2
    try:
        h2load.find()
        report.show("Environment", report.environment())
        aims = []
        for database, name in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL")):
            if options.database in {"both", database}:
                aims += measure(name, effort)
        report.show("Aims", map(str, aims))
    except h2load.Missing as missing:
        print(missing, file=sys.stderr)
        return 2
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
