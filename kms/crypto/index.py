r"""Blind indexes: keyed hashes by which equal values of one column are found. FORMATS section 6.

    Kcol  = HMAC-SHA-256(DEK, "kms/v1/index\0" || u32 length || scope || u16 normaliser)
    index = version u32 || HMAC-SHA-256(Kcol, 0x01 || normalised)[:n], 4 <= n <= 32

Source: RFC 2104; truncation: RFC 2104, section 5, which asks for at least 80 bits of a MAC. An index proves nothing: a short
one has false hits, which are told from true ones by decrypting, and tells less.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable
from typing import Final

from kms.core.suites import RULES, Suite
from kms.crypto.dek import Dek

SHORTEST: Final = 4  # bytes of a hash
LONGEST: Final = 32

_LABEL: Final = b"kms/v1/index\0"
_VALUE: Final = b"\x01"
_U16 = struct.Struct(">H").pack
_U32 = struct.Struct(">I").pack


class IndexHasher:
    """Computes indexes under one key version."""

    def __init__(self, dek: Dek) -> None:
        """Take a DEK of 32 bytes.

        Raises:
            ValueError: it has another length.
        """
        if len(dek) != RULES[Suite.HMAC_SHA_256].dek_length:
            raise ValueError(f"a DEK of suite {Suite.HMAC_SHA_256.name} has another length")
        self._mac = hmac.new(dek.expose_secret_dek_material(), digestmod=hashlib.sha256)

    def column_key(self, scope: bytes, normaliser: int) -> bytes:
        """Return Kcol, 32 bytes, for a scope in UTF-8 and the number of a normaliser; not to be kept."""
        mac = self._mac.copy()
        mac.update(_LABEL + _U32(len(scope)) + scope + _U16(normaliser))
        return mac.digest()

    def compute(self, version: int, scope: bytes, normaliser: int, length: int, values: Iterable[bytes]) -> list[bytes]:
        """Return the index of each normalised value: the version in 4 bytes and a hash of *length* bytes.

        Raises:
            ValueError: the length is not 4 to 32.
        """
        if not SHORTEST <= length <= LONGEST:
            raise ValueError(f"a hash has {SHORTEST} to {LONGEST} bytes")
        key, head = self.column_key(scope, normaliser), _U32(version)
        return [head + hmac.digest(key, _VALUE + value, "sha256")[:length] for value in values]
