"""The census of columns: how many stored values each key version still protects (docs/columns.md, docs/census.md).

Counted on the primary server, in one statement that begins when every transaction has ended that was open when the
count began: a count that is too low would let a version be destroyed that is still needed.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from kms_client import AlreadyExists, Client, PlaceKind
from psycopg import sql

from .cells import ALIAS, Cell, cells_of
from .database import Connection, named, translated
from .errors import ColumnsError, NotVerified
from .plan import Mode
from .reencrypt import header
from .state import Known

PATIENCE: Final = 60.0  # seconds for transactions that were open when the count began
PAUSE: Final = 0.1  # seconds between looks at them
_SLUG_LENGTH: Final = 54  # characters of a place's id, before a hyphen and 8 digits

Versions = dict[int, int]  # how many values there are of each version


@dataclass(frozen=True, slots=True)
class Count:
    """A whole count of one column, for one key."""

    key_name: str
    table: str
    column: str  # the one in which they are
    place: str  # id, of the census
    description: str
    versions: Versions
    began: datetime


def count(
    connection: Connection,
    client: Client,
    columns: Sequence[Known],
    *,
    now: Callable[[], datetime],
    from_headers: bool = False,
    patience: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Count]:
    """Count what is stored of these columns by key version; nothing is reported.

    By the version columns and their indexes; ciphertexts within documents, and blind indexes, by what they begin with.

    Args:
        connection: in autocommit mode, to the primary server.
        client: for the ids of keys.
        columns: whose values are counted.
        now: the clock that says when the count began.
        from_headers: reads the beginning of every ciphertext instead of the version columns.
        patience: seconds for transactions that were open before.
        sleep: waits for some seconds.

    Raises:
        ColumnsError: it is a standby, or transactions are still open.
        NotVerified: a value is no ciphertext of the column's key, or has no version.
    """
    with translated():
        [(standby,)] = connection.execute("SELECT pg_is_in_recovery()").fetchall()
        if standby:
            raise ColumnsError("this is a standby, which may lag behind: count on the primary server")
        database = _database(connection)
        began = now()
        _outlast(connection, patience, sleep)
        counts = []
        headed = [known for known in columns if _needs_headers(known, from_headers=from_headers)]
        uids = {name: UUID(client.get_key(name).uid) for name in {known.key_name for known in headed}}
        with connection.transaction():
            # One snapshot for all, taken after `began`.
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            for known in columns:
                for key_name, column, versions in _of_column(
                    connection, known, uids[known.key_name] if known in headed else None
                ):
                    place = place_id(database, known.table, column)
                    description = f"database {database}, {known.table}.{column}"
                    counts.append(Count(key_name, known.table, column, place, description, versions, began))
        return counts


def report(client: Client, counts: Sequence[Count]) -> None:
    """Declare the places that are not yet there, and report the counts.

    That the places of a key are all there are is a person's word: `kms places complete`.

    Raises:
        KmsError: the daemon refuses; counts before that one have been reported.
    """
    declared: dict[str, set[str]] = {}
    for one in counts:
        if one.key_name not in declared:
            there = client.list_places(one.key_name).places
            declared[one.key_name] = {place.name.rpartition("/")[2] for place in there}
        if one.place not in declared[one.key_name]:
            with suppress(AlreadyExists):  # by another run, meanwhile
                client.create_place(one.key_name, one.place, PlaceKind.COLUMN, description=one.description)
        client.report_census(f"{one.key_name}/places/{one.place}", one.versions, count_time=one.began)


def place_id(database: str, table: str, column: str) -> str:
    """Return the id of a column's place: its name as a slug, and 8 digits that tell it from others of the same slug."""
    words = re.sub("[^a-z0-9]+", "-", f"{table}-{column}".lower()).strip("-")
    digits = hashlib.sha256(f"{database}\0{table}\0{column}".encode()).hexdigest()[:8]
    return f"{f'c-{words}'[:_SLUG_LENGTH].rstrip('-')}-{digits}"


def _database(connection: Connection) -> str:
    """Return what tells this database from all others: the id of its server, and its name."""
    query = "SELECT system_identifier::text, current_database() FROM pg_control_system()"
    [(server, name)] = connection.execute(query).fetchall()
    return f"{name} of server {server}"


def _outlast(connection: Connection, patience: float, sleep: Callable[[float], None]) -> None:
    """Wait for the end of all transactions that may have written already: their rows are in no snapshot yet."""
    # An id of our own is above those of all that have written; a snapshot's xmax is not.
    [(newest,)] = connection.execute("SELECT pg_current_xact_id()::text").fetchall()
    query = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= %s::xid8"
    waited = 0.0
    while not connection.execute(query, (newest,)).fetchall()[0][0]:
        if waited >= patience:
            raise ColumnsError(
                f"transactions that were open when the count began are still open after {patience:.0f} s, and nobody knows"
                " what they have written: end them, and prepared ones, and count again"
            )
        sleep(PAUSE)
        waited += PAUSE


def _needs_headers(known: Known, *, from_headers: bool) -> bool:
    """Say whether the version column does not serve: it has a document's lowest version, which says nothing of the others."""
    return known.column.mode is not Mode.HASH_ONLY and (from_headers or bool(known.column.paths))


def _of_column(connection: Connection, known: Known, uid: UUID | None) -> list[tuple[str, str, Versions]]:
    """Return key, column and counts of all that is stored of a protected column; *uid* where headers are read."""
    column = known.column
    counts = []
    if column.mode is not Mode.HASH_ONLY:
        versions = _by_version_column(connection, known) if uid is None else _by_headers(connection, known, uid)
        counts.append((known.key_name, column.ciphertext, versions))
    hashes = column.ciphertext if column.mode is Mode.HASH_ONLY else column.blind_index
    if hashes is not None and known.index_key_name is not None:
        counts.append((known.index_key_name, hashes, _of_hashes(connection, known, hashes)))
    return counts


def _by_version_column(connection: Connection, known: Known) -> Versions:
    ciphertext, version = (sql.Identifier(ALIAS, name) for name in (known.column.ciphertext, known.column.version))
    missing = sql.SQL("SELECT count(*) FROM {} AS t WHERE {} IS NULL AND {} IS NOT NULL")
    [(without,)] = connection.execute(missing.format(named(known.table), version, ciphertext)).fetchall()
    if without:
        raise NotVerified(
            f"{known.table}.{known.column.column}: {without} ciphertexts have no version beside them;"
            " run `kms columns reencrypt --from-headers`"
        )
    query = sql.SQL("SELECT {0}, count(*) FROM {1} AS t WHERE {0} IS NOT NULL GROUP BY {0}")
    return dict(sorted(connection.execute(query.format(version, named(known.table))).fetchall()))


def _by_headers(connection: Connection, known: Known, key: UUID) -> Versions:
    versions: Versions = {}
    for cell in cells_of(known):
        for uid, version, values in connection.execute(_heads(cell)).fetchall():
            if uid != key.bytes:
                what = "no ciphertexts" if uid is None else "ciphertexts of another key"
                raise NotVerified(f"{cell}: {values} values are {what}; run `kms columns verify`")
            number = int.from_bytes(version, "big")
            versions[number] = versions.get(number, 0) + values
    return dict(sorted(versions.items()))


def _heads(cell: Cell) -> sql.Composed:
    """Return the query for key id, version and number of a cell's ciphertexts; both are NULL for what is none."""
    return sql.SQL(
        "SELECT substr(head, 3, 16), substr(head, 19, 4), count(*)"
        " FROM (SELECT {head} AS head FROM {table} AS t WHERE {stored} IS NOT NULL) AS heads GROUP BY 1, 2"
    ).format(head=header(cell), table=named(cell.known.table), stored=cell.stored)


def _of_hashes(connection: Connection, known: Known, column: str) -> Versions:
    """Count by the 4 bytes that every hash begins with (FORMATS section 6)."""
    query = sql.SQL("SELECT substr({0}, 1, 4), count(*) FROM {1} AS t WHERE {0} IS NOT NULL GROUP BY 1").format(
        sql.Identifier(ALIAS, column), named(known.table)
    )
    return {int.from_bytes(version, "big"): values for version, values in sorted(connection.execute(query).fetchall())}
