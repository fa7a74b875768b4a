"""The database as whoever owns its server sees it: rows and columns as stored, with nothing that stands in the way.

Values are those of the drivers, not of the daemon's column types, so that what the daemon would never write can be written.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Table, UniqueConstraint

from storage.tables import declared

# ruff: noqa: S608  names of declared tables and columns

Row = Mapping[str, Any]
Identity = tuple[Any, ...]
Snapshot = dict[str, dict[Identity, dict[str, Any]]]


def identity(table: Table, row: Row) -> Identity:
    """The primary key's values."""
    return tuple(row[column.name] for column in table.primary_key.columns)


class Surface:
    """One connection past the daemon, each change committed at once or with its block."""

    engine: str
    _mark: str

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.tables: dict[str, Table] = {table.name: table for table in declared(self.engine).sorted_tables}

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        return self._connection.execute(statement, values) if values else self._connection.execute(statement)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change all at once."""
        self.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def rows(self, name: str) -> dict[Identity, dict[str, Any]]:
        table = self.tables[name]
        names = [column.name for column in table.columns]
        found = self.execute(f"SELECT {', '.join(map(_quoted, names))} FROM {_name(table)}").fetchall()
        rows = [dict(zip(names, row, strict=True)) for row in found]
        return {identity(table, row): row for row in rows}

    def insert(self, name: str, row: Row) -> None:
        names = ", ".join(map(_quoted, row))
        marks = ", ".join([self._mark] * len(row))
        self.execute(f"INSERT INTO {_name(self.tables[name])} ({names}) VALUES ({marks})", list(row.values()))

    def update(self, name: str, which: Identity, changes: Row) -> None:
        assignments = ", ".join(f"{_quoted(column)} = {self._mark}" for column in changes)
        where = self._where(name)
        done = self.execute(f"UPDATE {_name(self.tables[name])} SET {assignments} {where}", [*changes.values(), *which])
        assert done.rowcount == 1

    def delete(self, name: str, which: Identity) -> None:
        done = self.execute(f"DELETE FROM {_name(self.tables[name])} {self._where(name)}", list(which))
        assert done.rowcount == 1

    def empty(self, name: str) -> None:
        """Remove all rows, as TRUNCATE does."""
        self.execute(f"DELETE FROM {_name(self.tables[name])}")

    def snapshot(self) -> Snapshot:
        """Everything that is stored."""
        return {name: self.rows(name) for name in self.tables}

    def restore(self, wanted: Snapshot, names: Iterable[str] | None = None) -> int:
        """Let tables hold what a snapshot has; returns how many rows that took."""
        changed = 0
        with self.changing():
            for name in names or self.tables:
                present, target = self.rows(name), wanted[name]
                gone = [which for which, row in present.items() if target.get(which) != row]
                missing = [row for which, row in target.items() if present.get(which) != row]
                for which in gone:
                    self.delete(name, which)
                for row in missing:
                    self.insert(name, row)
                changed += len(gone) + len(missing)
        return changed

    def close(self) -> None:
        self._connection.close()

    def _where(self, name: str) -> str:
        columns = self.tables[name].primary_key.columns
        return "WHERE " + " AND ".join(f"{_quoted(column.name)} = {self._mark}" for column in columns)


class SqliteSurface(Surface):
    """An SQLite file."""

    engine, _mark = "sqlite", "?"

    def __init__(self, path: Path) -> None:
        super().__init__(sqlite3.connect(path, isolation_level=None, timeout=10))
        for pragma in (
            "foreign_keys = off",
            "ignore_check_constraints = on",
            "synchronous = off",
            "legacy_alter_table = on",
        ):
            self.execute(f"PRAGMA {pragma}")
        self.disarm()

    def disarm(self) -> None:
        """Remove what would refuse a change: triggers, unique indexes, and unique constraints by making the table anew."""
        for kind, pattern in (("trigger", "%"), ("index", "CREATE UNIQUE%")):
            statement = f"SELECT name FROM sqlite_master WHERE type = '{kind}' AND sql LIKE '{pattern}'"
            for (name,) in self.execute(statement).fetchall():
                self.execute(f"DROP {kind} {_quoted(name)}")
        found = "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND type = ? AND sql IS NOT NULL"
        for name in self.tables:
            [(sql,)] = self.execute(found, (name, "table")).fetchall()
            without = re.sub(r",\s*CONSTRAINT \w+ UNIQUE \([^)]*\)", "", sql)
            if without != sql:
                indexes = self.execute(found, (name, "index")).fetchall()
                with self.changing():
                    self.execute(re.sub(rf"CREATE TABLE \"?{name}\"?", "CREATE TABLE remade", without, count=1))
                    self.execute(f"INSERT INTO remade SELECT * FROM {_quoted(name)}")
                    self.execute(f"DROP TABLE {_quoted(name)}")
                    self.execute(f"ALTER TABLE remade RENAME TO {_quoted(name)}")
                    for (index,) in indexes:
                        self.execute(index)


class PostgresqlSurface(Surface):
    """A database of a server, as its superuser."""

    engine, _mark = "postgresql", "%s"

    def __init__(self, url: str) -> None:
        super().__init__(psycopg.connect(url, autocommit=True))
        self.execute("SET session_replication_role = replica")  # no trigger fires, no foreign key is looked at
        self.execute("SET synchronous_commit = off")
        self.disarm()

    def disarm(self) -> None:
        """Remove what would refuse a change."""
        for table in self.tables.values():
            self.execute(f"ALTER TABLE {_name(table)} DISABLE TRIGGER ALL")
            for index in table.indexes:
                if index.unique:
                    self.execute(f"DROP INDEX IF EXISTS {table.schema}.{_quoted(str(index.name))}")
            for constraint in table.constraints:
                if (
                    isinstance(constraint, UniqueConstraint)
                    or constraint.__visit_name__ == "table_or_column_check_constraint"
                ):
                    self.execute(
                        f"ALTER TABLE {_name(table)} DROP CONSTRAINT IF EXISTS {_quoted(str(constraint.name))} CASCADE"
                    )


def _quoted(name: str) -> str:
    return f'"{name}"'


def _name(table: Table) -> str:
    return ".".join(map(_quoted, filter(None, (table.schema, table.name))))
