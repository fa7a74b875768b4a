"""Encrypting and decrypting field values, one by one and in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kms.core.ciphertext import HEADER_LENGTH, Header
from kms.core.context import DETERMINISTIC_KEYS, Context, Frame, Pair
from kms.core.errors import CannotDecrypt, InvalidRequest, KmsError, Violation, invalid
from kms.core.names import KeyName, Principal
from kms.core.suites import MAX_PLAINTEXT, Purpose
from kms.services.keyrings import FIELD_PURPOSES, Keyrings, ReadyVersion, Ring

# Other calls get their turn after so many values: measured as the best of 64 to 1,024 for a lone caller's latency
# beside full batches, at no cost to the batch.
TURN: Final = 256


@dataclass(frozen=True, slots=True)
class Encrypted:
    """One ciphertext and the version that made it."""

    ciphertext: bytes
    version: int
    changed: bool = True


@dataclass(frozen=True, slots=True, repr=False)
class Decrypted:
    """One plaintext, the version that made its ciphertext, and whether that is the primary one."""

    plaintext: bytes
    version: int
    primary: bool


@dataclass(frozen=True, slots=True, repr=False)
class Varying:
    """The context pair that differs within a batch: one value for each item."""

    key: str
    values: Sequence[bytes]


@dataclass(slots=True, repr=False)
class Batch:
    """Results parallel to the items, empty where an item failed, and the failures by index."""

    values: list[bytes]
    failures: dict[int, KmsError] = field(default_factory=dict)
    version: int = 0
    changed: int = 0


def check_plaintext(plaintext: bytes, where: str = "plaintext") -> None:
    """Refuse a value that is too long.

    Raises:
        InvalidRequest: more than 1 MiB.
    """
    if len(plaintext) > MAX_PLAINTEXT:
        raise invalid(where, f"must have at most {MAX_PLAINTEXT} bytes, has {len(plaintext)}")


def context_of(ring: Ring, pairs: Iterable[Pair]) -> Context:
    """Check the caller's context for this key and add the tenant.

    Raises:
        InvalidRequest: a rule of the context is broken, or the key is deterministic and the pair not table or column.
    """
    pairs = tuple(pairs)
    context = Context.of(ring.tenant.uid, pairs)
    if ring.key.purpose is Purpose.DETERMINISTIC and not context.keys() <= DETERMINISTIC_KEYS:
        raise InvalidRequest(
            *(
                Violation(f"context[{index}].key", "must be table or column for a DETERMINISTIC key")
                for index, (key, _) in enumerate(pairs)
                if key not in DETERMINISTIC_KEYS
            )
        )
    return context


class Fields:
    """Values under keys of purpose ENCRYPT or DETERMINISTIC."""

    def __init__(self, keyrings: Keyrings, batch_values: int) -> None:
        self._keyrings = keyrings
        self._batch_values = batch_values

    async def encrypt(self, caller: Principal, name: KeyName, plaintext: bytes, pairs: Iterable[Pair]) -> Encrypted:
        """Encrypt one value under the primary version."""
        ring = await self._keyrings.find(caller, name, FIELD_PURPOSES)
        check_plaintext(plaintext)
        context = context_of(ring, pairs)
        version = await self._keyrings.primary(ring)
        if not version.usage.take_reserved(1):
            await version.usage.take(1)
        return Encrypted(version.cipher.encrypt(version.header, context.encode(), plaintext), version.version)

    async def decrypt(self, caller: Principal, name: KeyName, ciphertext: bytes, pairs: Iterable[Pair]) -> Decrypted:
        """Decrypt one value.

        Raises:
            CannotDecrypt: another key, version or context, or altered; which of them is not told.
        """
        ring = await self._keyrings.find(caller, name, FIELD_PURPOSES)
        header = Header.parse(ciphertext)
        context = context_of(ring, pairs)
        version = await self._keyrings.named(ring, header)
        plaintext = version.cipher.decrypt(context.encode(), ciphertext)
        return Decrypted(plaintext, version.version, version.version >= ring.key.primary_version)

    async def reencrypt(self, caller: Principal, name: KeyName, ciphertext: bytes, pairs: Iterable[Pair]) -> Encrypted:
        """Bring one value to the primary version, in the same context.

        Raises:
            CannotDecrypt: another key, version or context, or altered; which of them is not told.
        """
        await self._keyrings.find(caller, name, FIELD_PURPOSES)  # before a byte of the ciphertext is looked at
        header = Header.parse(ciphertext)
        ring = await self._keyrings.find(caller, name, FIELD_PURPOSES, header.version)
        context = context_of(ring, pairs).encode()
        version = await self._keyrings.named(ring, header)
        plaintext = version.cipher.decrypt(context, ciphertext)
        if version.version >= ring.key.primary_version:
            return Encrypted(ciphertext, version.version, changed=False)
        primary = await self._keyrings.primary(ring)
        await primary.usage.take(1)
        return Encrypted(primary.cipher.encrypt(primary.header, context, plaintext), primary.version)

    async def encrypt_batch(
        self,
        caller: Principal,
        name: KeyName,
        plaintexts: Sequence[bytes],
        pairs: Iterable[Pair],
        varying: Varying | None,
    ) -> Batch:
        """Encrypt many values under the primary version."""
        self._check_count("plaintexts", len(plaintexts), varying)
        ring = await self._keyrings.find(caller, name, FIELD_PURPOSES)
        places = _Places(ring, pairs, varying)
        batch = Batch([b""] * len(plaintexts), dict(places.failures))
        if max(map(len, plaintexts)) > MAX_PLAINTEXT:
            _keep_first(batch, plaintexts, lambda index, value: check_plaintext(value, f"plaintexts[{index}]"))
        primary = await self._keyrings.primary(ring)
        batch.version = primary.version
        await self._encrypt_into(batch, places, primary, plaintexts, _remaining(batch))
        return batch

    async def decrypt_batch(
        self,
        caller: Principal,
        name: KeyName,
        ciphertexts: Sequence[bytes],
        pairs: Iterable[Pair],
        varying: Varying | None,
    ) -> Batch:
        """Decrypt many values of one key, of any of its versions."""
        self._check_count("ciphertexts", len(ciphertexts), varying)
        ring = await self._keyrings.find(caller, name, FIELD_PURPOSES)
        places = _Places(ring, pairs, varying)
        batch = Batch([b""] * len(ciphertexts), dict(places.failures))
        for head, indexes in _by_header(ciphertexts, _remaining(batch)).items():
            await self._decrypt_into(batch, places, ring, head, ciphertexts, indexes)
        return batch

    async def reencrypt_batch(
        self,
        caller: Principal,
        name: KeyName,
        ciphertexts: Sequence[bytes],
        pairs: Iterable[Pair],
        varying: Varying | None,
    ) -> Batch:
        """Bring many values to the primary version; those already there are checked and stay as they are."""
        self._check_count("ciphertexts", len(ciphertexts), varying)
        ring = await self._keyrings.find(caller, name, FIELD_PURPOSES, _newest(ciphertexts))
        places = _Places(ring, pairs, varying)
        primary = await self._keyrings.primary(ring)
        batch = Batch([b""] * len(ciphertexts), dict(places.failures), primary.version)
        for head, indexes in _by_header(ciphertexts, _remaining(batch)).items():
            await self._decrypt_into(batch, places, ring, head, ciphertexts, indexes)
            good = [index for index in indexes if index not in batch.failures]
            if good and Header.read(head).version >= primary.version:
                for index in good:
                    batch.values[index] = ciphertexts[index]
            else:
                await self._encrypt_into(batch, places, primary, batch.values, good)
                batch.changed += len(good)
        return batch

    async def _encrypt_into(
        self, batch: Batch, places: _Places, version: ReadyVersion, plaintexts: Sequence[bytes], indexes: Sequence[int]
    ) -> None:
        if not indexes:
            return
        await version.usage.take(len(indexes))
        for turn in _turns(indexes):
            values = _pick(plaintexts, turn)
            if places.frame is None:
                made = version.cipher.encrypt_many(version.header, places.shared, values)
            else:
                made = version.cipher.encrypt_varying(version.header, places.frame, _pick(places.values, turn), values)
            _put(batch.values, turn, made)
            await asyncio.sleep(0)

    async def _decrypt_into(
        self,
        batch: Batch,
        places: _Places,
        ring: Ring,
        head: bytes,
        ciphertexts: Sequence[bytes],
        indexes: Sequence[int],
    ) -> None:
        try:
            header = Header.read(head, f"ciphertexts[{indexes[0]}]")
            version = await self._keyrings.named(ring, header)
        except InvalidRequest as error:
            rule = error.violations[0].rule
            batch.failures.update((index, invalid(f"ciphertexts[{index}]", rule)) for index in indexes)
            await asyncio.sleep(0)
            return
        except KmsError as error:
            batch.failures.update((index, error) for index in indexes)
            await asyncio.sleep(0)
            return
        for turn in _turns(indexes):
            values = _pick(ciphertexts, turn)
            if places.frame is None:
                made = version.cipher.decrypt_many(places.shared, values)
            else:
                made = version.cipher.decrypt_varying(places.frame, _pick(places.values, turn), values)
            if None in made:
                for index, value in zip(turn, made, strict=True):
                    if value is None:
                        batch.failures[index] = _why(header, ciphertexts[index], index)
            _put(batch.values, turn, [value or b"" for value in made] if None in made else made)
            await asyncio.sleep(0)

    def _check_count(self, where: str, count: int, varying: Varying | None) -> None:
        if not 1 <= count <= self._batch_values:
            raise invalid(where, f"must have 1 to {self._batch_values} values, has {count}")
        if varying is not None and len(varying.values) != count:
            raise invalid("varying.values", f"must have one value for each of {where}, has {len(varying.values)}")


class _Places:
    """The context of each item of a batch: canonical bytes shared by all, or a frame and a value for each."""

    __slots__ = ("failures", "frame", "shared", "values")

    def __init__(self, ring: Ring, pairs: Iterable[Pair], varying: Varying | None) -> None:
        context = context_of(ring, pairs)
        self.shared = context.encode()
        self.frame: Frame | None = None
        self.values: Sequence[bytes] = ()
        self.failures: Mapping[int, KmsError] = {}
        if varying is not None:
            if ring.key.purpose is Purpose.DETERMINISTIC:
                raise invalid("varying", "must be absent for a DETERMINISTIC key")
            self.frame = context.around(varying.key)
            self.values = varying.values
            self.failures = self.frame.failures(varying.values)


def _why(header: Header, ciphertext: bytes, index: int) -> KmsError:
    try:
        header.check_length(len(ciphertext), f"ciphertexts[{index}]")
    except InvalidRequest as error:
        return error
    return CannotDecrypt()


def _keep_first(batch: Batch, values: Sequence[bytes], check: Callable[[int, bytes], None]) -> None:
    for index, value in enumerate(values):
        if index not in batch.failures:
            try:
                check(index, value)
            except KmsError as error:
                batch.failures[index] = error


def _remaining(batch: Batch) -> Sequence[int]:
    count = len(batch.values)
    return [index for index in range(count) if index not in batch.failures] if batch.failures else range(count)


def _by_header(ciphertexts: Sequence[bytes], indexes: Sequence[int]) -> dict[bytes, Sequence[int]]:
    """Group items by their first 22 bytes: by version, since a batch is of one key."""
    heads = [ciphertexts[index][:HEADER_LENGTH] for index in indexes]
    distinct = set(heads)
    if len(distinct) == 1:
        return {heads[0]: indexes}
    groups: dict[bytes, list[int]] = {head: [] for head in distinct}
    for index, head in zip(indexes, heads, strict=True):
        groups[head].append(index)
    return dict(groups)


def _newest(ciphertexts: Sequence[bytes]) -> int:
    """Return the highest version that a header names; what is no header names none that counts."""
    return max(int.from_bytes(ciphertext[HEADER_LENGTH - 4 : HEADER_LENGTH], "big") for ciphertext in ciphertexts)


def _turns(indexes: Sequence[int]) -> Iterable[Sequence[int]]:
    return (indexes[start : start + TURN] for start in range(0, len(indexes), TURN))


def _pick(values: Sequence[bytes], turn: Sequence[int]) -> Sequence[bytes]:
    if isinstance(turn, range):
        return values[turn.start : turn.stop]
    return [values[index] for index in turn]


def _put(values: list[bytes], turn: Sequence[int], made: Sequence[bytes | None]) -> None:
    if isinstance(turn, range):
        values[turn.start : turn.stop] = made  # type: ignore[assignment]
    else:
        for index, value in zip(turn, made, strict=True):
            values[index] = value or b""
