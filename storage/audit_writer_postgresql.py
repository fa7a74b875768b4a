"""The audit log on PostgreSQL: one connection of its own, one round trip for a group.

Like everything on PostgreSQL here it works through a transaction pooler: role, limits and durability are set for each
transaction, nothing is prepared in the server, and no lock outlives a transaction.

The columns of a group go as one array each, in the server's binary form, and are sent through libpq's own interface: the
driver's ways take several times as long, and a call waits for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait

from kms.core.audit import StreamUid
from kms.core.audit_ports import Position
from kms.core.canonical import microseconds
from kms.core.errors import AuditUnavailable, StorageUnavailable

from .audit_opening import open_audit_writer
from .audit_rows import COLUMNS, NUMBERS, OCTETS, WORDS, Row
from .audit_store import Collided, NotWritten, OutcomeUnknown, bounded
from .audit_writer import GroupCommit
from .conninfo import parameters
from .errors import translated
from .postgresql import IDLE_TIMEOUT, LOCK_TIMEOUT, STATEMENT_TIMEOUT, shut_down
from .roles import AUDIT, USER, excess_of

_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
# A server that confirms commits before they are on disk would lose events that were acknowledged.
_SET: Final = f"""SELECT set_config('role', '{AUDIT}', true),
    set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on'), true),
    set_config('statement_timeout', '{STATEMENT_TIMEOUT}', true), set_config('lock_timeout', '{LOCK_TIMEOUT}', true),
    set_config('idle_in_transaction_session_timeout', '{IDLE_TIMEOUT}', true)"""
_LAST: Final = "SELECT sequence, hash FROM audit.audit_log WHERE stream_id = %b ORDER BY sequence DESC LIMIT 1"
_NEWEST: Final = "SELECT stream_id FROM audit.audit_log WHERE node = %b AND sequence = 1 ORDER BY at DESC LIMIT 1"

_UNIQUE: Final = "23505"  # an attempt that was given up has come through after all

_LENGTH: Final = struct.Struct(">i").pack
_NUMBER: Final = struct.Struct(">iq").pack
_HEADER: Final = struct.Struct(">iiIii").pack
_NULL: Final = _LENGTH(-1)
_SINCE_2000: Final = microseconds(datetime(2000, 1, 1, tzinfo=UTC))  # where PostgreSQL's own time begins


class _Kind(NamedTuple):
    """A type of the server and the type of its arrays, by number."""

    array: int
    element: int


_TEXT: Final = _Kind(1009, 25)
_BIGINT: Final = _Kind(1016, 20)
_BYTEA: Final = _Kind(1001, 17)
_UUID: Final = _Kind(2951, 2950)
_TIMESTAMPTZ: Final = _Kind(1185, 1184)


def _array(kind: _Kind, count: int, elements: bytes, *, nulls: bool = False) -> bytes:
    return _HEADER(1, nulls, kind.element, count, 1) + elements


def _pieces(values: Sequence[bytes]) -> bytes:
    return b"".join(chain.from_iterable(zip(map(_LENGTH, map(len, values)), values, strict=True)))


def _texts(values: Sequence[str]) -> bytes:
    first = values[0]
    count = len(values)
    if values.count(first) == count:  # most columns of most groups
        data = first.encode()
        return _array(_TEXT, count, (_LENGTH(len(data)) + data) * count)
    return _array(_TEXT, count, _pieces([value.encode() for value in values]))


def _octets(values: Sequence[bytes]) -> bytes:
    return _array(_BYTEA, len(values), _pieces(values))


def _numbers(values: Sequence[int]) -> bytes:
    return _array(_BIGINT, len(values), b"".join(map(_NUMBER, repeat(8), values)))


def _uids(values: Sequence[UUID | None]) -> bytes:
    pieces = [_NULL if value is None else b"\0\0\0\x10" + value.bytes for value in values]
    return _array(_UUID, len(values), b"".join(pieces), nulls=True)


def _times(values: Sequence[datetime | None]) -> bytes:
    pieces = [_NULL if value is None else _NUMBER(8, microseconds(value) - _SINCE_2000) for value in values]
    return _array(_TIMESTAMPTZ, len(values), b"".join(pieces), nulls=True)


def _arrays(rows: Sequence[Row]) -> list[bytes]:
    """Return the columns of rows, in the order of COLUMNS."""
    plain, tenants, keys, intents, kept_until, streams, sequences, times, canonicals, hashes = zip(*rows, strict=True)
    columns = list(zip(*plain, strict=True))
    return [
        *map(_texts, columns[:WORDS]),
        *map(_numbers, columns[WORDS : WORDS + NUMBERS]),
        *map(_octets, columns[WORDS + NUMBERS :]),
        _uids(tenants),
        _uids(keys),
        _uids(intents),
        _times(kept_until),
        _uids(streams),
        _numbers(sequences),
        _times(times),
        _octets(canonicals),
        _octets(hashes),
    ]


_KINDS: Final = (
    *repeat(_TEXT, WORDS),
    *repeat(_BIGINT, NUMBERS),
    *repeat(_BYTEA, OCTETS),
    *(_UUID, _UUID, _UUID, _TIMESTAMPTZ),
    *(_UUID, _BIGINT, _TIMESTAMPTZ, _BYTEA, _BYTEA),
)
_TYPES: Final = [kind.array for kind in _KINDS]
_BINARY: Final = [Format.BINARY] * len(COLUMNS)
_INSERT: Final = "INSERT INTO audit.audit_log ({}) SELECT * FROM unnest({})".format(  # noqa: S608
    ", ".join(COLUMNS), ", ".join(f"${number}" for number, _ in enumerate(COLUMNS, 1))
).encode()


def _exchange(line: PGconn) -> PQGen[None]:
    """Send what is queued, up to its Sync, and read the answers; all of it is one round trip.

    Raises:
        psycopg.Error: the first refusal; what came after it was not carried out.
    """
    while line.flush():
        if (yield Wait.RW) & Ready.R:
            line.consume_input()
    failure: psycopg.Error | None = None
    while True:
        while line.is_busy():
            yield Wait.R
            line.consume_input()
        result = line.get_result()
        if result is not None and result.status == ExecStatus.PIPELINE_SYNC:
            break
        if result is not None and result.status == ExecStatus.FATAL_ERROR and failure is None:
            failure = error_from_result(result)
        if line.status != ConnStatus.OK:  # no Sync will come
            raise psycopg.OperationalError("the connection is lost") from failure
        # None is the end of one command's results.
    if failure is not None:
        raise failure


class PostgresqlAuditStore:
    """AuditStore on one connection, which is made again whenever it is lost."""

    def __init__(self, url: str, reach: Callable[[str], None]) -> None:
        self._parameters = parameters(url)
        self._reach = reach
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def write(self, rows: Sequence[Row]) -> None:
        """Return once all rows are durable, in one commit."""
        arrays = _arrays(rows)
        try:
            connection = await self._connected()
        except (psycopg.Error, OSError) as error:
            raise NotWritten(str(translated(error))) from error
        try:
            line = connection.pgconn
            line.enter_pipeline_mode()
            line.send_query_params(_BEGIN.encode(), None)
            line.send_query_params(_SET.encode(), None)
            line.send_query_params(_INSERT, arrays, _TYPES, _BINARY)
            line.flush()
            self._reach("audit.group_written")
            line.send_query_params(b"COMMIT", None)
            line.pipeline_sync()
            await connection.wait(_exchange(line))
            line.exit_pipeline_mode()
        except (psycopg.Error, OSError) as error:
            self._drop()
            words = str(translated(error))
            # An ERROR has undone the transaction. A FATAL one, of a server that stops, may come after the COMMIT.
            if not isinstance(error, psycopg.Error) or error.diag.severity_nonlocalized != "ERROR":
                raise OutcomeUnknown(words) from error
            raise (Collided if error.sqlstate == _UNIQUE else NotWritten)(words) from error

    async def last(self, stream: StreamUid) -> tuple[int, bytes] | None:
        """Return the number and hash of a stream's last event; None where it has none."""
        rows = await self._asked(_LAST, stream)
        return (rows[0][0], rows[0][1]) if rows else None

    async def newest(self, node: str) -> Position | None:
        """Return the last event of the stream that a node began last; None where it began none."""
        rows = await self._asked(_NEWEST, node)
        if not rows:
            return None
        stream = StreamUid(rows[0][0])
        found = await self.last(stream)
        return None if found is None else Position(stream, *found)

    async def excess(self) -> str:
        """Say what the connection's user can do beyond its roles, in words.

        Raises:
            UserRefused: it may not take the writer's role.
            StorageUnavailable: the database does not answer, or refuses the user.
        """
        try:
            connection = await self._connected()
            [user] = await (await connection.execute(USER)).fetchall()
        except (psycopg.Error, OSError) as error:
            self._drop()
            raise translated(error) from error
        return excess_of(user, (AUDIT,))

    def cut(self) -> None:
        """End what waits for the server."""
        if self._connection is not None:
            shut_down(self._connection)

    async def close(self) -> None:
        """Close the connection without waiting for the server."""
        self._drop()

    async def _asked(self, statement: str, value: object) -> list[Any]:
        try:
            connection = await self._connected()
            async with connection.pipeline():
                await connection.execute(_BEGIN)
                await connection.execute(_SET)
                cursor = await connection.execute(statement, (value,), binary=True)
                await connection.execute("COMMIT")
            return await cursor.fetchall()
        except (psycopg.Error, OSError) as error:
            self._drop()
            raise OutcomeUnknown(str(translated(error))) from error

    async def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = await psycopg.AsyncConnection.connect(
                **self._parameters, prepare_threshold=None, autocommit=True
            )
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            shut_down(connection)
            with suppress(psycopg.Error):
                connection.pgconn.finish()


async def open_postgresql_audit(
    url: str,
    *,
    installation: UUID,
    node: str,
    now: Callable[[], datetime],
    release: str = "",
    details: Mapping[str, object] | None = None,
    reach: Callable[[str], None] = lambda _: None,
) -> GroupCommit:
    """Begin a new stream in the database *url*, whose user may take the role kms_audit; as open_audit_writer().

    Raises:
        CannotOpen: the URL is none, or the user may not take the role.
        AuditUnavailable: the log cannot be read, or the first event is not known to be durable.
    """
    store = PostgresqlAuditStore(url, reach)
    try:
        excess = await bounded(store, store.excess())
    except BaseException as error:
        await store.close()
        if isinstance(error, StorageUnavailable):
            raise AuditUnavailable(str(error)) from error
        raise
    writer = await open_audit_writer(
        store,
        installation=installation,
        node=node,
        now=now,
        release=release,
        details=details,
        reach=reach,
    )
    writer.excess = excess
    return writer
