"""Data keys for use outside the daemon, and random bytes."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kms.acting import note_items
from kms.core.ciphertext import Header
from kms.core.context import Pair
from kms.core.errors import invalid
from kms.core.lifecycle import Use
from kms.core.names import KeyName, Principal
from kms.core.ports import KekVault
from kms.services.contexts import context_of
from kms.services.fields import Decrypted
from kms.services.keyrings import DATA_KEY_PURPOSES, Grant, Keyrings

DEFAULT_LENGTH: Final = 32  # bytes
SHORTEST: Final = 16
LONGEST: Final = 64
MOST_RANDOM_BYTES: Final = 1024


@dataclass(frozen=True, slots=True, repr=False)
class DataKey:
    """A data key in the clear, and encrypted under a key version."""

    plaintext: bytes
    ciphertext: bytes
    version: int


class DataKeys:
    """Data keys under keys of purpose DATA_KEY."""

    def __init__(self, keyrings: Keyrings, vault: KekVault) -> None:
        self._keyrings = keyrings
        self._vault = vault

    async def generate(self, caller: Principal, name: KeyName, length: int, pairs: Iterable[Pair]) -> DataKey:
        """Make a data key of 16 to 64 bytes; 0 means 32.

        The bytes are the kernel's (getrandom), so that handing out data keys does not wait on the token.
        """
        ring = await self._keyrings.find(caller, name, DATA_KEY_PURPOSES, Use.ENCRYPT)
        length = length or DEFAULT_LENGTH
        if not SHORTEST <= length <= LONGEST:
            raise invalid("length", f"must be {SHORTEST} to {LONGEST} bytes, or 0 for {DEFAULT_LENGTH}")
        context = context_of(ring, pairs)
        version = await self._keyrings.primary(ring)
        await version.usage.take(1)
        plaintext = secrets.token_bytes(length)
        made = DataKey(plaintext, version.cipher.encrypt(version.header, context.encode(), plaintext), version.version)
        version.marks.used = True
        await self._keyrings.confirm([Grant(ring, Use.ENCRYPT, [version.version])])
        note_items((made.ciphertext,))
        return made

    async def decrypt(self, caller: Principal, name: KeyName, ciphertext: bytes, pairs: Iterable[Pair]) -> Decrypted:
        """Decrypt a data key that generate() made.

        Raises:
            CannotDecrypt: another key, version or context, or altered; which of them is not told.
        """
        note_items((ciphertext,))
        ring = await self._keyrings.find(caller, name, DATA_KEY_PURPOSES, Use.DECRYPT, ciphertexts=(ciphertext,))
        header = Header.parse(ciphertext)
        context = context_of(ring, pairs)
        version = await self._keyrings.named(ring, header, Use.DECRYPT)
        plaintext = version.cipher.decrypt(context.encode(), ciphertext)
        version.marks.decrypted = True
        await self._keyrings.confirm([Grant(ring, Use.DECRYPT, [version.version])])
        return Decrypted(plaintext, version.version, version.version == ring.key.primary_version)

    async def random(self, length: int) -> bytes:
        """Return 1 to 1,024 random bytes from the token."""
        if not 1 <= length <= MOST_RANDOM_BYTES:
            raise invalid("length", f"must be 1 to {MOST_RANDOM_BYTES} bytes")
        return await self._vault.random(length)
