"""CryptoService."""

from __future__ import annotations

from collections.abc import Sequence

from .. import batches
from ..batches import Varying
from ..formats.alphabets import Alphabet
from ..formats.normalisation import IndexNormaliser
from ..requests import crypto
from ..requests.crypto import Context
from ..values import (
    DataKey,
    Decrypted,
    DecryptedBatch,
    DecryptedDataKey,
    Encrypted,
    EncryptedBatch,
    IndexBatch,
    Lease,
    MaskedBatch,
    ReEncrypted,
    ReEncryptedBatch,
    ReIndexedBatch,
    TextBatch,
)
from .calls import Calls


class CryptoCalls(Calls):
    """Methods that encrypt and decrypt."""

    async def encrypt(
        self, name: str, plaintext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Encrypted:
        """Encrypt one value, bound to *context*; text in it stands for its UTF-8."""
        return await self._run(crypto.encrypt(name, plaintext, context), deadline)

    async def decrypt(
        self, name: str, ciphertext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> Decrypted:
        """Decrypt one value, in the context in which it was encrypted."""
        return await self._run(crypto.decrypt(name, ciphertext, context), deadline)

    async def reencrypt(
        self,
        name: str,
        ciphertext: bytes,
        *,
        context: Context | None = None,
        destination: str = "",
        deadline: float | None = None,
    ) -> ReEncrypted:
        """Bring a ciphertext to the primary version of its key, or of the key *destination*, in the same context."""
        return await self._run(crypto.reencrypt(name, ciphertext, context, destination), deadline)

    async def encrypt_batch(
        self,
        name: str,
        plaintexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> EncryptedBatch:
        """Encrypt many values under one key and one context, in one message or as many as they need, one after another.

        *varying* is the pair of the context that differs from value to value, such as `("row", row_ids)`. Each message
        has the whole deadline. A bad item fails alone; an error of a message as a whole is raised.

        Raises:
            InvalidRequest: *varying* is not as long as *plaintexts*; nothing has been sent.
        """
        return await self._run_all(batches.encrypt_batch(name, plaintexts, context, varying), deadline)

    async def decrypt_batch(
        self,
        name: str,
        ciphertexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> DecryptedBatch:
        """Decrypt many values; as encrypt_batch."""
        return await self._run_all(batches.decrypt_batch(name, ciphertexts, context, varying), deadline)

    async def decrypt_masked_batch(
        self,
        name: str,
        ciphertexts: Sequence[bytes],
        *,
        keep_last: int = 4,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> MaskedBatch:
        """Show many values masked, as `mask` does, by who may not see them; else as decrypt_batch.

        *keep_last* characters (0 to 4) are shown. Values are text of at most 4,096 bytes.
        """
        batch = batches.decrypt_masked_batch(name, ciphertexts, context, varying, keep_last)
        return await self._run_all(batch, deadline)

    async def reencrypt_batch(
        self,
        name: str,
        ciphertexts: Sequence[bytes],
        *,
        context: Context | None = None,
        varying: Varying | None = None,
        destination: str = "",
        deadline: float | None = None,
    ) -> ReEncryptedBatch:
        """Bring many ciphertexts to the primary version of their key, or of *destination*; as encrypt_batch."""
        return await self._run_all(batches.reencrypt_batch(name, ciphertexts, context, varying, destination), deadline)

    async def compute_index_batch(
        self,
        name: str,
        values: Sequence[bytes],
        *,
        scope: str,
        normaliser: IndexNormaliser | str = IndexNormaliser.NONE,
        length: int = 16,
        all_versions: bool = False,
        deadline: float | None = None,
    ) -> IndexBatch:
        """Compute the blind index of many values under a key of purpose INDEX; as encrypt_batch.

        *scope* says what the hashes are bound to, usually `schema.table.column`; *length* is that of a hash in bytes, 4 to
        32. With *all_versions* a value has one index for each version that may be read, to be looked for while what is
        stored is of several.
        """
        batch = batches.compute_index_batch(name, values, scope, normaliser, length, all_versions=all_versions)
        return await self._run_all(batch, deadline)

    async def reindex_batch(
        self,
        name: str,
        source: str,
        ciphertexts: Sequence[bytes],
        *,
        scope: str,
        normaliser: IndexNormaliser | str = IndexNormaliser.NONE,
        length: int = 16,
        context: Context | None = None,
        varying: Varying | None = None,
        deadline: float | None = None,
    ) -> ReIndexedBatch:
        """Compute the blind index, under the primary version of *name*, of values that the key *source* encrypted.

        The plaintext does not leave the daemon. *context* and *varying* are those of the ciphertexts; else as
        compute_index_batch.
        """
        batch = batches.reindex_batch(name, source, ciphertexts, context, varying, scope, normaliser, length)
        return await self._run_all(batch, deadline)

    async def pseudonymize_batch(
        self,
        name: str,
        values: Sequence[bytes],
        *,
        scope: str,
        normaliser: IndexNormaliser | str = IndexNormaliser.NONE,
        length: int = 22,
        version: int = 0,
        deadline: float | None = None,
    ) -> TextBatch:
        """Compute the pseudonyms of many values under a key of purpose PSEUDONYM; as encrypt_batch.

        Equal values of one *scope*, usually `schema.table.column`, have equal pseudonyms; *length* is in characters, 16 to 43.
        An older *version* goes on with the pseudonyms that it began; 0 is the primary one.

        Raises:
            Conflict: the key was rotated while the batch was under way.
        """
        return await self._run_all(
            batches.pseudonymize_batch(name, values, scope, normaliser, length, version), deadline
        )

    async def encrypt_format_batch(
        self,
        name: str,
        values: Sequence[str],
        *,
        scope: str,
        alphabet: Alphabet | str,
        keep_first: int = 0,
        keep_last: int = 0,
        tweak: bytes = b"",
        deadline: float | None = None,
    ) -> TextBatch:
        """Encrypt many formatted values under a key of purpose FORMAT_PRESERVING; as encrypt_batch.

        Each keeps its length, its alphabet, its spaces and its punctuation, and so many symbols at the beginning and at the
        end. The version of the result has to be kept beside the values: they do not tell it.

        Raises:
            Conflict: the key was rotated while the batch was under way.
        """
        rule = batches.format_rule(scope, alphabet, keep_first, keep_last, tweak)
        return await self._run_all(batches.encrypt_format_batch(name, values, rule), deadline)

    async def decrypt_format_batch(
        self,
        name: str,
        values: Sequence[str],
        *,
        version: int,
        scope: str,
        alphabet: Alphabet | str,
        keep_first: int = 0,
        keep_last: int = 0,
        tweak: bytes = b"",
        deadline: float | None = None,
    ) -> TextBatch:
        """Decrypt what encrypt_format_batch made; another version, scope or layout gives another value and no error."""
        rule = batches.format_rule(scope, alphabet, keep_first, keep_last, tweak)
        return await self._run_all(batches.decrypt_format_batch(name, values, rule, version), deadline)

    async def generate_data_key(
        self, name: str, *, length: int = 32, context: Context | None = None, deadline: float | None = None
    ) -> DataKey:
        """Make a data key of *length* bytes (16 to 64) under a key of purpose DATA_KEY."""
        return await self._run(crypto.generate_data_key(name, length, context), deadline)

    async def decrypt_data_key(
        self, name: str, ciphertext: bytes, *, context: Context | None = None, deadline: float | None = None
    ) -> DecryptedDataKey:
        """Decrypt a data key that generate_data_key made."""
        return await self._run(crypto.decrypt_data_key(name, ciphertext, context), deadline)

    async def lease_key_version(self, name: str, version: int = 0, *, deadline: float | None = None) -> Lease:
        """Lease the DEK of one version of a leasable key, 0: the primary one; the version is marked as exposed.

        The lease counts from before this call.
        """
        return await self._run(crypto.lease_key_version(name, version), deadline)

    async def generate_random_bytes(self, length: int, *, deadline: float | None = None) -> bytes:
        """Return *length* random bytes (1 to 1,024) from the token."""
        return await self._run(crypto.generate_random_bytes(length), deadline)
