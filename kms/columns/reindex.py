"""Re-indexing: blind indexes of older versions of an index key are computed anew (docs/columns.md).

The daemon decrypts ciphertexts and computes their indexes, so that plaintext never leaves it. Hashes of mode hash_only
have nothing but the plaintext column to be made of, and can be made anew as long as that is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
from kms_client import Client, KmsError
from psycopg import sql

from .batches import BATCH, Identity
from .cells import ALIAS, DEADLINE, MAX_VALUE, cut, index_scope
from .database import Connection
from .errors import WrongState
from .plan import Index, Mode
from .renewal import Brought, Change, Renewal, Tell, Wait, bring, require_ciphertexts
from .rows import Row, update
from .state import Known, State

# The states in which the plaintext of a hash is still there.
_HASHABLE = frozenset({State.FILLING, State.PROTECTED, State.VERIFIED})


class ReIndexing(Renewal):
    """ReIndexBatch for a column of mode blind_index."""

    fault = "cannot be indexed anew"

    def __init__(self, client: Client, known: Known, index: Index, column: str, target: int) -> None:
        """*column* is the one that holds the indexes."""
        self._client = client
        self._index = index
        self._column = column
        # An index begins with its version, big-endian: older ones are below, and are found by the index on the column.
        stale = sql.SQL("{ct} IS NOT NULL AND ({bi} < decode({target}, 'hex') OR {bi} IS NULL)").format(
            ct=sql.Identifier(ALIAS, known.column.ciphertext),
            bi=sql.Identifier(ALIAS, column),
            target=sql.Literal(target.to_bytes(4, "big").hex()),
        )
        super().__init__(known, "reindex", target, stale)

    def assignments(self) -> list[tuple[str, sql.Composable]]:
        """The index alone: the ciphertext stays as it is."""
        return [(self._column, sql.SQL("s.c0"))]

    def types(self) -> list[str]:
        """An index."""
        return ["bytea"]

    def work(self, rows: Sequence[tuple[Identity, Row]]) -> list[Change]:
        """Compute the index of every ciphertext."""
        batch = self._client.reindex_batch(
            self.known.index_key_name or "",
            self.known.key_name,
            [row[2] for _, row in rows],
            scope=index_scope(self.known),
            normaliser=self._index.normaliser.value,
            length=self._index.length,
            context=self.cells[0].context,
            varying=self.cells[0].varying([identity for identity, _ in rows]),
            deadline=DEADLINE,
        )
        return self.changes(rows, batch.values, batch.failures)

    def changes(
        self,
        rows: Sequence[tuple[Identity, Row]],
        values: Sequence[bytes | None],
        failures: Mapping[int, KmsError],
        *others: int,
    ) -> list[Change]:
        """Return what is written, and note rows of which there is nothing."""
        changes = []
        for index, ((identity, row), value) in enumerate(zip(rows, values, strict=True)):
            if value is None:
                self.fail(identity, str(failures.get(index, "")))
            else:
                changes.append(Change(identity, row, (value, *others)))
        return changes

    def put(self, connection: Connection, rows: Sequence[tuple[Identity, Row]]) -> int:
        """Write indexes; where the column is unique a row whose value another one has, too, stays as it is.

        While indexes are of two versions the database cannot see that values are equal: it does when they are of one.
        """
        try:
            with connection.transaction():
                return super().put(connection, rows)
        except psycopg.errors.UniqueViolation:
            return sum(self._put_one(connection, row) for row in rows)

    def _put_one(self, connection: Connection, row: tuple[Identity, Row]) -> int:
        try:
            with connection.transaction():
                return update(connection, self.table, self.known.identity, self.assignments(), self.types(), [row])
        except psycopg.errors.UniqueViolation:
            self.fail(row[0], "another row has the same value")
            return 0


class ReHashing(ReIndexing):
    """ComputeIndexBatch for a column of mode hash_only, from the plaintext that is still there."""

    def __init__(self, client: Client, known: Known, index: Index, target: int) -> None:
        """Make the task."""
        super().__init__(client, known, index, known.column.ciphertext, target)
        self.name = f"rehash {known.column.column}"

    def assignments(self) -> list[tuple[str, sql.Composable]]:
        """The hash and its version."""
        return [(self._column, sql.SQL("s.c0")), (self.known.column.version, sql.SQL("s.c1"))]

    def types(self) -> list[str]:
        """A hash, and a version."""
        return ["bytea", "bigint"]

    def outputs(self) -> list[sql.Composable]:
        """The plaintext."""
        return [cut(self.cells[0].plaintext, MAX_VALUE)]

    def work(self, rows: Sequence[tuple[Identity, Row]]) -> list[Change]:
        """Compute the hash of every plaintext."""
        batch = self._client.compute_index_batch(
            self.known.index_key_name or "",
            [row[2] or b"" for _, row in rows],
            scope=index_scope(self.known),
            normaliser=self._index.normaliser.value,
            length=self._index.length,
            deadline=DEADLINE,
        )
        values = [
            None if found is None or row[2] is None else found[0]
            for (_, row), found in zip(rows, batch.values, strict=True)
        ]
        return self.changes(rows, values, batch.failures, batch.version)


def reindex(
    connection: Connection,
    client: Client,
    known: Known,
    *,
    tell: Tell,
    wait: Wait,
    batch: int = BATCH,
) -> Brought:
    """Bring all indexes of a column to the version of its index key that is the primary one now, as bring().

    Args:
        connection: in autocommit mode.
        client: of a principal that may read the index key and use both keys.
        known: the column.
        tell: is told after each batch.
        wait: returns when the database can bear another batch.
        batch: the most rows of a batch.

    Raises:
        WrongState: the column has no index, or nothing is left of which hashes can be made.
        NotVerified: some rows cannot be indexed anew; all others have been.
        ColumnsError: what the database says.
    """
    column = known.column
    where = f"{known.table}.{column.column}"
    if column.index is None or known.index_key_name is None:
        raise WrongState(f"{where}: has no index")
    if column.mode is Mode.HASH_ONLY and known.state not in _HASHABLE:
        raise WrongState(
            f"{where}: nothing is left but the hashes; each is made anew when an application next sees its value"
        )
    if column.blind_index is not None:
        require_ciphertexts(known)
    target = client.get_key(known.index_key_name).primary_version
    task = (
        ReHashing(client, known, column.index, target)
        if column.blind_index is None
        else ReIndexing(client, known, column.index, column.blind_index, target)
    )
    return bring(connection, task, tell=tell, wait=wait, batch=batch)
