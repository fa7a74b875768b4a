"""From messages to values: what comes of encrypting and decrypting, and batches joined from the answers to their messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from ..errors import from_status
from ..formats.errors import Conflict, InvalidRequest, KmsError, Violation
from ..v1 import crypto_pb2
from ..values import (
    DataKey,
    Decrypted,
    DecryptedBatch,
    DecryptedDataKey,
    Encrypted,
    EncryptedBatch,
    IndexBatch,
    Lease,
    MaskedBatch,
    ReEncrypted,
    ReEncryptedBatch,
    ReIndexedBatch,
    TextBatch,
)
from .reading import period

# Bytes of a DEK of XAES-256-GCM, the one suite whose keys are leasable (docs/wire-format.md).
LEASED_KEY: Final = 32


def encrypted(message: crypto_pb2.EncryptResponse) -> Encrypted:
    """Read an EncryptResponse."""
    return Encrypted(message.ciphertext, message.version)


def decrypted(message: crypto_pb2.DecryptResponse) -> Decrypted:
    """Read a DecryptResponse."""
    return Decrypted(message.plaintext, message.version, message.primary)


def reencrypted(message: crypto_pb2.ReEncryptResponse) -> ReEncrypted:
    """Read a ReEncryptResponse."""
    return ReEncrypted(message.ciphertext, message.version, message.changed)


def data_key(message: crypto_pb2.GenerateDataKeyResponse) -> DataKey:
    """Read a GenerateDataKeyResponse."""
    return DataKey(message.plaintext, message.ciphertext, message.version)


def decrypted_data_key(message: crypto_pb2.DecryptDataKeyResponse) -> DecryptedDataKey:
    """Read a DecryptDataKeyResponse."""
    return DecryptedDataKey(message.plaintext, message.version)


def lease(message: crypto_pb2.LeaseKeyVersionResponse) -> Lease:
    """Read a LeaseKeyVersionResponse.

    Raises:
        KmsError: no DEK of XAES-256-GCM, a lease of no time, or what is no uid.
    """
    duration = period(message.lease)
    if len(message.key) != LEASED_KEY or message.version < 1 or duration <= timedelta(0):
        raise KmsError("the daemon answers with a lease that cannot be used")
    try:
        UUID(message.key_uid), UUID(message.tenant_uid)
    except ValueError as error:
        raise KmsError("the daemon answers with a lease that names no uid") from error
    return Lease(message.key, message.version, message.encrypts, message.key_uid, message.tenant_uid, duration)


def random_bytes(length: int) -> Callable[[crypto_pb2.GenerateRandomBytesResponse], bytes]:
    """Return a reader that refuses another number of bytes than was asked for."""

    def read(message: crypto_pb2.GenerateRandomBytesResponse) -> bytes:
        if len(message.data) != length:
            raise KmsError(f"the daemon answers with {len(message.data)} random bytes instead of {length}")
        return message.data

    return read


@dataclass(frozen=True, slots=True)
class Part:
    """The answer to one message of a batch, with indexes of the whole batch."""

    start: int
    values: Sequence[Any] = field(repr=False)  # bytes, or str of a text batch
    failures: dict[int, KmsError]
    version: int
    changed: int
    each: int = 1  # values for one item


_INDEXED = re.compile(r"(plaintexts|ciphertexts|values|varying\.values)\[(\d{1,9})\]")


def _of_whole(error: KmsError, start: int) -> KmsError:
    """Let the fields that an error names have the numbers of the whole batch."""
    if not isinstance(error, InvalidRequest) or start == 0:
        return error
    moved = InvalidRequest(
        *(
            Violation(_INDEXED.sub(lambda found: f"{found[1]}[{int(found[2]) + start}]", v.field), v.rule)
            for v in error.violations
        )
    )
    moved.request_id = error.request_id
    return moved


def part(values: str, start: int, count: int) -> Callable[[Any], Part]:
    """Return a reader for one message of a batch: *count* values from *start* on, answered in the field *values*.

    The reader raises KmsError where the answer is not parallel to the question: nothing of it can then be trusted.
    """

    def read(message: Any) -> Part:
        answers = getattr(message, values)
        if len(answers) != count:
            raise KmsError(f"the daemon answers with {len(answers)} values for {count}")
        failures = _failures(message, start, count)
        version = getattr(message, "version", 0) or getattr(message, "primary_version", 0)
        return Part(start, answers, failures, version, getattr(message, "changed", 0))

    return read


def index_part(values: str, start: int, count: int) -> Callable[[Any], Part]:
    """As part(), where each item has as many values as there are *versions* in the answer."""

    def read(message: crypto_pb2.ComputeIndexBatchResponse) -> Part:
        answers, versions = getattr(message, values), message.versions
        if not versions or len(answers) != count * len(versions):
            raise KmsError(f"the daemon answers with {len(answers)} values of {len(versions)} versions for {count}")
        return Part(start, answers, _failures(message, start, count), max(versions), 0, len(versions))

    return read


def _failures(message: Any, start: int, count: int) -> dict[int, KmsError]:
    failures = {}
    for failure in message.failures:
        if failure.index >= count:
            raise KmsError(f"the daemon reports a failure of item {failure.index} of {count}")
        failures[start + failure.index] = _of_whole(from_status(failure.status), start)
    return failures


def _joined(
    count: int, refused: dict[int, KmsError], parts: Iterable[Part]
) -> tuple[list[Any | None], dict[int, KmsError]]:
    values: list[Any | None] = [None] * count
    failures = dict(refused)
    for one in parts:
        values[one.start : one.start + len(one.values)] = one.values
        failures.update(one.failures)
    for index in failures:
        values[index] = None
    return values, dict(sorted(failures.items()))


def encrypted_batch(count: int, refused: dict[int, KmsError], parts: Sequence[Part]) -> EncryptedBatch:
    """Join the answers to an EncryptBatch."""
    return EncryptedBatch(*_joined(count, refused, parts), max((one.version for one in parts), default=0))


def decrypted_batch(count: int, refused: dict[int, KmsError], parts: Sequence[Part]) -> DecryptedBatch:
    """Join the answers to a DecryptBatch."""
    return DecryptedBatch(*_joined(count, refused, parts), max((one.version for one in parts), default=0))


def masked_batch(count: int, refused: dict[int, KmsError], parts: Sequence[Part]) -> MaskedBatch:
    """Join the answers to a DecryptMaskedBatch."""
    return MaskedBatch(*_joined(count, refused, parts))


def reencrypted_batch(count: int, refused: dict[int, KmsError], parts: Sequence[Part]) -> ReEncryptedBatch:
    """Join the answers to a ReEncryptBatch."""
    return ReEncryptedBatch(
        *_joined(count, refused, parts),
        version=max((one.version for one in parts), default=0),
        changed=sum(one.changed for one in parts),
    )


def index_batch(count: int, refused: dict[int, KmsError], parts: Sequence[Part]) -> IndexBatch:
    """Join the answers to a ComputeIndexBatch."""
    values: list[list[bytes] | None] = [None] * count
    failures = dict(refused)
    for one in parts:
        for place in range(len(one.values) // one.each):
            values[one.start + place] = list(one.values[place * one.each : (place + 1) * one.each])
        failures.update(one.failures)
    for index in failures:
        values[index] = None
    return IndexBatch(values, dict(sorted(failures.items())), max((one.version for one in parts), default=0))


def reindexed_batch(count: int, refused: dict[int, KmsError], parts: Sequence[Part]) -> ReIndexedBatch:
    """Join the answers to a ReIndexBatch."""
    return ReIndexedBatch(*_joined(count, refused, parts), max((one.version for one in parts), default=0))


def text_batch(count: int, refused: dict[int, KmsError], parts: Sequence[Part]) -> TextBatch:
    """Join the answers to a PseudonymizeBatch, EncryptFormatBatch or DecryptFormatBatch.

    Raises:
        Conflict: they are of several key versions, and nobody could tell later which value is of which.
    """
    versions = {one.version for one in parts} or {0}
    if len(versions) > 1:
        raise Conflict("the key was rotated while the batch was under way: do it again")
    return TextBatch(*_joined(count, refused, parts), versions.pop())
