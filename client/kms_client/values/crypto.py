"""What comes of encrypting and decrypting. What holds plaintext or key bytes does not show them in its repr."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from ..formats.errors import KmsError


@dataclass(frozen=True, slots=True)
class Encrypted:
    """A ciphertext and the key version that encrypted it."""

    ciphertext: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Decrypted:
    """A plaintext, the key version that decrypted it, and whether that is the primary one."""

    plaintext: bytes = field(repr=False)
    version: int
    primary: bool


@dataclass(frozen=True, slots=True)
class ReEncrypted:
    """A ciphertext of the primary version; *changed* is False where it had been of that version before."""

    ciphertext: bytes
    version: int
    changed: bool


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key in the clear, to be kept in memory only, and encrypted, to be stored beside what it protects."""

    plaintext: bytes = field(repr=False)
    ciphertext: bytes
    version: int


@dataclass(frozen=True, slots=True)
class DecryptedDataKey:
    """A data key in the clear and the key version that decrypted it."""

    plaintext: bytes = field(repr=False)
    version: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The DEK of one version of a leasable key, 32 bytes: to be kept in memory only, and no longer than *duration*.

    That counts from before the request was sent. Where *encrypts* is False the DEK only decrypts.
    """

    key: bytes = field(repr=False)
    version: int
    encrypts: bool
    key_uid: str
    tenant_uid: str
    duration: timedelta


@dataclass(frozen=True, slots=True)
class BatchResult:
    """One entry for each value of a batch, in its order; None where the item failed, and *failures* says why.

    A failed item is None and never empty bytes, so that it cannot be stored by mistake as if it were a result.
    """

    values: list[bytes | None] = field(repr=False)
    failures: dict[int, KmsError]

    def complete(self) -> list[bytes]:
        """Return the values of a batch in which every item succeeded.

        Raises:
            KmsError: the error of the first item that failed.
        """
        for index in sorted(self.failures):
            raise self.failures[index]
        return [value for value in self.values if value is not None]


@dataclass(frozen=True, slots=True)
class EncryptedBatch(BatchResult):
    """Ciphertexts, and the newest key version among those that encrypted: 0 for an empty batch.

    A batch that is split while the key rotates has ciphertexts of two versions; each names its own in its header.
    """

    version: int


@dataclass(frozen=True, slots=True)
class DecryptedBatch(BatchResult):
    """Plaintexts, and the key's primary version: 0 for an empty batch, and from a daemon that does not tell it.

    A ciphertext names its own version in its header (Header.parse); an older one than the primary can be re-encrypted.
    """

    primary_version: int


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """Masks of values, one for each ciphertext; None where the item failed, and *failures* says why."""

    values: list[str | None] = field(repr=False)
    failures: dict[int, KmsError]

    def complete(self) -> list[str]:
        """Return the masks of a batch in which every item succeeded.

        Raises:
            KmsError: the error of the first item that failed.
        """
        for index in sorted(self.failures):
            raise self.failures[index]
        return [value for value in self.values if value is not None]


@dataclass(frozen=True, slots=True)
class IndexBatch:
    """For each value its blind indexes under one key version or several, the newest first; None where the item failed.

    Each index is version u32 (big-endian) and the hash: it is stored, and compared, as it is. *version* is the newest one
    among those that computed, 0 for an empty batch.
    """

    values: list[list[bytes] | None] = field(repr=False)
    failures: dict[int, KmsError]
    version: int

    def complete(self) -> list[bytes]:
        """Return the newest index of each value of a batch in which every item succeeded: what is to be stored.

        Raises:
            KmsError: the error of the first item that failed.
        """
        for index in sorted(self.failures):
            raise self.failures[index]
        return [indexes[0] for indexes in self.values if indexes is not None]


@dataclass(frozen=True, slots=True)
class ReIndexedBatch(BatchResult):
    """Blind indexes as IndexBatch has them, one for each ciphertext, and the newest version that computed (0 for none)."""

    version: int


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Pseudonyms or formatted values, one for each value of a batch; None where the item failed, and *failures* says why.

    All are of one key *version* (0 for an empty batch), which nothing in them tells.
    """

    values: list[str | None] = field(repr=False)
    failures: dict[int, KmsError]
    version: int

    def complete(self) -> list[str]:
        """Return the values of a batch in which every item succeeded.

        Raises:
            KmsError: the error of the first item that failed.
        """
        for index in sorted(self.failures):
            raise self.failures[index]
        return [value for value in self.values if value is not None]


@dataclass(frozen=True, slots=True)
class ReEncryptedBatch(BatchResult):
    """Ciphertexts of the primary version, that version (0 for an empty batch), and how many had been of an older one."""

    version: int
    changed: int
