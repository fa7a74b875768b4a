"""Re-encryption: ciphertexts of older key versions are brought to the primary one (docs/columns.md).

The runner reads ciphertexts, the daemon re-encrypts them in their context, and the runner writes them back where the
row is still as it was read. Plaintext never leaves the daemon.
"""

from __future__ import annotations

from collections.abc import Sequence

from kms_client import Client
from psycopg import sql

from .batches import BATCH, Identity
from .cells import ALIAS, AS_TEXT, DEADLINE, Cell, cells_of, document_with, version_of
from .database import Connection
from .renewal import Brought, Change, Renewal, Tell, Wait, bring, require_ciphertexts
from .rows import Row
from .state import Known


class ReEncryption(Renewal):
    """ReEncryptBatch for each cell of a column."""

    def __init__(self, client: Client, known: Known, target: int, *, from_headers: bool = False) -> None:
        """With *from_headers* the ciphertexts say which rows are older, else the version column does."""
        self._client = client
        super().__init__(known, "reencrypt", target, _stale(known, target, from_headers=from_headers))

    def assignments(self) -> list[tuple[str, sql.Composable]]:
        """Ciphertexts and version together."""
        column = self.known.column
        version = sql.Identifier("s", f"c{len(self.cells)}")
        return [(column.ciphertext, _whole(self.known, self.cells)), (column.version, version)]

    def types(self) -> list[str]:
        """A ciphertext, or its text form, for each cell, and the version."""
        return [*["bytea"] * len(self.cells), "bigint"]

    def work(self, rows: Sequence[tuple[Identity, Row]]) -> list[Change]:
        """Re-encrypt every ciphertext of these rows; a row of which one cannot be is left whole as it is."""
        fresh: list[list[bytes | int | None]] = [[None] * len(self.cells) for _ in rows]
        versions: list[list[int]] = [[] for _ in rows]
        bad: dict[int, str] = {}
        for number, cell in enumerate(self.cells):
            for index, ciphertext in self._renewed(cell, rows, bad).items():
                fresh[index][number] = cell.to_store(ciphertext)
                versions[index].append(version_of(ciphertext))
        changes = []
        for index, (identity, row) in enumerate(rows):
            if index in bad or not versions[index]:
                self.fail(identity, bad.get(index, ""))
            else:
                changes.append(Change(identity, row, (*fresh[index], min(versions[index]))))
        return changes

    def _renewed(self, cell: Cell, rows: Sequence[tuple[Identity, Row]], bad: dict[int, str]) -> dict[int, bytes]:
        indexes, ciphertexts = self.ciphertexts(cell, rows, bad)
        if not indexes:
            return {}
        batch = self._client.reencrypt_batch(
            self.known.key_name,
            ciphertexts,
            context=cell.context,
            varying=cell.varying([rows[index][0] for index in indexes]),
            deadline=DEADLINE,
        )
        bad.update({indexes[number]: str(error) for number, error in batch.failures.items()})
        return {index: value for index, value in zip(indexes, batch.values, strict=True) if value is not None}


def _whole(known: Known, cells: Sequence[Cell]) -> sql.Composable:
    """Return what becomes of the ciphertext column: the ciphertext, or the document with those of its paths."""
    if not known.column.paths:
        return sql.SQL("s.c0")
    values = [sql.Identifier("s", f"c{number}") for number in range(len(cells))]
    return document_with(known, known.column.ciphertext, AS_TEXT, values)


def _stale(known: Known, target: int, *, from_headers: bool) -> sql.Composable:
    cells = cells_of(known)
    there = sql.SQL(" OR ").join(sql.SQL("{} IS NOT NULL").format(cell.stored) for cell in cells)
    if from_headers:
        limit = sql.Literal(target.to_bytes(4, "big").hex())
        older = sql.SQL(" OR ").join(
            # What is no ciphertext is of no version, and older than any.
            sql.SQL("{} IS NOT NULL AND coalesce(substr({}, 19, 4), '') < decode({}, 'hex')").format(
                cell.stored, header(cell), limit
            )
            for cell in cells
        )
    else:
        version = sql.Identifier(ALIAS, known.column.version)
        older = sql.SQL("{} < {} OR {} IS NULL").format(version, sql.Literal(target), version)
    return sql.SQL("({}) AND ({})").format(older, there)


def header(cell: Cell) -> sql.Composable:
    """Return the header of what is stored for a cell, 22 bytes or a few more; NULL where there is no ciphertext.

    Source: FORMATS section 2; 32 characters of the text form's base64url are 24 bytes.
    """
    if not cell.path:
        return sql.SQL("CASE WHEN length({0}) >= 22 THEN substr({0}, 1, 22) END").format(cell.stored)
    # What is no base64 would end the query, with a character of it in the error.
    return sql.SQL(
        "CASE WHEN convert_from({0}, 'UTF8') ~ '^kms:1:[A-Za-z0-9_-]{{32}}'"
        " THEN decode(translate(substr(convert_from({0}, 'UTF8'), 7, 32), '-_', '+/'), 'base64') END"
    ).format(cell.stored)


def reencrypt(
    connection: Connection,
    client: Client,
    known: Known,
    *,
    tell: Tell,
    wait: Wait,
    batch: int = BATCH,
    from_headers: bool = False,
) -> Brought:
    """Bring all ciphertexts of a column to the version that is the primary one now, as bring().

    Args:
        connection: in autocommit mode.
        client: of a principal that may read the key and re-encrypt; for a revoked version the rotation identity.
        known: the column.
        tell: is told after each batch.
        wait: returns when the database can bear another batch.
        batch: the most rows of a batch.
        from_headers: reads the version of each ciphertext instead of trusting the version column.

    Raises:
        WrongState: the column has no ciphertexts, or its protection is being undone.
        NotVerified: rows hold what the daemon does not decrypt in their context; all others have been brought.
        ColumnsError: what the database says.
    """
    require_ciphertexts(known)
    target = client.get_key(known.key_name).primary_version
    task = ReEncryption(client, known, target, from_headers=from_headers)
    return bring(connection, task, tell=tell, wait=wait, batch=batch)
