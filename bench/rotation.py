"""bench/rotation: keys that are all due at once get new primary versions, beside what token and database alone can do.

The work is the daemon's own (scheduler, rotator, database, token host), in this process and without gRPC, on an
installation of its own. After each batch of it the bare limits are sampled: random bytes and a wrap by python-pkcs11 in a
process of its own, and commits of one changed row by the database's driver. Then the keys are due again, and the
scheduler does them with its pauses, while somebody encrypts under a cached key every few milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any, Final
from uuid import uuid4

import uvloop

from bench import report
from bench.databases import POSTGRESQL, commits, durable_server
from bench.process import PATIENCE, free_port
from bench.rounds import Figures, Sample, WrongResult
from bench.service import kmsd
from kms.clock import boottime
from kms.core.clock import ClockWatch
from kms.core.lease import ENDLESS
from kms.core.names import KeyName, Principal
from kms.core.rotation import KekPolicy
from kms.core.suites import Purpose, Suite
from kms.crypto.cache import DekCache
from kms.logs import configure
from kms.parts import Parts, opened_parts
from kms.services.due_keys import DueKeys
from kms.services.fields import Fields
from kms.services.keks import Keks
from kms.services.keyrings import Keyrings
from kms.services.keys import Keys, NewKey
from kms.services.operations import Operations
from kms.services.rotating import Rotator
from kms.services.rotation import AT_ONCE, BATCH, SHARE, Rotation
from kms.services.tenants import Tenants
from kms.services.uses import UseRecorder
from kms.setting_values import Secret
from kms.settings import PostgresqlStorage, Settings, load
from storage.migrate import upgrade

OPERATOR: Final = Principal(None, "bench")
CALLER: Final = Principal("bench", "bench")
DEFAULT: Final = 1_000  # keys
BARE: Final = 100  # of each bare limit after each batch
PAUSE: Final = 0.005  # seconds between two values that are encrypted meanwhile
CACHED: Final = KeyName("bench", "cached")
TOKEN, COMMIT, ROTATION = "token alone: random and wrap", "database alone: commit", "rotation of due keys"


@dataclass(slots=True)
class Wall:
    """The wall clock, moved ahead as far as keys shall be due."""

    ahead: timedelta = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass(frozen=True, slots=True)
class Result:
    """What one run has shown; latencies in milliseconds."""

    figures: dict[str, Figures]
    paced: float  # rotations a second with the pauses
    alone: Sequence[float]
    beside: Sequence[float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/rotation", description=__doc__)
    parser.add_argument("keys", nargs="?", type=int, default=DEFAULT, help=f"how many, at least {BATCH}")
    parser.add_argument("--database", choices=("both", "sqlite", "postgresql"), default="both")
    options = parser.parse_args(arguments)
    configure("error", "text")
    report.show("Environment", report.environment())
    try:
        if options.database != "postgresql":
            with _installation() as made:
                _show("SQLite", uvloop.run(_run(made, options.keys)))
        if options.database != "sqlite":
            if not POSTGRESQL.is_dir():
                print("PostgreSQL's server is not installed (Debian: apt-get install postgresql)", file=sys.stderr)
                return 2
            with _installation() as made, durable_server() as server:
                url = server.url("postgres")
                upgrade(url)
                secret = made.data_directory / "url"
                secret.write_text(url)
                storage = PostgresqlStorage(kind="postgresql", url=Secret(file=secret))
                _show("PostgreSQL", uvloop.run(_run(made.model_copy(update={"storage": storage}), options.keys)))
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    return 0


def _show(database: str, result: Result) -> None:
    report.show(f"{database}: {AT_ONCE} keys at a time, without pauses", report.lines(result.figures, "key", TOKEN))
    rotation, commit = result.figures[ROTATION], result.figures[COMMIT]
    lines = [f"rotation by the time of a bare commit: {rotation.times(commit):.1f}"]
    lines.append(f"with pauses (at most {SHARE:.0%} of the time): {result.paced:,.0f} keys/s")
    for name, times in (("alone", result.alone), ("beside it", result.beside)):
        cut = quantiles(times, n=100)
        lines.append(f"Encrypt, {name}: median {cut[49]:.2f} ms, 99 % {cut[98]:.2f} ms, most {max(times):.2f} ms")
    report.show(f"{database}: also", lines)


@contextmanager
def _installation() -> Iterator[Settings]:
    directory = Path(tempfile.mkdtemp(prefix="kms-bench-"))
    try:
        kmsd("init", str(directory / "kms"), "--address", f"127.0.0.1:{free_port()}")
        yield load(directory / "kms" / "kmsd.toml")
    finally:
        shutil.rmtree(directory)


class Bench:
    """The daemon's parts around one installation."""

    def __init__(self, parts: Parts) -> None:
        self.wall = Wall()
        self.storage = parts.storage
        self.rotator = Rotator(parts.storage, parts.wrapping, self.wall)
        operations = Operations(parts.storage, {}, uuid4(), self.wall)
        keks = Keks(parts.storage, parts.vault, parts.usage, operations, KekPolicy(), self.wall)
        self.tenants = Tenants(parts.storage, keks, self.wall)
        rings, versions = (DekCache[Any, Any](100, 3600.0, time.monotonic) for _ in range(2))
        uses = UseRecorder(parts.storage, self.wall)
        keyrings = Keyrings(parts.storage, parts.wrapping, parts.usage, rings, versions, uses, boottime)
        keyrings.lease = ENDLESS  # no other node is there
        self.keys = Keys(parts.storage, self.tenants, keyrings, self.rotator, self.wall)
        self.fields = Fields(keyrings, 1, "rotation")

    async def make(self, count: int) -> str:
        """Make a tenant, *count* keys and one more that stays in memory; returns the PKCS#11 id of its KEK."""
        tenant = await self.tenants.create(OPERATOR, CALLER.tenant or "", "")
        for first in range(0, count, 8):
            await asyncio.gather(*(self._key(f"k{index}") for index in range(first, min(first + 8, count))))
        await self._key(CACHED.key)
        await self.encrypt()
        return (tenant.kek.bytes + (1).to_bytes(4, "big")).hex()

    async def _key(self, slug: str) -> None:
        wish = NewKey(slug, "", Purpose.ENCRYPT, Suite.AES_256_GCM, {})
        await self.keys.create(CALLER, CACHED.parent, wish)

    async def encrypt(self) -> None:
        """Encrypt a value under the key that stays in memory."""
        await self.fields.encrypt(CALLER, CACHED, bytes(64), ())

    def rotation(self) -> Rotation:
        """Return a scheduler that leaves the key in memory where it is."""
        return Rotation(
            self.storage,
            DueKeys(self.storage, self.rotator, None, lambda _: None, self.wall),
            None,
            _no_kek,
            uuid4(),
            PATIENCE,
            ClockWatch.started(self.wall(), boottime(), None),
            self.wall,
            boottime,
        )

    async def check(self, count: int, primary: int) -> None:
        """Look whether each key was rotated each time.

        Raises:
            WrongResult: one was not.
        """
        keys = [status.key for status in await self.keys.list_by_slug(CALLER, CACHED.parent, "", count + 2)]
        if [key.primary_version for key in keys] != [primary] * (count + 1):
            raise WrongResult("a key has not as many versions as it had times to be rotated")


async def _no_kek(*_: object) -> None:
    """Nothing here comes near a KEK's limit."""


async def _run(settings: Settings, count: int) -> Result:
    async with AsyncExitStack() as stack:
        bench = Bench(await stack.enter_async_context(opened_parts(settings)))
        kek = await bench.make(count)
        token = stack.enter_context(_token(settings, kek))
        storage = settings.storage
        url = storage.url.read().get_secret_value() if isinstance(storage, PostgresqlStorage) else ""
        commit = stack.enter_context(commits(settings.data_directory, url))
        bench.wall.ahead = timedelta(hours=25)
        figures = await _measured(bench.rotation(), token, commit)
        await bench.check(count, 2)
        alone = await _latencies(bench, asyncio.create_task(asyncio.sleep(1)))
        bench.wall.ahead = timedelta(hours=49)
        rotation = bench.rotation()
        began = time.perf_counter()
        loop = asyncio.create_task(rotation.run())
        beside = await _latencies(bench, asyncio.create_task(_until(rotation, count + 1)))
        paced = (count + 1) / (time.perf_counter() - began)
        loop.cancel()
        await asyncio.wait([loop])
        await bench.check(count, 3)
        return Result(figures, paced, alone, beside)


async def _measured(
    rotation: Rotation, token: Callable[[], Sample], commit: Callable[[], Sample]
) -> dict[str, Figures]:
    """Do all that is due, batch by batch, and sample the bare limits after each."""
    samples: dict[str, list[Sample]] = {TOKEN: [], COMMIT: [], ROTATION: []}
    while True:
        done, cpu, began = rotation.counts.rotations.total(), time.process_time(), time.perf_counter()
        if not await rotation.step():
            break
        elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
        samples[ROTATION].append(Sample(elapsed, cpu, 0.0, rotation.counts.rotations.total() - done))
        samples[TOKEN].append(token())
        samples[COMMIT].append(commit())
    if rotation.counts.failures:
        raise WrongResult(f"{rotation.counts.failures} rotations failed")
    return {name: Figures(taken) for name, taken in samples.items()}


async def _until(rotation: Rotation, count: int) -> None:
    while rotation.counts.rotations.total() < count:
        if rotation.counts.failures:
            raise WrongResult(f"{rotation.counts.failures} rotations failed")
        await asyncio.sleep(0.01)


async def _latencies(bench: Bench, meanwhile: asyncio.Task[None]) -> list[float]:
    """Encrypt a value every few milliseconds until *meanwhile* is done; returns how late each was, in milliseconds."""
    times = []
    while not meanwhile.done():
        due = time.perf_counter() + PAUSE
        await asyncio.sleep(PAUSE)
        await bench.encrypt()
        times.append((time.perf_counter() - due) * 1e3)
    await meanwhile
    return times


@contextmanager
def _token(settings: Settings, kek: str) -> Iterator[Callable[[], Sample]]:
    """Start what samples the token alone."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.bare_wrap"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(settings.token.environment),
        cwd=Path(__file__).parents[1],
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipes")
    to, answers = process.stdin, process.stdout
    pin = settings.token.pin.read().get_secret_value()
    task = {"module": str(settings.token.module), "label": settings.token.label, "pin": pin, "kek": kek}
    print(json.dumps(task), file=to, flush=True)

    def sample() -> Sample:
        print(BARE, file=to, flush=True)
        return Sample(float(answers.readline()), 0.0, 0.0, BARE)

    try:
        sample()  # the first call also waits for the login
        yield sample
    finally:
        to.close()
        answers.close()
        process.wait(PATIENCE)


if __name__ == "__main__":
    sys.exit(main())
