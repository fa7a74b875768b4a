"""A cell: what is encrypted as one value, a column or one path within its JSON documents.

SQL made here is to stand in a query whose protected table has the alias `t`, and which is run without parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kms_client import Client, Header, InvalidRequest, from_text, to_text
from kms_client.formats.columns import ROW, column_context, row_value
from psycopg import sql

from .batches import Identity
from .errors import ColumnsError
from .plan import Mode, shortened
from .state import Known

MAX_VALUE: Final = 1 << 20  # bytes of one plaintext; the daemon takes no longer one
# No legal ciphertext or its text form is longer; what is longer is cut, and then fails to decrypt.
MAX_STORED: Final = 2 << 20  # bytes
DEADLINE: Final = 60.0  # seconds of one message to the daemon
ALIAS: Final = "t"
# What stands at a path of a document: a ciphertext's text form, or the plaintext as it was printed.
AS_TEXT: Final = "to_jsonb(convert_from({}, 'UTF8'))"
AS_JSON: Final = "convert_from({}, 'UTF8')::jsonb"

_BYTES: Final = "bytea"


@dataclass(frozen=True, slots=True)
class Cell:
    """One column, or one path in it."""

    known: Known
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = f"{self.known.table}.{self.known.column.column}"
        return f"{name} at {'/'.join(self.path)}" if self.path else name

    @property
    def encrypted(self) -> bool:
        """Whether there is a ciphertext: False for mode hash_only."""
        return self.known.column.mode is not Mode.HASH_ONLY

    @property
    def bound_to_row(self) -> bool:
        """Whether a ciphertext decrypts in its own row only."""
        return self.known.column.mode in (Mode.RANDOMIZED, Mode.BLIND_INDEX)

    @property
    def context(self) -> dict[str, str]:
        """The pairs of the context that all values of the cell share."""
        return column_context(self.known.table, self.known.column.column, self.path)

    def varying(self, rows: Sequence[Identity]) -> tuple[str, list[str]] | None:
        """Return the pair of the context that differs from row to row; None where equal values look equal."""
        return (ROW, [row_value(row) for row in rows]) if self.bound_to_row else None

    @property
    def plaintext(self) -> sql.Composable:
        """The plaintext as bytea; NULL where there is none."""
        return self._plaintext_in(sql.Identifier(ALIAS, self.known.column.column))

    @property
    def stored(self) -> sql.Composable:
        """What is stored, as bytea: the ciphertext, its text form for a path, or the hash; NULL where there is none."""
        column = sql.Identifier(ALIAS, self.known.column.ciphertext)
        if not self.path:
            return column
        # JSON null is something, and no ciphertext.
        return sql.SQL(
            "CASE WHEN {column} #> {path} IS NOT NULL THEN convert_to(coalesce({column} #>> {path}, ''), 'UTF8') END"
        ).format(column=column, path=text_array(self.path))

    def ciphertext(self, stored: bytes) -> bytes:
        """Return the ciphertext in what is stored.

        Raises:
            InvalidRequest: at a path stands something else than a ciphertext's text form.
        """
        if not self.path:
            return stored
        try:
            return from_text(stored.decode(), "stored")
        except UnicodeDecodeError:
            return from_text("", "stored")

    def to_store(self, ciphertext: bytes) -> bytes:
        """Return the bytes that are stored for a ciphertext: itself, or its text form for a path."""
        return to_text(ciphertext).encode() if self.path else ciphertext

    def _plaintext_in(self, column: sql.Composable) -> sql.Composable:
        if self.path:
            return sql.SQL("convert_to(({} #> {})::text, 'UTF8')").format(column, text_array(self.path))
        if self.known.sql_type == _BYTES:
            return column
        return sql.SQL("convert_to({}::text, 'UTF8')").format(column)


def cells_of(known: Known) -> tuple[Cell, ...]:
    """Return the cells of a column."""
    return tuple(Cell(known, path) for path in known.column.paths) or (Cell(known),)


def text_array(texts: Sequence[str]) -> sql.Composable:
    """Return an SQL array of these texts; of none, too."""
    return sql.SQL("ARRAY[{}]::text[]").format(sql.SQL(", ").join(map(sql.Literal, texts)))


def cut(value: sql.Composable, most: int) -> sql.Composable:
    """Return a value of at most one byte more than these: too long is seen, and costs no more."""
    return sql.SQL("substring({} FROM 1 FOR {})").format(value, sql.Literal(most + 1))


def document_with(known: Known, column: str, form: str, values: Sequence[sql.Composable]) -> sql.Composable:
    """Return the document in a column with other values at the paths; what a NULL is for stays as it is.

    Args:
        known: the protected column.
        column: which of its columns holds the document.
        form: SQL that makes jsonb of a value, a bytea, for which it has {}.
        values: one for each path.
    """
    # The document is never printed and read again, which would round its numbers and lose its duplicates.
    document: sql.Composable = sql.Identifier(ALIAS, column)
    for path, value in zip(known.column.paths, values, strict=True):
        document = sql.SQL("jsonb_set_lax({}, {}, {}, false, 'return_target')").format(
            document, text_array(path), sql.SQL(form).format(value)
        )
    return document


def identity_texts(columns: Sequence[str]) -> sql.Composable:
    """Return the identity of a row as an SQL array of texts, as ciphertexts are bound to them."""
    return sql.SQL("ARRAY[{}]").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(ALIAS, column)) for column in columns)
    )


def row_condition(known: Known, alias: str = ALIAS) -> sql.Composable:
    """Return the SQL condition under which a row is protected."""
    rows = known.column.rows
    if rows is None:
        return sql.SQL("true")
    return sql.SQL("coalesce({}::text = ANY ({}), false)").format(
        sql.Identifier(alias, rows.column), text_array(rows.values)
    )


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext or hash, and the version of the key that made it."""

    ciphertext: bytes
    version: int


def encrypt(
    client: Client, cell: Cell, rows: Sequence[Identity], values: Sequence[bytes], *, deadline: float = DEADLINE
) -> list[Sealed]:
    """Encrypt the values of a cell in these rows, one for each.

    Raises:
        ColumnsError: a value is longer than MAX_VALUE, or the daemon refuses it alone; says which row.
        KmsError: the daemon refuses all.
    """
    for row, value in zip(rows, values, strict=True):
        if len(value) > MAX_VALUE:
            raise ColumnsError(
                f"{cell}, row {row_value(row)}: longer than {MAX_VALUE} bytes, which the daemon can encrypt"
            )
    batch = client.encrypt_batch(
        cell.known.key_name, values, context=cell.context, varying=cell.varying(rows), deadline=deadline
    )
    for index, error in sorted(batch.failures.items()):
        raise ColumnsError(f"{cell}, row {row_value(rows[index])}: {error}")
    return [Sealed(ciphertext, version_of(ciphertext)) for ciphertext in batch.complete()]


def decrypt(
    client: Client, cell: Cell, rows: Sequence[Identity], stored: Sequence[bytes], *, deadline: float = DEADLINE
) -> list[bytes | None]:
    """Decrypt what is stored for a cell in these rows; None where that is no ciphertext of this cell in its row.

    Raises:
        KmsError: the daemon refuses all.
    """
    ciphertexts = []
    for one in stored:
        try:
            ciphertexts.append(cell.ciphertext(one))
        except InvalidRequest:
            ciphertexts.append(b"")  # the daemon refuses it alone
    return client.decrypt_batch(
        cell.known.key_name, ciphertexts, context=cell.context, varying=cell.varying(rows), deadline=deadline
    ).values


def compute_index(
    client: Client,
    known: Known,
    rows: Sequence[Identity],
    values: Sequence[bytes],
    *,
    all_versions: bool = False,
    deadline: float = DEADLINE,
) -> list[list[bytes]]:
    """Return for each value its blind index, or the indexes of all versions that may be used, the newest first.

    Raises:
        ColumnsError: the daemon refuses a value alone, such as one that is no UTF-8; says which row.
        KmsError: the daemon refuses all.
    """
    index, name = known.column.index, known.index_key_name
    if index is None or name is None:
        raise ColumnsError(f"{known.table}.{known.column.column}: has no index")
    batch = client.compute_index_batch(
        name,
        values,
        scope=index_scope(known),
        normaliser=index.normaliser.value,
        length=index.length,
        all_versions=all_versions,
        deadline=deadline,
    )
    for at, error in sorted(batch.failures.items()):
        raise ColumnsError(f"{known.table}.{known.column.column}, row {row_value(rows[at])}: {error}")
    return [one for one in batch.values if one is not None]


def index_version(index: bytes) -> int:
    """Return the version of the index key in a blind index or hash: its first 4 bytes."""
    return int.from_bytes(index[:4])


def version_of(ciphertext: bytes) -> int:
    """Return the key version in a ciphertext's header.

    Raises:
        InvalidRequest: it has no header.
    """
    return Header.read(ciphertext).version


def index_scope(known: Known) -> str:
    """Return what the hashes of a column are bound to."""
    index = known.column.index
    if index is None:
        raise ColumnsError(f"{known.table}.{known.column.column}: has no index")
    return index.scope or f"{known.table}.{known.column.column}"


def index_name(table: str, column: str) -> str:
    """Return the name of the SQL index on a column that the runner has added."""
    return shortened(f"{table.partition('.')[2]}_{column}", "_kms")
