"""Databases opened with a key for the MACs of their records, as the token gives one to a daemon: one for a whole test run."""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Any

import storage.postgresql
import storage.sqlite
from storage.database import Database
from storage.postgresql import PostgresqlDatabase
from storage.sqlite import SqliteDatabase

# Seconds for one step of a transaction, where a test is not about this bound: a busy machine may be away for a while.
PATIENT = 20.0

# Processes that a test starts get it, too.
KEY = os.environ.setdefault("KMS_TESTS_RECORD_KEY", os.urandom(32).hex())


class Sealer:
    """Computes MACs under a key in memory."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def mac(self, message: bytes) -> bytes:
        return hmac.digest(self._key, message, "sha256")


SEALER = Sealer(bytes.fromhex(KEY))


def _options(options: dict[str, Any]) -> dict[str, Any]:
    return {"sealer": SEALER, "bound": PATIENT, **options}


async def open_unadopted(target: Path | str, **options: Any) -> Database:
    """Open a database as it is."""
    options = _options(options)
    if isinstance(target, Path):
        return await storage.sqlite.open_sqlite(target, **options)
    return await storage.postgresql.open_postgresql(target, 4, **options)


async def open_sqlite(path: Path, **options: Any) -> SqliteDatabase:
    """Open a database, and adopt what a migration or a test has brought."""
    opened = await storage.sqlite.open_sqlite(path, **_options(options))
    await opened.adopt()
    return opened


async def open_unsealed(path: Path) -> SqliteDatabase:
    """Open a database without looking whether anything is to be adopted, which would write."""
    return await storage.sqlite.open_sqlite(path, **_options({}))


async def open_postgresql(url: str, pool_size: int = 8, **options: Any) -> PostgresqlDatabase:
    """Open a database, and adopt what a migration or a test has brought."""
    opened = await storage.postgresql.open_postgresql(url, pool_size, **_options(options))
    await opened.adopt()
    return opened


async def reseal(storage: Database) -> None:
    """Seal what is stored as it is: what whoever has the key of the MACs could do to a database."""
    engine, seals = storage._line.engine, storage._line.seals
    schema = "" if engine.dialect.name == "sqlite" else "security_internal."
    async with storage._session(None, write=True) as session:
        if schema:
            await session.raw("RESET ROLE")
        await session.raw(f"DELETE FROM {schema}tenant_roots")  # noqa: S608  no input
        await session.raw(f"DELETE FROM {schema}tree_nodes")  # noqa: S608  no input
    seals.epochs.clear()
    await storage.adopt()
