"""Encrypting and decrypting field values, one by one and in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from kms.acting import note_items
from kms.core.ciphertext import Header
from kms.core.context import Pair
from kms.core.errors import CannotDecrypt, ClassViolation, InvalidRequest, KmsError, invalid
from kms.core.lifecycle import Use
from kms.core.names import KeyName, Principal
from kms.core.suites import MAX_PLAINTEXT
from kms.services.batch_items import by_header, newest, pick, put
from kms.services.contexts import Places, Varying, context_of, require_context
from kms.services.keyrings import CIPHER_PURPOSES, FIELD_PURPOSES, Grant, Keyrings, version_in
from kms.services.ready_versions import ReadyVersion
from kms.services.rings import Ring

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


@dataclass(slots=True, repr=False)
class Batch:
    """Results parallel to the items, empty where an item failed, the failures by index, and what allowed the results."""

    values: list[bytes]
    failures: dict[int, KmsError] = field(default_factory=dict)
    version: int = 0
    changed: int = 0
    grants: list[Grant] = field(default_factory=list)

    @property
    def succeeded(self) -> int:
        """How many items did not fail."""
        return len(self.values) - len(self.failures)


def check_plaintext(plaintext: bytes, where: str = "plaintext") -> None:
    """Refuse a value that is too long.

    Raises:
        InvalidRequest: more than 1 MiB.
    """
    if len(plaintext) > MAX_PLAINTEXT:
        raise invalid(where, f"must have at most {MAX_PLAINTEXT} bytes, has {len(plaintext)}")


class Fields:
    """Values under keys of purpose ENCRYPT or DETERMINISTIC."""

    def __init__(self, keyrings: Keyrings, batch_values: int, rescuer: str) -> None:
        """*rescuer* is the name of the principal of each tenant that re-encrypts what a revoked version encrypted."""
        self._keyrings = keyrings
        self._batch_values = batch_values
        self._rescuer = rescuer

    async def encrypt(self, caller: Principal, name: KeyName, plaintext: bytes, pairs: Iterable[Pair]) -> Encrypted:
        """Encrypt one value under the primary version."""
        ring = await self._keyrings.find(caller, name, FIELD_PURPOSES, Use.ENCRYPT)
        check_plaintext(plaintext)
        context = context_of(ring, pairs)
        version = await self._keyrings.primary(ring)
        if not version.usage.take_reserved(1):
            await version.usage.take(1)
        inside = version.in_enclave
        if inside is None:
            ciphertext = version.cipher.encrypt(version.header, context.encode(), plaintext)
        else:
            ciphertext = await inside.encrypt(version.header, context.encode(), plaintext)
        version.marks.used = True
        if not self._keyrings.stands(ring):
            await self._keyrings.confirm([Grant(ring, Use.ENCRYPT, [version.version])])
        note_items((ciphertext,))
        return Encrypted(ciphertext, version.version)

    async def decrypt(self, caller: Principal, name: KeyName, ciphertext: bytes, pairs: Iterable[Pair]) -> Decrypted:
        """Decrypt one value.

        Raises:
            CannotDecrypt: another key, version or context, or altered; which of them is not told.
        """
        note_items((ciphertext,))
        ring = await self._keyrings.find(caller, name, FIELD_PURPOSES, Use.DECRYPT, ciphertexts=(ciphertext,))
        header = Header.parse(ciphertext)
        context = context_of(ring, pairs)
        version = await self._keyrings.named(ring, header, Use.DECRYPT)
        inside = version.in_enclave
        if inside is None:
            plaintext = version.cipher.decrypt(context.encode(), ciphertext)
        else:
            plaintext = await inside.decrypt(context.encode(), ciphertext)
        version.marks.decrypted = True
        if not self._keyrings.stands(ring):
            await self._keyrings.confirm([Grant(ring, Use.DECRYPT, [version.version])])
        return Decrypted(plaintext, version.version, version.version >= ring.key.primary_version)

    async def reencrypt(
        self,
        caller: Principal,
        name: KeyName,
        ciphertext: bytes,
        pairs: Iterable[Pair],
        destination: KeyName | None = None,
    ) -> Encrypted:
        """Bring one value to the primary version of its key, or of the destination, in the same context.

        Raises:
            CannotDecrypt: another key, version or context, or altered; which of them is not told.
        """
        note_items((ciphertext,))
        source, target = await self._route(caller, name, destination, [ciphertext])
        header = Header.parse(ciphertext)
        use = self._reading(caller)
        ring, at_home = (target, True) if header.key == target.key.uid else (source, False)
        shared = context_of(target, pairs)
        if source.required:
            require_context(source, shared)
        context = shared.encode()
        version = await self._keyrings.named(ring, header, use)
        inside = version.in_enclave
        if inside is None:
            plaintext = version.cipher.decrypt(context, ciphertext)
        else:
            plaintext = await inside.decrypt(context, ciphertext)
        version.marks.decrypted = True
        made = Encrypted(ciphertext, version.version, changed=False)
        grants = [Grant(ring, use, [version.version])]
        if not at_home or version.version < target.key.primary_version:
            primary = await self._keyrings.primary(target)
            await primary.usage.take(1)
            inside = primary.in_enclave
            if inside is None:
                fresh = primary.cipher.encrypt(primary.header, context, plaintext)
            else:
                fresh = await inside.encrypt(primary.header, context, plaintext)
            made = Encrypted(fresh, primary.version)
            primary.marks.used = True
            grants.append(Grant(target, Use.ENCRYPT, [primary.version]))
        await self._keyrings.confirm(grants)
        return made

    async def encrypt_batch(
        self,
        caller: Principal,
        name: KeyName,
        plaintexts: Sequence[bytes],
        pairs: Iterable[Pair],
        varying: Varying | None,
    ) -> Batch:
        """Encrypt many values under the primary version."""
        self.check_count("plaintexts", len(plaintexts), varying)
        ring = await self._keyrings.find(caller, name, FIELD_PURPOSES, Use.ENCRYPT)
        places = Places(ring, pairs, varying)
        batch = Batch([b""] * len(plaintexts), dict(places.failures))
        note_items(batch.values, batch.failures)
        if max(map(len, plaintexts)) > MAX_PLAINTEXT:
            _keep_first(batch, plaintexts, lambda index, value: check_plaintext(value, f"plaintexts[{index}]"))
        primary = await self._keyrings.primary(ring)
        batch.version = primary.version
        await self._encrypt_into(batch, places, ring, primary, plaintexts, remaining(batch))
        await self.confirm(batch)
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
        self.check_count("ciphertexts", len(ciphertexts), varying)
        note_items(ciphertexts)
        ring = await self._keyrings.find(caller, name, FIELD_PURPOSES, Use.DECRYPT, ciphertexts=ciphertexts)
        places = Places(ring, pairs, varying)
        batch = Batch([b""] * len(ciphertexts), dict(places.failures), ring.key.primary_version)
        note_items(ciphertexts, batch.failures)
        for head, indexes in by_header(ciphertexts, remaining(batch)).items():
            await self._decrypt_into(batch, places, ring, Use.DECRYPT, head, ciphertexts, indexes)
        await self.confirm(batch)
        return batch

    async def reencrypt_batch(
        self,
        caller: Principal,
        name: KeyName,
        ciphertexts: Sequence[bytes],
        pairs: Iterable[Pair],
        varying: Varying | None,
        destination: KeyName | None = None,
    ) -> Batch:
        """Bring many values to the primary version; those already there are checked and stay as they are."""
        self.check_count("ciphertexts", len(ciphertexts), varying)
        note_items(ciphertexts)
        source, target = await self._route(caller, name, destination, ciphertexts)
        use = self._reading(caller)
        places = Places(target, pairs, varying, source)
        primary = await self._keyrings.primary(target)
        batch = Batch([b""] * len(ciphertexts), dict(places.failures), primary.version)
        note_items(ciphertexts, batch.failures)
        for head, indexes in by_header(ciphertexts, remaining(batch)).items():
            at_home = head[2:18] == target.key.uid.bytes
            ring = target if at_home else source
            await self._decrypt_into(batch, places, ring, use, head, ciphertexts, indexes)
            good = [index for index in indexes if index not in batch.failures]
            if good and at_home and version_in(head) >= primary.version:
                for index in good:
                    batch.values[index] = ciphertexts[index]
            else:
                await self._encrypt_into(batch, places, target, primary, batch.values, good)
                batch.changed += len(good)
        await self.confirm(batch)
        return batch

    async def confirm(self, batch: Batch) -> None:
        """Let a batch leave: as its last step, and once more where the answer was still waited for after that.

        Raises:
            WrongKeyState, Conflict, StorageUnavailable: what it was decided from does not hold any more.
        """
        await self._keyrings.confirm(batch.grants)

    def _reading(self, caller: Principal) -> Use:
        """Return how a caller reads what it re-encrypts; find() lets principals of the key's tenant pass alone."""
        return Use.RESCUE if caller.name == self._rescuer else Use.DECRYPT

    async def _route(
        self, caller: Principal, name: KeyName, destination: KeyName | None, ciphertexts: Sequence[bytes]
    ) -> tuple[Ring, Ring]:
        """Return the key that values come from and the one that they go to, which may be the same.

        Both are found before a byte of a ciphertext is looked at, and again where a header names a newer version.

        Raises:
            ClassViolation: the values would go to a lower class.
        """
        use = self._reading(caller)
        source = await self._keyrings.find(caller, name, CIPHER_PURPOSES, use, ciphertexts=ciphertexts)
        goal = destination or name
        purposes = frozenset({source.key.purpose})
        target = await self._keyrings.find(caller, goal, purposes, Use.ENCRYPT)
        if (seen := newest(ciphertexts, target)) > target.key.primary_version:
            target = await self._keyrings.find(caller, goal, purposes, Use.ENCRYPT, seen=seen)
        if target.classification < source.classification:
            raise ClassViolation(
                f"{name} is of class {source.classification.name} and {goal} of class {target.classification.name}:"
                " values must not go to a lower class (rule no_lowering)"
            )
        return source, target

    async def _encrypt_into(
        self,
        batch: Batch,
        places: Places,
        ring: Ring,
        version: ReadyVersion,
        plaintexts: Sequence[bytes],
        indexes: Sequence[int],
    ) -> None:
        if not indexes:
            return
        await version.usage.take(len(indexes))
        version.marks.used = True
        batch.grants.append(Grant(ring, Use.ENCRYPT, [version.version]))
        if (inside := version.in_enclave) is not None:
            picked = pick(plaintexts, indexes)
            put(batch.values, indexes, await inside.encrypt_each(version.header, places.contexts(indexes), picked))
            return
        for turn in turns(indexes):
            values = pick(plaintexts, turn)
            if places.frame is None:
                made = version.cipher.encrypt_many(version.header, places.shared, values)
            else:
                made = version.cipher.encrypt_varying(version.header, places.frame, pick(places.values, turn), values)
            put(batch.values, turn, made)
            await asyncio.sleep(0)

    async def _decrypt_into(
        self,
        batch: Batch,
        places: Places,
        ring: Ring,
        use: Use,
        head: bytes,
        ciphertexts: Sequence[bytes],
        indexes: Sequence[int],
    ) -> None:
        try:
            header = Header.read(head, f"ciphertexts[{indexes[0]}]")
            version = await self._keyrings.named(ring, header, use, len(indexes))
        except InvalidRequest as error:
            rule = error.violations[0].rule
            batch.failures.update((index, invalid(f"ciphertexts[{index}]", rule)) for index in indexes)
            await asyncio.sleep(0)
            return
        except KmsError as error:
            batch.failures.update((index, error) for index in indexes)
            await asyncio.sleep(0)
            return
        batch.grants.append(Grant(ring, use, [version.version]))
        if (inside := version.in_enclave) is not None:
            made = await inside.decrypt_each(places.contexts(indexes), pick(ciphertexts, indexes))
            _put_decrypted(batch, version, header, ciphertexts, indexes, made)
            return
        for turn in turns(indexes):
            values = pick(ciphertexts, turn)
            if places.frame is None:
                made = version.cipher.decrypt_many(places.shared, values)
            else:
                made = version.cipher.decrypt_varying(places.frame, pick(places.values, turn), values)
            _put_decrypted(batch, version, header, ciphertexts, turn, made)
            await asyncio.sleep(0)

    def check_count(self, where: str, count: int, varying: Varying | None) -> None:
        """Refuse a batch that is empty or too large.

        Raises:
            InvalidRequest: so it is, or there are not as many varying values.
        """
        if not 1 <= count <= self._batch_values:
            raise invalid(where, f"must have 1 to {self._batch_values} values, has {count}")
        if varying is not None and len(varying.values) != count:
            raise invalid("varying.values", f"must have one value for each of {where}, has {len(varying.values)}")


def _put_decrypted(
    batch: Batch,
    version: ReadyVersion,
    header: Header,
    ciphertexts: Sequence[bytes],
    turn: Sequence[int],
    made: Sequence[bytes | None],
) -> None:
    if None in made:
        for index, value in zip(turn, made, strict=True):
            if value is None:
                batch.failures[index] = _why(header, ciphertexts[index], index)
    version.marks.decrypted |= any(value is not None for value in made)
    put(batch.values, turn, [value or b"" for value in made] if None in made else made)


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


def remaining(batch: Batch) -> Sequence[int]:
    """Return the indexes of the items that have not failed."""
    count = len(batch.values)
    return [index for index in range(count) if index not in batch.failures] if batch.failures else range(count)


def turns(indexes: Sequence[int]) -> Iterable[Sequence[int]]:
    """Cut items into runs between which other calls get their turn."""
    return (indexes[start : start + TURN] for start in range(0, len(indexes), TURN))
