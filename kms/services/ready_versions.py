"""A key version with its DEK loaded, and which versions of an INDEX key may be looked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kms.core.errors import FailedPrecondition
from kms.core.keyring import Key, KeyVersion, Tenant
from kms.core.lifecycle import KeyState, Use, version_allows
from kms.core.repositories import UnitOfWork
from kms.core.suites import ProtectionLevel, Purpose, Suite
from kms.crypto.aead import FieldCipher, cipher_for
from kms.crypto.dek import Dek
from kms.crypto.formatted import FormatCipher
from kms.crypto.index import IndexHasher
from kms.crypto.pseudonym import Pseudonymizer
from kms.services.counting import UsageCounter
from kms.services.enclave_cipher import EnclaveCipher
from kms.services.rings import Ring
from kms.services.uses import Marks
from kms.services.wrapping import DekWrapping

# Versions of an INDEX key whose hashes may be stored at one time; each has to be looked for.
MOST_INDEX_VERSIONS: Final = 16

_READABLE: Final = tuple(state for state in KeyState if version_allows(state, Use.DECRYPT))

Tool = FieldCipher | EnclaveCipher | IndexHasher | Pseudonymizer | FormatCipher


@dataclass(slots=True)
class Lendable:
    """The DEK of a version of a leasable key, and whether the database knows that it has left the daemon."""

    dek: Dek
    exposed: bool


@dataclass(frozen=True, slots=True)
class ReadyVersion:
    """One key version with its DEK loaded."""

    version: int
    header: bytes
    tool: Tool
    usage: UsageCounter
    state: KeyState
    uses: frozenset[Use]  # what its state allows
    marks: Marks
    lent: Lendable | None = None  # None: its DEK does not leave the daemon

    @property
    def cipher(self) -> FieldCipher:
        """What encrypts and decrypts in this process."""
        if not isinstance(self.tool, FieldCipher):
            raise TypeError("only versions of keys with ciphertexts have a cipher")  # find() has refused the purpose
        return self.tool

    @property
    def in_enclave(self) -> EnclaveCipher | None:
        """What encrypts and decrypts where the DEK is in the clear in an enclave only; None where it is here."""
        return self.tool if isinstance(self.tool, EnclaveCipher) else None

    @property
    def lendable(self) -> Lendable:
        """What an application may be given."""
        if self.lent is None:
            raise TypeError("only versions of leasable keys are lent")  # Leases has refused the key
        return self.lent

    @property
    def hasher(self) -> IndexHasher:
        """What computes indexes."""
        if not isinstance(self.tool, IndexHasher):
            raise TypeError("only versions of INDEX keys hash")  # find() has refused the purpose
        return self.tool

    @property
    def pseudonymizer(self) -> Pseudonymizer:
        """What computes pseudonyms."""
        if not isinstance(self.tool, Pseudonymizer):
            raise TypeError("only versions of PSEUDONYM keys pseudonymize")  # find() has refused the purpose
        return self.tool

    @property
    def format_cipher(self) -> FormatCipher:
        """What encrypts and decrypts formatted values."""
        if not isinstance(self.tool, FormatCipher):
            raise TypeError("only versions of FORMAT_PRESERVING keys keep formats")  # find() has refused the purpose
        return self.tool


def tool_for(purpose: Purpose, suite: Suite, dek: Dek) -> Tool:
    """Make what works with a DEK.

    Raises:
        ValueError: the DEK has not the length that the suite asks for.
    """
    match purpose:
        case Purpose.INDEX:
            return IndexHasher(dek)
        case Purpose.PSEUDONYM:
            return Pseudonymizer(dek)
        case Purpose.FORMAT_PRESERVING:
            return FormatCipher(dek)
        case Purpose.ENCRYPT | Purpose.DETERMINISTIC | Purpose.DATA_KEY:
            return cipher_for(suite, dek)


async def load_tool(
    wrapping: DekWrapping, tenant: Tenant, key: Key, stored: KeyVersion
) -> tuple[Tool, Lendable | None]:
    """Unwrap the DEK of a stored version; returns what works with it, and what may be lent of it.

    Raises:
        HsmUnavailable, EnclaveUnavailable, CorruptRecord, FailedPrecondition: as DekWrapping.
    """
    if key.level is ProtectionLevel.ENCLAVE:
        return await wrapping.enclave_cipher(tenant, key, stored), None
    dek = await wrapping.unwrap(tenant, key, stored)
    lent = Lendable(dek, stored.exposed_at is not None) if key.leasable else None
    return tool_for(key.purpose, key.suite, dek), lent


async def list_readable(work: UnitOfWork, key: Key) -> tuple[int, ...]:
    """Return the versions of an INDEX key under which values may be looked for, at most one more than 16; of others none."""
    if key.purpose is not Purpose.INDEX:
        return ()
    versions = await work.key_versions.list_in_states(key.tenant, key.uid, _READABLE, 0, MOST_INDEX_VERSIONS + 1)
    return tuple(version.version for version in versions)


def readable_numbers(ring: Ring) -> list[int]:
    """Return the versions under which values may be looked for, the newest first.

    Raises:
        FailedPrecondition: there are more than 16.
    """
    if len(ring.readable) > MOST_INDEX_VERSIONS:
        raise FailedPrecondition(
            f"{ring.key.name(ring.tenant)} has more than {MOST_INDEX_VERSIONS} versions that may be looked for:"
            " re-index what is stored, and retire the older ones"
        )
    return sorted(ring.readable, reverse=True)
