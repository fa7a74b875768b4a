"""Field values under a DEK that only an enclave opens: the daemon frames, the enclave encrypts (FORMATS sections 2, 9).

A ciphertext is byte for byte what FieldCipher makes and reads (kms/crypto/aead.py); a call of the enclave takes its time,
and so these are coroutines. What stays in memory is the seal.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kms.core.ciphertext import HEADER_LENGTH
from kms.core.enclave_ports import MAX_ARGUMENT, MAX_ITEMS, Enclave, SealedInput
from kms.core.errors import CannotDecrypt, CorruptRecord, EnclaveUnavailable, FailedPrecondition
from kms.core.suites import RULES, Suite

_TAG: Final = 16  # bytes
# An XAES nonce is a prefix, which derives a subkey, and a suffix; all items of one call have one prefix.
_SUFFIX: Final = 12  # bytes
# What msgpack puts around an item's three byte strings, and the tag that its answer has beyond them.
_FRAMING: Final = 32  # bytes

Item = tuple[bytes, bytes, bytes]  # nonce, associated data, and the data or the ciphertext with its tag


@dataclass(slots=True, repr=False)
class EnclaveCipher:
    """Encrypts and decrypts whole ciphertexts, header included, under one key version of level ENCLAVE.

    Raises (all methods):
        EnclaveUnavailable: it does not answer; what was asked of it may be asked again.
        CorruptRecord: the DEK does not open in this enclave.
        FailedPrecondition: it was sealed by a newer version of the enclave or on a newer platform.
    """

    enclave: Enclave
    suite: Suite
    sealed: SealedInput
    stored: Callable[[], Awaitable[SealedInput]]  # returns the seal as it is stored now

    async def check(self) -> None:
        """Let the enclave open the DEK once, so that one that does not open is met when it is loaded."""
        await self.enclave.execute("decrypt", [self.sealed], [])

    async def encrypt(self, header: bytes, context: bytes, plaintext: bytes) -> bytes:
        """Return the whole ciphertext; *header* is the encoded one of 22 bytes, *context* the canonical one."""
        return (await self.encrypt_each(header, [context], [plaintext]))[0]

    async def encrypt_each(self, header: bytes, contexts: Sequence[bytes], plaintexts: Sequence[bytes]) -> list[bytes]:
        """Encrypt each of *plaintexts* in the canonical context beside it."""
        length = self._nonce_length
        prefix = os.urandom(length - _SUFFIX)
        suffixes = os.urandom(_SUFFIX * len(plaintexts))
        nonces = [prefix + suffixes[start : start + _SUFFIX] for start in range(0, len(suffixes), _SUFFIX)]
        items = [
            (nonce, header + context, plaintext)
            for nonce, context, plaintext in zip(nonces, contexts, plaintexts, strict=True)
        ]
        made = await self._in_calls("encrypt", items)
        return [header + nonce + body for nonce, body in zip(nonces, made, strict=True)]

    async def decrypt(self, context: bytes, ciphertext: bytes) -> bytes:
        """Undo encrypt().

        Raises:
            CannotDecrypt: another key or context, or an altered or truncated ciphertext.
        """
        (plaintext,) = await self.decrypt_each([context], [ciphertext])
        if plaintext is None:
            raise CannotDecrypt
        return plaintext

    async def decrypt_each(self, contexts: Sequence[bytes], ciphertexts: Sequence[bytes]) -> list[bytes | None]:
        """Undo encrypt_each(); None stands where a ciphertext does not decrypt."""
        body = HEADER_LENGTH + self._nonce_length
        items: dict[int, Item] = {}
        for index, (context, whole) in enumerate(zip(contexts, ciphertexts, strict=True)):
            if len(whole) >= body + _TAG:  # of anything shorter the enclave would refuse the whole call
                items[index] = (whole[HEADER_LENGTH:body], whole[:HEADER_LENGTH] + context, whole[body:])
        results: list[bytes | None] = [None] * len(ciphertexts)
        for index, plaintext in zip(items, await self._in_calls("decrypt", list(items.values())), strict=True):
            results[index] = plaintext
        return results

    @property
    def _nonce_length(self) -> int:
        overhead = RULES[self.suite].overhead
        if overhead is None:
            raise TypeError("only suites with ciphertexts are of level ENCLAVE")  # the key's creation has refused it
        return overhead - _TAG

    async def _in_calls(self, function: str, items: Sequence[Item]) -> list[Any]:
        made: list[Any] = []
        for some in _cut(items):
            answer = await self._call(function, some)
            if not isinstance(answer, list) or len(answer) != len(some):
                raise EnclaveUnavailable("the enclave has answered for another number of values")
            made += answer
        return made

    async def _call(self, function: str, items: Sequence[Item]) -> Any:
        try:
            return await self.enclave.execute(function, [self.sealed], items)
        except (CorruptRecord, FailedPrecondition):
            # Another enclave may run since this was remembered, and have sealed the DEK anew.
            if (stored := await self.stored()) == self.sealed:
                raise
            self.sealed = stored
            return await self.enclave.execute(function, [self.sealed], items)


def _cut(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cut items into what one call takes; a value of 1 MiB in the longest context is within it."""
    start, spent = 0, _FRAMING
    for index, item in enumerate(items):
        size = sum(map(len, item)) + _FRAMING
        if index > start and (index - start == MAX_ITEMS or spent + size > MAX_ARGUMENT):
            yield items[start:index]
            start, spent = index, _FRAMING
        spent += size
    if start < len(items):
        yield items[start:]
