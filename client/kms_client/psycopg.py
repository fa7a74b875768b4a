"""SQL of one's own over columns that `kms columns` protects, with psycopg 3: what to select, to search and to write.

    people = ProtectedTable.of(connection, kms, "public.people")
    cursor = connection.execute(sql.SQL("SELECT id, {} FROM people p WHERE {}").format(
        people.reads("name", "p"), people.matches("email", ["ada@example.org"], "p")))
    for key, name in people.opened(cursor, {1: "name"}): ...

The state is read in the transaction that the connection is in: make a ProtectedTable in each transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import psycopg
from psycopg import sql

from .fields import Encrypting, FieldCipher, key_version
from .formats.columns import row_value
from .formats.errors import NotSupported, invalid
from .protected_columns import EXISTS, STATES, ProtectedColumn, identity_text, read_states, unpack

# Rows that are fetched, and decrypted in one batch.
BATCH: Final = 1_000


class ProtectedTable:
    """The columns of one table that are protected as far as the transaction sees; all others are plaintext."""

    def __init__(self, kms: Encrypting, table: str, columns: Mapping[str, ProtectedColumn]) -> None:
        self._table, self._columns = table, columns
        self._ciphers = {name: FieldCipher(kms, column.field) for name, column in columns.items()}

    @classmethod
    def of(cls, connection: psycopg.Connection[Any], kms: Encrypting, table: str) -> ProtectedTable:
        """Read the state of a table's columns; no protection begins before the connection's transaction ends.

        Args:
            connection: in a transaction, or not in autocommit mode.
            kms: a Client of the tenant that has the keys, or a Local of one.
            table: as `schema.table`.

        Raises:
            NotSupported: the connection commits by itself, or a column is protected in a way that is not followed here.
        """
        if connection.autocommit and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            raise NotSupported("the state of protected columns holds within a transaction only")
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(*table.split(".", 1))))
        cursor = connection.cursor(row_factory=psycopg.rows.tuple_row)
        [[exists]] = cursor.execute(EXISTS).fetchall()
        rows = [row for row in cursor.execute(STATES) if row[0] == table] if exists else []
        states = read_states(rows, {(table, row[1]) for row in rows})
        return cls(kms, table, {column: state for (_, column), state in states.items()})

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._table}>"

    def reads(self, column: str, alias: str | None = None) -> sql.Composable:
        """Return what to select for a column, whose values `opened` reads; the column itself where it is not protected."""
        state, named = self._columns.get(column), self._named(alias)
        return sql.SQL(named(column) if state is None else state.packed(named))

    def matches(self, column: str, values: Sequence[str], alias: str | None = None) -> sql.Composable:
        """Return the SQL condition that a column is one of these values.

        Raises:
            NotSupported: nothing finds the column's values.
        """
        state, named = self._columns.get(column), self._named(alias)
        plain = _array("text", (f"convert_from({_bytes(value.encode())}, 'UTF8')" for value in values))
        if state is None:
            return sql.SQL("({} = ANY ({}))").format(sql.SQL(named(column)), plain)
        _ = state.searched
        terms = self._ciphers[column].search_terms([value.encode() for value in values])
        # Placeholders of our own, because names may hold braces and percent signs.
        condition = state.matches(named, (f"{self._own_name} AS other", self._named("other")), "\0terms\0", "\0plain\0")
        parts: dict[str, sql.Composable] = {"terms": _array("bytea", map(_bytes, terms)), "plain": plain}
        return sql.Composed([parts.get(part, sql.SQL(part)) for part in condition.split("\0")])

    def opened(self, cursor: psycopg.Cursor[Any], columns: Mapping[int, str]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a cursor, with the values of protected columns as text, or as bytes of a bytea.

        Args:
            cursor: one whose rows are sequences, after a SELECT of what `reads` returns.
            columns: which protected column stands at which place of a row, from 0.

        Raises:
            CannotDecrypt: a ciphertext is none of this column in this row; no row of its batch is given out.
        """
        while rows := cursor.fetchmany(BATCH):
            made = [list(row) for row in rows]
            for at, column in columns.items():
                state = self._columns.get(column)
                if state is None:
                    continue
                sealed, plain, owners = unpack([row[at] for row in made])
                found = self._ciphers[column].decrypt_batch(sealed, None if state.field.deterministic else owners)
                for row, ciphertext, plaintext, clear in zip(made, sealed, found, plain, strict=True):
                    row[at] = _shown(clear if ciphertext is None else plaintext, state)
            yield from map(tuple, made)

    def writes(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return rows as they are to be stored: the columns of an INSERT or UPDATE, and their values.

        Args:
            rows: column names and values of the application; with the identity, as int, str or UUID.

        Raises:
            InvalidRequest: a value is neither str, bytes nor None, or a row lacks its identity.
            NotSupported: a document; write those through kms_client.sqlalchemy.
        """
        made = [dict(row) for row in rows]
        for column, state in self._columns.items():
            there = [row for row in made if column in row]
            if not there:
                continue
            if state.sql_type == "jsonb":
                raise NotSupported(f"{state.field}: documents are not written by this adapter")
            values = [_plaintext(row[column], state) for row in there]
            owners = None if state.field.deterministic else [self._row(row, state) for row in there]
            sealed = self._ciphers[column].encrypt_batch(values, owners)
            found = self._ciphers[column].index_batch(values) if state.index else [None] * len(there)
            for row, ciphertext, index in zip(there, sealed, found, strict=True):
                new = {
                    column: row.pop(column),
                    state.ciphertext: ciphertext,
                    state.version: None if ciphertext is None else key_version(ciphertext),
                    state.index: index,
                }
                row |= {name: new[name] for name in state.written}
        return made

    def _row(self, row: Mapping[str, Any], state: ProtectedColumn) -> str:
        return row_value([identity_text(row.get(name), f"{self._table}.{name}") for name in state.identity])

    def _named(self, alias: str | None) -> Callable[[str], str]:
        prefix = sql.Identifier(alias).as_string() if alias else self._own_name
        return lambda name: f"{prefix}.{sql.Identifier(name).as_string()}"

    @property
    def _own_name(self) -> str:
        return sql.Identifier(*self._table.split(".", 1)).as_string()


def _bytes(value: bytes) -> str:
    """Return SQL of bytes without any percent sign, which would be a placeholder in a query with parameters."""
    return f"decode('{value.hex()}', 'hex')"


def _array(of: str, parts: Iterable[str]) -> sql.Composable:
    return sql.SQL(f"ARRAY[{', '.join(parts)}]::{of}[]")


def _plaintext(value: Any, state: ProtectedColumn) -> bytes | None:
    if value is None:
        return None
    if state.sql_type == "bytea" and isinstance(value, bytes):
        return value
    if state.sql_type != "bytea" and isinstance(value, str):
        return value.encode()
    raise invalid(str(state.field), f"must be {'bytes' if state.sql_type == 'bytea' else 'str'} or None")


def _shown(value: bytes | None, state: ProtectedColumn) -> str | bytes | None:
    return value if value is None or state.sql_type == "bytea" else value.decode()
