"""Databases that lie, on both engines."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from storage.migrate import upgrade
from tests.contract.storage_integrity import IntegrityContract
from tests.sealing import open_unadopted

# ruff: noqa: S608  no input


class SqliteHostile:
    """Whoever can write to the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def execute(self, statement: str, *values: Any) -> list[Any]:
        stored = [str(v) if isinstance(v, uuid.UUID) else 0 if isinstance(v, datetime) else v for v in values]
        flat = statement.replace("security_internal.", "").replace("security_secret.", "").replace("%s", "?")
        connection = sqlite3.connect(self._path, timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            with connection:
                return connection.execute(flat, stored).fetchall()
        finally:
            connection.close()

    def rows(self, table: str, **where: Any) -> list[dict[str, Any]]:
        asked = " AND ".join(f"{name} = %s" for name in where)
        return [dict(row) for row in self.execute(f"SELECT * FROM {table} WHERE {asked}", *where.values())]

    def put(self, table: str, rows: list[Mapping[str, Any]]) -> None:
        for row in rows:
            names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
            self.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", *row.values())


class PostgresqlHostile:
    """A superuser."""

    def __init__(self, url: str) -> None:
        self._url = url

    def execute(self, statement: str, *values: Any) -> list[Any]:
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            # References are no obstacle to who owns the tables.
            connection.execute("SET session_replication_role = replica")
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def rows(self, table: str, **where: Any) -> list[dict[str, Any]]:
        asked = " AND ".join(f"{name} = %s" for name in where)
        return self.execute(f"SELECT * FROM {table} WHERE {asked}", *where.values())

    def put(self, table: str, rows: list[Mapping[str, Any]]) -> None:
        for row in rows:
            names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
            fresh = ", ".join(f"{name} = EXCLUDED.{name}" for name in row)
            [key] = self.execute(
                "SELECT string_agg(a.attname, ', ') AS columns FROM pg_index i JOIN pg_attribute a"
                " ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) WHERE i.indisprimary AND i.indrelid = %s::regclass",
                table,
            )
            self.execute(
                f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({key['columns']}) DO UPDATE SET {fresh}",
                *row.values(),
            )


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("migrated") / "kms.db"
    upgrade(path)
    return path


class _Integrity(IntegrityContract):
    @pytest.fixture
    async def opener(self, target):
        opened = []

        async def open_again(**options):
            opened.append(await open_unadopted(target, **options))
            if len(opened) == 1:
                await opened[0].adopt()
            return opened[-1]

        yield open_again
        for storage in opened:
            await storage.close()

    @pytest.fixture
    async def storage(self, opener):
        return await opener()


class TestSqliteIntegrity(_Integrity):
    @pytest.fixture
    def target(self, tmp_path, migrated):
        return Path(shutil.copy2(migrated, tmp_path))

    @pytest.fixture
    def hostile(self, target):
        return SqliteHostile(target)


@pytest.mark.postgresql
class TestPostgresqlIntegrity(_Integrity):
    @pytest.fixture
    def target(self, daemon_url):
        return daemon_url

    @pytest.fixture
    def hostile(self, postgresql_url):
        return PostgresqlHostile(postgresql_url)
