"""What is done with leased keys, step by step, and nothing of how a lease is come by.

Each function is a generator: it yields what it needs at that very moment, is sent the key, and returns what the method of
Client returns. So the work is the same for threads and for asyncio.

1. The version that is needed is yielded, and what is sent holds.
2. The work is done, in turns of TURN values.
3. The same version is yielded again. Only if it still holds, or holds again, the result of the turn counts; a turn that
   encrypted under a version which does not encrypt any more is done again under the next, from the plaintexts.
4. A batch of several versions yields all of them once more before it returns.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Final, TypeVar

from .batches import Varying, checked_values, varying_values
from .formats.ciphertext import HEADER_LENGTH, Header
from .formats.context import Context as CanonicalContext
from .formats.context import Frame, Pair
from .formats.errors import (
    CannotDecrypt,
    Conflict,
    CorruptRecord,
    InvalidRequest,
    KmsError,
    NotFound,
    Unavailable,
    WrongKeyState,
    invalid,
)
from .formats.names import TenantUid
from .formats.suites import MAX_PLAINTEXT, Suite
from .leased_key import LeasedKey
from .leases import Wanted
from .requests.crypto import Context, context_value
from .values import Decrypted, DecryptedBatch, Encrypted, EncryptedBatch

# Values between two looks at the lease: some milliseconds of work, in which asyncio's other tasks wait.
TURN: Final = 1_000
# How often a turn is done again because its version has been rotated out under it.
TRIES: Final = 5

T = TypeVar("T")
Work = Generator[Wanted, LeasedKey, T]


def encrypt(name: str, plaintext: bytes, context: Context | None) -> Work[Encrypted]:
    """Encrypt one value."""
    if not isinstance(plaintext, bytes):
        raise TypeError(f"plaintext must be bytes, not {type(plaintext).__name__}")
    given, wanted = _pairs(context), Wanted(name)
    leased = yield wanted
    _check_length(plaintext, "plaintext")
    for _ in range(TRIES):
        canonical = CanonicalContext.of(leased.tenant, given).encode()
        ciphertext = leased.cipher.encrypt(leased.header, canonical, plaintext)
        again = yield wanted
        if again is leased or again.same(leased):
            return Encrypted(ciphertext, leased.version)
        leased = again
    raise _restless(name)


def decrypt(name: str, ciphertext: bytes, context: Context | None) -> Work[Decrypted]:
    """Decrypt one value.

    Raises:
        CannotDecrypt: another key, version or context, or altered; which of them is not told.
    """
    if not isinstance(ciphertext, bytes):
        raise TypeError(f"ciphertext must be bytes, not {type(ciphertext).__name__}")
    given = _pairs(context)
    header = Header.parse(ciphertext)
    wanted = _named(name, header)
    try:
        leased = yield wanted
    except NotFound as error:
        raise _unknown(error, name) from error
    canonical = CanonicalContext.of(leased.tenant, given).encode()
    if leased.uid != header.key:
        raise CannotDecrypt
    plaintext = leased.cipher.decrypt(canonical, ciphertext)
    again = yield wanted
    if again is not leased and not again.same(leased):
        raise CannotDecrypt
    return Decrypted(plaintext, leased.version, again.encrypts)


def encrypt_batch(
    name: str, plaintexts: Sequence[bytes], context: Context | None, varying: Varying | None
) -> Work[EncryptedBatch]:
    """Encrypt many values; a bad one fails alone."""
    plaintexts = checked_values(plaintexts, "plaintexts")
    rows, given = varying_values(varying, len(plaintexts)), _pairs(context)
    if not plaintexts:
        return EncryptedBatch([], {}, 0)
    leased = yield Wanted(name)
    places = _Places(leased.tenant, given, rows)
    failures = {**_too_long(plaintexts), **places.failures}
    made: list[bytes | None] = [None] * len(plaintexts)
    used = {leased.version}
    for turn in _turns(_remaining(len(plaintexts), failures)):
        for _ in range(TRIES):
            done = places.encrypt(leased, turn, plaintexts)
            again = yield Wanted(name, pause=turn[-1] + 1 < len(plaintexts))
            if again.same(leased):
                break
            if again.uid != leased.uid:
                raise _replaced(name)
            leased = again
        else:
            raise _restless(name)
        used.add(leased.version)
        _put(made, turn, done)
    for version in used - {leased.version}:
        if (yield Wanted(name, version)).uid != leased.uid:
            raise _replaced(name)
    return EncryptedBatch(made, dict(sorted(failures.items())), leased.version)


def decrypt_batch(
    name: str, ciphertexts: Sequence[bytes], context: Context | None, varying: Varying | None
) -> Work[DecryptedBatch]:
    """Decrypt many values of one key, of any of its versions; what does not decrypt fails alone."""
    ciphertexts = checked_values(ciphertexts, "ciphertexts")
    rows, given = varying_values(varying, len(ciphertexts)), _pairs(context)
    made: list[bytes | None] = [None] * len(ciphertexts)
    failures: dict[int, KmsError] = {}
    places: _Places | None = None
    used: dict[Wanted, LeasedKey] = {}
    for head, indexes in _by_header(ciphertexts).items():
        found = yield from _version_of(name, head)
        if isinstance(found, KmsError):
            failures.update((index, _at(found, index)) for index in indexes)
            continue
        wanted, leased = found
        if places is None:
            places = _Places(leased.tenant, given, rows)
        good = [index for index in indexes if index not in places.failures] if places.failures else indexes
        for turn in _turns(good):
            done = places.decrypt(leased, turn, ciphertexts)
            leased = _still(leased, (yield wanted._replace(pause=True)), name)
            _put(made, turn, done)
            if None in done:
                failures.update(
                    (i, _why(ciphertexts[i], i)) for i, value in zip(turn, done, strict=True) if value is None
                )
        used[wanted] = leased
    if len(used) > 1:
        for wanted, leased in list(used.items()):
            used[wanted] = _still(leased, (yield wanted), name)
    failures.update({} if places is None else places.failures)
    primary = max((leased.version for leased in used.values() if leased.encrypts), default=0)
    return DecryptedBatch(made, dict(sorted(failures.items())), primary)


def _version_of(name: str, head: bytes) -> Work[tuple[Wanted, LeasedKey] | KmsError]:
    """Find what decrypts the ciphertexts that begin so; returns the error where nothing does but others may decrypt."""
    try:
        wanted = _named(name, Header.read(head))
        leased = yield wanted
    except InvalidRequest as error:
        return error
    except KmsError as error:
        if not _of_version(error, name):
            raise
        return _unknown(error, name)
    return (wanted, leased) if leased.uid == wanted.key else CannotDecrypt()


def _at(error: KmsError, index: int) -> KmsError:
    if isinstance(error, InvalidRequest):
        return invalid(f"ciphertexts[{index}]", error.violations[0].rule)
    return error


def _still(before: LeasedKey, now: LeasedKey, name: str) -> LeasedKey:
    """Return the lease by which a result counts that was made by an earlier one.

    Raises:
        Conflict: it is one of another key.
    """
    if not now.same(before):
        raise _replaced(name)
    return now


class _Places:
    """The context of each item of a batch: canonical bytes that all share, or a frame and a value for each."""

    def __init__(self, tenant: TenantUid, given: Iterable[Pair], rows: tuple[str, list[bytes]] | None) -> None:
        """Check a batch's context.

        Raises:
            InvalidRequest: it breaks a rule.
        """
        context = CanonicalContext.of(tenant, given)
        self._shared = context.encode()
        self._frame: Frame | None = None
        self._rows: Sequence[bytes] = ()
        self.failures: Mapping[int, KmsError] = {}
        if rows is not None:
            key, self._rows = rows
            self._frame = context.around(key)
            self.failures = self._frame.failures(self._rows)

    def encrypt(self, leased: LeasedKey, turn: Sequence[int], plaintexts: Sequence[bytes]) -> Sequence[bytes | None]:
        values = _pick(plaintexts, turn)
        if self._frame is None:
            return leased.cipher.encrypt_many(leased.header, self._shared, values)
        return leased.cipher.encrypt_varying(leased.header, self._frame, _pick(self._rows, turn), values)

    def decrypt(self, leased: LeasedKey, turn: Sequence[int], ciphertexts: Sequence[bytes]) -> Sequence[bytes | None]:
        values = _pick(ciphertexts, turn)
        if self._frame is None:
            return leased.cipher.decrypt_many(self._shared, values)
        return leased.cipher.decrypt_varying(self._frame, _pick(self._rows, turn), values, leased.header)


def _named(name: str, header: Header) -> Wanted:
    """Return what decrypts a ciphertext.

    Raises:
        CannotDecrypt: no leasable key has its suite.
    """
    if header.suite is not Suite.XAES_256_GCM:
        raise CannotDecrypt
    return Wanted(name, header.version, header.key)


def _of_version(error: KmsError, name: str) -> bool:
    """Whether an error is about one version of the key, so that others may decrypt nevertheless."""
    if isinstance(error, (WrongKeyState, NotFound)):
        return f"{name}/versions/" in str(error)  # the daemon names the key alone where it is the key
    return isinstance(error, (CannotDecrypt, CorruptRecord))


def _unknown(error: KmsError, name: str) -> KmsError:
    """Return what the daemon answers to a ciphertext of a version that the key does not have."""
    return CannotDecrypt() if isinstance(error, NotFound) and _of_version(error, name) else error


def _why(ciphertext: bytes, index: int) -> KmsError:
    try:
        Header.parse(ciphertext, f"ciphertexts[{index}]")
    except InvalidRequest as error:
        return error
    return CannotDecrypt()


def _replaced(name: str) -> Conflict:
    return Conflict(f"{name} has become another key: do it again")


def _restless(name: str) -> Unavailable:
    return Unavailable(f"{name} is rotated faster than a value is encrypted: try again")


def _pairs(context: Context | None) -> list[Pair]:
    return [
        (key, context_value(value, f"context[{index}].value"))
        for index, (key, value) in enumerate((context or {}).items())
    ]


def _check_length(plaintext: bytes, field: str) -> None:
    if len(plaintext) > MAX_PLAINTEXT:
        raise invalid(field, f"must have at most {MAX_PLAINTEXT} bytes, has {len(plaintext)}")


def _too_long(plaintexts: Sequence[bytes]) -> dict[int, KmsError]:
    failures: dict[int, KmsError] = {}
    if max(map(len, plaintexts)) > MAX_PLAINTEXT:
        for index, plaintext in enumerate(plaintexts):
            try:
                _check_length(plaintext, f"plaintexts[{index}]")
            except InvalidRequest as error:
                failures[index] = error
    return failures


def _by_header(ciphertexts: Sequence[bytes]) -> dict[bytes, Sequence[int]]:
    """Group items by their first 22 bytes."""
    first = ciphertexts[0][:HEADER_LENGTH] if ciphertexts else b""
    if len(first) == HEADER_LENGTH and all(map(bytes.startswith, ciphertexts, repeat(first))):
        return {first: range(len(ciphertexts))}
    groups: dict[bytes, list[int]] = {}
    for index, ciphertext in enumerate(ciphertexts):
        groups.setdefault(ciphertext[:HEADER_LENGTH], []).append(index)
    return dict(groups)


def _remaining(count: int, failures: Mapping[int, KmsError]) -> Sequence[int]:
    return [index for index in range(count) if index not in failures] if failures else range(count)


def _turns(indexes: Sequence[int]) -> Iterator[Sequence[int]]:
    return (indexes[start : start + TURN] for start in range(0, len(indexes), TURN))


def _pick(values: Sequence[bytes], turn: Sequence[int]) -> Sequence[bytes]:
    if isinstance(turn, range):
        return values[turn.start : turn.stop]
    return [values[index] for index in turn]


def _put(made: list[bytes | None], turn: Sequence[int], done: Sequence[bytes | None]) -> None:
    if isinstance(turn, range):
        made[turn.start : turn.stop] = done
    else:
        for index, value in zip(turn, done, strict=True):
            made[index] = value
