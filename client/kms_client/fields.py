"""One column's key, context and modes: values go in and out without their caller naming any of these again.

What a ciphertext is bound to is what `kms columns` binds it to (docs/columns.md), so that both read each other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from .batches import Varying
from .formats.ciphertext import Header
from .formats.columns import ROW, column_context, row_value
from .formats.errors import NotSupported, invalid
from .formats.normalisation import IndexNormaliser
from .requests.crypto import Context
from .values import BatchResult, DecryptedBatch, EncryptedBatch, IndexBatch

# What tells a row apart: the text of its identity, or the texts of several columns in their order.
Row = str | Sequence[str]

INDEX_LENGTH: Final = 16  # bytes


class Encrypting(Protocol):
    """Encrypts values in batches: a Client, or a Local."""

    def encrypt_batch(  # noqa: D102
        self,
        name: str,
        plaintexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> EncryptedBatch: ...

    def decrypt_batch(  # noqa: D102
        self,
        name: str,
        ciphertexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> DecryptedBatch: ...

    def compute_index_batch(  # noqa: D102
        self,
        name: str,
        values: Sequence[bytes],
        *,
        scope: str,
        normaliser: IndexNormaliser | str = IndexNormaliser.NONE,
        length: int = INDEX_LENGTH,
        all_versions: bool = False,
        deadline: float | None = None,
    ) -> IndexBatch: ...


class AsyncEncrypting(Protocol):
    """Encrypts values in batches: an AsyncClient, or a Local of kms_client.aio."""

    async def encrypt_batch(  # noqa: D102
        self,
        name: str,
        plaintexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> EncryptedBatch: ...

    async def decrypt_batch(  # noqa: D102
        self,
        name: str,
        ciphertexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> DecryptedBatch: ...

    async def compute_index_batch(  # noqa: D102
        self,
        name: str,
        values: Sequence[bytes],
        *,
        scope: str,
        normaliser: IndexNormaliser | str = IndexNormaliser.NONE,
        length: int = INDEX_LENGTH,
        all_versions: bool = False,
        deadline: float | None = None,
    ) -> IndexBatch: ...


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
        return ROW, [_row_text(row) for row in rows]

    def required_index(self) -> FieldIndex:
        """Return the index.

        Raises:
            NotSupported: the column has none.
        """
        if self.index is None:
            raise NotSupported(f"{self} has no blind index: nothing finds its values")
        return self.index


@dataclass(frozen=True, slots=True)
class _Asked:
    """Values of a column that are sent, and where they stand among those given: what is NULL stays NULL and is never sent."""

    field: Field
    values: list[bytes]
    rows: list[Row] | None
    places: list[int]
    count: int

    @classmethod
    def of(cls, field: Field, values: Sequence[bytes | None], rows: Sequence[Row] | None = None) -> Self:
        """Take values in their rows.

        Raises:
            InvalidRequest: not one row for each value.
        """
        if rows is not None and len(rows) != len(values):
            raise invalid("rows", f"there must be one for each of the {len(values)} values, not {len(rows)}")
        there = [(at, value) for at, value in enumerate(values) if value is not None]
        places = [at for at, _ in there]
        chosen = None if rows is None else [rows[at] for at in places]
        return cls(field, [value for _, value in there], chosen, places, len(values))

    @property
    def varying(self) -> Varying | None:
        """The pair of the context that differs from value to value."""
        return self.field.varying(self.rows, len(self.values))

    def complete(self, batch: BatchResult | IndexBatch) -> None:
        """Raise the error of the first item that failed, if any; it says where that stands."""
        for at in sorted(batch.failures):
            error = batch.failures[at]
            error.add_note(str(self.field) if self.rows is None else f"{self.field}, row {_row_text(self.rows[at])}")
            raise error

    def answer(self, batch: BatchResult | IndexBatch) -> list[bytes | None]:
        """Return what a batch made, each where its value stood."""
        self.complete(batch)
        answer: list[bytes | None] = [None] * self.count
        for at, value in zip(self.places, batch.complete(), strict=True):
            answer[at] = value
        return answer


def _row_text(row: Row) -> str:
    return row if isinstance(row, str) else row_value(row)


def _one(answer: Sequence[bytes | None]) -> bytes:
    """Return the answer for the one value that was given."""
    [value] = answer
    if value is None:
        raise TypeError("a value must be bytes, not None")
    return value


def key_version(ciphertext: bytes) -> int:
    """Return the key version in a ciphertext's header.

    Raises:
        InvalidRequest: it has no header.
    """
    return Header.read(ciphertext).version


class FieldCipher:
    """Encrypts, decrypts and indexes the values of one column; None stays None."""

    def __init__(self, kms: Encrypting, field: Field) -> None:
        self._kms, self.field = kms, field

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.field}>"

    def encrypt(self, value: bytes, row: Row | None = None) -> bytes:
        """Encrypt one value in its row; a deterministic column has no rows."""
        return _one(self.encrypt_batch([value], None if row is None else [row]))

    def decrypt(self, ciphertext: bytes, row: Row | None = None) -> bytes:
        """Decrypt one value in its row."""
        return _one(self.decrypt_batch([ciphertext], None if row is None else [row]))

    def index(self, value: bytes) -> bytes:
        """Return what is stored beside the ciphertext of a value."""
        return _one(self.index_batch([value]))

    def encrypt_batch(
        self, values: Sequence[bytes | None], rows: Sequence[Row] | None = None, *, deadline: float | None = None
    ) -> list[bytes | None]:
        """Encrypt values in their rows; all or none.

        Raises:
            KmsError: of the first value that failed; a note says which row.
        """
        asked, field = _Asked.of(self.field, values, rows), self.field
        return asked.answer(
            self._kms.encrypt_batch(
                field.key, asked.values, context=field.context, varying=asked.varying, deadline=deadline
            )
        )

    def decrypt_batch(
        self, ciphertexts: Sequence[bytes | None], rows: Sequence[Row] | None = None, *, deadline: float | None = None
    ) -> list[bytes | None]:
        """Decrypt values in their rows; all or none, as encrypt_batch."""
        asked, field = _Asked.of(self.field, ciphertexts, rows), self.field
        return asked.answer(
            self._kms.decrypt_batch(
                field.key, asked.values, context=field.context, varying=asked.varying, deadline=deadline
            )
        )

    def index_batch(self, values: Sequence[bytes | None], *, deadline: float | None = None) -> list[bytes | None]:
        """Return what is stored beside the ciphertexts of these values."""
        asked, index = _Asked.of(self.field, values), self.field.required_index()
        return asked.answer(
            self._kms.compute_index_batch(
                index.key,
                asked.values,
                scope=index.scope,
                normaliser=index.normaliser,
                length=index.length,
                deadline=deadline,
            )
        )

    def search_terms(self, values: Sequence[bytes], *, deadline: float | None = None) -> list[bytes]:
        """Return what to look for in the index column, or among deterministic ciphertexts, to find any of these values.

        Indexes come under every version that may be read. Of a deterministic key only the primary version encrypts: rows of
        older ones are found after `kms columns reencrypt`.
        """
        if self.field.deterministic:
            made = self.encrypt_batch(values, deadline=deadline)
            return [one for one in made if one is not None]
        asked, index = _Asked.of(self.field, values), self.field.required_index()
        batch = self._kms.compute_index_batch(
            index.key,
            asked.values,
            scope=index.scope,
            normaliser=index.normaliser,
            length=index.length,
            all_versions=True,
            deadline=deadline,
        )
        asked.complete(batch)
        return [term for terms in batch.values for term in terms or ()]


class AsyncFieldCipher:
    """FieldCipher for asyncio."""

    def __init__(self, kms: AsyncEncrypting, field: Field) -> None:
        self._kms, self.field = kms, field

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.field}>"

    async def encrypt(self, value: bytes, row: Row | None = None) -> bytes:
        """Encrypt one value in its row; a deterministic column has no rows."""
        return _one(await self.encrypt_batch([value], None if row is None else [row]))

    async def decrypt(self, ciphertext: bytes, row: Row | None = None) -> bytes:
        """Decrypt one value in its row."""
        return _one(await self.decrypt_batch([ciphertext], None if row is None else [row]))

    async def index(self, value: bytes) -> bytes:
        """Return what is stored beside the ciphertext of a value."""
        return _one(await self.index_batch([value]))

    async def encrypt_batch(
        self, values: Sequence[bytes | None], rows: Sequence[Row] | None = None, *, deadline: float | None = None
    ) -> list[bytes | None]:
        """Encrypt values in their rows; all or none.

        Raises:
            KmsError: of the first value that failed; a note says which row.
        """
        asked, field = _Asked.of(self.field, values, rows), self.field
        return asked.answer(
            await self._kms.encrypt_batch(
                field.key, asked.values, context=field.context, varying=asked.varying, deadline=deadline
            )
        )

    async def decrypt_batch(
        self, ciphertexts: Sequence[bytes | None], rows: Sequence[Row] | None = None, *, deadline: float | None = None
    ) -> list[bytes | None]:
        """Decrypt values in their rows; all or none, as encrypt_batch."""
        asked, field = _Asked.of(self.field, ciphertexts, rows), self.field
        return asked.answer(
            await self._kms.decrypt_batch(
                field.key, asked.values, context=field.context, varying=asked.varying, deadline=deadline
            )
        )

    async def index_batch(self, values: Sequence[bytes | None], *, deadline: float | None = None) -> list[bytes | None]:
        """Return what is stored beside the ciphertexts of these values."""
        asked, index = _Asked.of(self.field, values), self.field.required_index()
        return asked.answer(
            await self._kms.compute_index_batch(
                index.key,
                asked.values,
                scope=index.scope,
                normaliser=index.normaliser,
                length=index.length,
                deadline=deadline,
            )
        )

    async def search_terms(self, values: Sequence[bytes], *, deadline: float | None = None) -> list[bytes]:
        """Return what to look for to find any of these values; as FieldCipher.search_terms."""
        if self.field.deterministic:
            made = await self.encrypt_batch(values, deadline=deadline)
            return [one for one in made if one is not None]
        asked, index = _Asked.of(self.field, values), self.field.required_index()
        batch = await self._kms.compute_index_batch(
            index.key,
            asked.values,
            scope=index.scope,
            normaliser=index.normaliser,
            length=index.length,
            all_versions=True,
            deadline=deadline,
        )
        asked.complete(batch)
        return [term for terms in batch.values for term in terms or ()]


__all__ = [
    "AsyncEncrypting",
    "AsyncFieldCipher",
    "Encrypting",
    "Field",
    "FieldCipher",
    "FieldIndex",
    "Row",
    "key_version",
]
