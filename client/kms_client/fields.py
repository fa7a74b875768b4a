"""One column's key, context and modes: values go in and out without their caller naming any of these again.

What a ciphertext is bound to is what `kms columns` binds it to (docs/columns.md), so that both read each other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from .aio import AsyncClient
from .batches import Varying
from .client import Client
from .formats.ciphertext import Header
from .formats.columns import ROW, column_context, row_value
from .formats.errors import NotSupported, invalid
from .formats.normalisation import IndexNormaliser
from .values import BatchResult, IndexBatch

T = TypeVar("T")

# What tells a row apart: the text of its identity, or the texts of several columns in their order.
Row = str | Sequence[str]

INDEX_LENGTH: Final = 16  # bytes


@dataclass(frozen=True, slots=True)
class FieldIndex:
    """How a column is searched: key of purpose INDEX, what its hashes are bound to, what is made equal, and their bytes."""

    key: str
    scope: str
    normaliser: IndexNormaliser | str = IndexNormaliser.NONE
    length: int = INDEX_LENGTH


@dataclass(frozen=True, slots=True)
class Field:
    """What protects one column.

    Args:
        key: resource name; of purpose ENCRYPT, or of purpose DETERMINISTIC where *deterministic*.
        table: as `schema.table`.
        column: the plaintext column's name.
        deterministic: equal values have equal ciphertexts, which are bound to the column and to no row.
        index: the blind index beside the ciphertext.
    """

    key: str
    table: str
    column: str
    deterministic: bool = False
    index: FieldIndex | None = None
    context: Mapping[str, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", column_context(self.table, self.column))

    def __str__(self) -> str:
        return f"{self.table}.{self.column}"

    def varying(self, rows: Sequence[Row] | None, count: int) -> Varying | None:
        """Return the pair of the context that differs from row to row; None where the column has none.

        Raises:
            InvalidRequest: no rows where ciphertexts are bound to them, rows where they are not, or not one for each value.
        """
        if self.deterministic:
            if rows is not None:
                raise invalid("rows", f"{self} is deterministic: its ciphertexts are bound to no row")
            return None
        if rows is None or len(rows) != count:
            raise invalid("rows", f"{self} needs one row for each of {count} values")
        return ROW, [row if isinstance(row, str) else row_value(row) for row in rows]

    def required_index(self) -> FieldIndex:
        """Return the index.

        Raises:
            NotSupported: the column has none.
        """
        if self.index is None:
            raise NotSupported(f"{self} has no blind index: nothing finds its values")
        return self.index


def _given(values: Sequence[bytes | None]) -> list[int]:
    """Return where there is a value: what is NULL stays NULL and is never sent."""
    return [at for at, value in enumerate(values) if value is not None]


def _chosen(values: Sequence[T | None], places: Sequence[int]) -> list[T]:
    return [value for at in places if (value := values[at]) is not None]


def _rows(rows: Sequence[Row] | None, values: Sequence[bytes | None], places: Sequence[int]) -> Sequence[Row] | None:
    if rows is None:
        return None
    if len(rows) != len(values):
        raise invalid("rows", f"there must be one for each of the {len(values)} values, not {len(rows)}")
    return [rows[at] for at in places]


def _spread(made: Sequence[bytes], places: Sequence[int], count: int) -> list[bytes | None]:
    spread: list[bytes | None] = [None] * count
    for at, value in zip(places, made, strict=True):
        spread[at] = value
    return spread


def _complete(field: Field, batch: BatchResult | IndexBatch, rows: Sequence[Row] | None) -> list[bytes]:
    """Return what a batch made; the error of the first item that failed says where it stands."""
    for at in sorted(batch.failures):
        error = batch.failures[at]
        where = "" if rows is None else f", row {rows[at] if isinstance(rows[at], str) else row_value(rows[at])}"
        error.add_note(f"{field}{where}")
        raise error
    return batch.complete()


def key_version(ciphertext: bytes) -> int:
    """Return the key version in a ciphertext's header.

    Raises:
        InvalidRequest: it has no header.
    """
    return Header.read(ciphertext).version


class FieldCipher:
    """Encrypts, decrypts and indexes the values of one column; None stays None."""

    def __init__(self, kms: Client, field: Field) -> None:
        self._kms, self.field = kms, field

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.field}>"

    def encrypt(self, value: bytes, row: Row | None = None) -> bytes:
        """Encrypt one value in its row; a deterministic column has no rows."""
        return _chosen(self.encrypt_batch([value], None if row is None else [row]), [0])[0]

    def decrypt(self, ciphertext: bytes, row: Row | None = None) -> bytes:
        """Decrypt one value in its row."""
        return _chosen(self.decrypt_batch([ciphertext], None if row is None else [row]), [0])[0]

    def index(self, value: bytes) -> bytes:
        """Return what is stored beside the ciphertext of a value."""
        return _chosen(self.index_batch([value]), [0])[0]

    def encrypt_batch(
        self, values: Sequence[bytes | None], rows: Sequence[Row] | None = None, *, deadline: float | None = None
    ) -> list[bytes | None]:
        """Encrypt values in their rows; all or none.

        Raises:
            KmsError: of the first value that failed; a note says which row.
        """
        places = _given(values)
        chosen = _rows(rows, values, places)
        varying = self.field.varying(chosen, len(places))
        batch = self._kms.encrypt_batch(
            self.field.key, _chosen(values, places), context=self.field.context, varying=varying, deadline=deadline
        )
        return _spread(_complete(self.field, batch, chosen), places, len(values))

    def decrypt_batch(
        self, ciphertexts: Sequence[bytes | None], rows: Sequence[Row] | None = None, *, deadline: float | None = None
    ) -> list[bytes | None]:
        """Decrypt values in their rows; all or none, as encrypt_batch."""
        places = _given(ciphertexts)
        chosen = _rows(rows, ciphertexts, places)
        varying = self.field.varying(chosen, len(places))
        batch = self._kms.decrypt_batch(
            self.field.key, _chosen(ciphertexts, places), context=self.field.context, varying=varying, deadline=deadline
        )
        return _spread(_complete(self.field, batch, chosen), places, len(ciphertexts))

    def index_batch(self, values: Sequence[bytes | None], *, deadline: float | None = None) -> list[bytes | None]:
        """Return what is stored beside the ciphertexts of these values."""
        places, index = _given(values), self.field.required_index()
        batch = self._kms.compute_index_batch(
            index.key,
            _chosen(values, places),
            scope=index.scope,
            normaliser=index.normaliser,
            length=index.length,
            deadline=deadline,
        )
        return _spread(_complete(self.field, batch, None), places, len(values))

    def search_terms(self, values: Sequence[bytes], *, deadline: float | None = None) -> list[bytes]:
        """Return what to look for in the index column, or among deterministic ciphertexts, to find any of these values.

        Indexes come under every version that may be read. Of a deterministic key only the primary version encrypts: rows of
        older ones are found after `kms columns reencrypt`.
        """
        if self.field.deterministic:
            return _chosen(self.encrypt_batch(values, deadline=deadline), range(len(values)))
        index = self.field.required_index()
        batch = self._kms.compute_index_batch(
            index.key,
            values,
            scope=index.scope,
            normaliser=index.normaliser,
            length=index.length,
            all_versions=True,
            deadline=deadline,
        )
        _complete(self.field, batch, None)
        return [term for terms in batch.values for term in terms or ()]


class AsyncFieldCipher:
    """FieldCipher for asyncio."""

    def __init__(self, kms: AsyncClient, field: Field) -> None:
        self._kms, self.field = kms, field

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.field}>"

    async def encrypt(self, value: bytes, row: Row | None = None) -> bytes:
        """Encrypt one value in its row; a deterministic column has no rows."""
        return _chosen(await self.encrypt_batch([value], None if row is None else [row]), [0])[0]

    async def decrypt(self, ciphertext: bytes, row: Row | None = None) -> bytes:
        """Decrypt one value in its row."""
        return _chosen(await self.decrypt_batch([ciphertext], None if row is None else [row]), [0])[0]

    async def index(self, value: bytes) -> bytes:
        """Return what is stored beside the ciphertext of a value."""
        return _chosen(await self.index_batch([value]), [0])[0]

    async def encrypt_batch(
        self, values: Sequence[bytes | None], rows: Sequence[Row] | None = None, *, deadline: float | None = None
    ) -> list[bytes | None]:
        """Encrypt values in their rows; all or none.

        Raises:
            KmsError: of the first value that failed; a note says which row.
        """
        places = _given(values)
        chosen = _rows(rows, values, places)
        varying = self.field.varying(chosen, len(places))
        batch = await self._kms.encrypt_batch(
            self.field.key, _chosen(values, places), context=self.field.context, varying=varying, deadline=deadline
        )
        return _spread(_complete(self.field, batch, chosen), places, len(values))

    async def decrypt_batch(
        self, ciphertexts: Sequence[bytes | None], rows: Sequence[Row] | None = None, *, deadline: float | None = None
    ) -> list[bytes | None]:
        """Decrypt values in their rows; all or none, as encrypt_batch."""
        places = _given(ciphertexts)
        chosen = _rows(rows, ciphertexts, places)
        varying = self.field.varying(chosen, len(places))
        batch = await self._kms.decrypt_batch(
            self.field.key, _chosen(ciphertexts, places), context=self.field.context, varying=varying, deadline=deadline
        )
        return _spread(_complete(self.field, batch, chosen), places, len(ciphertexts))

    async def index_batch(self, values: Sequence[bytes | None], *, deadline: float | None = None) -> list[bytes | None]:
        """Return what is stored beside the ciphertexts of these values."""
        places, index = _given(values), self.field.required_index()
        batch = await self._kms.compute_index_batch(
            index.key,
            _chosen(values, places),
            scope=index.scope,
            normaliser=index.normaliser,
            length=index.length,
            deadline=deadline,
        )
        return _spread(_complete(self.field, batch, None), places, len(values))

    async def search_terms(self, values: Sequence[bytes], *, deadline: float | None = None) -> list[bytes]:
        """Return what to look for to find any of these values; as FieldCipher.search_terms."""
        if self.field.deterministic:
            return _chosen(await self.encrypt_batch(values, deadline=deadline), range(len(values)))
        index = self.field.required_index()
        batch = await self._kms.compute_index_batch(
            index.key,
            values,
            scope=index.scope,
            normaliser=index.normaliser,
            length=index.length,
            all_versions=True,
            deadline=deadline,
        )
        _complete(self.field, batch, None)
        return [term for terms in batch.values for term in terms or ()]


__all__ = ["AsyncFieldCipher", "Field", "FieldCipher", "FieldIndex", "Row", "key_version"]
