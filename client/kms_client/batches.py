"""Batches of any size: split into messages that fit, and joined again in the order of the caller."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

from google.protobuf.message import Message

from .formats.alphabets import Alphabet
from .formats.context import MAX_LENGTH
from .formats.errors import KmsError, invalid
from .formats.normalisation import IndexNormaliser
from .formats.suites import MAX_PLAINTEXT
from .methods import CRYPTO
from .requests.crypto import Context, context_value, pairs
from .requests.messages import Request, build, encoded
from .responses import crypto
from .responses.crypto import Part
from .v1 import crypto_pb2
from .values import (
    DecryptedBatch,
    EncryptedBatch,
    IndexBatch,
    MaskedBatch,
    ReEncryptedBatch,
    ReIndexedBatch,
    TextBatch,
)

R = TypeVar("R")
S = TypeVar("S", IndexNormaliser, Alphabet)

# The daemon's limits on one message (crypto.proto); its answers are kept below the same size.
MESSAGE_BYTES: Final = 4 << 20
MESSAGE_VALUES: Final = 10_000
MESSAGE_LOOKUPS: Final = 500  # values whose index is wanted under several versions: each has as many answers
# Fields of an answer other than its values; and what an item costs beyond its bytes, in both directions: header, nonce
# and tag are 62 bytes at most (FORMATS section 2), two tags and lengths of protobuf 10.
MARGIN: Final = 4096
ITEM_OVERHEAD: Final = 72

# The pair of the context that differs from value to value: its key, and one value for each item.
Varying = tuple[str, Sequence[str | bytes]]


def split(costs: Sequence[int], budget: int, most: int) -> tuple[list[range], list[int]]:
    """Cut items into runs of at most *most* that cost at most *budget* together, keeping the order.

    Returns the runs, and the indexes of the items that are too large for any run.
    """
    runs, too_large = [], []
    start = spent = 0
    for index, cost in enumerate(costs):
        if cost > budget:
            runs.append(range(start, index))
            too_large.append(index)
            start, spent = index + 1, 0
        elif spent + cost > budget or index - start == most:
            runs.append(range(start, index))
            start, spent = index, cost
        else:
            spent += cost
    runs.append(range(start, len(costs)))
    return [run for run in runs if run], too_large


@dataclass(frozen=True, slots=True)
class Batch(Generic[R]):
    """The requests of one batch, made one at a time, and how their answers become one result."""

    count: int
    refused: dict[int, KmsError]  # items that no message can hold: they fail alone, like any other bad item
    _runs: list[range] = field(repr=False)
    _make: Callable[[range], Request[Part]] = field(repr=False)
    _join: Callable[[int, dict[int, KmsError], Sequence[Part]], R] = field(repr=False)

    def requests(self) -> Iterator[Request[Part]]:
        """Make the requests in order."""
        return map(self._make, self._runs)

    def result(self, parts: Sequence[Part]) -> R:
        """Join the answers of all requests."""
        return self._join(self.count, self.refused, parts)


def checked_values(values: Sequence[bytes], name: str) -> Sequence[bytes]:
    """Return values that are bytes.

    Raises:
        TypeError: no sequence, or one of them is something else.
    """
    if isinstance(values, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"{name} must be a sequence of bytes, not {type(values).__name__}")
    if set(map(type, values)) <= {bytes}:
        return values
    for index, value in enumerate(values):
        if not isinstance(value, bytes):
            raise TypeError(f"{name}[{index}] must be bytes, not {type(value).__name__}")
    return values


def varying_values(varying: Varying | None, count: int) -> tuple[str, list[bytes]] | None:
    """Return the key of the pair that varies and its encoded values, one for each of *count* items.

    Raises:
        InvalidRequest: there are not as many, or text that is no UTF-8.
        TypeError: neither str nor bytes.
    """
    if varying is None:
        return None
    key, values = varying
    if isinstance(values, (str, bytes)):
        raise TypeError(f"varying must have a sequence of values, not {type(values).__name__}")
    if len(values) != count:
        raise invalid("varying.values", f"there must be one for each of the {count} values, not {len(values)}")
    # The usual kinds without a call for each; what is wrong with a value is said below.
    kinds = set(map(type, values))
    if kinds == {bytes}:
        return key, list(cast("Sequence[bytes]", values))
    if kinds == {str}:
        with suppress(UnicodeEncodeError):
            return key, list(map(str.encode, cast("Sequence[str]", values)))
    return key, [context_value(value, f"varying.values[{index}]") for index, value in enumerate(values)]


def _too_large(index: int, size: int, name: str) -> KmsError:
    if size > MAX_PLAINTEXT:
        return invalid(f"{name}[{index}]", f"must hold at most {MAX_PLAINTEXT} bytes of plaintext, has {size}")
    return invalid(f"varying.values[{index}]", "the context is too long for a message")


def _batch(
    method: str,
    kind: type[Message],
    fields: tuple[str, str],
    join: Callable[[int, dict[int, KmsError], Sequence[Part]], R],
    *,
    name: str,
    values: Sequence[bytes],
    context: Context | None,
    varying: Varying | None,
    most: int = MESSAGE_VALUES,
    part: Callable[[str, int, int], Callable[[Any], Part]] = crypto.part,
    **others: Any,
) -> Batch[R]:
    """Check lengths and types of everything, then split; nothing has been sent when this raises."""
    asked, answered = fields
    values = checked_values(values, asked)
    rows = varying_values(varying, len(values))
    shared: dict[str, Any] = {"name": name, **others}
    if context:
        shared["context"] = pairs(context)
    budget = MESSAGE_BYTES - MARGIN - build(kind, **shared).ByteSize()
    if budget < 2 * MAX_PLAINTEXT:  # any legal item must fit
        raise invalid("context", f"must have at most {MAX_LENGTH} bytes in canonical form")
    lengths = list(map(len, values))
    if rows is not None:
        lengths = list(map(operator.add, lengths, map(len, rows[1])))
    if len(values) <= most and sum(lengths) + ITEM_OVERHEAD * len(values) <= budget:
        runs, too_large = ([range(len(values))] if values else []), list[int]()
    else:
        runs, too_large = split([ITEM_OVERHEAD + length for length in lengths], budget, most)

    def make(run: range) -> Request[Part]:
        message: dict[str, Any] = {**shared, asked: values[run.start : run.stop]}
        if rows is not None:
            message["varying"] = build(crypto_pb2.VaryingContext, key=rows[0], values=rows[1][run.start : run.stop])
        return Request(method, build(kind, **message), part(answered, run.start, len(run)))

    refused = {index: _too_large(index, len(values[index]), asked) for index in too_large}
    return Batch(len(values), refused, runs, make, join)


def encrypt_batch(
    name: str, plaintexts: Sequence[bytes], context: Context | None, varying: Varying | None
) -> Batch[EncryptedBatch]:
    """CryptoService.EncryptBatch."""
    return _batch(
        f"{CRYPTO}/EncryptBatch",
        crypto_pb2.EncryptBatchRequest,
        ("plaintexts", "ciphertexts"),
        crypto.encrypted_batch,
        name=name,
        values=plaintexts,
        context=context,
        varying=varying,
    )


def decrypt_batch(
    name: str, ciphertexts: Sequence[bytes], context: Context | None, varying: Varying | None
) -> Batch[DecryptedBatch]:
    """CryptoService.DecryptBatch."""
    return _batch(
        f"{CRYPTO}/DecryptBatch",
        crypto_pb2.DecryptBatchRequest,
        ("ciphertexts", "plaintexts"),
        crypto.decrypted_batch,
        name=name,
        values=ciphertexts,
        context=context,
        varying=varying,
    )


def decrypt_masked_batch(
    name: str, ciphertexts: Sequence[bytes], context: Context | None, varying: Varying | None, keep_last: int
) -> Batch[MaskedBatch]:
    """CryptoService.DecryptMaskedBatch."""
    return _batch(
        f"{CRYPTO}/DecryptMaskedBatch",
        crypto_pb2.DecryptMaskedBatchRequest,
        ("ciphertexts", "values"),
        crypto.masked_batch,
        name=name,
        values=ciphertexts,
        context=context,
        varying=varying,
        keep_last=keep_last,
    )


def reencrypt_batch(
    name: str, ciphertexts: Sequence[bytes], context: Context | None, varying: Varying | None, destination: str
) -> Batch[ReEncryptedBatch]:
    """CryptoService.ReEncryptBatch."""
    return _batch(
        f"{CRYPTO}/ReEncryptBatch",
        crypto_pb2.ReEncryptBatchRequest,
        ("ciphertexts", "ciphertexts"),
        crypto.reencrypted_batch,
        name=name,
        values=ciphertexts,
        context=context,
        varying=varying,
        destination=destination,
    )


def _by_slug(kind: type[S], named: S | str, field: str) -> S:
    """Return what has a name, such as "email", or is given as it is.

    Raises:
        InvalidRequest: nothing of the kind has that name.
    """
    if isinstance(named, kind):
        return named
    for one in kind:
        if one.slug == named:
            return one
    raise invalid(field, "must be one of " + ", ".join(one.slug for one in kind))


def compute_index_batch(
    name: str,
    values: Sequence[bytes],
    scope: str,
    normaliser: IndexNormaliser | str,
    length: int,
    *,
    all_versions: bool,
) -> Batch[IndexBatch]:
    """CryptoService.ComputeIndexBatch."""
    return _batch(
        f"{CRYPTO}/ComputeIndexBatch",
        crypto_pb2.ComputeIndexBatchRequest,
        ("values", "indexes"),
        crypto.index_batch,
        name=name,
        values=values,
        context=None,
        varying=None,
        most=MESSAGE_LOOKUPS if all_versions else MESSAGE_VALUES,
        part=crypto.index_part,
        scope=scope,
        normaliser=int(_by_slug(IndexNormaliser, normaliser, "normaliser")),
        length=length,
        all_versions=all_versions,
    )


def reindex_batch(
    name: str,
    source: str,
    ciphertexts: Sequence[bytes],
    context: Context | None,
    varying: Varying | None,
    scope: str,
    normaliser: IndexNormaliser | str,
    length: int,
) -> Batch[ReIndexedBatch]:
    """CryptoService.ReIndexBatch."""
    return _batch(
        f"{CRYPTO}/ReIndexBatch",
        crypto_pb2.ReIndexBatchRequest,
        ("ciphertexts", "indexes"),
        crypto.reindexed_batch,
        name=name,
        values=ciphertexts,
        context=context,
        varying=varying,
        source=source,
        scope=scope,
        normaliser=int(_by_slug(IndexNormaliser, normaliser, "normaliser")),
        length=length,
    )


def pseudonymize_batch(
    name: str, values: Sequence[bytes], scope: str, normaliser: IndexNormaliser | str, length: int, version: int
) -> Batch[TextBatch]:
    """CryptoService.PseudonymizeBatch."""
    return _batch(
        f"{CRYPTO}/PseudonymizeBatch",
        crypto_pb2.PseudonymizeBatchRequest,
        ("values", "pseudonyms"),
        crypto.text_batch,
        name=name,
        values=values,
        context=None,
        varying=None,
        scope=scope,
        normaliser=int(_by_slug(IndexNormaliser, normaliser, "normaliser")),
        length=length,
        version=version,
    )


def format_rule(
    scope: str, alphabet: Alphabet | str, keep_first: int, keep_last: int, tweak: bytes
) -> crypto_pb2.FormatRule:
    """Return how formatted values are encrypted, as a message."""
    return build(
        crypto_pb2.FormatRule,
        scope=scope,
        alphabet=int(_by_slug(Alphabet, alphabet, "alphabet")),
        keep_first=keep_first,
        keep_last=keep_last,
        tweak=tweak,
    )


def _texts(values: Sequence[str]) -> list[bytes]:
    """Return the UTF-8 of formatted values, which fields of text take as they take text."""
    if isinstance(values, (str, bytes)):
        raise TypeError(f"values must be a sequence of str, not {type(values).__name__}")
    made = []
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(f"values[{index}] must be str, not {type(value).__name__}")
        made.append(encoded(value, f"values[{index}]"))
    return made


def encrypt_format_batch(name: str, values: Sequence[str], rule: crypto_pb2.FormatRule) -> Batch[TextBatch]:
    """CryptoService.EncryptFormatBatch."""
    return _batch(
        f"{CRYPTO}/EncryptFormatBatch",
        crypto_pb2.EncryptFormatBatchRequest,
        ("values", "values"),
        crypto.text_batch,
        name=name,
        values=_texts(values),
        context=None,
        varying=None,
        rule=rule,
    )


def decrypt_format_batch(
    name: str, values: Sequence[str], rule: crypto_pb2.FormatRule, version: int
) -> Batch[TextBatch]:
    """CryptoService.DecryptFormatBatch."""
    return _batch(
        f"{CRYPTO}/DecryptFormatBatch",
        crypto_pb2.DecryptFormatBatchRequest,
        ("values", "values"),
        crypto.text_batch,
        name=name,
        values=_texts(values),
        context=None,
        varying=None,
        rule=rule,
        version=version,
    )
