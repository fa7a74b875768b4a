"""Databases that bring every commit to the disk, and what one commit costs there."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import psycopg

from bench.rounds import Sample
from tests.postgresql_server import PostgresqlServer

POSTGRESQL: Final = Path("/usr/lib/postgresql")
COMMITS: Final = 100  # in one sample


@contextmanager
def durable_server() -> Iterator[PostgresqlServer]:
    """Start a PostgreSQL that brings every commit to the disk, as those of tests do not."""
    server = PostgresqlServer.create()
    try:
        server.start("fsync=on", "max_wal_size=1GB")  # what PostgreSQL has by itself
        yield server
    finally:
        server.destroy()


@contextmanager
def commits(directory: Path, url: str = "") -> Iterator[Callable[[], Sample]]:
    """Prepare what samples a database alone, in a directory or a server: one row changed and committed, by the driver."""
    if url:
        with psycopg.connect(url, autocommit=True) as server:
            server.execute("CREATE TABLE public.bare (n integer)")
            server.execute("INSERT INTO public.bare VALUES (0)")
            yield lambda: _sampled(lambda: server.execute("UPDATE public.bare SET n = n + 1"))
    else:
        with closing(sqlite3.connect(directory / "bare.db", isolation_level=None)) as file:
            for statement in (
                "PRAGMA journal_mode = wal",
                "PRAGMA synchronous = full",
                "CREATE TABLE bare (n integer)",
                "INSERT INTO bare VALUES (0)",
            ):
                file.execute(statement)
            yield lambda: _sampled(lambda: file.execute("UPDATE bare SET n = n + 1"))


def _sampled(work: Callable[[], object]) -> Sample:
    cpu, began = time.process_time(), time.perf_counter()
    for _ in range(COMMITS):
        work()
    return Sample(time.perf_counter() - began, time.process_time() - cpu, 0.0, COMMITS)
