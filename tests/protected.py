"""What tests of column protection share: a runner over a database, and tables as texts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from kms_client import Client
from psycopg import sql

from kms.columns.apply import Runner
from kms.columns.database import connect
from kms.columns.plan import parse

Rows = dict[str, tuple[str | None, ...]]


def at_once(_connection) -> None:
    """Wait for nothing."""


def silent(_task, _progress) -> None:
    """Tell nobody."""


@contextmanager
def runner(url: str, client: Client, plan: str, *, tell=silent, wait=at_once) -> Iterator[Runner]:
    with connect(url) as connection:
        yield Runner(connection, client, parse(plan.encode(), "plan"), tell, wait)


def texts(url: str, table: str, columns: str) -> Rows:
    """Return the columns of all rows as texts, by the first one."""
    with connect(url) as connection:
        query = ", ".join(f"{column.strip()}::text" for column in columns.split(","))
        return {row[0]: row[1:] for row in connection.execute(f"SELECT {query} FROM {table}")}  # noqa: S608


def checksum(url: str, table: str, columns: str) -> str:
    return hashlib.sha256(repr(sorted(texts(url, table, columns).items())).encode()).hexdigest()


def shape(url: str, table: str) -> list[tuple]:
    """Return what the catalogue says of a table: columns, indexes, triggers, constraints."""
    with psycopg.connect(url) as connection:
        oid = sql.Literal(table)
        queries = [
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = {}::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname",
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE indrelid = {}::regclass ORDER BY 1",
            "SELECT tgname FROM pg_trigger WHERE tgrelid = {}::regclass AND NOT tgisinternal ORDER BY 1",
            "SELECT conname FROM pg_constraint WHERE conrelid = {}::regclass ORDER BY 1",
        ]
        return [row for query in queries for row in connection.execute(sql.SQL(query).format(oid))]
