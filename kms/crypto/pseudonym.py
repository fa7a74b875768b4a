r"""Pseudonyms: keyed hashes as text that stand for values and cannot be turned back.

    Kscope    = HMAC-SHA-256(DEK, "kms/v1/pseudonym\0" || u32 length || scope || u16 normaliser)
    pseudonym = base64url(HMAC-SHA-256(Kscope, 0x01 || normalised)) cut to 16 to 43 characters

Source: RFC 2104; its section 5 asks for at least 80 bits of a MAC, and 16 characters are 96; RFC 4648, section 5.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Final

from kms.core.suites import RULES, Suite
from kms.crypto.dek import Dek

SHORTEST: Final = 16  # characters
LONGEST: Final = 43  # all of a hash of 32 bytes

_LABEL: Final = b"kms/v1/pseudonym\0"
_VALUE: Final = b"\x01"
_U16 = struct.Struct(">H").pack
_U32 = struct.Struct(">I").pack


class Pseudonymizer:
    """Computes pseudonyms under one key version."""

    def __init__(self, dek: Dek) -> None:
        """Take a DEK of 32 bytes.

        Raises:
            ValueError: it has another length.
        """
        if len(dek) != RULES[Suite.HMAC_SHA_256].dek_length:
            raise ValueError(f"a DEK of suite {Suite.HMAC_SHA_256.name} has another length")
        self._mac = hmac.new(dek.expose_secret_dek_material(), digestmod=hashlib.sha256)

    def compute(self, scope: bytes, normaliser: int, length: int, values: Iterable[bytes]) -> list[bytes]:
        """Return the pseudonym of each normalised value, *length* characters of ASCII; the scope is UTF-8.

        Raises:
            ValueError: the length is not 16 to 43.
        """
        if not SHORTEST <= length <= LONGEST:
            raise ValueError(f"a pseudonym has {SHORTEST} to {LONGEST} characters")
        mac = self._mac.copy()
        mac.update(_LABEL + _U32(len(scope)) + scope + _U16(normaliser))
        key = mac.digest()
        return [urlsafe_b64encode(hmac.digest(key, _VALUE + value, "sha256"))[:length] for value in values]
