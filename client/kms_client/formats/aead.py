"""The ciphers of fields: the suites 0x01, 0x02 and 0x03 of FORMATS sections 1 and 2.

    A       = header || canonical context
    0x01    header | nonce (12) | ct | tag (16)      AES-256-GCM, AAD = A          SP 800-38D
    0x02    header | nonce (24) | ct | tag (16)      XAES-256-GCM, AAD = A         C2SP XAES-256-GCM
    0x03    header | V (16) | C                      AES-SIV, one component, A     RFC 5297

A cipher is made once for each key version and kept: making one costs more than an encryption. All of them may be
used from several threads at once.
"""

from __future__ import annotations

import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from .ciphertext import HEADER_LENGTH
from .context import Frame
from .errors import CannotDecrypt
from .suites import RULES, Suite
from .dek import Dek
from .xaes import NONCE_LENGTH as XAES_NONCE
from .xaes import PREFIX_LENGTH, SubkeyCache, SubkeyLease

_GCM_NONCE: Final = 12  # bytes
_GCM_BODY: Final = HEADER_LENGTH + _GCM_NONCE
_XAES_PREFIX_END: Final = HEADER_LENGTH + PREFIX_LENGTH
_XAES_BODY: Final = HEADER_LENGTH + XAES_NONCE
_U32 = struct.Struct(">I").pack

# A truncated ciphertext has a nonce that cryptography refuses with ValueError; like a wrong tag, it does not decrypt.
_FAILURES: Final = (InvalidTag, ValueError)


class FieldCipher(ABC):
    """Encrypts and decrypts whole ciphertexts, header included, under one key version."""

    suite: ClassVar[Suite]

    def encrypt(self, header: bytes, context: bytes, plaintext: bytes) -> bytes:
        """Return the whole ciphertext; *header* is the encoded one of 22 bytes, *context* the canonical one."""
        return self.encrypt_many(header, context, (plaintext,))[0]

    def encrypt_many(self, header: bytes, context: bytes, plaintexts: Sequence[bytes]) -> list[bytes]:
        """Encrypt each of *plaintexts* with the same context."""
        associated = header + context
        return self._encrypt_each(self._checked(header), [associated] * len(plaintexts), plaintexts)

    def encrypt_varying(
        self, header: bytes, frame: Frame, values: Sequence[bytes], plaintexts: Sequence[bytes]
    ) -> list[bytes]:
        """Encrypt each of *plaintexts* with the context that *frame* makes of the value beside it.

        Raises:
            ValueError: the two lists have not the same length.
        """
        _check_parallel(values, plaintexts)
        before, after, join = header + frame.before, frame.after, b"".join
        associated = [join((before, _U32(len(value)), value, after)) for value in values]
        return self._encrypt_each(self._checked(header), associated, plaintexts)

    def decrypt(self, context: bytes, ciphertext: bytes) -> bytes:
        """Undo encrypt().

        Raises:
            CannotDecrypt: another key or context, or an altered or truncated ciphertext.
        """
        (plaintext,) = self.decrypt_many(context, (ciphertext,))
        if plaintext is None:
            raise CannotDecrypt
        return plaintext

    def decrypt_many(self, context: bytes, ciphertexts: Sequence[bytes]) -> list[bytes | None]:
        """Undo encrypt_many(); None stands where a ciphertext does not decrypt."""
        return self._decrypt_each([c[:HEADER_LENGTH] + context for c in ciphertexts], ciphertexts)

    def decrypt_varying(
        self, frame: Frame, values: Sequence[bytes], ciphertexts: Sequence[bytes], header: bytes | None = None
    ) -> list[bytes | None]:
        """Undo encrypt_varying(); None stands where a ciphertext does not decrypt.

        Whoever knows that all have one *header* (22 bytes) saves a tenth of the time; what has another does not decrypt.

        Raises:
            ValueError: the two lists have not the same length.
        """
        _check_parallel(values, ciphertexts)
        before, after, join = frame.before, frame.after, b"".join
        if header is not None:
            before = header + before
            associated = [join((before, _U32(len(value)), value, after)) for value in values]
        else:
            associated = [
                join((ciphertext[:HEADER_LENGTH], before, _U32(len(value)), value, after))
                for ciphertext, value in zip(ciphertexts, values, strict=True)
            ]
        return self._decrypt_each(associated, ciphertexts)

    def _checked(self, header: bytes) -> bytes:
        # Under a wrong header a value could be encrypted but never decrypted again.
        if len(header) != HEADER_LENGTH or header[1] != self.suite:
            raise ValueError(f"the header is not one of suite {self.suite.name}")
        return header

    @abstractmethod
    def _encrypt_each(self, header: bytes, associated: Iterable[bytes], plaintexts: Sequence[bytes]) -> list[bytes]: ...

    @abstractmethod
    def _decrypt_each(self, associated: Iterable[bytes], ciphertexts: Sequence[bytes]) -> list[bytes | None]: ...


class Aes256Gcm(FieldCipher):
    """Suite 0x01: AES-256-GCM with a random nonce of 96 bits.

    Source: SP 800-38D, section 8.2.2.
    """

    suite = Suite.AES_256_GCM

    def __init__(self, dek: Dek) -> None:
        self._aead = AESGCM(dek.expose_secret_dek_material())

    def _encrypt_each(self, header: bytes, associated: Iterable[bytes], plaintexts: Sequence[bytes]) -> list[bytes]:
        # One urandom for all nonces and a plain loop: 0.7 to 0.9 us a value of 64 bytes, of which 0.5 are the cipher.
        nonces = os.urandom(_GCM_NONCE * len(plaintexts))
        encrypt = self._aead.encrypt
        results = []
        for start, plaintext, data in zip(range(0, len(nonces), _GCM_NONCE), plaintexts, associated, strict=True):
            nonce = nonces[start : start + _GCM_NONCE]
            results.append(header + nonce + encrypt(nonce, plaintext, data))
        return results

    def _decrypt_each(self, associated: Iterable[bytes], ciphertexts: Sequence[bytes]) -> list[bytes | None]:
        decrypt = self._aead.decrypt
        results: list[bytes | None] = []
        for ciphertext, data in zip(ciphertexts, associated, strict=True):
            try:
                plaintext = decrypt(ciphertext[HEADER_LENGTH:_GCM_BODY], ciphertext[_GCM_BODY:], data)
            except _FAILURES:
                results.append(None)
            else:
                results.append(plaintext)
        return results


class Xaes256Gcm(FieldCipher):
    """Suite 0x02: XAES-256-GCM, whose random nonce of 192 bits never repeats in practice.

    Source: C2SP XAES-256-GCM.
    """

    suite = Suite.XAES_256_GCM

    def __init__(self, dek: Dek) -> None:
        subkeys = SubkeyCache(dek)
        self._lease = SubkeyLease(subkeys)
        self._subkeys = subkeys

    def _encrypt_each(self, header: bytes, associated: Iterable[bytes], plaintexts: Sequence[bytes]) -> list[bytes]:
        prefix, aead = self._lease.take(len(plaintexts))
        suffixes = os.urandom(_GCM_NONCE * len(plaintexts))
        encrypt, head = aead.encrypt, header + prefix
        results = []
        for start, plaintext, data in zip(range(0, len(suffixes), _GCM_NONCE), plaintexts, associated, strict=True):
            nonce = suffixes[start : start + _GCM_NONCE]
            results.append(head + nonce + encrypt(nonce, plaintext, data))
        return results

    def _decrypt_each(self, associated: Iterable[bytes], ciphertexts: Sequence[bytes]) -> list[bytes | None]:
        results: list[bytes | None] = []
        beginning, decrypt = b"", None
        for ciphertext, data in zip(ciphertexts, associated, strict=True):
            try:
                # Neighbours mostly have one header and one prefix: they were encrypted together.
                if decrypt is None or not ciphertext.startswith(beginning):
                    decrypt = self._subkeys.find(ciphertext[HEADER_LENGTH:_XAES_PREFIX_END]).decrypt
                    beginning = ciphertext[:_XAES_PREFIX_END]
                plaintext = decrypt(ciphertext[_XAES_PREFIX_END:_XAES_BODY], ciphertext[_XAES_BODY:], data)
            except _FAILURES:
                results.append(None)
            else:
                results.append(plaintext)
        return results


class AesSiv(FieldCipher):
    """Suite 0x03: AES-SIV, deterministic: equal plaintexts in equal contexts give equal ciphertexts.

    Source: RFC 5297, sections 2.6 and 2.7; the only component of associated data is A.
    """

    suite = Suite.AES_SIV

    def __init__(self, dek: Dek) -> None:
        self._aead = AESSIV(dek.expose_secret_dek_material())

    def _encrypt_each(self, header: bytes, associated: Iterable[bytes], plaintexts: Sequence[bytes]) -> list[bytes]:
        encrypt = self._aead.encrypt
        return [header + encrypt(plaintext, [data]) for plaintext, data in zip(plaintexts, associated, strict=True)]

    def _decrypt_each(self, associated: Iterable[bytes], ciphertexts: Sequence[bytes]) -> list[bytes | None]:
        decrypt = self._aead.decrypt
        results: list[bytes | None] = []
        for ciphertext, data in zip(ciphertexts, associated, strict=True):
            try:
                plaintext = decrypt(ciphertext[HEADER_LENGTH:], [data])
            except _FAILURES:
                results.append(None)
            else:
                results.append(plaintext)
        return results


_CIPHERS: Final[MappingProxyType[Suite, Callable[[Dek], FieldCipher]]] = MappingProxyType(
    {
        Suite.AES_256_GCM: Aes256Gcm,
        Suite.XAES_256_GCM: Xaes256Gcm,
        Suite.AES_SIV: AesSiv,
    }
)


def cipher_for(suite: Suite, dek: Dek) -> FieldCipher:
    """Make the cipher of a key version.

    Raises:
        ValueError: the DEK has not the length that the suite asks for.
    """
    # AES-GCM and AES-SIV take other lengths too, with another strength.
    if len(dek) != RULES[suite].dek_length:
        raise ValueError(f"a DEK of suite {suite.name} has {RULES[suite].dek_length} bytes")
    return _CIPHERS[suite](dek)


def _check_parallel(values: Sequence[bytes], items: Sequence[bytes]) -> None:
    if len(values) != len(items):
        raise ValueError("the varying values and the items are not equally many")
