"""The audit log on PostgreSQL: one connection of its own, one round trip for a group.

Like everything on PostgreSQL here it works through a transaction pooler: role, limits and durability are set for each
transaction, nothing is prepared in the server, and no lock outlives a transaction.

Rows go in the server's binary form (audit_binary.py) and through libpq's own interface: the driver's ways take several times
as long, and a call waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait

from kms.core.audit import StreamUid
from kms.core.audit_ports import Position
from kms.core.errors import AuditUnavailable, StorageUnavailable

from .audit_binary import statement_of
from .audit_opening import open_audit_writer
from .audit_rows import Row
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
        statement, values = statement_of(rows)
        try:
            connection = await self._connected()
        except (psycopg.Error, OSError) as error:
            raise NotWritten(str(translated(error))) from error
        try:
            line = connection.pgconn
            line.enter_pipeline_mode()
            line.send_query_params(_BEGIN.encode(), None)
            line.send_query_params(_SET.encode(), None)
            line.send_query_params(statement.text, values, statement.types, statement.formats)
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
