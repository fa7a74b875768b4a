"""From messages to values, and the checks of an answer's shape that a client must not do without."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import Int32Value

from .errors import from_status
from .formats.errors import InvalidRequest, KmsError, Violation
from .formats.suites import ProtectionLevel, Purpose, Suite
from .v1 import crypto_pb2, keys_pb2, tenants_pb2
from .values import (
    BatchResult,
    DataKey,
    Decrypted,
    DecryptedDataKey,
    Encrypted,
    EncryptedBatch,
    HealthStatus,
    Kek,
    Key,
    KeyVersion,
    ReEncrypted,
    ReEncryptedBatch,
    Tenant,
)

T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def _known(kind: type[E], number: int) -> E | int:
    return kind(number) if number in kind.__members__.values() else number


def _last_number(name: str) -> int:
    """Return the version at the end of a resource name."""
    number = name.rpartition("/")[2]
    if not (number.isascii() and number.isdecimal()):
        raise KmsError(f"the daemon answers with a version named {name[:256]!r}, which has no number")
    return int(number)


def tenant(message: tenants_pb2.Tenant) -> Tenant:
    """Read a Tenant."""
    return Tenant(message.name, message.uid, message.display_name, _time(message.create_time))


def key(message: keys_pb2.Key) -> Key:
    """Read a Key."""
    return Key(
        name=message.name,
        uid=message.uid,
        display_name=message.display_name,
        purpose=_known(Purpose, message.purpose),
        suite=_known(Suite, message.suite),
        protection_level=_known(ProtectionLevel, message.protection_level),
        primary_version=message.primary_version,
        rotation_period=message.rotation_period.ToTimedelta() if message.HasField("rotation_period") else None,
        create_time=_time(message.create_time),
        rotate_time=_time(message.rotate_time),
        creator=message.creator,
        etag=message.etag,
        labels=dict(message.labels),
    )


def key_version(message: keys_pb2.KeyVersion) -> KeyVersion:
    """Read a KeyVersion."""
    return KeyVersion(
        name=message.name,
        version=_last_number(message.name),
        primary=message.primary,
        kek=message.kek,
        create_time=_time(message.create_time),
        encryptions_reserved=message.encryptions_reserved,
        encryptions_limit=message.encryptions_limit or None,
    )


def kek(message: keys_pb2.Kek) -> Kek:
    """Read a Kek."""
    return Kek(
        name=message.name,
        uid=message.uid,
        version=_last_number(message.name),
        primary=message.primary,
        hsm_key_id=message.hsm_key_id,
        create_time=_time(message.create_time),
        wrapped_key_versions=message.wrapped_key_versions,
        wraps_reserved=message.wraps_reserved,
    )


@dataclass(frozen=True, slots=True)
class Page:
    """The entries of one page, and the token of the next: empty on the last."""

    entries: list[Any]
    next_token: str

    def after(self, token: str) -> str:
        """Return the next token, given the one that this page was asked with.

        Raises:
            KmsError: they are the same: the listing would never end.
        """
        if token and token == self.next_token:
            raise KmsError("the daemon answers with the same page again")
        return self.next_token


def page(entries: str, read: Callable[[Any], Any]) -> Callable[[Any], Page]:
    """Return a reader of list responses whose entries stand in the field *entries*."""
    return lambda message: Page([read(entry) for entry in getattr(message, entries)], message.next_page_token)


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


def random_bytes(length: int) -> Callable[[crypto_pb2.GenerateRandomBytesResponse], bytes]:
    """Return a reader that refuses another number of bytes than was asked for."""

    def read(message: crypto_pb2.GenerateRandomBytesResponse) -> bytes:
        if len(message.data) != length:
            raise KmsError(f"the daemon answers with {len(message.data)} random bytes instead of {length}")
        return message.data

    return read


def health(message: Int32Value) -> HealthStatus:
    """Read a HealthCheckResponse; a status that this release does not know is UNKNOWN."""
    return HealthStatus(message.value) if message.value in HealthStatus.__members__.values() else HealthStatus.UNKNOWN


@dataclass(frozen=True, slots=True)
class Part:
    """The answer to one message of a batch, with indexes of the whole batch."""

    start: int
    values: Sequence[bytes] = field(repr=False)
    failures: dict[int, KmsError]
    version: int
    changed: int


_INDEXED = re.compile(r"(plaintexts|ciphertexts|varying\.values)\[(\d{1,9})\]")


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
        failures = {}
        for failure in message.failures:
            if failure.index >= count:
                raise KmsError(f"the daemon reports a failure of item {failure.index} of {count}")
            failures[start + failure.index] = _of_whole(from_status(failure.status), start)
        return Part(start, answers, failures, getattr(message, "version", 0), getattr(message, "changed", 0))

    return read


def _joined(
    count: int, refused: dict[int, KmsError], parts: Iterable[Part]
) -> tuple[list[bytes | None], dict[int, KmsError]]:
    values: list[bytes | None] = [None] * count
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


def decrypted_batch(count: int, refused: dict[int, KmsError], parts: Sequence[Part]) -> BatchResult:
    """Join the answers to a DecryptBatch."""
    return BatchResult(*_joined(count, refused, parts))


def reencrypted_batch(count: int, refused: dict[int, KmsError], parts: Sequence[Part]) -> ReEncryptedBatch:
    """Join the answers to a ReEncryptBatch."""
    return ReEncryptedBatch(
        *_joined(count, refused, parts),
        version=max((one.version for one in parts), default=0),
        changed=sum(one.changed for one in parts),
    )
