"""bench/rewrap: all DEKs of a tenant come under a new KEK version, beside what the token alone can do.

The work is the daemon's own (operations, runner, database, token host), in this process and without gRPC, on an
installation of its own. The bare rate is python-pkcs11's in one process that decrypts and encrypts the same blobs under
the same KEKs and does nothing else; it is measured before and after. Meanwhile somebody asks the token to unwrap a DEK
every few milliseconds, and the time of each call is taken.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from random import Random
from statistics import mean, quantiles
from typing import Any, Final
from uuid import uuid4

import uvloop

from bench import deks, report
from bench.process import free_port
from bench.rounds import WrongResult
from bench.service import kmsd
from kms.core.keyring import Kek, Tenant
from kms.core.names import KeyUid, Principal, TenantName
from kms.core.operations import Operation, OperationKind, OperationState
from kms.core.rotation import KekPolicy
from kms.core.suites import RULES
from kms.core.wrapping import WrappedDek, binding
from kms.logs import configure
from kms.parts import Parts, opened_parts
from kms.services.keks import Keks
from kms.services.operations import Operations
from kms.services.rewrap import Rewrap
from kms.services.tenants import Tenants
from kms.setting_values import Secret
from kms.settings import PostgresqlStorage, Settings, load
from storage.migrate import upgrade
from tests.postgresql_server import own_server

OPERATOR: Final = Principal(None, "bench")
NAME: Final = TenantName("bench")
TARGET: Final = f"{NAME}/keks"
DEFAULT: Final = 2_000  # DEKs
BARE: Final = 5_000  # unwraps and wraps by the token alone
CHECKED: Final = 500  # DEKs that are compared with what they were
PAUSE: Final = 0.005  # seconds between two interactive calls
POSTGRESQL: Final = Path("/usr/lib/postgresql")

Identity = tuple[KeyUid, int]


@dataclass(frozen=True, slots=True)
class Result:
    """What one run has shown; latencies in milliseconds, sorted."""

    count: int
    seconds: float
    bare_rate: float
    alone: Sequence[float]
    beside: Sequence[float]

    @property
    def rate(self) -> float:
        """DEKs per second."""
        return self.count / self.seconds

    def row(self, name: str) -> tuple[str, ...]:
        """Return the cells of a table."""
        alone, beside = (quantiles(times, n=100) for times in (self.alone, self.beside))
        return (
            name,
            f"{self.count:,}",
            f"{self.seconds:,.1f}",
            f"{self.rate:,.0f}",
            f"{self.bare_rate:,.0f}",
            f"{self.rate / self.bare_rate:.2f}",
            f"{alone[49]:.1f} / {alone[98]:.1f}",
            f"{beside[49]:.1f} / {beside[98]:.1f} / {self.beside[-1]:.1f}",
        )


HEADER: Final = (
    "",
    "DEKs",
    "seconds",
    "DEKs/s",
    "token alone/s",
    "ratio",
    "unwrap alone ms: median / 99 %",
    "beside it: median / 99 % / most",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print everything; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/rewrap", description=__doc__)
    parser.add_argument("deks", nargs="?", type=int, default=DEFAULT, help="how many; 100000 takes some minutes")
    parser.add_argument("--database", choices=("both", "sqlite", "postgresql"), default="both")
    options = parser.parse_args(arguments)
    configure("error", "text")
    report.show("Environment", report.environment())
    rows = []
    try:
        if options.database != "postgresql":
            rows.append(_measured(options.deks, None).row("SQLite"))
        if options.database != "sqlite":
            if not POSTGRESQL.is_dir():
                print("PostgreSQL's server is not installed (Debian: apt-get install postgresql)", file=sys.stderr)
                return 2
            with own_server() as server:
                rows.append(_measured(options.deks, server.url("postgres")).row("PostgreSQL"))
    except WrongResult as wrong:
        print(f"wrong result: {wrong}", file=sys.stderr)
        return 1
    report.show("Re-wrapping", report.table(HEADER, rows))
    return 0


def _measured(count: int, postgresql: str | None) -> Result:
    with _installation() as made:
        if postgresql is None:
            return uvloop.run(_run(made, count))
        upgrade(postgresql)
        secret = made.data_directory / "url"
        secret.write_text(postgresql)
        storage = PostgresqlStorage(kind="postgresql", url=Secret(file=secret))
        return uvloop.run(_run(made.model_copy(update={"storage": storage}), count))


@contextmanager
def _installation() -> Iterator[Settings]:
    directory = Path(tempfile.mkdtemp(prefix="kms-bench-"))
    try:
        kmsd("init", str(directory / "kms"), "--address", f"127.0.0.1:{free_port()}")
        yield load(directory / "kms" / "kmsd.toml")
    finally:
        shutil.rmtree(directory)


async def _run(settings: Settings, count: int) -> Result:
    async with opened_parts(settings) as parts:
        runner = Rewrap(parts.storage, parts.vault, parts.wrapping)
        operations = Operations(parts.storage, {OperationKind.REWRAP: runner}, uuid4(), _now)
        keks = Keks(parts.storage, parts.vault, parts.usage, operations, KekPolicy(), _now)
        tenant = await Tenants(parts.storage, keks, _now).create(OPERATOR, NAME.tenant, "")
        made = await deks.make(parts, tenant, count)
        chosen = Random(1).sample(sorted(made), min(CHECKED, count))
        await keks.rotate(OPERATOR, NAME, 1)
        old, new = await _kek(parts, tenant, 1), await _kek(parts, tenant, 2)
        task = await _bare_task(settings, parts, old, new, chosen)
        bare_before = await asyncio.to_thread(_bare, settings, task)
        interactive = _Interactive(parts, old)
        alone = await interactive.during(asyncio.sleep(1.0))
        operation = await operations.start(tenant, OperationKind.REWRAP, TARGET, "bench", count)
        began = time.perf_counter()
        beside = await interactive.during(_ended(parts, operations, operation))
        seconds = time.perf_counter() - began
        bare_after = await asyncio.to_thread(_bare, settings, task)
        async with parts.storage.transaction(tenant.uid) as work:
            wrapped = await work.key_versions.count_by_kek(tenant.uid)
        if wrapped != {2: count}:
            raise WrongResult(f"DEKs by KEK version: {wrapped}")
        if differing := await deks.differing(parts, tenant, {identity: made[identity] for identity in chosen}):
            raise WrongResult(f"{differing} of {len(chosen)} DEKs are not what they were")
        return Result(count, seconds, BARE / mean((bare_before, bare_after)), alone, beside)


def _now() -> datetime:
    return datetime.now(UTC)


async def _kek(parts: Parts, tenant: Tenant, version: int) -> Kek:
    async with parts.storage.transaction(tenant.uid) as work:
        kek = await work.keks.get(tenant.uid, version)
    if kek is None:
        raise WrongResult(f"{NAME.kek(version)} is not there")
    return kek


async def _ended(parts: Parts, operations: Operations, operation: Operation) -> None:
    """Let this process do what a daemon does, until the operation has ended."""
    running = asyncio.create_task(operations.run())
    try:
        while operation.state is OperationState.RUNNING:
            await asyncio.sleep(0.1)
            async with parts.storage.transaction(operation.tenant) as work:
                operation = await work.operations.get(operation.tenant, operation.uid) or operation
    finally:
        running.cancel()
        await asyncio.wait({running})
    if operation.state is not OperationState.SUCCEEDED:
        raise WrongResult(f"the operation has {operation.state}: {operation.error}")


class _Interactive:
    """Somebody who needs the token every few milliseconds, as a daemon does whose cache misses."""

    def __init__(self, parts: Parts, kek: Kek) -> None:
        self._parts = parts
        self._kek = kek

    async def during(self, work: Any) -> list[float]:
        """Return how many milliseconds each call took while *work* was done, sorted."""
        blob = await self._parts.vault.wrap(self._kek, bytes(32), b"bench")
        task = asyncio.ensure_future(work)
        times = []
        while not task.done():
            began = time.perf_counter()
            await self._parts.vault.unwrap(self._kek, blob, b"bench")
            times.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(PAUSE)
        await task
        return sorted(times)


async def _bare_task(
    settings: Settings, parts: Parts, old: Kek, new: Kek, chosen: Sequence[Identity]
) -> dict[str, object]:
    items = []
    async with parts.storage.transaction(old.tenant) as work:
        for uid, number in islice(cycle(chosen), BARE):
            if len(items) < len(chosen):
                key = await work.keys.by_uid(old.tenant, uid)
                version = await work.key_versions.get(old.tenant, uid, number)
                if key is None or version is None or old.mechanism is None or new.mechanism is None:
                    raise WrongResult("a DEK is not there")
                blob, length = WrappedDek.parse(version.wrapped), RULES[key.suite].dek_length
                bounds = [binding(key.place(number), k.uid, k.version, k.mechanism, length) for k in (old, new)]
                items.append([part.hex() for part in (blob.iv, blob.body, *bounds)])
    ids = [(kek.uid.bytes + kek.version.to_bytes(4, "big")).hex() for kek in (old, new)]
    return {
        "module": str(settings.token.module),
        "label": settings.token.label,
        "old": ids[0],
        "new": ids[1],
        "items": list(islice(cycle(items), BARE)),
    }


def _bare(settings: Settings, task: dict[str, object]) -> float:
    """Return the seconds that BARE unwraps and wraps took."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.bare_token"],
        input=json.dumps({**task, "pin": settings.token.pin.read().get_secret_value()}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=Path(__file__).parents[1],
        env=dict(settings.token.environment),
    )
    if done.returncode != 0:
        raise WrongResult(f"the token alone: {done.stderr[-500:]}")
    return float(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
