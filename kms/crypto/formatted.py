r"""Formatted values under one key version: which key and which tweak FF1 gets.

    Kscope = HMAC-SHA-256(DEK, "kms/v1/ff1\0" || u32 length || scope || u16 alphabet)         an AES-256 key
    tweak  = u32 length || first symbols kept || u32 length || last symbols kept || the caller's tweak

What is kept goes into the tweak, so that equal middles of different values look different.

Source: SP 800-38G, section 4.3 and appendix C (what is not encrypted should be a tweak).
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Final

from kms.core.alphabets import MINIMUM_DOMAIN, Alphabet, Parted
from kms.core.suites import RULES, Suite
from kms.crypto.dek import Dek
from kms.crypto.ff1 import Ff1

_LABEL: Final = b"kms/v1/ff1\0"
_U16 = struct.Struct(">H").pack
_U32 = struct.Struct(">I").pack


class FormatCipher:
    """Makes the ciphers of scopes under one key version."""

    def __init__(self, dek: Dek) -> None:
        """Take a DEK of 32 bytes.

        Raises:
            ValueError: it has another length.
        """
        if len(dek) != RULES[Suite.AES_256_FF1].dek_length:
            raise ValueError(f"a DEK of suite {Suite.AES_256_FF1.name} has another length")
        self._mac = hmac.new(dek.expose_secret_dek_material(), digestmod=hashlib.sha256)

    def under(self, scope: bytes, alphabet: Alphabet, tweak: bytes) -> ScopedCipher:
        """Return what encrypts and decrypts the values of a scope in UTF-8; not to be kept."""
        mac = self._mac.copy()
        mac.update(_LABEL + _U32(len(scope)) + scope + _U16(alphabet))
        return ScopedCipher(Ff1(mac.digest(), alphabet.radix, MINIMUM_DOMAIN), tweak)


class ScopedCipher:
    """Encrypts and decrypts values of one scope and one alphabet, with one tweak of the caller's."""

    def __init__(self, cipher: Ff1, tweak: bytes) -> None:
        self._cipher = cipher
        self._tweak = tweak

    def encrypt(self, value: Parted) -> str:
        """Return the whole value, with what is kept and the separators in place.

        Raises:
            ValueError: it has too few symbols, or they are of another alphabet.
        """
        return value.filled(self._cipher.encrypt(self._tweak_of(value), value.numbers))

    def decrypt(self, value: Parted) -> str:
        """Undo encrypt(); nothing shows whether scope, alphabet, tweak and key are those of before."""
        return value.filled(self._cipher.decrypt(self._tweak_of(value), value.numbers))

    def _tweak_of(self, value: Parted) -> bytes:
        first, last = (kept.encode() for kept in value.kept)
        return _U32(len(first)) + first + _U32(len(last)) + last + self._tweak
