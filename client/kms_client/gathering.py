"""Single calls that share a message: which of them may, what the message is, and what each hears of its answer.

No clock, no thread and no event loop: both kinds of coalescing are made of this.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from .approval import metadata
from .batches import ITEM_OVERHEAD, MARGIN, MESSAGE_BYTES, MESSAGE_VALUES, Varying
from .formats.ciphertext import Header
from .formats.context import MAX_LENGTH
from .formats.errors import DeadlineExceeded, InvalidRequest, KmsError, LimitExceeded, Violation
from .requests.crypto import Context, context_value, single
from .values import BatchResult, Decrypted, DecryptedBatch, Encrypted, EncryptedBatch

# Measured: a second batch fills the time in which the first one's answer is on its way; more only make them smaller.
IN_FLIGHT: Final = 2
# What has been asked for and not been answered, over all batches; beyond it a call is refused rather than remembered.
MOST_CALLS: Final = 100_000
MOST_BYTES: Final = 64 << 20
# Of values and their varying pairs in one batch. Shared pairs that a daemon takes fit beside them into a message.
BATCH_BYTES: Final = MESSAGE_BYTES - MARGIN - 4 * MAX_LENGTH
SHORTEST: Final = 0.001  # seconds; gRPC takes no deadline of nothing
PAUSE: Final = timedelta(milliseconds=100)  # as the daemon says where too much is in flight

T = TypeVar("T")
Pairs = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A method in both its forms: what its value is called, and how one item of a batch becomes what the single call returns."""

    value: str  # the request's field; that of a batch has an s at its end
    item: Callable[[bytes, bytes, Any], T]


@dataclass(frozen=True, slots=True)
class Place:
    """A context, parted into the pairs that a batch shares and the one that may vary."""

    shared: Pairs
    row: bytes | None  # the varying pair's value; None where there is no such pair
    at: int  # where that stands among the caller's pairs; behind the last where it is not
    size: int  # bytes of all

    @classmethod
    def of(cls, context: Context | None, varying: str | None) -> Place:
        """Part a context by the key of the pair that may vary.

        Raises:
            InvalidRequest: text that is no UTF-8.
            TypeError: a value is neither str nor bytes.
        """
        shared: list[tuple[str, bytes]] = []
        row, at, size = None, -1, 0
        for index, (key, value) in enumerate((context or {}).items()):
            encoded = context_value(value, f"context[{index}].value")
            size += len(key) + len(encoded)
            if key == varying:
                row, at = encoded, index
            else:
                shared.append((key, encoded))
        return cls(tuple(shared), row, len(shared) if row is None else at, size)


@dataclass(eq=False, slots=True)
class Call:
    """One caller who waits."""

    value: bytes = field(repr=False)
    context: Context | None = field(repr=False)
    place: Place = field(repr=False)
    expiry: float  # by the clock of who sends

    @property
    def cost(self) -> int:
        """Bytes in a batch's message, at most."""
        return len(self.value) + len(self.place.row or b"") + ITEM_OVERHEAD


C = TypeVar("C", bound=Call)


@dataclass(frozen=True, slots=True)
class Shared(Generic[T]):
    """What the calls of a batch have in common; those with equal keys may share one."""

    kind: Kind[T]
    name: str
    pairs: Pairs
    varying: str | None  # the key of the pair that they differ in; None where they have none

    def arguments(self, calls: Sequence[Call]) -> tuple[list[bytes], dict[str, str | bytes], Varying | None]:
        """Return the values, the context and the varying pair of a batch."""
        rows = None if self.varying is None else (self.varying, [call.place.row or b"" for call in calls])
        return [call.value for call in calls], dict(self.pairs), rows

    def result(self, calls: Sequence[Call], made: BatchResult, index: int) -> T:
        """Return what the call at *index* gets of a batch's answer.

        Raises:
            KmsError: the item failed, as the single call would have raised it.
        """
        value = made.values[index]
        if value is None:
            raise self.own(made.failures[index], calls[index])
        return self.kind.item(calls[index].value, value, made)

    def own(self, error: Exception, call: Call) -> Exception:
        """Return an error of a batch as the single call would have raised it, one object for each who raises it."""
        if isinstance(error, InvalidRequest):
            named = (Violation(_own_field(v.field, self.kind.value, call.place.at), v.rule) for v in error.violations)
            own: Exception = InvalidRequest(*named)
        else:
            own = type(error).__new__(type(error), *error.args)
        vars(own).update({key: value for key, value in vars(error).items() if key != "violations"})
        own.__cause__ = error
        return own


@dataclass(slots=True)
class Load:
    """How much is being waited for."""

    calls: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """Count one call in.

        Raises:
            LimitExceeded: more than is remembered.
        """
        if self.calls >= MOST_CALLS or self.size + size > MOST_BYTES:
            raise LimitExceeded(f"{self.calls} calls of {self.size} bytes wait in this client already", PAUSE)
        self.calls += 1
        self.size += size

    def remove(self, size: int) -> None:
        """Count one call out."""
        self.calls -= 1
        self.size -= size


def checked_batch_values(values: int) -> int:
    """Return a number of values for one message.

    Raises:
        ValueError: not 1 to 10,000.
    """
    if not 1 <= values <= MESSAGE_VALUES:
        raise ValueError(f"batch_values must be 1 to {MESSAGE_VALUES}, not {values}")
    return values


def checked_value(value: bytes, kind: Kind[Any]) -> bytes:
    """Return a value that a message can hold.

    Raises:
        InvalidRequest: far more than any suite takes.
        TypeError: no bytes.
    """
    if not isinstance(value, bytes):
        raise TypeError(f"{kind.value} must be bytes, not {type(value).__name__}")
    return single(value, kind.value)


def cost(value: bytes, place: Place) -> int:
    """Return the bytes that a call counts for while it waits."""
    return len(value) + place.size + ITEM_OVERHEAD


def group_of(kind: Kind[Any], name: str, place: Place) -> tuple[Any, ...]:
    """Return what calls that may share a message have in common, the approval that they are made under included."""
    return (kind.value, name, place.shared, place.row is None, metadata())


def take(waiting: OrderedDict[C, None], most: int, wanted: Callable[[C], bool] = lambda _: True) -> list[C]:
    """Take the calls of the next batch out of what waits, the oldest first; none only where none is *wanted*."""
    taken: list[C] = []
    spent = 0
    while waiting and len(taken) < most:
        call = next(iter(waiting))
        if wanted(call):
            spent += call.cost
            if taken and spent > BATCH_BYTES:
                break
            taken.append(call)
        del waiting[call]
    return taken


def expired() -> KmsError:
    """Return the error of a caller whose own deadline is over."""
    return DeadlineExceeded("the daemon has not answered within the deadline of this call")


_FIELD: Final = re.compile(
    r"(plaintext|ciphertext)s(?:\[\d+\])?|varying(?:\.values)?(?:\[\d+\])?(\.key)?|context\[(\d+)\]"
)


def _own_field(name: str, value: str, place: int) -> str:
    """Return what a field of a batch is called in the single request."""
    found = _FIELD.match(name)
    if found is None:
        return name
    rest = name[found.end() :]
    if found[1]:
        return value + rest
    if found[3]:
        index = int(found[3])
        return f"context[{index + (index >= place)}]{rest}"
    return f"context[{place}]{found[2] or '.value'}{rest}"


def _encrypted(_: bytes, made: bytes, batch: EncryptedBatch) -> Encrypted:
    return Encrypted(made, batch.version)


def _decrypted(ciphertext: bytes, made: bytes, batch: DecryptedBatch) -> Decrypted:
    if not batch.primary_version:
        raise KmsError("the daemon does not tell the primary version with a batch: it is too old for coalescing")
    version = Header.read(ciphertext).version
    return Decrypted(made, version, version >= batch.primary_version)


ENCRYPT: Final[Kind[Encrypted]] = Kind("plaintext", _encrypted)
DECRYPT: Final[Kind[Decrypted]] = Kind("ciphertext", _decrypted)
